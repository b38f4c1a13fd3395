"""Damaged files of the embedded engine: what they cost is made again, or the index says what it cannot read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as qdrant

from finetuner.contract.wire import read_reply
from finetuner.exceptions import FinetunerServerError
from finetuner.executors.indexer.engines import edge
from finetuner.executors.indexer.engines.engine import Hit, SearchOptions, point_id
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep.live import Live
from finetuner.executors.indexer.upkeep.reindex import Reindex
from finetuner.executors.indexer.upkeep.repair import Repair, repair
from finetuner.executors.indexer.upkeep.verify import verify_index
from finetuner.workspace.folder import Workspace
from tests.indexer.hashed_encoder import encode, encoded_text, vector_of_text
from tests.waiting import wait_until

IN_GRAPH, COUNT = 400, 500


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose index has vectors in a graph and vectors beside it."""
    place = Workspace(tmp_path_factory.mktemp("whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "EXACT_BELOW", 200)
        index = Index(place.index)
        write(index, range(IN_GRAPH))
        index.collection("new").optimise()
        for start in range(IN_GRAPH, COUNT, 25):  # the last batch comes back from the log
            write(index, range(start, start + 25))
        assert index.collection("new").graph().indexed == IN_GRAPH
        index.close()
    Live(place).search_with("new")
    return place.root


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Workspace:
    """A copy of it that may be damaged; the engine's files are mostly holes."""
    subprocess.run(["cp", "-a", "--sparse=always", f"{whole}/.", tmp_path], check=True)
    return Workspace(tmp_path)


def write(index: Index, numbers: range) -> None:
    assert not any(index.upsert([encoded_text(f"d{i}", f"d{i}", "new", n=i) for i in numbers]))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: written(file) // 2])


def zero(file: Path) -> None:
    """Overwrite the second quarter of what was written, as a lost block reads."""
    quarter = max(written(file) // 4, 1)
    with file.open("r+b") as opened:
        opened.seek(quarter)
        opened.write(bytes(quarter))


def flip(file: Path) -> None:
    """Turn every bit of one byte in the middle, at the top of a float32."""
    position = written(file) // 8 * 4 + 3
    with file.open("r+b") as opened:
        opened.seek(position)
        byte = opened.read(1)[0]
        opened.seek(position)
        opened.write(bytes([byte ^ 0xFF]))


def written(file: Path) -> int:
    """The engine makes files longer than what is in them."""
    return len(file.read_bytes().rstrip(b"\0"))


def part(place: Workspace, name: str) -> Path:
    """Return a file of the shard, of the segment with the graph, or of the one beside it."""
    where, _, rest = name.partition("/")
    (shard,) = place.index.glob("*/shard-*")
    if where == "shard":
        return shard / rest
    has_graph = {"graph": True, "beside": False}[where]
    (segment,) = (each for each in shard.glob("segments/*") if (each / "vector_index").exists() == has_graph)
    return segment / rest


@pytest.mark.parametrize(
    ("name", "damage", "costs"),
    [
        ("graph/vector_storage/matrix.dat", cut, True),
        ("graph/vector_storage/matrix.dat", zero, True),
        ("graph/vector_storage/matrix.dat", flip, True),
        ("graph/vector_storage/matrix.dat", Path.unlink, True),
        ("beside/vector_storage/vectors/chunk_0.mmap", zero, True),
        ("beside/vector_storage/vectors/chunk_0.mmap", flip, True),
        ("beside/vector_storage/vectors/status.dat", Path.unlink, True),
        # which document is where
        ("graph/id_tracker.mappings", Path.unlink, True),
        ("graph/id_tracker.versions", cut, True),
        ("graph/id_tracker.versions", zero, False),
        ("beside/mutable_id_tracker.mappings", cut, True),
        ("beside/mutable_id_tracker.mappings", Path.unlink, True),
        ("beside/mutable_id_tracker.versions", cut, True),
        ("beside/mutable_id_tracker.versions", zero, False),
        ("beside/mutable_id_tracker.versions", Path.unlink, True),
        # ids and tags
        ("graph/payload_storage/tracker.dat", zero, True),
        # links, and what a segment and the shard consist of
        ("graph/vector_index/links_compressed.bin", zero, False),
        ("beside/version.info", Path.unlink, True),
        ("shard/edge_config.json", Path.unlink, False),
    ],
)
def test_what_is_damaged_is_found_and_nothing_else(
    place: Workspace, name: str, damage: Callable[[Path], object], costs: bool
) -> None:
    damage(part(place, name))
    index = Index(place.index)
    lost = sum(repair(index, "new"))
    assert (lost > 0) == costs
    vectors = index.collection("new").get([f"d{i}" for i in range(COUNT)])
    assert len(vectors) == COUNT - lost
    for key, vector in vectors.items():
        np.testing.assert_allclose(vector, vector_of_text("new", key), atol=1e-6)
    waiting = {stored.id for stored in index.documents.pending("new", 0, COUNT, 10**9)}
    assert waiting == {f"d{i}" for i in range(COUNT)} - vectors.keys()
    assert verify_index(index) == {"documents": COUNT, "vectors": {"new": COUNT - lost}}
    index.close()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("graph/id_tracker.mappings", cut),
        ("graph/vector_index/links_compressed.bin", cut),
        ("graph/vector_index/graph.bin", Path.unlink),
        ("beside/mutable_id_tracker.mappings", zero),
        ("beside/payload_storage/page_0.dat", Path.unlink),
        ("beside/segment.json", flip),
        ("beside/segment.json", Path.unlink),
        ("shard/wal/first-index", cut),
    ],
)
def test_what_cannot_be_opened_is_named_and_made_again(
    place: Workspace, name: str, damage: Callable[[Path], object]
) -> None:
    damage(part(place, name))
    index, said = open_and_repair(place)
    assert said[0].startswith("the collection of 'new' is lost. Documents of `live` are encoded again")
    assert "is set aside: it must hold collection.json and the engine's files. Got: " in index.problems[0]
    check_whole(index)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("graph/payload_storage/page_0.dat", zero),
        ("beside/payload_storage/page_0.dat", cut),
        ("beside/vector_storage/vectors/chunk_0.mmap", cut),
        ("beside/vector_storage/vectors/chunk_0.mmap", Path.unlink),
    ],
)
def test_what_cannot_be_read_is_named(place: Workspace, name: str, damage: Callable[[Path], object]) -> None:
    damage(part(place, name))
    index = Index(place.index)
    repairing = Repair(index, lambda: None, print)
    wait_until(lambda: bool(repairing.problems), "a problem")
    assert repairing.problems[0].startswith("the check of vectors of 'new' failed: the engine's files in")
    assert "must be intact, on a disk with free space. Got: Service runtime error" in repairing.problems[0]
    for ask in (lambda: verify_index(index), lambda: search(index, COUNT)):
        with pytest.raises(FinetunerServerError, match="restore a backup or move that folder away"):
            ask()
    repairing.close()
    index.close()


def test_status_says_what_is_wrong(place: Workspace) -> None:
    part(place, "beside/vector_storage/vectors/chunk_0.mmap").unlink()
    room = Indexer(workspace_url=str(place.root))
    wait_until(lambda: bool(read_reply(room.status()[0])["problems"]), "a problem in /status")
    (problem,) = read_reply(room.status()[0])["problems"]
    assert problem.startswith("the check of vectors of 'new' failed")
    room.close()


def search(index: Index, limit: int, text: str = "d7") -> list[Hit]:
    (hits,) = index.search([encoded_text("q", text, "new")], SearchOptions(limit, exact=True))
    assert isinstance(hits, list)
    return hits


def open_and_repair(place: Workspace) -> tuple[Index, list[str]]:
    """Open an index as the room does, and wait until every document has a vector again."""
    index = Index(place.index)
    reindex = Reindex(index, Live(place), encode, 1.0, 0.0, print)
    said: list[str] = []
    repairing = Repair(index, reindex.look_again, said.append)
    wait_until(lambda: bool(said) and not index.documents.pending("new", 0, 1, 0), "a vector of every document")
    reindex.close()
    repairing.close()
    assert repairing.problems == said
    return index, said


def check_whole(index: Index) -> None:
    assert verify_index(index) == {"documents": COUNT, "vectors": {"new": COUNT}}
    for i in range(0, COUNT, 50):
        (hit,) = search(index, 1, f"d{i}")
        assert (hit.id, hit.score) == (f"d{i}", pytest.approx(1, abs=1e-5))
    index.close()


def test_what_is_lost_is_encoded_again(place: Workspace) -> None:
    zero(next(place.index.rglob("matrix.dat")))
    index, said = open_and_repair(place)
    assert re.fullmatch(r"10\d vectors of 'new' were damaged. Documents of `live` are encoded again\. .*", said[0])
    check_whole(index)


def test_a_collection_that_was_moved_away_is_made_again(place: Workspace, tmp_path: Path) -> None:
    next(place.index.glob("*/collection.json")).parent.rename(tmp_path / "away")
    index, said = open_and_repair(place)
    assert said[0].startswith("the collection of 'new' is lost. Documents of `live` are encoded again")
    check_whole(index)


def test_points_that_lost_what_they_stand_for(place: Workspace) -> None:
    """As a damaged tracker of payloads leaves them: one of a document, and one that was deleted long ago."""
    index = Index(place.index)
    shard = index.collection("new")._shard  # type: ignore[attr-defined]
    shard.update(qdrant.UpdateOperation.clear_payload([point_id("d3")]))
    shard.update(qdrant.UpdateOperation.upsert_points([qdrant.Point(point_id("gone"), [1.0] * 24, {})]))
    assert "" not in index.find("new", None, COUNT + 1)
    assert sum(repair(index, "new")) == 1
    assert [stored.id for stored in index.documents.pending("new", 0, COUNT, 10**9)] == ["d3"]
    assert verify_index(index)["vectors"] == {"new": COUNT - 1}
    index.close()


def test_a_vector_of_a_write_that_was_killed(place: Workspace) -> None:
    """Nobody was told that it is there; so it goes, and its document waits."""
    index = Index(place.index)
    index.documents.unmark("new", ["d5"])
    assert verify_index(index)["vectors"] == {"new": COUNT}
    assert sum(repair(index, "new")) == 0
    assert verify_index(index)["vectors"] == {"new": COUNT - 1}
    assert [stored.id for stored in index.documents.pending("new", 0, COUNT, 10**9)] == ["d5"]
    index.close()
