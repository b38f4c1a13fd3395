"""Fetches data from other places into a temporary folder, within bounds that are checked before anything is fetched."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...exceptions import InvalidInput
from ..paths import without_braces
from .address import Address
from .store import Store, explained, missing, open_store

MAX_FILES = 100_000
MAX_BYTES = 200 * 2**30
KEPT_FREE = 2**30
"""Bytes of the disk that stay free."""
MAX_DEPTH = 64
BLOCK = 2**20
SPLITS = re.compile(r"(train|test|validation|valid|val|dev|eval)(?![a-z])", re.IGNORECASE)
OF_HUB = re.compile(r"(README\.md|\.gitattributes|LICENSE.*|\.gitignore)", re.IGNORECASE)


@dataclass(frozen=True)
class Remote:
    """One file to fetch."""

    store: Store
    address: Address
    """For messages."""
    path: str
    """In the store."""
    size: int | None
    """Bytes, None if the place does not say."""
    name: str
    """Path below the folder that it is written to."""


class Fetched:
    """Data of other places, in a temporary folder that is removed with this object, or at the end of `with`.

    Args:
        addresses: with wildcards and braces, all read as one data set.

    Raises:
        DatasetNotFound: nothing is there.
        InvalidInput: no access, no answer, more than MAX_FILES or MAX_BYTES, several splits in one folder, a name that
            leads out of the folder, or a full disk.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._first = addresses[0]
        above = tempfile.mkdtemp(prefix="finetuner-")
        self.remove = weakref.finalize(self, shutil.rmtree, above, ignore_errors=True)
        self.folder = Path(above) / "data"
        self.folder.mkdir()
        try:
            found = [remote for address in addresses for remote in _listed(address)]
            self.is_folder = any(remote.name.count("/") for remote in found)
            """Whether a whole folder was fetched, not single files."""
            self._check(found)
            self._left = MAX_BYTES
            self.paths = [str(self._fetch(remote)) for remote in found]
            """Paths of the fetched files, in order."""
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Fetched:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _check(self, found: Sequence[Remote]) -> None:
        """Check names and sizes, as far as the places tell them."""
        names: set[str] = set()
        for remote in found:
            parts = remote.name.split("/")
            if not all(parts) or {".", ".."} & set(parts) or set(remote.name) & {"\\", "\0"} or len(parts) > MAX_DEPTH:
                raise InvalidInput(
                    f"files must have names that stay below their folder. Got {remote.name!r:.120} in "
                    f"{remote.address.shown!r}. Rename it, or pass single files."
                )
            if remote.name in names:
                raise InvalidInput(
                    f"files must have different names. Got {remote.name!r:.120} twice, the second in "
                    f"{remote.address.shown!r}. Pass them separately."
                )
            names.add(remote.name)
        size = sum(remote.size or 0 for remote in found)
        if len(found) > MAX_FILES or size > MAX_BYTES:
            raise self._too_much(f"{len(found)} files of {size} bytes")
        if size + KEPT_FREE > (free := shutil.disk_usage(self.folder).free):
            raise self._full(f"{size} bytes to fetch, {free} free")

    def _fetch(self, remote: Remote) -> Path:
        path = self.folder.joinpath(*remote.name.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        received = 0
        try:
            with explained(remote.address), open(path, "xb") as target:
                for block in _blocks(remote):
                    received += len(block)
                    self._left -= len(block)
                    if self._left < 0:
                        raise self._too_much("more")
                    try:
                        target.write(block)
                    except OSError as error:
                        raise self._full(error.strerror or "") from error
        except OSError as error:  # of the last buffer, or a name that is too long
            raise self._full(error.strerror or "") from error
        if remote.size is not None and received != remote.size:
            raise InvalidInput(
                f"files must arrive whole. Got {received} of {remote.size} bytes of {remote.name!r:.120} in "
                f"{remote.address.shown!r}. Fetch it again."
            )
        return path

    def _too_much(self, got: str) -> InvalidInput:
        return InvalidInput(
            f"data of another place must have at most {MAX_FILES} files and {MAX_BYTES} bytes. Got {got} in "
            f"{self._first.shown!r}. Pass fewer files, such as some shards, or pack them into zip or tar files."
        )

    def _full(self, got: str) -> InvalidInput:
        return InvalidInput(
            f"data of another place must fit on the disk. Got {got} in {tempfile.gettempdir()!r} "
            f"({errno.errorcode[errno.ENOSPC]}). Set $TMPDIR to a larger one."
        )


def _blocks(remote: Remote) -> Iterator[bytes]:
    """Yield the content of a file, in order."""
    options = {"block_size": 0} if remote.address.kind.streams else {}
    with remote.store.open(remote.path, "rb", **options) as source:
        while block := source.read(BLOCK):
            yield block


def _listed(address: Address) -> Iterator[Remote]:
    """Yield the files at an address: one, those of a pattern, or all of a folder."""
    for pattern in without_braces(address.text):
        one = Address(pattern, address.scheme)
        store = open_store(one)
        if not one.kind.listed:
            if not one.name:
                raise InvalidInput(f"a web address must lead to a file. Got {one.shown!r}. Add its name.")
            with explained(one):
                yield Remote(store, one, pattern, _size_of(store, pattern), one.name)
            continue
        with explained(one):
            found = list(_in_store(store, one))
        if not found:
            raise missing(one)
        yield from found


def _size_of(store: Store, path: str) -> int | None:
    with suppress(Exception):  # some servers answer GET alone, and the size is checked again while reading
        size = store.info(path).get("size")
        return size if isinstance(size, int) else None
    return None


def _in_store(store: Store, address: Address) -> Iterator[Remote]:
    if any(letter in address.text for letter in "*?["):
        for path, found in sorted(store.glob(address.text, detail=True).items()):
            if found["type"] == "file":
                yield Remote(store, address, path, found["size"], path.rpartition("/")[2])
        return
    info = None if address.text.endswith("/") else store.info(address.text)
    if info is not None and info["type"] == "file":
        yield Remote(store, address, address.text, info["size"], address.name)
        return
    top = store._strip_protocol(address.text).rstrip("/")
    store.info(top)  # raises for a bucket or a data set that is not there
    files = {path: each for path, each in store.find(top, detail=True).items() if each["type"] == "file"}
    inner = {path: path.removeprefix(_resolved(store, top)).lstrip("/") for path in sorted(files)}
    kept = {path: name for path, name in inner.items() if name and not OF_HUB.fullmatch(name)}
    _refuse_splits(address, kept.values())
    for path, name in kept.items():
        yield Remote(store, address, path, files[path]["size"], f"{address.name or 'data'}/{name}")


def _resolved(store: Store, top: str) -> str:
    """Return the path of a folder as listings have it; the hub adds the revision to it, or leaves it out."""
    resolve = getattr(store, "resolve_path", None)
    return top if resolve is None else str(resolve(top).unresolve())


def _refuse_splits(address: Address, names: object) -> None:
    """Refuse a folder whose tables are of several splits, which would be trained on together."""
    splits: dict[str, str] = {}
    for name in names:  # type: ignore[attr-defined]
        if name.lower().endswith((".parquet", ".csv", ".tsv", ".jsonl", ".tar", ".arrow")):
            match = SPLITS.match(name.rpartition("/")[2])
            if match is not None:
                splits.setdefault(match[1].lower(), name)
    if len(splits) > 1:
        first = next(iter(splits.values()))
        raise InvalidInput(
            f"data must be one split. Got {', '.join(splits)} in {address.shown!r}. Pass the files of one, such as "
            f"{address.shown.rstrip('/')}/{first}; wildcards are expanded."
        )
