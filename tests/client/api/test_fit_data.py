"""The data of one `fit` call: documents of another kind are named before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.api.fit_data import TRAINABLE, FitData
from finetuner.api.runs import fit
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import InvalidDocument, InvalidInput

CLIP, IMAGES = "text-to-image", "image-to-image"
LABELLED, PAIR = Document(blob=b"x", tags={"finetuner_label": 3}), make_pair("a", b"x")


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
        (CLIP, PAIR, make_pair("a", b"x", {"finetuner_score": 1}), "one of pairs. Got one of scored pairs"),
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


def test_a_score_of_a_file_is_left_out_by_name(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    path = tmp_path / "data.jsonl"
    path.write_text('{"image": "0.jpg", "text": "a", "label": "b", "score": 0.5}\n')
    with pytest.raises(
        InvalidDocument, match="No loss reads scores: remove the tag .*, or pass the columns of the file"
    ):
        read(CLIP, "train_data", path)
    read(CLIP, "train_data", path, {"image": "image", "text": "text"})
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
