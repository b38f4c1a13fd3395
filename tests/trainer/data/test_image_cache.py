"""Files of decoded images: found again, bounded in size, complete or absent."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.exceptions import FinetunerError
from finetuner.executors.trainer.data import image_cache
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace

SHAPE = (3, 4, 5)
ABOUT = {"texts": [["ä"], ["b", "c"]]}
IMAGE = 3 * 4 * 5
FILE = 128 + 2 * IMAGE
KILLED = """
import os, signal, sys, numpy
from pathlib import Path
from finetuner.executors.trainer.data.image_cache import ImageCache
file = ImageCache(Path(sys.argv[1]), 10**6).new("a", (3, 4, 5))
file.add(numpy.zeros((3, 4, 5), numpy.uint8))
os.kill(os.getpid(), signal.SIGKILL)
"""


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, *SHAPE), dtype=np.uint8)


def write(cache: ImageCache, name: str, seed: int = 0) -> np.ndarray:
    with cache.new(name, SHAPE) as file:
        for row in rows(seed):
            file.add(row)
        return file.finish(ABOUT)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_file_is_found_with_its_metadata(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "pixels", 10**6)
    assert cache.find("a") is None
    written = write(cache, "a")
    found = ImageCache(tmp_path / "pixels", 10**6).find("a")
    assert found is not None
    pixels, about = found
    assert np.array_equal(written, rows())
    assert np.array_equal(pixels, rows())
    assert pixels.dtype == np.uint8
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable
    assert about == ABOUT
    assert names(cache.folder) == ["a.json", "a.npy"]
    assert np.array_equal(np.load(cache.path("a"), allow_pickle=False), rows())


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def other_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def other_start(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1] ^= 1
    path.write_bytes(content)


def a_list(path: Path) -> None:
    path.write_text("[1]")


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".npy", shorter),
        (".npy", empty),
        (".npy", other_byte),
        (".npy", other_start),
        (".npy", a_list),
        (".json", shorter),
        (".json", empty),
        (".json", other_start),
        (".json", a_list),
    ],
)
def test_a_damaged_file_is_replaced(
    suffix: str, damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ImageCache(tmp_path, 10**6)
    write(cache, "a")
    damage(cache.path("a").with_suffix(suffix))
    with caplog.at_level(logging.WARNING, "finetuner"):
        assert cache.find("a") is None
    assert "are damaged" in caplog.text
    write(cache, "a", seed=1)
    found = cache.find("a")
    assert found is not None
    assert np.array_equal(found[0], rows(1))


def test_pixels_of_another_file_are_rejected(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 10**6)
    write(cache, "a")
    write(cache, "b", seed=1)
    os.replace(cache.path("b"), cache.path("a"))
    assert cache.find("a") is None


def test_the_least_recently_used_file_is_removed(tmp_path: Path) -> None:
    write(ImageCache(tmp_path, 10**6), "size")
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    cache = ImageCache(tmp_path, 3 * size)
    mapped = write(cache, "b", seed=1)
    write(cache, "c", seed=2)
    for age, name in enumerate(("size", "b", "c")):
        os.utime(cache.path(name), (age, age))
    assert cache.find("size") is not None  # used just now
    write(cache, "d", seed=3)
    assert names(tmp_path) == ["c.json", "c.npy", "d.json", "d.npy", "size.json", "size.npy"]
    assert np.array_equal(mapped, rows(1))  # still mapped


@pytest.mark.parametrize("limit", [0, FILE - 1])
def test_a_file_above_the_limit_serves_its_own_run_alone(
    limit: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = write(ImageCache(tmp_path, limit), "a")
    assert np.array_equal(pixels, rows())
    assert names(tmp_path) == []
    assert caplog.text.count("serve this run alone") == 1


@pytest.mark.process
def test_files_of_killed_writers_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)], check=False)
    (left,) = names(tmp_path)
    assert left.startswith(".")
    cache = ImageCache(tmp_path, 10**6)
    assert cache.find("a") is None
    with cache.new("b", SHAPE) as living:
        living.add(rows()[0])
        write(cache, "a")
        assert left not in names(tmp_path)
        assert len(names(tmp_path)) == 3
        assert np.array_equal(living.finish({}), rows()[:1])
    assert names(tmp_path) == ["a.json", "a.npy", "b.json", "b.npy"]


def test_an_unfinished_file_leaves_nothing(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 10**6)
    with cache.new("a", SHAPE) as file:
        file.add(rows()[0])
    assert names(tmp_path) == []


def test_no_image_is_an_empty_array_and_no_file(tmp_path: Path) -> None:
    with ImageCache(tmp_path, 10**6).new("a", SHAPE) as file:
        assert file.finish({}).shape == (0, *SHAPE)
    assert names(tmp_path) == []


class FullDisk:
    """Stands in for `os.write`: the device of `folder` takes `room` bytes more than its other files leave."""

    def __init__(self, folder: Path, room: int, elsewhere: int) -> None:
        self.folder, self.room, self.elsewhere, self.really = folder, room, elsewhere, os.write

    def __call__(self, descriptor: int, content: memoryview) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().parent == self.folder:
            room = self.room - sum(path.stat().st_size for path in self.folder.iterdir())
        else:
            room = self.elsewhere - os.fstat(descriptor).st_size
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.really(descriptor, content[:room])


def test_a_full_disk_removes_other_files_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ImageCache(tmp_path, 10**6)
    write(cache, "a")
    monkeypatch.setattr(image_cache.os, "write", FullDisk(tmp_path, FILE + IMAGE, 0))
    write(cache, "b", seed=1)
    monkeypatch.undo()
    found = cache.find("b")
    assert found is not None
    assert np.array_equal(found[0], rows(1))
    assert names(tmp_path) == ["b.json", "b.npy"]


def test_if_the_disk_stays_full_a_temporary_file_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ImageCache(tmp_path, 10**6)
    monkeypatch.setattr(image_cache.os, "write", FullDisk(tmp_path, FILE - 7, 10**6))
    assert np.array_equal(write(cache, "a"), rows())
    assert names(tmp_path) == []
    assert "no space left on the disk of the workspace" in caplog.text


def test_no_space_anywhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache.os, "write", FullDisk(tmp_path, FILE - 7, FILE - 7))
    with pytest.raises(FinetunerError, match="decoded images must fit on disk"):
        write(ImageCache(tmp_path, 10**6), "a")
    assert names(tmp_path) == []


def test_decoded_images_are_deleted_with_the_last_name_of_their_dataset(tmp_path: Path, pairs: list[Document]) -> None:
    workspace = Workspace(tmp_path)
    datasets, cache = Datasets(workspace), ImageCache(workspace.pixels, 10**6)
    for name in ("one", "two"):
        datasets.add_part(name, 0, DocumentArray(pairs[:2]))
        version = datasets.commit(name, name, 2).version
    write(cache, f"{version}-digest")
    write(cache, "other-digest")
    datasets.delete("one")
    assert cache.find(f"{version}-digest") is not None
    datasets.delete("two")
    assert names(cache.folder) == ["other-digest.json", "other-digest.npy"]
