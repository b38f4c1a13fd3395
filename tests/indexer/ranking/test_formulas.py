"""Each formula against a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from finetuner.exceptions import InvalidDocument
from finetuner.executors.indexer.ranking.diversity import diverse, without_duplicates
from finetuner.executors.indexer.ranking.examples import direction
from finetuner.executors.indexer.ranking.fusion import fuse
from finetuner.executors.indexer.ranking.tags import grouped, sorted_by, value_of
from finetuner.executors.indexer.ranking.words import FieldWords, words


def unit(count: int, seed: int, dim: int = 6) -> NDArray[np.float32]:
    made = np.random.default_rng(seed).normal(size=(count, dim))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def test_a_direction_is_rocchios_and_qdrants_average() -> None:
    query, likes, dislikes = unit(1, 0)[0], unit(3, 1), unit(2, 2)
    total = [
        float(query[i]) + sum(float(v[i]) for v in likes) / 3 - 0.5 * sum(float(v[i]) for v in dislikes) / 2
        for i in range(6)
    ]
    length = math.sqrt(sum(x * x for x in total))
    assert direction(query, list(likes), list(dislikes)) == pytest.approx([x / length for x in total], abs=1e-6)
    average = 2 * likes.mean(axis=0) - dislikes.mean(axis=0)
    assert direction(None, list(likes), list(dislikes)) == pytest.approx(average / np.linalg.norm(average), abs=1e-6)
    with pytest.raises(InvalidDocument, match="cancel each other out"):
        direction(likes[0], [], [likes[0], likes[0], 4 * likes[0]])


def test_ranks_are_fused_with_ties_by_id() -> None:
    lists = [(0.7, ["a", "b", "c"]), (0.3, ["c", "d"])]
    expected = {
        key: sum(w / (60 + ids.index(key) + 1) for w, ids in lists if key in ids) for key in ("a", "b", "c", "d")
    }
    found = fuse(lists)
    assert found == pytest.approx(expected)
    assert list(found) == sorted(expected, key=lambda key: (-expected[key], key))
    assert list(fuse([(0.5, ["b"]), (0.5, ["a"])])) == ["a", "b"]


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.8, 1.0])
def test_mmr_equals_a_loop(diversity: float) -> None:
    vectors, query = unit(12, 3), unit(1, 4)[0]
    relevance = vectors.astype(np.float64) @ query
    pairs = [float(vectors[i].astype(float) @ vectors[j]) for i in range(12) for j in range(12) if i != j]
    sims = {(i, j): (float(vectors[i].astype(float) @ vectors[j]) - np.mean(pairs)) / np.std(pairs)
            for i in range(12) for j in range(12)}  # fmt: skip
    rel = [(r - relevance.mean()) / relevance.std() for r in relevance]
    taken = [int(np.argmax(relevance))]
    while len(taken) < 7:
        left = [i for i in range(12) if i not in taken]
        taken.append(max(left, key=lambda i: (1 - diversity) * rel[i] - diversity * max(sims[i, j] for j in taken)))
    assert diverse(relevance, vectors, diversity, 7) == taken
    if diversity == 0:
        assert taken == list(np.argsort(-relevance)[:7])
    assert diverse(relevance[:1], vectors[:1], diversity, 7) == [0]
    assert diverse(relevance[:0], vectors[:0], diversity, 7) == []


def test_duplicates_are_hidden_by_the_best_alone() -> None:
    angles = np.deg2rad([0, 8, 16, 24, 90, 95])  # 10 degrees is 0.985
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert without_duplicates(vectors, 0.985, 10) == {0: 1, 2: 1, 4: 1}, "24 degrees is like 16, which hides it"
    assert without_duplicates(vectors, 0.985, 2) == {0: 1, 2: 1}
    assert without_duplicates(vectors[:0], 0.985, 2) == {}


def test_bm25_equals_a_loop_also_after_changes() -> None:
    rng = np.random.default_rng(0)
    texts = {f"d{i}": " ".join(rng.choice(list("abcdefg"), size=rng.integers(1, 9))) for i in range(40)}
    held = FieldWords()
    for key, text in texts.items():
        held.put(key, [text])
    for key in ("d3", "d17"):
        held.remove(key)
        del texts[key]
    texts["d5"] = "a a zebra"
    held.put("d5", ["a a", "zebra"])
    for number in range(2500):  # compacts
        held.put("much", [f"word{number}"])
    texts["much"] = "word2499"
    query = ["a", "zebra", "a", "nowhere"]
    mean = sum(len(text.split()) for text in texts.values()) / len(texts)
    expected = {}
    for key, text in texts.items():
        found, score = text.split(), 0.0
        for word in query:
            n = sum(word in other.split() for other in texts.values())
            tf = found.count(word)
            idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            score += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(found) / mean))
        if score:
            expected[key] = score
    assert held.scores(query) == pytest.approx(expected)
    assert held.frequency("zebra") == 1
    assert held.frequency("nowhere") == 0
    assert FieldWords().scores(["a"]) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red DRESS, size 4.5!", ["red", "dress", "size", "4", "5", "4.5"]),
        ("AB-123/X", ["ab", "123", "x", "ab-123/x"]),
        ("blue-green", ["blue", "green"]),
        ("Größe ÉTÉ 靴", ["größe".casefold(), "été", "靴"]),
        ("ＡＢ１２", ["ab12"]),  # noqa: RUF001  # full width
        ("--- ...", []),
    ],
)
def test_words_of_any_script_and_whole_codes(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_groups_and_order() -> None:
    ids, keys = list("abcdef"), ["x", "y", None, "x", "x", None]
    assert grouped(ids, keys, 3, 2) == ["a", "d", "b", "c"]
    assert grouped(ids, keys, 9, 1) == ["a", "b", "c", "f"]
    values = [3.0, "t", None, 1.0, [2.0], True]
    assert sorted_by(ids, values, descending=False) == ["d", "f", "e", "a", "b", "c"]
    assert sorted_by(ids, values, descending=True) == ["a", "e", "d", "f", "b", "c"]
    assert value_of({"size": {"eu": 4}}, "size.eu") == value_of({"size.eu": 4}, "size.eu") == 4
    assert value_of({"a.b": {"c": 1}}, "a.b.c") == 1
    assert value_of({"size": 3}, "size.eu") is None
