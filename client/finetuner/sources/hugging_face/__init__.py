"""Readers of data sets of Hugging Face's datasets: objects, and folders of `save_to_disk`."""
