"""Checks vectors and filters, and turns hits into matches; imports storage, the engines' interface and `finetuner`."""
