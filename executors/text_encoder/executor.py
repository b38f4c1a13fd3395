"""The text encoder room."""

from __future__ import annotations

from finetuner.executors.encoder.encoder_room import EncoderRoom
from finetuner.models.clip import TEXT


class TextEncoder(EncoderRoom):
    """Sets the embeddings of documents with text, by the text tower. Other documents stay unchanged."""

    tower = TEXT
