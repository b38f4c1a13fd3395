"""Reads CSV files row by row, in any text encoding and dialect, with the line number of each row."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from ...documents.image_files import SUFFIXES
from ...exceptions import InvalidDocument, InvalidInput
from ..links.options import LinkOptions
from ..local_images import LocalImages
from ..samples import sampled
from .columns import Columns, checked_columns, known_names, read_names

DELIMITERS = "\t,;|"  # tab first: captions with exactly one comma are more common than captions with a tab
COLUMNS = (2, 3)
SAMPLE_CHARACTERS = 2**16
SAMPLE_ROWS = 100
ADVICE = "Check quotes and dialect; for long data URIs, raise csv.field_size_limit."


@dataclass(frozen=True)
class CSVOptions:
    """Options for reading a CSV file. All other files have `size` and `sampling_rate`, too, tables `convert_to_blob`.

    Raises:
        InvalidInput: an option with an invalid value.
    """

    size: int | None = None
    """Largest number of rows to use; None for all."""
    sampling_rate: float | None = None
    """Share of rows to use, in (0, 1]; the same rows each time. None for all."""
    dialect: str | csv.Dialect | type[csv.Dialect] = "auto"
    """'auto' takes tab, ',', ';' or '|', whichever gives columns of images. Else a name of `csv.list_dialects()` or
    a `csv.Dialect`."""
    encoding: str = "utf-8"
    """A text encoding of Python; a byte order mark is skipped."""
    is_labeled: bool = False
    """Whether the second of two columns is a label, not a second item."""
    convert_to_blob: bool = True
    """Whether images are read on this machine and sent as blobs; False keeps http(s) and data URIs."""
    links: LinkOptions = LinkOptions()  # noqa: RUF009  # frozen
    """How images at http(s) addresses are downloaded."""
    create_point_clouds: bool = True
    """Meshes are not supported: only the default is allowed."""
    point_cloud_size: int = 2048
    """Meshes are not supported: only the default is allowed."""

    def __post_init__(self) -> None:
        if self.size is not None and (isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1):
            raise InvalidInput(f"CSVOptions.size must be a whole number of at least 1, or None. Got {self.size!r}.")
        rate = self.sampling_rate
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1):
            raise InvalidInput(f"CSVOptions.sampling_rate must be a number in (0, 1], or None. Got {rate!r}.")
        for name in ("is_labeled", "convert_to_blob"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(f"CSVOptions.{name} must be True or False. Got {getattr(self, name)!r}.")
        if self.create_point_clouds is not True or self.point_cloud_size != 2048:
            raise InvalidInput(
                "CSVOptions.create_point_clouds and point_cloud_size are for meshes, which are not supported, and must "
                f"be True and 2048. Got {self.create_point_clouds!r} and {self.point_cloud_size!r}. Leave them out."
            )
        if not isinstance(self.links, LinkOptions):
            raise InvalidInput(
                f"CSVOptions.links must be finetuner LinkOptions. Got {self.links!r:.60}. Use that class."
            )
        self._check_dialect()
        try:
            "".encode(self.encoding)  # unlike codecs.lookup, refuses codecs that are not for text, such as base64
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"CSVOptions.encoding must be a text encoding such as 'utf-8' or 'latin-1'. Got {self.encoding!r}."
            ) from error

    def _check_dialect(self) -> None:
        if self.dialect == "auto" or (isinstance(self.dialect, str) and self.dialect in csv.list_dialects()):
            return
        try:
            if isinstance(self.dialect, csv.Dialect) or (
                isinstance(self.dialect, type) and issubclass(self.dialect, csv.Dialect)
            ):
                csv.reader([], self.dialect)
                return
        except (TypeError, csv.Error):
            pass
        raise InvalidInput(
            f"CSVOptions.dialect must be 'auto', one of {', '.join(csv.list_dialects())}, or a csv.Dialect. "
            f"Got {self.dialect!r}."
        )


@dataclass(frozen=True)
class Row:
    """One row of a CSV file."""

    line: int
    """Number of its first line, from 1; a quoted field may span several lines."""
    fields: list[str]
    """Its columns, stripped of spaces."""


class CsvFile:
    """A CSV file or stream that can be read more than once.

    Args:
        source: a path, or an open text file; one that cannot seek is copied to a temporary file.
        options: for reading it.
        columns: content -> name of its column; the first line is then a header. None finds out: a header has a
            well-known name (see `columns.WELL_KNOWN`), or more than 3 columns, and no image.
        inside: folder that images may not leave; None for any.

    Raises:
        InvalidInput: an unreadable file, or a byte order mark that contradicts the encoding.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | TextIO,
        options: CSVOptions,
        columns: Columns | None = None,
        inside: Path | None = None,
    ) -> None:
        self._options = options
        self._columns = checked_columns(columns)
        self._path: Path | None = None
        if isinstance(source, str | os.PathLike):
            self._path = Path(source)
            name: object = source
        else:
            self._stream, self._start = _rewindable(source)
            if self._stream is not source:
                weakref.finalize(self, self._stream.close)
            name = getattr(source, "name", None)
        self.name = os.fspath(name) if isinstance(name, str | os.PathLike) else "the CSV stream"
        """Name of the file in messages."""
        real = self._path or (Path(self.name) if isinstance(name, str) else None)
        self.folder = real.absolute().parent if real is not None and real.is_file() else None
        """Folder that relative paths in the file start at; None for a stream."""
        self.images = LocalImages(self.folder, inside, options.links)
        """Reader of the images that the file names."""
        self._format = self._find_format()
        self.header = self._find_header()
        """Names of the columns; None for a file without a header."""

    def rows(self) -> Iterator[tuple[str, Row | InvalidDocument]]:
        """Yield each selected row, or the error for an unreadable one, with its position. Empty lines are skipped.

        The header is not among them.
        """
        return sampled(islice(self._all_rows(), 0 if self.header is None else 1, None), self._options.sampling_rate)

    def first_rows(self) -> list[Row]:
        """Return the readable rows among the first SAMPLE_ROWS, as a sample of the layout."""
        return [row for _, row in islice(self._all_rows(), SAMPLE_ROWS) if isinstance(row, Row)]

    def _find_header(self) -> list[str] | None:
        """Return the fields of the first row, if it is a header."""
        first, second = islice(itertools.chain((row for _, row in self._all_rows()), (None, None)), 2)
        if not isinstance(first, Row):
            if first is not None and self._columns is not None:
                raise InvalidInput(f"header of {self.name!r} must be readable. Got an error: {first}")
            return None
        fields = first.fields
        wide = len(fields) > max(COLUMNS) and isinstance(second, Row) and len(second.fields) == len(fields)
        header = self._columns is not None or ((wide or known_names(fields)) and not self._has_image(fields))
        return fields if header else None

    def _has_image(self, fields: list[str]) -> bool:
        return any(map(self.images.looks_like_image, fields))

    def _all_rows(self) -> Iterator[tuple[str, Row | InvalidDocument]]:
        with self._opened() as file:
            reader = csv.reader(_lines(file), **self._format)
            while True:
                line = reader.line_num + 1
                where = f"line {line}"
                try:
                    fields = [str(field).strip() for field in next(reader)]
                except StopIteration:
                    return
                except UnicodeDecodeError as error:  # an encoding that cannot resume after an error, such as UTF-16
                    yield where, InvalidDocument(f"{self._wrong_encoding()} ({error.reason}). The rest is unreadable.")
                    return
                except (csv.Error, ValueError) as error:
                    yield where, InvalidDocument(f"row must be CSV. Got an error: {error}. {ADVICE}")
                    continue
                if any(fields):
                    good = all(_is_text(field) for field in fields)
                    yield where, Row(line, fields) if good else InvalidDocument(f"{self._wrong_encoding()}.")

    def _wrong_encoding(self) -> str:
        return f"text must be {self._options.encoding}. Got other bytes; set CSVOptions(encoding=...)"

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        if self._path is None:
            self._stream.seek(self._start)
            yield self._stream
            return
        try:
            # Undecodable bytes become surrogates, so each line is checked on its own.
            file = open(self._path, encoding=self._options.encoding, errors="surrogateescape", newline="")  # noqa: SIM115
        except OSError as error:
            raise InvalidInput(f"CSV file must be readable. Got {self.name!r} ({error.strerror}). Check it.") from error
        with file:
            yield file

    def _find_format(self) -> dict[str, Any]:
        """Return the arguments of csv.reader."""
        if self._path is not None:
            self._check_mark(self._path)
        if self._options.dialect != "auto":
            return {"dialect": self._options.dialect}
        with self._opened() as file:
            try:
                sample = file.read(SAMPLE_CHARACTERS)
            except UnicodeDecodeError:  # reported with its line number by `rows`
                sample = ""
        if len(sample) == SAMPLE_CHARACTERS:
            sample = sample[: sample.rfind("\n") + 1] or sample
        if not sample:
            return _format(",")
        named = max(DELIMITERS, key=lambda delimiter: self._named(sample, delimiter))
        if self._named(sample, named):
            return _format(named)
        return _format(max(DELIMITERS, key=lambda delimiter: self._fit(sample, delimiter)))

    def _named(self, sample: str, delimiter: str) -> int:
        """Return the number of columns that the first row of a sample names, if it is a header that tells; else 0."""
        first = next(iter(_cut(sample, delimiter)), [])
        if self._columns is not None:
            return len({*read_names(self._columns)} & {*first})
        known = known_names(first)
        return len(known) if "image" in known and len(known) > 1 and not self._has_image(first) else 0

    def _fit(self, sample: str, delimiter: str) -> tuple[int, int, float, int]:
        """Return how well a delimiter cuts a sample; larger is better.

        Returns:
            The numbers of rows, among the first SAMPLE_ROWS, with a column that is an image here, and with one that is
            named like an image; the share of all rows that have 2 columns, or 3 if that is larger; and, without such
            rows, the number of rows that have as many columns, more than 3, as the first.
        """
        rows = list(_cut(sample, delimiter))
        counts = [sum(len(row) == columns for row in rows) for columns in COLUMNS]
        fitting = [row[:2] for row in rows[:SAMPLE_ROWS] if len(row) in COLUMNS]
        found = sum(any(map(self.images.holds, row)) for row in fitting)
        named = sum(any(map(_is_named_like_image, row)) for row in fitting)
        wide = 0 if any(counts) else sum(len(row) == len(rows[0]) > max(COLUMNS) for row in rows)
        return found, named, max(counts) / max(len(rows), 1), wide

    def _check_mark(self, path: Path) -> None:
        try:
            with open(path, "rb") as file:
                start = file.read(4)
        except OSError as error:
            raise InvalidInput(f"CSV file must be readable. Got {self.name!r} ({error.strerror}). Check it.") from error
        wide = codecs.lookup(self._options.encoding).name.startswith(("utf-16", "utf-32"))
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not wide:
            raise InvalidInput(
                f"CSV file must be {self._options.encoding}. Got {self.name!r}, which begins with a UTF-16 "
                f"byte order mark. Set CSVOptions(encoding='utf-16')."
            )


def _rewindable(stream: TextIO) -> tuple[TextIO, int]:
    try:
        start = stream.tell() if stream.seekable() else None
        text = isinstance(stream.read(0), str)
    except (OSError, ValueError) as error:  # closed, or inside a loop over its lines
        raise InvalidInput(
            f"CSV stream must be open and at a line's start. Got {stream!r} ({error}). Open it again."
        ) from error
    if not text:
        raise InvalidInput(f"CSV stream must be text. Got {stream!r}, which is binary. Open it with open(path).")
    if start is not None:
        return stream, start
    copy = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
    while piece := stream.read(2**20):
        copy.write(piece)
    return copy, 0


def _lines(file: TextIO) -> Iterator[str]:
    for number, line in enumerate(file):
        yield line.removeprefix("\ufeff") if number == 0 else line


def _is_text(field: str) -> bool:
    return "\0" not in field and (field.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in field))


def _format(delimiter: str) -> dict[str, Any]:
    return {"dialect": "excel", "delimiter": delimiter, "skipinitialspace": True}


def _cut(sample: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the rows of a sample, without empty ones, up to an open quote."""
    with suppress(csv.Error):
        for row in csv.reader(_lines(io.StringIO(sample, newline="")), **_format(delimiter)):
            if any(row):
                yield [field.strip() for field in row]


def _is_named_like_image(field: str) -> bool:
    """Return whether a field ends like an image, and holds no delimiter, which another cut would take out."""
    return field.lower().endswith(tuple(SUFFIXES)) and not any(delimiter in field for delimiter in DELIMITERS)
