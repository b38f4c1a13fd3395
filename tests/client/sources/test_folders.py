"""Folders of classes, captions beside images, and lists of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.folders import folder_documents, image_documents


@pytest.fixture
def folder(tmp_path: Path, jpeg: Callable[[int], bytes]) -> Path:
    """Return shoe/{0.jpg,deep/1.jpg}, hat/2.jpg with captions, and hidden files beside them."""
    for number, name in enumerate(["shoe/0.jpg", "shoe/deep/1.JPG", "hat/2.jpg"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
        path.with_suffix(".txt").write_text(f"\ufeff image {number}\n", encoding="utf-8")
    (tmp_path / "README.txt").write_text("no caption")
    (tmp_path / "hat/._2.jpg").write_bytes(b"resource fork")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/x.jpg").write_bytes(b"hidden")
    return tmp_path


def labels(documents: Any) -> list[tuple[str, bytes]]:
    return [(document.tags["finetuner_label"], document.blob) for document in documents]


def test_a_subfolder_is_a_class(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    found = labels(folder_documents(folder, task="image-to-image", on_error="raise"))
    assert found == [("hat", jpeg(2)), ("shoe", jpeg(0)), ("shoe", jpeg(1))]


def test_a_caption_lies_beside_its_image(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    found = [read_pair(document) for document in folder_documents(folder, task="text-to-image", on_error="raise")]
    assert found == [Pair(f"image {number}", jpeg(number)) for number in (2, 0, 1)]


def test_a_list_of_images(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    paths = [folder / "shoe/deep/1.JPG", str(folder / "hat/2.jpg")]
    found = labels(image_documents(paths, task="image-to-image", on_error="raise"))
    assert found == [("deep", jpeg(1)), ("hat", jpeg(2))]
    pairs = image_documents(paths, task="text-to-image", on_error="raise")
    assert [read_pair(pair).text for pair in pairs] == ["image 1", "image 2"]


def test_one_error_names_every_invalid_image_before_any_is_used(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    (folder / "hat/2.txt").unlink()
    (folder / "shoe/0.txt").write_text(" \n")
    for name, caption in {"bad.jpg": b"x", "wrong.jpg": "grün".encode("latin-1"), "long.jpg": b"x" * 100_000}.items():
        (folder / name).write_bytes(b"no image" if name == "bad.jpg" else jpeg(9))
        (folder / name).with_suffix(".txt").write_bytes(caption)
    with pytest.raises(InvalidDocument, match="Got 5 that") as caught:
        folder_documents(folder, task="text-to-image", on_error="raise")
    message = str(caught.value)
    assert f"{folder / 'hat/2.jpg'}: image must have its caption beside it, in '2.txt'. Got none" in message
    assert f"{folder / 'shoe/0.jpg'}: caption must be a nonempty text. Got ' \\n'. Add it. (In '0.txt'.)" in message
    assert f"{folder / 'bad.jpg'}: image must be a file such as JPEG or PNG" in message
    assert f"{folder / 'wrong.jpg'}: caption must be UTF-8" in message
    assert f"{folder / 'long.jpg'}: caption must have" in message
    with pytest.warns(UserWarning, match="left out 5"):
        documents = list(folder_documents(folder, task="text-to-image", on_error="skip"))
    assert [read_pair(document).text for document in documents] == ["image 1"]


def test_an_image_outside_the_classes_is_named(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    (folder / "x.jpg").write_bytes(jpeg(3))
    with pytest.raises(InvalidDocument, match=r"x.jpg: image must lie in a subfolder, whose name is its label"):
        folder_documents(folder, task="image-to-image", on_error="raise")


def test_damage_found_while_decoding_is_named(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    (folder / "shoe/0.jpg").write_bytes(jpeg(0)[:-60])
    documents = folder_documents(folder, task="image-to-image", on_error="raise")
    assert next(documents).tags["finetuner_label"] == "hat"
    with pytest.raises(InvalidDocument, match=r"0.jpg: image must be an image file"):
        next(documents)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_folder_without_images_is_refused(tmp_path: Path, on_error: str) -> None:
    with pytest.raises(InvalidInput, match="must hold at least one usable entry"):
        list(folder_documents(tmp_path, task="image-to-image", on_error=on_error))
