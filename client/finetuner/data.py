"""Compatibility alias: `CSVOptions` under the old package's module name. The class lives in `sources.csv_file`."""

from .sources.csv_file import CSVOptions

__all__ = ["CSVOptions"]
