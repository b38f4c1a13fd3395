"""Training pairs of marks, against naive loops and simulated users."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from docarray import Document

from finetuner.api.feedback import pairs
from finetuner.api.feedback.pairs import FeedbackData, is_held_out, pairs_of, scores_of, tallied
from finetuner.documents.pairs import read_pairs
from finetuner.exceptions import InvalidInput


def mark(text: str, shown: str, chosen: str = "", refused: str = "", offset: int = 0, image: bytes = b"") -> Any:
    pictured = base64.b64encode(image).decode()
    return {"text": text, "image": pictured, "shown": list(shown), "chosen": list(chosen), "refused": list(refused),
            "offset": offset, "user": ""}  # fmt: skip


SHOP = {
    "a": Document(id="a", blob=b"image a", tags={"caption": "caption a"}),
    "b": Document(id="b", chunks=[Document(text="caption b"), Document(blob=b"image b")]),
    "c": Document(id="c", blob=b"image c"),
    "t": Document(id="t", text="a text alone"),
}


def data_of(*marks: Any, held_out: float = 0.0, bias: float = 0.0, skipped: bool = False) -> FeedbackData:
    tallies, queries = tallied(marks, bias, skipped)
    return pairs_of(tallies, queries, SHOP, held_out, len(marks))


def test_chosen_documents_are_positives_and_refused_ones_negatives() -> None:
    data = data_of(mark("red", "abc", "a", "b"), mark(" RED  ", "ab", "a"), mark("blue", "ba", "b", "a"))
    found = {(pair.text, pair.image): pair.negatives for pair in read_pairs(data.train)}
    assert found == {
        ("red", b"image a"): ("caption b", "blue"),
        ("blue", b"image b"): ("caption a", "red"),
    }
    assert (data.report["queries"], data.report["negatives"], data.report["marks"]) == (2, 4, 3)


def test_queries_that_are_images_take_captions() -> None:
    data = data_of(mark("", "act", "a", "t", image=b"query"), mark("", "c", "c", image=b"query"))
    (pair,) = read_pairs(data.train)
    assert (pair.text, pair.image, pair.negatives) == ("caption a", b"query", ("a text alone",))
    assert data.report["without_content"] == 1, "c has no caption"


def test_what_makes_no_pair_is_counted() -> None:
    marks = (mark("red", "ab", "a", "b"), mark("red", "ab", "b", "a"), mark("red", "xt", "xt"), mark("red", "c", "c"))
    data = data_of(*marks)
    assert [pair.image for pair in read_pairs(data.train)] == [b"image c"]
    assert [data.report[name] for name in ("disputed", "deleted", "without_content")] == [2, 1, 1]
    with pytest.raises(InvalidInput, match="at least one training pair"):
        data_of(*marks[:2])


def test_skipped_above_a_choice_is_refused_and_below_is_not() -> None:
    marks = (mark("red", "acb", "c"), mark("blue", "a", "a"))
    assert all("negatives" not in str(pair.tags) for pair in data_of(*marks).train)
    (red, blue) = read_pairs(data_of(*marks, skipped=True).train)
    assert (red.negatives, blue.negatives) == (("caption a",), ("red",))


def test_a_held_out_query_is_nowhere_in_the_training_data() -> None:
    words = [f"word {number}" for number in range(60)]
    marks = [mark(word, "abc", "c" if at % 2 else "a", "b") for at, word in enumerate(words)]
    marks += [mark(word.upper(), "ba", "a", "b") for word in words[:10]]
    data = data_of(*marks, held_out=0.3)
    train = {text.casefold() for pair in read_pairs(data.train) for text in (pair.text, *pair.negatives)}
    aside = {pair.text.casefold() for pair in read_pairs(data.held_out)}
    assert not train & aside
    assert 8 <= len(aside) <= 28
    assert aside == {word for word in words if is_held_out(f"text {word}", 0.3)}


def test_held_out_queries_are_compared_on_what_else_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"word {number}" for number in range(60)]
    marks = [mark(word, "abct", "c", "b") for word in words] + [mark("never chosen", "b", "", "b")]
    data = data_of(*marks, held_out=0.3)
    scored = [(pair.image, pair.score) for pair in read_pairs(data.held_out)]
    aside = [word for word in words if is_held_out(f"text {word}", 0.3)]
    assert data.report["held_out_pairs"] == len(aside)
    assert sorted(image for image, score in scored if not score) == [b"image a", b"image b"], "once each"
    assert [image for image, score in scored if score] == [b"image c"] * len(aside)
    assert all(pair.score for pair in read_pairs(data.train))
    monkeypatch.setattr(pairs, "MOST_BESIDE", 0)
    assert len(data_of(*marks, held_out=0.3).held_out) == len(aside)


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_scores_equal_a_naive_loop(bias: float) -> None:
    random = np.random.default_rng(0)
    marks = []
    for _ in range(80):
        shown = "".join(random.permutation(list("abct"))[: random.integers(1, 5)])
        chosen = "".join(each for each in shown if random.random() < 0.5)
        marks.append(mark(f"q{random.integers(3)}", shown, chosen, offset=int(random.integers(0, 30))))
    scores = scores_of(tallied(marks, bias, False)[0])

    def weight(each: Any, document: str) -> float:
        rank = each["offset"] + each["shown"].index(document) + 1
        return min(rank**bias, 10.0) if document in each["chosen"] else 0.0

    every = [weight(each, document) for each in marks for document in each["shown"]]
    rate = min(sum(every) / len(every), 1.0)
    for (query, document), score in scores.items():
        own = [each for each in marks if f"text {each['text']}" == query and document in each["shown"]]
        clicks = sum(weight(each, document) for each in own)
        expected = (clicks + 2 * rate) / (len(own) + 2 * rate + 2 * (1 - rate))
        assert score == pytest.approx(expected, rel=1e-12)


def test_the_correction_finds_the_relevance_of_simulated_users() -> None:
    random, relevance, marks = np.random.default_rng(1), {"a": 0.8, "b": 0.5, "c": 0.2}, 4000
    made = []
    for _ in range(marks):  # b is always first, and looked at by all; rank r by 1 / r of them
        shown = "bac"
        clicks = [each for at, each in enumerate(shown) if random.random() < relevance[each] / (at + 1)]
        made.append(mark("red", shown, "".join(clicks)))
    plain, corrected = (scores_of(tallied(made, bias, False)[0]) for bias in (0.0, 1.0))
    assert plain["text red", "a"] < plain["text red", "b"], "clicks alone prefer what stands first"
    for at, document in enumerate("bac"):
        chance = relevance[document] / (at + 1)
        error = (at + 1) * np.sqrt(chance * (1 - chance) / marks)
        assert abs(corrected["text red", document] - relevance[document]) < 3 * error + 2e-3
