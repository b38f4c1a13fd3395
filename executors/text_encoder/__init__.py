"""The text encoder room; imports executors.encoder, executors.room and finetuner."""
