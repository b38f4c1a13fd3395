"""The vision encoder room."""

from __future__ import annotations

from finetuner.executors.encoder.encoder_room import EncoderRoom
from finetuner.models.clip import VISION


class VisionEncoder(EncoderRoom):
    """Sets the embeddings of documents with blob, tensor or uri, by the vision tower. Texts stay unchanged.

    A document without any content gets its error here.
    """

    tower = VISION
