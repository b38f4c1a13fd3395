"""The vision encoder room."""

from __future__ import annotations

from executors.encoder.encoder_room import EncoderRoom
from finetuner.models.clip import VISION


class VisionEncoder(EncoderRoom):
    """Documents with blob, tensor or uri -> embeddings of the vision tower; texts pass through.

    A document with no content at all gets its error here.
    """

    tower = VISION
