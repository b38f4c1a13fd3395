"""The gateway: gRPC and HTTP in front of the rooms; imports executors.room and finetuner, never another room."""
