"""A CLIP of under 4 million parameters that ships with the package: weights, config, tokenizer and model card."""
