"""Parquet and tar shards: complete, invalid, hostile and truncated."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from finetuner.documents.images import MAX_BYTES
from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.shards import parquet_documents, tar_documents


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


def from_parquet(*paths: Path, task: str = "text-to-image", on_error: str = "raise") -> list[Any]:
    return list(parquet_documents(paths, task=task, on_error=on_error))


def tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def from_tar(*paths: Path, task: str = "text-to-image", on_error: str = "raise") -> list[Any]:
    return list(tar_documents(paths, task=task, on_error=on_error))


@pytest.mark.parametrize("text", ["text", "caption"])
def test_parquet_with_binary_images(tmp_path: Path, jpeg: Callable[[int], bytes], text: str) -> None:
    columns = {text: [" a", "b", "c"], "image": [jpeg(0), jpeg(1), jpeg(2)], "label": [7, None, 9], "other": [1, 2, 3]}
    documents = from_parquet(parquet(tmp_path / "a.parquet", {**columns, "score": [0.5, None, 1]}))
    assert [read_pair(document) for document in documents] == [
        Pair("a", jpeg(0), "7"),
        Pair("b", jpeg(1)),
        Pair("c", jpeg(2), "9"),
    ]
    assert [document.tags.get("finetuner_score") for document in documents] == [0.5, None, 1.0]


def test_parquet_of_hugging_face(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    images = [{"bytes": jpeg(0), "path": "/etc/passwd"}, {"bytes": jpeg(1), "path": None}]
    paths = [
        parquet(tmp_path / f"{n}.parquet", {"image": [images[n]], "text": ["a"], "language": ["de"]}) for n in (1, 0)
    ]
    assert [read_pair(document) for document in from_parquet(*paths)] == [
        Pair("a", jpeg(1), language="de"),
        Pair("a", jpeg(0), language="de"),
    ]


def test_parquet_with_labels(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [jpeg(0)], "label": ["shoe"]})
    (document,) = from_parquet(path, task="image-to-image")
    assert (document.blob, document.modality, document.tags) == (jpeg(0), "image", {"finetuner_label": "shoe"})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"photo": [b"x"], "text": ["a"]}, "must have a column image or .*Got photo, text in"),
        ({"image": [b"x"], "title": ["a"]}, "must have a column text or caption. Got image, title"),
        ({"image": ["x.jpg"], "text": ["a"]}, "column image must be binary or a struct of bytes and path. Got string"),
        ({"image": [{"path": "x.jpg"}], "text": ["a"]}, "Got struct<path: string>"),
    ],
)
def test_invalid_columns_are_refused_at_the_call(tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
    path = parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(InvalidInput, match=expected):
        parquet_documents([path], task="text-to-image", on_error="skip")


def test_image_to_image_requires_labels(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [b"x"], "text": ["a"]})
    with pytest.raises(InvalidInput, match="for image-to-image must have a column label"):
        parquet_documents([path], task="image-to-image", on_error="raise")


def test_invalid_rows_are_named(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    images = [{"bytes": blob, "path": "x"} for blob in (jpeg(0), None, b"no image", jpeg(1), jpeg(2))]
    path = parquet(tmp_path / "a.parquet", {"image": images, "text": ["a", "b", "c", None, "e"]})
    with pytest.raises(InvalidDocument, match="Got 3 that") as caught:
        from_parquet(path)
    assert "row 1: sample must hold its image's bytes. Got none. Add them; paths are not read." in str(caught.value)
    assert "row 2: image must be an image file" in str(caught.value)
    assert "row 3: caption must be a nonempty text. Got None" in str(caught.value)
    with pytest.warns(UserWarning, match="left out 3"):
        documents = from_parquet(path, on_error="skip")
    assert [read_pair(document).text for document in documents] == ["a", "e"]


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(InvalidInput, match="parquet file must be readable"):
        from_parquet(tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="at least one usable entry"):
        from_parquet(parquet(tmp_path / "b.parquet", {"image": pa.array([], pa.binary()), "text": []}))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_webdataset_samples(tmp_path: Path, jpeg: Callable[[int], bytes], mode: str) -> None:
    told = {"caption": "b", "label": 3, "score": 0.5, "language": "de"}
    members = [
        ("README.md", b"hello"),
        ("x/0.jpg", jpeg(0)),
        ("x/0.txt", b"a\n"),
        ("x/0.seg.png", b"unknown"),
        ("y/0.json", json.dumps(told).encode()),
        ("y/0.PNG", jpeg(1)),
    ]
    second = tar(tmp_path / "1.tar", [("1.jpg", jpeg(2)), ("1.json", b'{"text": "from json"}'), ("1.txt", b"c")])
    documents = from_tar(tar(tmp_path / "0.tar", members, mode), second)
    assert [read_pair(document) for document in documents] == [
        Pair("a", jpeg(0)),
        Pair("b", jpeg(1), "3", "de"),
        Pair("c", jpeg(2)),
    ]
    assert documents[1].tags["finetuner_score"] == 0.5


def test_webdataset_classes(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    path = tar(tmp_path / "0.tar", [("0.jpg", jpeg(0)), ("0.cls", b"4\n")])
    (document,) = from_tar(path, task="image-to-image")
    assert (document.blob, document.tags) == (jpeg(0), {"finetuner_label": "4"})


def test_invalid_samples_are_named(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    members = [
        *[("a.jpg", jpeg(0)), ("a.txt", b"good")],
        *[("b.txt", b"no image")],
        *[("c.jpg", jpeg(0)), ("c.png", jpeg(0)), ("c.txt", b"two")],
        *[("d.jpg", jpeg(0))],
        *[("e.jpg", jpeg(0)), ("e.json", b"{")],
        *[("f.jpg", jpeg(0)), ("f.json", b"[" * 100_000)],
        *[("g.jpg", jpeg(0)), ("g.txt", b"\xff")],
        *[("h.jpg", jpeg(0)), ("h.json", b'{"caption": "a", "score": "high"}')],
        *[("i.jpg", b""), ("i.txt", b"a")],
        *[("j.jpg", jpeg(0)), ("j.json", b"[]")],
    ]
    path = tar(tmp_path / "0.tar", members)
    with pytest.raises(InvalidDocument, match="Got 9 that") as caught:
        from_tar(path)
    for name, reason in {
        "b": "one image. Got 0: txt",
        "c": "one image. Got 2: jpg, png, txt",
        "d": "must be a nonempty text. Got None",
        "e": "json well formed",
        "f": "json well formed",
        "g": "text must be UTF-8",
        "h": "score must be a finite number such as 0.8. Got 'high'",
        "i": "image's bytes",
        "j": "json must be an object",
    }.items():
        (line,) = [line for line in str(caught.value).splitlines() if f"0.tar '{name}': " in line]
        assert reason in line
    with pytest.warns(UserWarning, match="left out 9"):
        assert [read_pair(document).text for document in from_tar(path, on_error="skip")] == ["good"]


@pytest.mark.parametrize("task", ["text-to-image", "image-to-image"])
def test_labels_and_scores_mean_the_same_in_every_source(
    tmp_path: Path, jpeg: Callable[[int], bytes], task: str
) -> None:
    """NaN is no class and no score, and 3.0 is the class 3."""
    labels, scores = [3.0, float("nan"), 5.0, 6.0], [0.5, 0.5, float("nan"), float("inf")]
    columns = {"image": [jpeg(0)] * 4, "text": [*"abcd"], "label": labels, "score": pa.array(scores)}
    fields = [{"caption": "a", "label": label, "score": score} for label, score in zip(labels, scores, strict=True)]
    members = [(f"{n}.{kind}", content) for n in range(4) for kind, content in (("jpg", jpeg(0)), ("json", b""))]
    members = [(n, json.dumps(fields[int(n[0])]).encode() if "json" in n else c) for n, c in members]
    sources = parquet(tmp_path / "a.parquet", columns), tar(tmp_path / "a.tar", members)
    for read, source in zip((from_parquet, from_tar), sources, strict=True):
        with pytest.warns(UserWarning, match="score must be a finite number such as 0.8. Got inf"):
            documents = read(source, task=task, on_error="skip")
        expected = ["3", None] if task == "text-to-image" else ["3"]
        assert [document.tags.get("finetuner_label") for document in documents] == expected


def test_names_and_links_of_members_are_never_paths(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(9))
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, content in [("../../a.jpg", jpeg(0)), ("../../a.txt", b"up"), ("/b.jpg", jpeg(1)), ("/b.txt", b"b")]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("c.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    documents = from_tar(tmp_path / "0.tar")
    assert [read_pair(document) for document in documents] == [Pair("up", jpeg(0)), Pair("b", jpeg(1))]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_member_with_a_huge_size_is_not_read(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    members = [("a.jpg", bytes(MAX_BYTES + 1)), ("a.txt", b"a"), ("b.jpg", jpeg(0)), ("b.txt", b"b")]
    path = tar(tmp_path / "0.tar", members)
    long_name = tarfile.TarInfo("long")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 10**9
    (tmp_path / "1.tar").write_bytes(long_name.tobuf(tarfile.USTAR_FORMAT) + bytes(10_240))
    assert len(from_tar(tar(tmp_path / "2.tar", members[2:]))) == 1  # imports come before the measurement
    tracemalloc.start()
    with pytest.warns(UserWarning, match=rf"(?s)'a': member must have at most {MAX_BYTES} bytes.*a header of 10+ byt"):
        documents = from_tar(path, tmp_path / "1.tar", on_error="skip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [read_pair(document).text for document in documents] == ["b"]
    assert peak < 8 * 2**20


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_shard_is_named_and_its_beginning_used(
    tmp_path: Path, jpeg: Callable[[int], bytes], mode: str
) -> None:
    members = [(f"{number:03}.{suffix}", jpeg(number) if suffix == "jpg" else b"x") for number in range(200)
               for suffix in ("jpg", "txt")]  # fmt: skip
    path = tar(tmp_path / "0.tar", members, mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 1024 * 512 + 100])
    with pytest.raises(InvalidDocument, match=r"0.tar after .*: tar file must be whole"):
        from_tar(path)
    if mode in ("w", "w:gz"):
        with pytest.warns(UserWarning, match="left out 1"):
            assert 50 < len(from_tar(path, on_error="skip")) < 150


def test_a_file_that_is_not_tar_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(InvalidDocument, match="tar file must be whole"):
        from_tar(tmp_path / "0.tar")
    with pytest.raises(InvalidInput, match="at least one usable entry"):
        from_tar(tar(tmp_path / "1.tar", []))
