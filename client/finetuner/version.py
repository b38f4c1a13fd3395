"""The version of open-finetuner, in one place."""

__version__ = "0.1.0"
