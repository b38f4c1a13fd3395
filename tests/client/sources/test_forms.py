"""One dataset in every form of table has one fingerprint."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.api.upload import _plan
from finetuner.documents.pairs import make_pair
from finetuner.sources.kinds import documents_from
from finetuner.sources.spool import Spool
from finetuner.sources.tables.csv_file import CSVOptions
from tests.client.sources.made_shards import parquet

Row = tuple[str, str]
PAIRS = 20


def _csv(path: Path, rows: list[Row], header: Row | None = None, delimiter: str = ",") -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *rows])
    return path


def _jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory, jpeg: Callable[[int], bytes]) -> dict[str, Path]:
    """Return the form's name -> a file of the same PAIRS pairs."""
    folder = tmp_path_factory.mktemp("forms")
    for number in range(PAIRS):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    rows = [(f'Kleid "{number}", grün; rot', f"{number}.jpg") for number in range(PAIRS)]
    texts, paths = [text for text, _ in rows], [path for _, path in rows]
    blobs = [(folder / path).read_bytes() for path in paths]
    mixed = [
        {"bytes": blob if n % 2 else None, "path": path}
        for n, (blob, path) in enumerate(zip(blobs, paths, strict=True))
    ]
    return {
        "CSV without a header": _csv(folder / "plain.csv", rows),
        "CSV with a header": _csv(folder / "header.csv", rows, ("caption", "image")),
        "CSV with other columns": _csv(
            folder / "more.csv",
            [("7", text, "x", path, "") for text, path in rows],  # type: ignore[misc]
            ("id", "text", "note", "file_name", "empty"),  # type: ignore[arg-type]
            ";",
        ),
        "TSV of open_clip": _csv(
            folder / "clip.tsv", [(path, text) for text, path in rows], ("filepath", "title"), "\t"
        ),
        "jsonl": _jsonl(folder / "data.jsonl", [{"file_name": path, "text": text} for text, path in rows]),
        "parquet with bytes": parquet(folder / "bytes.parquet", {"image": blobs, "text": texts}),
        "parquet with paths": parquet(folder / "paths.parquet", {"image_path": paths, "caption": texts}),
        "parquet of Hugging Face": parquet(folder / "hf.parquet", {"image": mixed, "text": texts}),
    }


def fingerprint(documents: Any) -> str:
    """Return the version that a push of these documents has; see `upload.UploadPlan`."""
    with Spool(documents) as spool:
        return _plan("forms", spool).version


def test_every_form_has_one_fingerprint(forms: dict[str, Path], jpeg: Callable[[int], bytes]) -> None:
    expected = fingerprint(make_pair(f'Kleid "{number}", grün; rot', jpeg(number)) for number in range(PAIRS))
    found = {form: fingerprint(documents_from(path, task="text-to-image")) for form, path in forms.items()}
    assert found == dict.fromkeys(forms, expected)


@pytest.mark.parametrize("options", [{"size": 7}, {"sampling_rate": 0.5}, {"sampling_rate": 0.5, "size": 4}])
def test_every_form_is_sampled_alike(forms: dict[str, Path], options: dict[str, Any]) -> None:
    found = {}
    for form, path in forms.items():
        documents = documents_from(path, task="text-to-image", csv_options=CSVOptions(**options))
        found[form] = [document.chunks[0].text for document in documents]
    (texts,) = {tuple(each) for each in found.values()}
    assert 0 < len(texts) < PAIRS
    assert len(texts) <= options.get("size", PAIRS)
