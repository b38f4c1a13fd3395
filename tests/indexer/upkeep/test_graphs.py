"""Graphs come by themselves, in the background."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from finetuner.exceptions import InvalidInput, NoSuchModel
from finetuner.executors.indexer.engines import edge
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep import graphs
from finetuner.executors.indexer.upkeep.graphs import Graphs
from tests.indexer.hashed_encoder import encoded_text


@pytest.mark.process
def test_a_graph_is_built_where_there_are_enough_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (edge, graphs):
        monkeypatch.setattr(module, "EXACT_BELOW", 300)
    monkeypatch.setattr(graphs, "LOOK_SECONDS", 0.01)
    index, said = Index(tmp_path), list[str]()
    builder = Graphs(index.collections, said.append)
    index.upsert([encoded_text(f"d{i}", f"d{i}", "few") for i in range(200)])
    index.upsert([encoded_text(f"d{i}", f"d{i}", "many") for i in range(400)])
    deadline = time.monotonic() + 200
    while index.collection("many").graph().indexed < 300:
        assert time.monotonic() < deadline, said
        index.upsert([encoded_text("late", "late", "many")])
    assert index.collection("few").graph().indexed == 0
    builder.close()
    assert set(index.collection("many").get(["d7", "late"])) == {"d7", "late"}
    assert np.isfinite(index.collection("many").get(["late"])["late"]).all()
    assert builder.building == ""
    index.close()


@pytest.mark.parametrize(
    ("setting", "kind", "message"),
    [
        ({"index": "faiss"}, InvalidInput, "index must be 'edge' or a Qdrant server's URL .* Got 'faiss'"),
        ({"quantise": 1}, InvalidInput, "quantise must be False, 'int8' or 'binary'. Got 1"),
        ({"quantise": "int4"}, InvalidInput, "quantise must be False, 'int8' or 'binary'. Got 'int4'"),
        ({"dimensions": -1}, InvalidInput, "dimensions must be"),
        ({"encoder": "ftp://here:1"}, InvalidInput, "host must be like grpc://"),
        ({"backbone": "clip-maxi"}, NoSuchModel, "clip-maxi"),
        ({"reindex_share": 0}, InvalidInput, r"reindex_share must be a number in \[0.01, 1\]. Got 0"),
        ({"reindex_tolerance": 2}, InvalidInput, "reindex_tolerance must be"),
        ({"min_free_mb": -1}, InvalidInput, "min_free_mb must be"),
    ],
)
def test_a_wrong_setting_is_refused(
    tmp_path: Path, setting: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Indexer(workspace_url=str(tmp_path), **setting)
    Index(tmp_path / "index").close()  # nobody holds it
