"""Texts of a CLIP: tokenizers, text towers of transformers, texts of several lengths in one batch."""
