"""Where the old package had CSVOptions; a compatibility alias."""

from .sources.csv_file import CSVOptions

__all__ = ["CSVOptions"]
