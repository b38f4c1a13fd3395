"""The losses of a run, over the embeddings of a batch, which several processes may share."""
