"""Samples of shards: the same checks for every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from finetuner.sources.kinds import documents_from
from tests.client.sources.made_shards import from_parquet, from_tar, parquet, tar


@pytest.mark.parametrize("task", ["text-to-image", "image-to-image"])
def test_labels_and_scores_mean_the_same_in_every_source(
    tmp_path: Path, jpeg: Callable[[int], bytes], task: str
) -> None:
    """NaN is no class and no score, and 3.0 is the class 3. Images have no score."""
    labels, scores = [3.0, float("nan"), 5.0, 6.0], [0.5, 0.5, float("nan"), float("inf")]
    columns = {"image": [jpeg(0)] * 4, "text": [*"abcd"], "label": labels, "score": pa.array(scores)}
    fields = [{"caption": "a", "label": label, "score": score} for label, score in zip(labels, scores, strict=True)]
    members = [(f"{n}.{kind}", content) for n in range(4) for kind, content in (("jpg", jpeg(0)), ("json", b""))]
    members = [(n, json.dumps(fields[int(n[0])]).encode() if "json" in n else c) for n, c in members]
    sources = parquet(tmp_path / "a.parquet", columns), tar(tmp_path / "a.tar", members)
    for read, source in zip((from_parquet, from_tar), sources, strict=True):
        pairs = task == "text-to-image"
        reason = "score must be a finite number such as 0.8. Got inf" if pairs else "sample must have a label"
        with pytest.warns(UserWarning, match=reason):
            documents = read(source, task=task, on_error="skip")
        expected = ["3", None] if pairs else ["3", "5", "6"]
        assert [document.tags.get("finetuner_score") for document in documents] == ([0.5, 0.5] if pairs else [None] * 3)
        assert [document.tags.get("finetuner_label") for document in documents] == expected


def test_negatives_mean_the_same_in_every_source(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    given = [["a dress", "b"], None, ["c"]]
    columns = {"image": [jpeg(0)] * 3, "text": ["a", "b", " c"], "negative": given}
    members = [(f"{n}.{kind}", content) for n in range(3) for kind, content in (("jpg", jpeg(0)), ("json", b""))]
    fields = [{"caption": "abc"[row], "negative": given[row]} for row in range(3)]
    members = [(n, json.dumps(fields[int(n[0])]).encode() if "json" in n else c) for n, c in members]
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    lines = [{"image": "0.jpg", "text": "abc"[row], "hard_negative": given[row]} for row in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (tmp_path / "a.csv").write_text("image,text,one,two\n0.jpg,a,a dress,b\n0.jpg,b,,\n0.jpg,c,,c\n")
    readers = [
        lambda: from_parquet(parquet(tmp_path / "a.parquet", columns), on_error="skip"),
        lambda: from_tar(tar(tmp_path / "a.tar", members), on_error="skip"),
        lambda: documents_from(str(tmp_path / "a.jsonl"), task="text-to-image", on_error="skip"),
        lambda: documents_from(
            str(tmp_path / "a.csv"), task="text-to-image", on_error="skip", columns={"negative": ["one", "two"]}
        ),
    ]
    for read in readers:
        with pytest.warns(UserWarning, match="negative 0 must differ from the captions of its image. Got 'c'"):
            documents = list(read())
        assert [document.tags.get("finetuner_negatives") for document in documents] == [["a dress", "b"], None]
