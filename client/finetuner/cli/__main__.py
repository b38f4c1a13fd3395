"""Runs the command line: `python -m finetuner.cli`."""

from .main import main

main()
