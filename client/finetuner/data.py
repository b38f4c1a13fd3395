"""Compatibility alias: `CSVOptions` under the module name of the old package, now in `sources.tables.csv_file`."""

from .sources.tables.csv_file import CSVOptions

__all__ = ["CSVOptions"]
