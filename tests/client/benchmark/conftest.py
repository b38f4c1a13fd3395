"""Fixtures: small made sets in the file formats of the public ones, and a tuned model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.catalogue import CatalogueImage, fashion
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.folder import Workspace

IMAGES = list(fashion("test", items=12))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread. In models this small, threads only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images() -> list[CatalogueImage]:
    """Return twelve garments with two images each, in a row."""
    return IMAGES


def karpathy_image(number: int, image: CatalogueImage, split: str, below: str = "") -> dict[str, Any]:
    """Return the entry of an image in Karpathy's layout, with an English and a German caption."""
    sentences = [
        {"tokens": caption.lower().split(), "raw": f" {caption}", "imgid": number, "sentid": 2 * number + position}
        for position, caption in enumerate(image.captions.values())
    ]
    entry = {
        "sentids": [sentence["sentid"] for sentence in sentences],
        "imgid": number,
        "sentences": sentences,
        "split": split,
        "filename": f"{image.name}.jpg",
    }
    return entry | ({"filepath": below, "cocoid": 100 + number} if below else {})


@pytest.fixture
def karpathy(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of sets, from the name, the folder of images and one (split, filepath) per image."""

    def make(name: str, folder: str, *places: tuple[str, str]) -> Path:
        root = tmp_path / name
        entries = []
        for number, ((split, below), image) in enumerate(zip(places, IMAGES, strict=False)):
            entries.append(karpathy_image(number, image, split, below))
            path = root / folder / below / f"{image.name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image.jpeg)
        (root / f"dataset_{name}.json").write_text(json.dumps({"images": entries, "dataset": name}))
        return root

    return make


@pytest.fixture
def flickr8k(karpathy: Callable[..., Path]) -> Path:
    """Return a set of eight images to train on, four to validate on and twelve to test on."""
    splits = ["train"] * 8 + ["val"] * 4 + ["test"] * 12
    return karpathy("flickr8k", "Flicker8k_Dataset", *((split, "") for split in splits))


@pytest.fixture
def fashion12k(tmp_path: Path) -> Path:
    """Return the training and test split in the files of `jinaai/fashion-captions-de`."""
    root = tmp_path / "fashion12k"
    (root / "data").mkdir(parents=True)
    kind = pa.schema([("text", pa.string()), ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    for split, part in (("train", IMAGES[:16]), ("test", IMAGES[16:])):
        rows = [{"text": one.captions["de"], "image": {"bytes": one.jpeg, "path": f"{one.name}.jpg"}} for one in part]
        path = root / "data" / f"{split}-00000-of-00001-4c3f5333e9df536a.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=kind), path)
    return root


@pytest.fixture
def ukbench(tmp_path: Path) -> Path:
    """Return three objects to train on and three to test on. Two garments with two images each make one object."""
    root = tmp_path / "ukbench" / "full"
    root.mkdir(parents=True)
    for number, image in enumerate(IMAGES[:12]):
        for start, first in ((0, 0), (1_000, 12)):
            (root / f"ukbench{start + number:05d}.jpg").write_bytes(
                IMAGES[first + number].jpeg if start else image.jpeg
            )
    return root.parent


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an artifact of clip-mini with other weights."""
    model = load_backbone(find_backbone("clip-mini"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    manifest = Manifest(
        artifact_id="0123456789abcdef01234567",
        run_name="first-run",
        backbone="clip-mini",
        output_dim=128,
        towers=list(TOWERS),
        metrics={},
        data={"train": "0" * 64},
        created_at="2025-01-01T00:00:00+00:00",
        code_version="0.1.0",
    )
    return publish_artifact(Workspace(tmp_path_factory.mktemp("workspace")), model, manifest, {"model": "clip-mini"})
