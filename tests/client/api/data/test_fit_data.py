"""The data of one `fit` call: documents of another kind are named before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.api.data.fit_data import TRAINABLE, FitData
from finetuner.api.runs import fit
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import InvalidDocument, InvalidInput

CLIP, IMAGES = "text-to-image", "image-to-image"
LABELLED, PAIR = Document(blob=b"x", tags={"finetuner_label": 3}), make_pair("a", b"x")


def scored_pair(score: Any) -> Document:
    return make_pair("a", b"x", {"finetuner_score": score})


SCORED = scored_pair(0.5)
TWO_TEXTS = Document(chunks=[Document(text="a"), Document(text="b")], tags={"finetuner_score": 1})


def read(task: str, argument: str, data: Any, columns: dict[str, str] | None = None) -> None:
    with FitData("prefix", task, None, "raise", columns) as fit_data:
        fit_data.name(argument, data, "train")
        fit_data.read()


@pytest.mark.parametrize("argument", TRAINABLE)
@pytest.mark.parametrize(
    ("task", "good", "odd", "message"),
    [
        (IMAGES, LABELLED, Document(blob=b"y"), "image must have the tag 'finetuner_label', as its class. Got none"),
        (IMAGES, LABELLED, Document(blob=b"y", tags={"finetuner_label": float("nan")}), "must have the tag"),
        (IMAGES, LABELLED, PAIR, "Got 2 chunks"),
        (IMAGES, LABELLED, Document(text="a", tags={"finetuner_label": 3}), "Got a text"),
        (CLIP, PAIR, LABELLED, "pair must have two chunks, one text and one image. Got 0 text and 0 image"),
        (CLIP, SCORED, scored_pair(-0.5), r"score of a pair must be at least 0: .* Got -0.5. Shift the scores"),
        (CLIP, SCORED, scored_pair(float("nan")), "score must be a finite number"),
        (CLIP, SCORED, scored_pair("good"), "score must be a finite number such as 0.8. Got 'good'"),
        (CLIP, SCORED, TWO_TEXTS, "Got 2 text and 0 image.*Scores are for pairs of a text and an image"),
        (IMAGES, LABELLED, scored_pair(1), "Got 2 chunks.*Scores are for pairs of a text and an image"),
    ],
)
def test_a_document_of_another_kind_is_named(
    argument: str, task: str, good: Document, odd: Document, message: str
) -> None:
    odd = Document(odd, copy=True, id="odd")
    with pytest.raises(InvalidDocument, match=rf"{argument}: document 1 \(odd\): .*{message}"):
        read(task, argument, DocumentArray([good, odd, good]))
    read(task, argument, DocumentArray([good]))


def test_data_of_a_callback_may_be_of_any_kind() -> None:
    read(IMAGES, "query_data of callback 0", DocumentArray([LABELLED, Document(text="a")]))


def test_scored_pairs_of_a_file_are_named(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "data.csv").write_text("0.jpg,1.jpg,0.5\n")
    with pytest.raises(InvalidDocument, match=r"train_data: document 0 \(.*\): .*Got 2 chunks"):
        read(IMAGES, "train_data", str(tmp_path / "data.csv"))


@pytest.mark.parametrize("argument", TRAINABLE)
def test_scores_of_some_pairs_only_are_refused_with_the_counts(argument: str) -> None:
    message = (
        f"{argument} must have a score for each pair, or for none. Got 2 pairs with the tag 'finetuner_score' and 3 wi"
    )
    with pytest.raises(InvalidInput, match=message):
        read(CLIP, argument, DocumentArray([PAIR, SCORED, PAIR, SCORED, PAIR]))


def test_scores_are_known_of_documents_and_not_of_a_name() -> None:
    with FitData("prefix", CLIP, None, "raise") as fit_data:
        for argument, data in (("train_data", [SCORED]), ("eval_data", [PAIR]), ("guard_data", "a-name")):
            fit_data.name(argument, data, argument[:5])
        fit_data.read()
        assert [fit_data.has_scores(argument) for argument in TRAINABLE] == [True, False, None, None]


@pytest.mark.parametrize("choice", ["constant", "linear", "log"])
def test_weights_of_scores_that_are_not_there_are_refused_before_a_flow_is_asked(choice: str) -> None:
    with pytest.raises(
        InvalidInput, match=f"'score_weights'.* is for train_data whose pairs have a score. Got '{choice}' for pairs wi"
    ):
        fit("clip-mini", DocumentArray([PAIR]), loss_options={"score_weights": choice})


def test_a_score_of_a_file_is_read_or_left_out_by_name(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    path = tmp_path / "data.jsonl"
    path.write_text('{"image": "0.jpg", "text": "a", "label": "b", "score": 0.5}\n')
    for columns, scored in ((None, True), ({"image": "image", "text": "text"}, False)):
        with FitData("prefix", CLIP, None, "raise", columns) as fit_data:
            fit_data.name("train_data", path, "train")
            fit_data.read()
            assert fit_data.has_scores("train_data") is scored
    read(CLIP, "query_data of callback 0", path)
    read(IMAGES, "train_data", path)  # images have no score


def test_columns_are_for_files(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    columns = {"image": "foto", "text": "titel"}
    for data in (DocumentArray([PAIR]), "a-dataset"):
        with pytest.raises(InvalidInput, match="columns are for files with named columns. Got .* without a file"):
            read(CLIP, "train_data", data, columns)
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    (tmp_path / "data.csv").write_text("titel,foto\na,0.jpg\n")
    read(CLIP, "train_data", str(tmp_path / "data.csv"), columns)


def test_fit_reads_the_columns_before_it_asks_for_a_flow(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    (tmp_path / "data.csv").write_text("titel,foto\na,0.jpg\n")
    for columns, expected in (
        ({"image": "photo"}, r"columns\['image'\] must be a column of .* Got 'photo', but its columns are titel, foto"),
        ({"picture": "foto"}, "must have keys among image, text, label, score, language, negative. Got 'picture'"),
        ({"image": "foto"}, r"must have a column text .* columns=\{'image': 'foto', 'text': 'titel'\}"),
    ):
        with pytest.raises(InvalidInput, match=expected):
            fit("clip-mini", str(tmp_path / "data.csv"), columns=columns)
