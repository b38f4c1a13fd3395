"""`data_stats` of documents and files, without a Flow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from docarray import Document

import finetuner
from finetuner.catalogue import fashion
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import DatasetNotFound, InvalidDocument, InvalidInput, NoSuchModel
from finetuner.statistics import tokens


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A jsonl file of eight pairs beside its images."""
    lines = []
    for image in fashion("train", items=4):
        (tmp_path / f"{image.name}.jpg").write_bytes(image.jpeg)
        lines.append(json.dumps({"foto": f"{image.name}.jpg", "text": image.captions["en"], "art": image.item}) + "\n")
    path = tmp_path / "shop.jsonl"
    path.write_text("".join(lines))
    return path


def test_files_and_documents_give_the_same(shop: Path) -> None:
    columns = {"image": "foto", "text": "text"}
    report = finetuner.data_stats(shop, model="clip-mini", columns=columns)
    pairs = [make_pair(image.captions["en"], image.jpeg) for image in fashion("train", items=4)]
    assert finetuner.data_stats(iter(pairs), model="clip-mini") == report
    assert (report.statistics.documents, report.troubles, report.overlap, report.without_tokens) == (8, [], None, "")
    shared = finetuner.data_stats(pairs, str(shop), model="clip-mini", columns=columns).overlap
    assert shared is not None
    assert (shared.images, shared.near_images, shared.captions, shared.first) == (8, 0, 8, (0, 0))


def test_an_image_model_reads_labels(shop: Path) -> None:
    report = finetuner.data_stats(shop, model="resnet-base", columns={"image": "foto", "label": "art"}, batch_size=4)
    assert report.statistics.labels is not None
    assert report.statistics.labels.count == 4
    assert report.without_tokens == "resnet-base reads no captions"


def test_local_images_are_read_and_missing_ones_counted(shop: Path) -> None:
    image = next(shop.parent.glob("*.jpg"))
    found = finetuner.data_stats([Document(uri=str(image)), Document(uri="none.jpg")], model="clip-mini").statistics
    assert found.images is not None
    assert (found.images.looked_at, found.elsewhere) == (1, 1)


def test_a_client_without_open_clip_counts_no_tokens(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("no", name="open_clip")

    monkeypatch.setattr(tokens, "_tokenizer", missing)
    report = finetuner.data_stats(shop, columns={"image": "foto", "text": "text"})
    assert report.without_tokens.startswith(
        "tokens are counted by open_clip. Got no open_clip. Install it: pip install"
    )
    assert report.statistics.captions is not None
    assert report.statistics.captions.tokens is None


def test_bad_input_is_refused(shop: Path) -> None:
    with pytest.raises(NoSuchModel):
        finetuner.data_stats(shop, model="nonsense")
    with pytest.raises(InvalidInput, match="batch_size must be a whole number in"):
        finetuner.data_stats(shop, batch_size=1)
    with pytest.raises(DatasetNotFound, match=r"'none.csv', which is neither"):
        finetuner.data_stats("none.csv")
    with pytest.raises(InvalidInput, match="eval_data must be"):
        finetuner.data_stats([make_pair("a", b"x")], 5)
    shop.write_text('{"foto": "none.jpg", "text": "a"}\n')
    with pytest.raises(InvalidDocument, match="line 1"):
        finetuner.data_stats(shop, columns={"image": "foto"})
