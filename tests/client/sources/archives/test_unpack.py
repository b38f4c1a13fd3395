"""Archives of files: safe names, no links, no bombs, and nothing left behind."""

from __future__ import annotations

import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuner.exceptions import InvalidInput
from finetuner.sources.archives import unpack
from finetuner.sources.archives.unpack import Unpacked, archive_documents
from tests.client.sources.made_shards import tar


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of temporary files, which has to be empty again."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def made(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        return zipped(path, members)
    return tar(path, members.items(), "w:gz" if path.suffix == ".tgz" else "w")


ENDINGS = pytest.mark.parametrize("ending", ["zip", "tar", "tgz"])


@ENDINGS
def test_files_lie_below_the_folder_and_are_removed(tmp_path: Path, temporary: Path, ending: str) -> None:
    members = {"a.csv": b"a", "./b/c.jpg": b"c", "__MACOSX/x": b"x", "leer/": b""} | {"b\\d.jpg": b"d"}
    if ending != "zip":
        del members["leer/"]
    with Unpacked(str(made(tmp_path / f"x.{ending}", members))) as unpacked:
        files = {path.relative_to(unpacked.folder): path for path in unpacked.folder.rglob("*") if path.is_file()}
        assert {str(name): path.read_bytes() for name, path in files.items()} == {
            "a.csv": b"a",
            "b/c.jpg": b"c",
            "b/d.jpg": b"d",
        }
        assert unpacked.folder.name == f"x.{ending}"
    assert not any(temporary.iterdir())


@ENDINGS
@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "C:\\x", "..\\x", "\\x", "/".join("a" * 70)])
def test_names_that_lead_out_are_refused(tmp_path: Path, temporary: Path, ending: str, name: str) -> None:
    path = made(tmp_path / f"x.{ending}", {"good.csv": b"a", name: b"b"})
    with pytest.raises(InvalidInput, match="archive must have names that stay below its folder. Got '.*Pack it again"):
        Unpacked(str(path))
    assert not any(temporary.iterdir())
    assert {each.name for each in tmp_path.iterdir()} == {"temporary", path.name}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar_files_are_refused(tmp_path: Path, temporary: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("link.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(InvalidInput, match="files and folders alone. Got a link or a device, 'link.jpg'"):
        Unpacked(str(tmp_path / "x.tar"))
    assert not any(temporary.iterdir())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_zip_files_are_refused(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("link.jpg")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InvalidInput, match="Got a link or a device, 'link.jpg'"):
        Unpacked(str(tmp_path / "x.zip"))


@pytest.mark.parametrize("ending", ["zip", "tgz"])
def test_bombs_are_refused(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(unpack, "FREE_BYTES", 10_000)
    with Unpacked(str(made(tmp_path / f"x.{ending}", {"a": b"\0" * 10_000}))):
        pass
    path = made(tmp_path / f"y.{ending}", {str(number): b"\0" * 2**22 for number in range(3)})
    with pytest.raises(InvalidInput, match="archive must have at most [0-9]+ bytes: 100 times .* 10000, .* Got more"):
        Unpacked(str(path))
    assert not any(temporary.iterdir())


@ENDINGS
def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 3)
    Unpacked(str(made(tmp_path / f"x.{ending}", {str(number): b"" for number in range(3)})))
    with pytest.raises(InvalidInput, match="archive must have at most 3 members. Got more"):
        Unpacked(str(made(tmp_path / f"y.{ending}", {str(number): b"" for number in range(4)})))


@ENDINGS
def test_a_name_has_one_file(tmp_path: Path, ending: str) -> None:
    for number, members in enumerate(({"a/b": b"x", "a\\b": b"y"}, {"a": b"x", "a/b": b"y"})):
        with pytest.raises(InvalidInput, match="each name once. Got '.*' twice"):
            Unpacked(str(made(tmp_path / f"{number}.{ending}", members)))


@ENDINGS
def test_a_damaged_archive_is_refused(tmp_path: Path, temporary: Path, ending: str) -> None:
    whole = made(tmp_path / f"x.{ending}", {"a.csv": b"text" * 9000, "b.csv": bytes(range(256)) * 50}).read_bytes()
    path = tmp_path / f"bad.{ending}"
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:-30]):
        if ending == "tar" and content == whole[:-30]:
            continue  # a part of its empty end
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=r"archive must be whole. Got '.*bad\.\w+' \(.+\). Pack it again"):
            Unpacked(str(path))
    for position in range(0, len(whole), max(len(whole) // 100, 1)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            Unpacked(str(path)).remove()
        except InvalidInput:
            continue
    assert not any(temporary.iterdir())


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "x.zip", {"a.csv": b"a"}).read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + offset] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InvalidInput, match="archive must not be encrypted"):
        Unpacked(str(tmp_path / "x.zip"))


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "x.zip", {"a": b"a" * 100})
    usage = unpack.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: usage._replace(free=99))
    with pytest.raises(InvalidInput, match="archive must fit on the disk. .*Set .TMPDIR to a larger one"):
        Unpacked(str(path))


def test_the_files_are_removed_however_reading_ends(tmp_path: Path, temporary: Path) -> None:
    path = str(zipped(tmp_path / "x.zip", {"a": b"a"}))

    def good(folder: Path) -> Iterator[Any]:
        assert (folder / "a").read_bytes() == b"a"
        yield from (1, 2)

    def bad(folder: Path) -> Iterator[Any]:
        raise InvalidInput("bad")

    assert list(archive_documents(path, good)) == [1, 2]
    assert not any(temporary.iterdir())
    unread = archive_documents(path, good)
    assert any(temporary.iterdir())
    del unread
    assert not any(temporary.iterdir())
    with pytest.raises(InvalidInput, match="bad"):
        archive_documents(path, bad)
    assert not any(temporary.iterdir())
    begun = archive_documents(path, good)
    next(begun)
    begun.close()
    assert not any(temporary.iterdir())
