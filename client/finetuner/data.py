"""Compatibility alias: `CSVOptions` under the module name of the old package, now in `sources.csv_file`."""

from .sources.csv_file import CSVOptions

__all__ = ["CSVOptions"]
