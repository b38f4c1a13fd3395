"""The evaluator room, which scores models on datasets; imports executors.room and finetuner."""
