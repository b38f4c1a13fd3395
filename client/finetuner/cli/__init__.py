"""The command line `finetuner`; may import every other folder, and no folder imports it."""

from .main import main

__all__ = ["main"]
