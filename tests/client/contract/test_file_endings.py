"""The endings of data files stand once: every one has a reader, and a server takes most of them."""

from __future__ import annotations

from finetuner.contract import file_endings
from finetuner.sources.endings import kind_of


def test_every_ending_has_a_kind() -> None:
    kinds = {kind_of(f"none{ending}") for ending in file_endings.DATA}
    assert kinds == {"CSV", "jsonl", "COCO", "parquet", "tar", "zip"}


def test_a_server_takes_what_a_client_reads_but_for_some() -> None:
    assert set(file_endings.UPLOADED) == set(file_endings.DATA) - {".txt", ".tar.bz2", ".tar.xz"}
