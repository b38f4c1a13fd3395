"""Tar shards: complete, invalid, hostile and truncated."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from finetuner.documents.images import MAX_BYTES
from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from tests.client.sources.made_shards import from_tar, tar


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
    expected = r"passed over 2 entries: 1 not an image, .* \(.*'README.md'\); 1 further file .* \(.*'x/0.seg.png'"
    with pytest.warns(UserWarning, match=expected):
        documents = from_tar(tar(tmp_path / "0.tar", members, mode), second)
    assert [read_pair(document) for document in documents] == [
        Pair("a", jpeg(0)),
        Pair("b", jpeg(1), "3", "de", 0.5),
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
        "i": "must have an image",
        "j": "json must be an object",
    }.items():
        (line,) = [line for line in str(caught.value).splitlines() if f"0.tar '{name}': " in line]
        assert reason in line
    with pytest.warns(UserWarning, match="left out 9"):
        assert [read_pair(document).text for document in from_tar(path, on_error="skip")] == ["good"]


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
    with pytest.warns(UserWarning, match=r"passed over 1 entries: 1 link or device \(.*'c.jpg'\)"):
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


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["dress.front.jpg", "dress.front.txt", "dress.back.jpg", "dress.back.txt"], ["dress.front", "dress.back"]),
        (["dress.front.jpg", "dress.front.txt", "dress.jpg", "dress.txt"], ["dress", "dress.front"]),
        (["dress.jpg", "dress.front.jpg", "dress.front.txt", "dress.txt"], ["dress", "dress.front"]),
        (["v1.0.jfif", "v1.0.txt", "v1.1.jpe", "v1.1.txt"], ["v1.0", "v1.1"]),
        (["dress", "dress.txt", "coat.v2", "coat.v2.txt"], ["dress", "coat.v2"]),
        (["a.jpg", "a.txt", "a.jpg", "a.txt"], ["a", "a"]),
    ],
)
def test_names_with_dots(tmp_path: Path, jpeg: Callable[[int], bytes], names: list[str], expected: list[str]) -> None:
    members = [(name, name[:-4].encode() if name.endswith(".txt") else jpeg(0)) for name in names]
    found = [read_pair(document) for document in from_tar(tar(tmp_path / "0.tar", members))]
    assert [pair.text for pair in found] == expected
    assert all(pair.image == jpeg(0) for pair in found)


@pytest.mark.parametrize("extra", ["0.depth.png", "0.seg.png", "0.meta.json", "._0.jpg", "notes.bin"])
def test_further_members_are_passed_over_with_a_word(tmp_path: Path, jpeg: Callable[[int], bytes], extra: str) -> None:
    names = sorted(["0.jpg", "0.txt", "1.jpg", "1.txt", extra])
    content = {"jpg": jpeg(0), "png": jpeg(1), "txt": b"a", "json": b"{}", "bin": b"\0" * 99}
    path = tar(tmp_path / "0.tar", [(name, content[name.rpartition(".")[2]]) for name in names])
    with pytest.warns(UserWarning, match=rf"passed over 1 entries: 1 .* \(.*'{extra}'\)"):
        documents = from_tar(path)
    assert [read_pair(document) for document in documents] == [Pair("a", jpeg(0))] * 2
