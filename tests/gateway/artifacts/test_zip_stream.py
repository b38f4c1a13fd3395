"""Zips written while they are sent, as Python's own reader sees them."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

from finetuner.executors.gateway.artifacts.zip_stream import ZipStream, zip_size


def streamed(stream: ZipStream, files: dict[str, bytes], piece: int = 1000) -> bytes:
    out = bytearray()
    for name, content in files.items():
        out += stream.begin(name)
        for start in range(0, len(content), piece):
            out += stream.piece(content[start : start + piece])
        out += stream.end()
    return bytes(out + stream.finish())


def test_the_zip_holds_the_files_and_has_the_size_that_was_told() -> None:
    for files in ({}, {"a/ä.json": b"{}", "a/empty": b"", "a/b/weights": os.urandom(12_345)}):
        content = streamed(ZipStream(), files)
        assert len(content) == zip_size((name, len(each)) for name, each in files.items())
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            assert {info.filename: archive.read(info) for info in archive.infolist()} == files


def test_the_same_files_are_the_same_zip_whatever_the_pieces() -> None:
    files = {"a": os.urandom(5000), "b": b"text"}
    assert streamed(ZipStream(), files, piece=7) == streamed(ZipStream(), files, piece=10_000)


def test_a_file_behind_four_gigabytes_is_found(tmp_path: Path) -> None:
    stream, files = ZipStream(), {"a": b"first", "b": b"second"}
    stream._sent = start = 2**32 + 10  # as if as much had come before; the file has a hole there
    with open(tmp_path / "large.zip", "wb") as file:
        file.seek(start)
        file.write(streamed(stream, files))
    with zipfile.ZipFile(tmp_path / "large.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
