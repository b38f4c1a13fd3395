"""The command line. It may import every other folder; none imports it."""

from .main import main

__all__ = ["main"]
