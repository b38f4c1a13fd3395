"""The vision encoder room; imports executors.encoder, executors.room and finetuner."""
