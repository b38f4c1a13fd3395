"""Converts shards to documents: parquet files by row groups, WebDataset tar files as streams."""

from __future__ import annotations

import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ..contract.wire import LABEL_TAG, SCORE_TAG
from ..documents.images import MAX_BYTES, decode
from ..documents.pairs import make_pair
from ..documents.tags import make_tags, read_caption
from ..exceptions import InvalidDocument, InvalidInput
from .local_images import SUFFIXES
from .rejects import usable

if TYPE_CHECKING:
    from docarray import Document

TEXT, IMAGE = ("text", "caption"), ("image", "image_bytes", "jpg", "jpeg", "png", "webp")
LABEL, SCORE, LANGUAGE = ("label", LABEL_TAG), ("score", SCORE_TAG), ("language",)
ROWS = 64
MAX_TEXT_BYTES = 2**20
TEXTS = ("txt", "json", "cls")

Sample = Mapping[str, Any]
"""Keys 'image' (bytes), 'text', 'label', 'score' and 'language'; each may be missing or None."""


def parquet_documents(paths: Sequence[str | os.PathLike[str]], *, task: str, on_error: str) -> Iterator[Document]:
    """Return the documents of parquet files, with a few rows in memory at a time.

    One column, named as in IMAGE, holds the image file as binary or as Hugging Face's struct {bytes, path}, whose path
    is never read. `text-to-image` requires a text column, named as in TEXT, and `image-to-image` a `label`. `label`,
    `score` and `language` are optional otherwise. Other columns are ignored.

    Args:
        paths: of the files, in reading order.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.

    Returns:
        Pairs (see `documents.pairs`) or images as blobs, with tags `finetuner_label`, `finetuner_score` and `language`.

    Raises:
        InvalidInput: a file that is not parquet or lacks a required column, at this call; no rows.
        InvalidDocument: invalid rows, numbered from 0, all named in one error after the last row.
    """
    columns = {os.fspath(path): _columns(os.fspath(path), task) for path in paths}
    return _documents(_rows(columns), "parquet data", task, on_error)


def tar_documents(paths: Sequence[str | os.PathLike[str]], *, task: str, on_error: str) -> Iterator[Document]:
    """Return the documents of WebDataset shards, with one sample in memory at a time.

    A sample consists of the members with one name: an image (.jpg, .png, .webp, ...), and a .txt or a .json. The .json
    has `caption` or `text`, and optionally `label`, `score` and `language`. A .cls holds a label. The names of members
    are compared but never opened as paths. Compressed tar files work, too.

    Args:
        paths: of the shards, in reading order.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'; the rest of a truncated shard counts as one invalid entry.

    Returns:
        Documents as in `parquet_documents`.

    Raises:
        InvalidInput: no samples.
        InvalidDocument: invalid samples, all named in one error after the last sample.
    """
    return _documents((entry for path in paths for entry in _samples(os.fspath(path))), "tar shards", task, on_error)


def _documents(
    samples: Iterator[tuple[str, Sample | InvalidDocument]], source: str, task: str, on_error: str
) -> Iterator[Document]:
    def use(sample: Sample) -> list[Document]:
        from docarray import Document

        blob, tags = sample.get("image"), make_tags(*map(sample.get, ("label", "score", "language")))
        if not isinstance(blob, bytes) or not blob:
            raise InvalidDocument("sample must hold its image's bytes. Got none. Add them; paths are not read.")
        if task == "text-to-image":
            text = read_caption(sample.get("text"))
            decode(blob)
            return [make_pair(text, blob, tags)]
        if LABEL_TAG not in tags:
            raise InvalidDocument(f"sample must have a label for image-to-image. Got {sample.get('label')!r}. Add it.")
        decode(blob)
        return [Document(blob=blob, modality="image", tags=tags)]

    return usable(samples, use, source=source, on_error=on_error)


def _columns(path: str, task: str) -> dict[str, str]:
    """Return the name of the image column, the text column and so on, from the file's schema."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"parquet file must be readable. Got {path!r} ({str(error)[:120]}). Check it.") from error
    wanted = {"image": IMAGE, "text": TEXT, "label": LABEL, "score": SCORE, "language": LANGUAGE}
    found = {key: next((name for name in names if name in schema.names), "") for key, names in wanted.items()}
    for key in ("image", "text" if task == "text-to-image" else "label"):
        if not found[key]:
            raise InvalidInput(
                f"parquet file for {task} must have a column {' or '.join(wanted[key])}. "
                f"Got {', '.join(schema.names)} in {path!r}. Rename one."
            )
    kind = schema.field(found["image"]).type
    if pa.types.is_struct(kind):
        inner = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
        kind = inner.get("bytes", kind)
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InvalidInput(
            f"column {found['image']} must be binary or a struct of bytes and path. Got {kind} in {path!r}. "
            f"Store the images' files in it."
        )
    return {key: name for key, name in found.items() if name}


def _rows(files: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, Sample | InvalidDocument]]:
    import pyarrow as pa
    import pyarrow.parquet

    for path, columns in files.items():
        number = 0
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=ROWS, columns=list(columns.values())):
                    for row in batch.to_pylist():
                        sample = {key: row[name] for key, name in columns.items()}
                        if isinstance(sample["image"], dict):
                            sample["image"] = sample["image"].get("bytes")
                        yield f"{path} row {number}", sample
                        number += 1
        except (OSError, pa.ArrowException) as error:
            yield f"{path} from row {number}", InvalidDocument(f"file must be whole. Got an error: {str(error)[:120]}.")


class _BoundedHeader(tarfile.TarInfo):
    """A tar header that refuses truncated headers and large extensions, which tarfile would read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedHeader:
        if 0 < len(buf) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("a truncated header")
        info = super().frombuf(buf, encoding, errors)
        content = info.type in tarfile.REGULAR_TYPES or info.type in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)
        if not content and info.size > MAX_TEXT_BYTES:
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info


def _samples(path: str) -> Iterator[tuple[str, Sample | InvalidDocument]]:
    """Yield the samples of one shard: consecutive members with the same name."""
    name = ""
    parts: dict[str, bytes | InvalidDocument] = {}
    try:
        with tarfile.open(path, "r|*", tarinfo=_BoundedHeader) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # the list would grow with the shard
                pure = PurePosixPath(member.name)
                stem, _, suffix = pure.name.partition(".")
                key, suffix = str(pure.with_name(stem or "_")), suffix.lower()
                if not member.isfile() or (suffix not in TEXTS and f".{suffix}" not in SUFFIXES):
                    continue
                if key != name and parts:
                    yield f"{path} {name!r:.80}", _sample(parts)
                    parts = {}
                name = key
                parts[suffix] = _content(archive, member, MAX_TEXT_BYTES if suffix in TEXTS else MAX_BYTES)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        yield f"{path} after {name!r:.80}", InvalidDocument(f"tar file must be whole. Got an error: {error!s:.120}.")
        return
    if parts:
        yield f"{path} {name!r:.80}", _sample(parts)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes | InvalidDocument:
    if member.size > most:
        return InvalidDocument(f"member must have at most {most} bytes. Got {member.size}. Scale it down.")
    file = archive.extractfile(member)
    return file.read(member.size) if file is not None else b""  # read allocates this number of bytes at once


def _sample(parts: Mapping[str, bytes | InvalidDocument]) -> Sample | InvalidDocument:
    images = [suffix for suffix in parts if f".{suffix}" in SUFFIXES]
    if len(images) != 1:
        return InvalidDocument(f"sample must have one image. Got {len(images)}: {', '.join(parts)}. Correct it.")
    sample: dict[str, Any] = {}
    try:
        for suffix, content in parts.items():
            if isinstance(content, InvalidDocument):
                return content
            if suffix == "json":
                fields = json.loads(content)
                if not isinstance(fields, dict):
                    return InvalidDocument(f"json must be an object with a caption. Got {type(fields).__name__}.")
                known = {key: fields.get(key) for key in ("label", "score", "language")}
                sample = {**known, "text": fields.get("caption", fields.get("text")), **sample}
            elif suffix == "txt":
                sample["text"] = content.decode("utf-8-sig")
            elif suffix == "cls":
                sample["label"] = content.decode("utf-8-sig").strip()
            else:
                sample["image"] = content
    except (ValueError, RecursionError) as error:  # ValueError: invalid JSON or UTF-8
        return InvalidDocument(f"text must be UTF-8 and json well formed. Got an error: {error!s:.120}. Correct it.")
    return sample
