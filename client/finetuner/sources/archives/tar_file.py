"""Converts WebDataset's tar files to documents, as streams."""

from __future__ import annotations

import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ...documents.image_files import HEAD_BYTES, SUFFIXES, is_image
from ...documents.images import MAX_BYTES
from ...exceptions import InvalidDocument
from ..rejects import PassedOver
from ..samples import Sample, sample_documents, sampled
from ..tables.csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document

MAX_TEXT_BYTES = 2**20
TEXTS = ("txt", "json", "cls")
CAPTIONS = ("caption", "text", "captions")

Parts = dict[str, bytes | InvalidDocument]
"""Ending of each member of a sample -> its content, or the error for one that is too large."""
Entry = tuple[str, Sample | InvalidDocument | PassedOver]


def tar_documents(
    paths: Sequence[str | os.PathLike[str]], options: CSVOptions | None = None, *, task: str, on_error: str
) -> Iterator[Document]:
    """Return the documents of WebDataset shards, with at most two samples in memory at a time.

    A sample consists of the members with one name: an image, by its ending or by its first bytes, and a .txt or a
    .json. The .json has a caption or a list of captions as `caption`, `text` or `captions`, and optionally `label`,
    `score`, `language` and `negative`, a caption or a list. A .cls holds a label. `dress.front.jpg` and
    `dress.front.txt` are one sample. A `dress.mask.png` without a text of its own, beside `dress.jpg`, is passed over.
    A warning counts all members that are passed over, with the reasons. The names of members are compared but never
    opened as paths. Compressed tar files work, too.

    Args:
        paths: of the shards, in reading order.
        options: `size` and `sampling_rate`, over all shards.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'; the rest of a truncated shard counts as one invalid entry.

    Returns:
        Documents as in `samples.sample_documents`.

    Raises:
        InvalidInput: no samples.
        InvalidDocument: invalid samples, all named in one error after the last sample.
    """
    options = options or CSVOptions()
    samples = (entry for path in paths for entry in _samples(os.fspath(path)))
    return sample_documents(sampled(samples, options.sampling_rate), "tar shards", task, on_error, limit=options.size)


class BoundedHeader(tarfile.TarInfo):
    """A tar header that refuses truncated headers and large extensions, which tarfile would read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> BoundedHeader:
        """Return the header in a block; see `tarfile.TarInfo.frombuf`."""
        if 0 < len(buf) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("a truncated header")
        info = super().frombuf(buf, encoding, errors)
        content = info.type in tarfile.REGULAR_TYPES or info.type in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)
        if not content and info.size > MAX_TEXT_BYTES:
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info


def _samples(path: str) -> Iterator[Entry]:
    """Yield the samples of one shard, and the members that are passed over."""
    opened, name = _Opened(path), ""
    try:
        with tarfile.open(path, "r|*", tarinfo=BoundedHeader) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # the list would grow with the shard
                pure = PurePosixPath(member.name)
                suffix = pure.suffix.lower()
                reason = ""
                if not member.isfile():
                    reason = "" if member.isdir() else "link or device"
                elif pure.name.startswith("."):
                    reason = "hidden"
                elif (content := _content(archive, member, suffix)) is None:
                    reason = "not an image, .txt, .json or .cls"
                else:
                    known = suffix in SUFFIXES or suffix[1:] in TEXTS
                    name = str(pure.with_suffix("") if known else pure)
                    yield from opened.add(name, suffix[1:] if known else "image", content)
                if reason:
                    yield f"{path} {member.name!r:.80}", PassedOver(reason)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        yield f"{path} after {name!r:.80}", InvalidDocument(f"tar file must be whole. Got an error: {error!s:.120}.")
        return
    yield from opened.finish()


class _Opened:
    """The sample that is read, and one whose name extends its name, such as '0.mask' beside '0'.

    Only the members that follow tell whether the latter is a sample of its own.

    Args:
        path: of the shard, for messages.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._name, self._longer = "", ""
        self._parts: Parts = {}
        self._longer_parts: Parts = {}

    def add(self, name: str, suffix: str, content: bytes | InvalidDocument) -> Iterator[Entry]:
        """Add a member, and yield the entries that it completes."""
        if self._parts and self._name.startswith(f"{name}.") and not self._longer_parts:
            self._longer, self._longer_parts, self._parts = self._name, self._parts, {}
        elif self._parts and name.startswith(f"{self._name}."):
            if name != self._longer or suffix in self._longer_parts:
                yield from self._finish_longer()
            self._longer = name
            self._longer_parts[suffix] = content
            return
        elif name != self._name or suffix in self._parts:
            yield from self.finish()
        self._name = name
        self._parts[suffix] = content

    def finish(self) -> Iterator[Entry]:
        """Yield the samples that are read."""
        if self._parts:
            yield self._where(self._name), _sample(self._parts)
        self._parts = {}
        yield from self._finish_longer()

    def _finish_longer(self) -> Iterator[Entry]:
        parts, self._longer_parts = self._longer_parts, {}
        if not parts:
            return
        has_text = any(suffix in TEXTS for suffix in parts)
        if has_text and any(suffix not in TEXTS for suffix in parts):
            yield self._where(self._longer), _sample(parts)
        else:
            for suffix in parts:
                yield self._where(f"{self._longer}.{suffix}"), PassedOver("further file of another sample")

    def _where(self, name: str) -> str:
        return f"{self._path} {name!r:.80}"


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> bytes | InvalidDocument | None:
    """Return the content of a text or an image, None for another member."""
    file, head = archive.extractfile(member), b""
    assert file is not None  # a regular member
    if suffix not in SUFFIXES and suffix[1:] not in TEXTS:
        head = file.read(min(HEAD_BYTES, member.size))
        if not is_image(head):
            return None
    most = MAX_TEXT_BYTES if suffix[1:] in TEXTS else MAX_BYTES
    if member.size > most:
        return InvalidDocument(f"member must have at most {most} bytes. Got {member.size}. Scale it down.")
    return head + file.read(member.size - len(head))  # read allocates this number of bytes at once


def _sample(parts: Mapping[str, bytes | InvalidDocument]) -> Sample | InvalidDocument:
    images = [suffix for suffix in parts if suffix not in TEXTS]
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
                known = {key: fields.get(key) for key in ("label", "score", "language", "negative")}
                sample = {**known, "text": next((fields[key] for key in CAPTIONS if key in fields), None), **sample}
            elif suffix == "txt":
                sample["text"] = content.decode("utf-8-sig")
            elif suffix == "cls":
                sample["label"] = content.decode("utf-8-sig").strip()
            else:
                sample["image"] = content
    except (ValueError, RecursionError) as error:  # ValueError: invalid JSON or UTF-8
        return InvalidDocument(f"text must be UTF-8 and json well formed. Got an error: {error!s:.120}. Correct it.")
    return sample
