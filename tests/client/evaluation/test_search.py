"""Scores of a search against a plain loop over queries and documents."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.config.callbacks import EvaluationCallback
from finetuner.config.run_callbacks import search_towers
from finetuner.documents.images import decode
from finetuner.documents.pairs import make_pair, read_pairs
from finetuner.evaluation.pairs import PREFIX, evaluate_pairs
from finetuner.evaluation.search import evaluate_search, read_search_data
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.metrics import NINE, TEXTBOOK
from finetuner.models.clip import TOWERS, Clip
from finetuner.models.image_model import ImageModelConfig, ImagePreprocess, build_image_model

Jpeg = Callable[[int], bytes]
WORDS = ["red", "blue", "green", "dress", "shirt", "coat", "striped", "plain", "long", "short"]


def texts(count: int, labels: int) -> DocumentArray:
    generator = random.Random(count)
    return DocumentArray(
        Document(text=" ".join(generator.sample(WORDS, 4)), tags={"finetuner_label": f"item {number % labels}"})
        for number in range(count)
    )


def images(jpeg: Jpeg, count: int, labels: int) -> DocumentArray:
    return DocumentArray(
        Document(blob=jpeg(number), tags={"finetuner_label": f"item {number % labels}"}) for number in range(count)
    )


def naive(model: Clip, queries: DocumentArray, index: DocumentArray, options: EvaluationCallback) -> dict[str, float]:
    """Compare every query with every document, one after the other."""

    def vector(document: Document, tower: str) -> np.ndarray:
        found = (
            model.encode_texts([document.text])
            if tower == "clip-text"
            else model.encode_images([decode(document.blob)])
        )
        return found[0].astype(np.float64)

    query_tower, index_tower = search_towers(options, TOWERS)
    vectors = [vector(document, index_tower) for document in index]
    rows = []
    for query in queries:
        own = vector(query, query_tower)
        allowed = [
            number for number, document in enumerate(index) if not (options.exclude_self and document.id == query.id)
        ]
        ranked = sorted(allowed, key=lambda number: -float(own @ vectors[number]))
        rows.append([index[number].tags["finetuner_label"] == query.tags["finetuner_label"] for number in ranked])
    scores = {}
    for metric in (*NINE, *TEXTBOOK):
        values = [metric(row[: options.limit], sum(row)) for row in rows]
        scores[metric.__name__] = sum(values) / len(values)
    return scores


@pytest.mark.parametrize("limit", [3, 20])
def test_texts_that_search_images_equal_a_plain_loop(mini: Clip, jpeg: Jpeg, limit: int) -> None:
    queries, index = texts(9, 4), images(jpeg, 14, 5)
    options = EvaluationCallback("", limit=limit, batch_size=4, num_workers=2)
    found, examples = evaluate_search(mini, read_search_data(options, TOWERS, queries, index))
    assert found == pytest.approx(naive(mini, queries, index, options))
    assert examples == {}


@pytest.mark.parametrize("exclude_self", [True, False])
def test_images_that_search_themselves_equal_a_plain_loop(mini: Clip, jpeg: Jpeg, exclude_self: bool) -> None:
    documents = images(jpeg, 12, 4)
    options = EvaluationCallback("", model="clip-vision", exclude_self=exclude_self, limit=5)
    found, _ = evaluate_search(mini, read_search_data(options, TOWERS, documents, None))
    assert found == pytest.approx(naive(mini, documents, documents, options))
    assert (found["hit_at_k"] == 1) is not exclude_self, "every image finds itself"


def test_pairs_score_as_evaluate_pairs_does(mini: Clip, jpeg: Jpeg) -> None:
    documents = [make_pair(document.text, jpeg(number % 7)) for number, document in enumerate(texts(12, 4))]
    found, _ = evaluate_search(mini, read_search_data(EvaluationCallback("", limit=5), TOWERS, documents, None))
    expected = evaluate_pairs(mini, read_pairs(documents), limit=5)
    assert found == pytest.approx({name: expected[PREFIX + name] for name in found})


def test_images_that_search_texts(mini: Clip, jpeg: Jpeg) -> None:
    queries, index = images(jpeg, 8, 4), texts(9, 4)
    options = EvaluationCallback("", model="clip-vision", index_model="clip-text", limit=4)
    found, _ = evaluate_search(mini, read_search_data(options, TOWERS, queries, index))
    assert found == pytest.approx(naive(mini, queries, index, options))


def test_a_sample_of_the_queries_is_always_the_same(mini: Clip, jpeg: Jpeg) -> None:
    queries, index = texts(9, 4), images(jpeg, 8, 4)
    options = EvaluationCallback("", query_sample_size=3)
    data = read_search_data(options, TOWERS, queries, index)
    assert len(data.queries) == 3
    assert data == read_search_data(options, TOWERS, queries, index)
    assert len(read_search_data(EvaluationCallback("", query_sample_size=99), TOWERS, queries, index).queries) == 9


def test_examples_hold_the_matches_of_the_first_queries(mini: Clip, jpeg: Jpeg) -> None:
    queries, index = texts(9, 4), images(jpeg, 8, 4)
    options = EvaluationCallback("", gather_examples=True, num_example_queries=2, limit=3)
    data = read_search_data(options, TOWERS, queries, index)
    _, examples = evaluate_search(mini, data)
    assert list(examples) == [queries[0].text, queries[1].text]
    for query, matches in zip(queries[:2], examples.values(), strict=True):
        assert len(matches) == 3
        assert all(match["relevant"] is (match["match"] == query.tags["finetuner_label"]) for match in matches)
        assert all(match["image"].startswith("data:image/jpeg;base64,") for match in matches)
    assert evaluate_search(mini, data, gather=False)[1] == {}


def test_equal_queries_have_distinct_names_in_examples(mini: Clip, jpeg: Jpeg) -> None:
    twice = [Document(text="a red dress", tags={"finetuner_label": 1}) for _ in range(2)]
    options = EvaluationCallback("", gather_examples=True)
    _, examples = evaluate_search(mini, read_search_data(options, TOWERS, twice, images(jpeg, 3, 3)))
    assert list(examples) == ["a red dress", f"a red dress ({twice[1].id})"]


@pytest.mark.parametrize(
    ("options", "queries", "message"),
    [
        ({}, [Document(text="a")], r"query_data: document 0 .*text must have the tag 'finetuner_label'"),
        ({}, [Document(blob=b"x")], r"must be a text for clip-text. Got an image. Set the .* to 'clip-vision'"),
        ({"model": "clip-vision"}, [Document(text="a")], r"must be an image for clip-vision. Got a text"),
        ({"model": "clip-vision"}, [Document(uri="a.png")], r"image must be carried as blob, tensor or data URI"),
        ({}, [Document(chunks=[Document(text="a")])], r"document 0 .*pair must have two chunks"),
    ],
)
def test_the_error_names_a_document_that_cannot_be_a_query(
    options: dict[str, Any], queries: list[Document], message: str
) -> None:
    with pytest.raises(InvalidDocument, match=message):
        read_search_data(EvaluationCallback("", **options), TOWERS, queries, None)


def test_no_document_and_no_good_image_are_refused(jpeg: Jpeg) -> None:
    with pytest.raises(InvalidInput, match="query_data must hold at least one document that clip-text can encode"):
        read_search_data(EvaluationCallback(""), TOWERS, [], None)
    with pytest.raises(InvalidInput, match="index_data must hold at least one document that clip-vision can encode"):
        read_search_data(EvaluationCallback(""), TOWERS, texts(2, 1), [Document(blob=b"no image")])


def test_an_image_may_be_a_tensor_or_a_data_uri(mini: Clip) -> None:
    tensor = np.zeros((32, 32, 3), dtype=np.uint8)
    index = [Document(tensor=tensor, tags={"finetuner_label": "item 0"})]
    index.append(Document(blob=b"broken", tags={"finetuner_label": "item 0"}))
    data = read_search_data(EvaluationCallback(""), TOWERS, texts(2, 1), index)
    assert len(data.index) == 1, "images that cannot be decoded are skipped"
    assert evaluate_search(mini, data)[0]["hit_at_k"] == 1


def test_an_image_model_searches_images(jpeg: Jpeg) -> None:
    preprocess = ImagePreprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    model = build_image_model(ImageModelConfig("resnet18", preprocess), "random", "resnet18")
    queries, index = images(jpeg, 4, 4), images(jpeg, 8, 4)
    options = EvaluationCallback("", limit=1)
    found, _ = evaluate_search(model, read_search_data(options, model.towers, queries, index))
    assert found["precision_at_k"] == 1, "each query is in the index"
    with pytest.raises(InvalidDocument, match="must be an image for resnet18. Got a text. Choose other data"):
        read_search_data(options, model.towers, texts(2, 1), index)
