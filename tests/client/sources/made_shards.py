"""Makers and readers of parquet files and tar files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from finetuner.sources.archives.tar_file import tar_documents
from finetuner.sources.tables.parquet_file import parquet_documents


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


def from_parquet(*paths: Path, task: str = "text-to-image", on_error: str = "raise") -> list[Any]:
    return list(parquet_documents(paths, task=task, on_error=on_error))


def tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def from_tar(*paths: Path, task: str = "text-to-image", on_error: str = "raise") -> list[Any]:
    return list(tar_documents(paths, task=task, on_error=on_error))
