"""Public benchmark sets, read from the files that their makers publish; may import sources and the modules below it."""

from finetuner.benchmark.sets.table import SETS, BenchmarkSet, find_set

__all__ = ["SETS", "BenchmarkSet", "find_set"]
