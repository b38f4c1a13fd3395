"""Files that callers upload as datasets, and the statistics of datasets."""
