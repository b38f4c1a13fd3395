"""Base of every room: settings, workspace, metrics, drain, Jina's internals; imports finetuner and no executor."""
