"""German Fashion12k from made parquet files."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuner.benchmark.sets import find_set
from finetuner.catalogue import CatalogueImage
from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidInput


def pairs(name: str, folder: Path, split: str, on_error: str = "raise") -> list[Pair]:
    return list(map(read_pair, find_set(name).documents(folder, split, on_error)))


def test_each_row_is_a_pair(fashion12k: Path, images: list[CatalogueImage]) -> None:
    for split, part in (("train", images[:16]), ("test", images[16:])):
        assert pairs("fashion12k", fashion12k, split) == [Pair(one.captions["de"], one.jpeg) for one in part]


def test_files_may_lie_flat_or_in_the_hubs_converted_layout(fashion12k: Path) -> None:
    before = pairs("fashion12k", fashion12k, "test")
    (fashion12k / "default" / "test").mkdir(parents=True)
    path = next((fashion12k / "data").glob("test-*")).rename(fashion12k / "default" / "test" / "0000.parquet")
    assert pairs("fashion12k", fashion12k, "test") == before
    path.rename(fashion12k / "test-00000-of-00001.parquet")
    assert pairs("fashion12k", fashion12k, "test") == before


def test_a_missing_file_or_shard_is_named(fashion12k: Path) -> None:
    path = next((fashion12k / "data").glob("test-*"))
    path = path.rename(path.with_name("test-00001-of-00002-0123456789abcdef.parquet"))
    with pytest.raises(InvalidInput, match=r"split 'test' must have all its shards. Got no shard 0"):
        pairs("fashion12k", fashion12k, "test")
    path.unlink()
    with pytest.raises(InvalidInput, match=r"split 'test' must be in '.*/data/test-\*.parquet'. Got no such file"):
        pairs("fashion12k", fashion12k, "test")
