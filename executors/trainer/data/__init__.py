"""Training data, from documents to batches; may import neither the loop nor hooks."""
