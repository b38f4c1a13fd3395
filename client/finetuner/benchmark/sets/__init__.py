"""The public sets that figures are compared on, read from the files that their makers hand out."""

from finetuner.benchmark.sets.table import SETS, BenchmarkSet, find_set

__all__ = ["SETS", "BenchmarkSet", "find_set"]
