"""Code that both encoder rooms and FinetunerExecutor share; imports executors.room and finetuner."""
