"""What stands in for the network where tutorials run without one; nothing else is stood in for.

* backbones: clip-mini and a small random ResNet ($FINETUNER_STAND_INS),
* datasets under the names that the cells use: generated ones, pushed beforehand,
* images of the web: a server on this machine ($FINETUNER_PRIVATE_URIS lets FinetunerExecutor fetch from it),
* images of the author's folder: files of the same names, written beforehand.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from docarray import Document, DocumentArray
from PIL import Image

import finetuner
from finetuner.catalogue import CatalogueImage, fashion
from finetuner.contract.environment import STAND_INS
from finetuner.contract.wire import LABEL_TAG, LANGUAGE_TAG
from finetuner.documents.pairs import make_pair
from finetuner.flow.running_flow import RunningFlow
from tests.sessions import own_session

BACKBONES = {
    "openai/clip-vit-base-patch32": "clip-mini",
    "xlm-roberta-base-ViT-B-32::laion5b_s13b_b90k": "clip-mini",
    "ViT-B-32#openai": "clip-mini",
    "resnet50": "resnet-mini-random",
}
DATASET = re.compile(r"""(?:pull\(|(?:train|eval|query|index)_data=)\s*['"]([\w.-]+)['"]""")
FILE = re.compile(r"""uri=['"]([\w-]+\.(?:png|jpe?g))['"]""")
ITEMS = 24


@contextlib.contextmanager
def tutorial_flow(folder: Path) -> Iterator[str]:
    """Log in to a Flow with stand-ins, and yield the address of the images.

    Args:
        folder: becomes the working directory; the Flow's workspace is `folder`/flow.
    """
    with own_session(), pytest.MonkeyPatch.context() as patch, image_server() as images:
        patch.setenv(STAND_INS, ",".join(f"{name}={model}" for name, model in BACKBONES.items()))
        patch.setenv("FINETUNER_PRIVATE_URIS", "true")
        with RunningFlow(folder / "flow") as flow:
            patch.setenv("FINETUNER_HOST", flow.host)
            patch.chdir(folder)
            finetuner.login(force=True)
            yield images


def prepare(text: str) -> None:
    """Push the datasets and write the images that a tutorial names."""
    for name in sorted(set(DATASET.findall(text))):
        finetuner.push_data(name, dataset(name))
    for name, image in zip(sorted(set(FILE.findall(text))), fashion("test", items=ITEMS), strict=False):
        if not Path(name).exists():
            Image.open(io.BytesIO(image.jpeg)).save(name)


def dataset(name: str) -> DocumentArray:
    """Return generated data for a dataset's name: texts for '-query', images for '-index', pairs otherwise."""
    split = "train" if "train" in name else "test"
    language = "de" if name.startswith("DE") else "en"
    documents = DocumentArray()
    for image in fashion(split, items=ITEMS):
        tags = {LABEL_TAG: image.item, LANGUAGE_TAG: language}
        if name.endswith("-query"):
            documents.append(Document(text=image.captions[language], tags=tags))
        elif name.endswith("-index"):
            documents.append(Document(blob=image.jpeg, tags=tags))
        else:
            documents.append(make_pair(image.captions[language], image.jpeg, tags))
    return documents


class Images(BaseHTTPRequestHandler):
    """Answers any path with an image of the catalogue: the same path, the same one; four numbers a garment."""

    images: tuple[CatalogueImage, ...] = ()

    def do_GET(self) -> None:
        """Send the image."""
        numbers = re.findall(r"\d+", self.path)
        content = self.images[(int(numbers[-1]) // 4 if numbers else 0) % len(self.images)].jpeg
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Keep the table readable."""


@contextlib.contextmanager
def image_server() -> Iterator[str]:
    """Yield the address of a server with images."""
    Images.images = tuple(fashion("test", items=ITEMS))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Images)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
