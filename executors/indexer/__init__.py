"""The indexer room: stores documents with their vectors and searches them; imports `executors.room` and `finetuner`."""
