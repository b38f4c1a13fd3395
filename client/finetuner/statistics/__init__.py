"""Statistics of data before training: counts, lengths, sizes, duplicates, and what predicts trouble."""
