"""`python -m finetuner.cli`."""

from .main import main

main()
