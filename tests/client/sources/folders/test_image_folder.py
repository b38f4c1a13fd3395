"""Folders of classes, captions beside images, and lists of images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.folders.image_folder import folder_documents, image_documents


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


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_a_subfolder_is_a_class(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    found = labels(folder_documents(folder, task="image-to-image", on_error="raise"))
    assert found == [("hat", jpeg(2)), ("shoe", jpeg(0)), ("shoe", jpeg(1))]


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_a_caption_lies_beside_its_image(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    found = [read_pair(document) for document in folder_documents(folder, task="text-to-image", on_error="raise")]
    assert found == [Pair(f"image {number}", jpeg(number)) for number in (2, 0, 1)]


def test_a_list_of_images(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    paths = [folder / "shoe/deep/1.JPG", str(folder / "hat/2.jpg")]
    found = labels(image_documents(paths, task="image-to-image", on_error="raise"))
    assert found == [("deep", jpeg(1)), ("hat", jpeg(2))]
    pairs = image_documents(paths, task="text-to-image", on_error="raise")
    assert [read_pair(pair).text for pair in pairs] == ["image 1", "image 2"]


@pytest.mark.filterwarnings("ignore:.*passed over")
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
    assert "Also passed over 3 entries: 2 hidden (" in message
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


@pytest.mark.parametrize("name", ["0.jfif", "0.JPE", "0", "0.v2", "0.bin"])
@pytest.mark.parametrize("task", ["text-to-image", "image-to-image"])
def test_an_image_is_one_by_its_first_bytes(tmp_path: Path, jpeg: Callable[[int], bytes], name: str, task: str) -> None:
    (tmp_path / "shoe").mkdir()
    (tmp_path / "shoe" / name).write_bytes(jpeg(0))
    (tmp_path / "shoe" / ("0.txt" if name.lower().endswith(("jfif", "jpe")) else f"{name}.txt")).write_text("a shoe")
    (document,) = folder_documents(tmp_path, task=task, on_error="raise")
    assert (document.blob or document.chunks[1].blob) == jpeg(0)
    (document,) = image_documents([tmp_path / "shoe" / name], task=task, on_error="raise")
    assert (document.blob or document.chunks[1].blob) == jpeg(0)


def test_links_to_folders_and_files_are_followed_once(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/0.jpg").write_bytes(jpeg(0))
    root = tmp_path / "root"
    (root / "hat").mkdir(parents=True)
    (root / "hat/1.jpg").symlink_to("../../store/0.jpg")
    (root / "hat/loop").symlink_to(root)
    (root / "shoe").symlink_to("../store")
    with pytest.warns(UserWarning, match=r"passed over 1 entries: 1 link to a folder that is read already \(.*loop\)"):
        found = labels(folder_documents(root, task="image-to-image", on_error="raise"))
    assert found == [("hat", jpeg(0)), ("shoe", jpeg(0))]


def test_a_broken_link_is_named(folder: Path) -> None:
    (folder / "coat").symlink_to("nowhere")
    with pytest.raises(InvalidDocument, match="coat: link must lead to a file or folder. Got a broken link"):
        folder_documents(folder, task="image-to-image", on_error="raise")


def test_what_is_passed_over_is_counted_with_its_reason(folder: Path, jpeg: Callable[[int], bytes]) -> None:
    os.mkfifo(folder / "hat/pipe.jpg")
    for number in range(5):
        (folder / f"hat/{number}.md").write_text("notes")
    with pytest.warns(UserWarning, match="passed over") as caught:
        documents = list(folder_documents(folder, task="text-to-image", on_error="raise"))
    assert len(documents) == 3
    (message,) = [str(warning.message) for warning in caught]
    assert "passed over 9 entries: 6 not an image (" in message
    assert "README.txt" in message
    assert ", ...); 2 hidden (" in message
    assert "; 1 neither file nor folder (" in message


def test_a_folder_of_other_files_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        InvalidInput, match=r"usable entry. Got none \(passed over 1 entries: 1 not an image \(.*0.parquet\)"
    ):
        folder_documents(tmp_path, task="image-to-image", on_error="raise")
