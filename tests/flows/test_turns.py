"""Requests of the real Flow do not wait for one another where they need not."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import numpy as np
from docarray import Document
from jina import Client
from PIL import Image

from finetuner.contract.wire import ENCODE, error_of
from finetuner.flow.running_flow import RunningFlow

IMAGES = 160


def test_a_text_behind_many_images_is_answered_before_them(flow: RunningFlow) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    images = [Document(blob=file.getvalue()) for _ in range(IMAGES)]
    client, answered = Client(host=flow.host, asyncio=True), []

    async def ask(name: str, documents: AsyncIterator[Document]) -> None:
        async for answer in client.post(ENCODE, documents, request_size=IMAGES):
            assert not any(error_of(document) for document in answer)
            answered.append(name)

    async def both() -> None:
        sent = asyncio.Event()
        behind = asyncio.create_task(ask("images", one_by_one(images, sent)))
        await sent.wait()
        await ask("text", one_by_one([Document(text="a red dress")], sent))
        await behind

    asyncio.run(both())
    assert answered == ["text", "images"]


async def one_by_one(documents: list[Document], sent: asyncio.Event) -> AsyncIterator[Document]:
    """Yield documents, and say when the last one has been taken."""
    for document in documents:
        yield document
    sent.set()
