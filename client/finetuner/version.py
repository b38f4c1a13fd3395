"""The version of open-finetuner."""

__version__ = "0.1.0"
