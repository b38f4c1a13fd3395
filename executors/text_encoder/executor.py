"""The CLIP text encoder room."""

from __future__ import annotations

from executors.encoder.encoder_room import EncoderRoom
from finetuner.models.clip import TEXT


class TextEncoder(EncoderRoom):
    """Documents with text -> embeddings of the text tower; other documents pass through."""

    tower = TEXT
