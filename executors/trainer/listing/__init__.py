"""The list of runs: pages of it, and what people write beside a run."""
