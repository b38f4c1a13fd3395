"""`fit` takes files and callbacks; the run does what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docarray import Document, DocumentArray

import finetuner
from finetuner.catalogue import fashion
from finetuner.config.callbacks import BestModelCheckpoint, EarlyStopping, EvaluationCallback, WiSEFTCallback
from finetuner.contract.wire import LABEL_TAG
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from finetuner.flow.running_flow import RunningFlow

IMAGES = list(fashion("train", items=6))


@pytest.fixture(autouse=True)
def _connected(flow: RunningFlow, own_session: None) -> None:
    finetuner.login(host=flow.host)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV of captions and images beside it."""
    lines = []
    for image in IMAGES:
        (tmp_path / f"{image.name}.jpg").write_bytes(image.jpeg)
        lines.append(f'"{image.captions["en"]}",{image.name}.jpg\n')
    path = tmp_path / "pairs.csv"
    path.write_text("".join(lines))
    return path


@pytest.fixture
def table_with_bad_lines(table: Path) -> Path:
    with open(table, "a") as file:
        file.write("a red dress,missing.jpg\nno image at all\n")
    return table


def test_the_good_lines_of_a_csv_are_pushed_and_trained_on(table_with_bad_lines: Path) -> None:
    table = str(table_with_bad_lines)
    with pytest.warns(UserWarning, match="left out 2"):
        run = finetuner.fit("clip-mini", table, eval_data=table, loss="CLIPLoss", epochs=1, on_error="skip", wait=True)
    stored = finetuner.pull_data(run.config["train_data"])
    assert [pair.chunks[0].text for pair in stored] == [image.captions["en"] for image in IMAGES]
    assert [pair.chunks[1].blob for pair in stored] == [image.jpeg for image in IMAGES]
    assert set(run.metrics()) == {"before", "after"}


def test_bad_lines_are_all_named_and_nothing_is_sent(table_with_bad_lines: Path) -> None:
    datasets, runs = finetuner.list_data(), len(finetuner.list_runs())
    with pytest.raises(InvalidDocument, match=r"(?s)13.*14"):
        finetuner.fit("clip-mini", str(table_with_bad_lines), loss="CLIPLoss")
    assert (finetuner.list_data(), len(finetuner.list_runs())) == (datasets, runs)


def test_a_file_that_is_not_there_is_no_dataset_either() -> None:
    with pytest.raises(DatasetNotFound, match=r"missing\.csv.*neither a file"):
        finetuner.fit("clip-mini", "folder/missing.csv", loss="CLIPLoss")


def test_callbacks_bring_their_own_data_and_act(table: Path) -> None:
    queries = DocumentArray(Document(text=image.captions["de"], tags={LABEL_TAG: image.item}) for image in IMAGES)
    index = DocumentArray(Document(blob=image.jpeg, tags={LABEL_TAG: image.item}) for image in IMAGES)
    run = finetuner.fit(
        "clip-mini",
        DocumentArray(make_pair(image.captions["en"], image.jpeg) for image in IMAGES),
        loss="CLIPLoss",
        epochs=2,
        callbacks=[
            EvaluationCallback(
                queries, index, model="clip-text", index_model="clip-vision", limit=3, gather_examples=True
            ),
            EvaluationCallback(str(table), caption="pairs"),
            BestModelCheckpoint(monitor="loss"),
            WiSEFTCallback(alpha=0.0),
        ],
        wait=True,
    )
    log = run.logs()
    assert "Metric: 'clip-text-to-clip-vision_precision_at_k' Value: " in log
    metrics = run.metrics()
    assert any(name.startswith("pairs") for name in metrics["after"])
    # alpha 0 is the pretrained model, so that nothing changes
    assert metrics["after"] == pytest.approx(metrics["before"], abs=1e-6)
    examples = run.example_results()
    assert set(examples) == {"before", "after"}
    assert re.search(r"epoch|Epoch", log)


def test_what_a_callback_cannot_do_is_refused_before_anything_is_sent() -> None:
    pairs = DocumentArray(make_pair(image.captions["en"], image.jpeg) for image in IMAGES)
    datasets = finetuner.list_data()
    for callback, message in (
        (EarlyStopping("clip-text_hit_at_k"), "Metrics come from an EvaluationCallback"),
        (BestModelCheckpoint(), "val_split"),
    ):
        with pytest.raises(InvalidInput, match=message):
            finetuner.fit("clip-mini", pairs, loss="CLIPLoss", callbacks=[callback])
    assert finetuner.list_data() == datasets
