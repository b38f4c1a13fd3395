"""Queue, batches and models that turn documents into embeddings; imports executors.room and finetuner."""
