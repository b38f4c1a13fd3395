"""FinetunerExecutor, one artifact in any Flow; imports executors.encoder, executors.room and finetuner."""
