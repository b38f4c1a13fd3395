"""Whatever users get wrong first: one line that says what was expected, what came, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

import finetuner
from finetuner import exceptions
from finetuner.catalogue import fashion
from finetuner.contract.wire import error_of
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import FinetunerError
from finetuner.flow.running_flow import RunningFlow

IMAGES = list(fashion("train", items=4))


def pairs() -> DocumentArray:
    return DocumentArray(make_pair(image.captions["en"], image.jpeg) for image in IMAGES)


@pytest.fixture
def client(flow: RunningFlow, own_session: None) -> Any:
    finetuner.login(host=flow.host)
    return finetuner


def fit(**changed: Any) -> Any:
    arguments: dict[str, Any] = {"model": "clip-mini", "train_data": pairs(), "loss": "CLIPLoss", "epochs": 1}
    return finetuner.fit(**arguments | changed)


def half_a_pair(kept: str) -> DocumentArray:
    broken = pairs()
    broken[2].chunks = DocumentArray([chunk for chunk in broken[2].chunks if chunk.modality == kept])
    return broken


def undecodable() -> DocumentArray:
    broken = pairs()
    broken[3].chunks[1].blob = IMAGES[3].jpeg[:300]
    return broken


BAD: list[tuple[str, Callable[[], Any], str, str]] = [
    ("unknown dataset", lambda: fit(train_data="fashion-trian"), "DatasetNotFound", "fashion-trian.*push_data"),
    ("no such path", lambda: fit(train_data="../no/pairs.csv"), "DatasetNotFound", "no/pairs.csv.*neither a file"),
    ("unknown backbone", lambda: fit(model="clip-mimi"), "NoSuchModel", "clip-mimi.*clip-mini"),
    ("unknown architecture", lambda: fit(model="ViT-B-99::openai"), "NoSuchModel", "ViT-B-99.*ViT-B-"),
    ("unknown tag", lambda: fit(model="ViT-B-32::nope"), "NoSuchModel", "nope"),
    ("empty dataset", lambda: fit(train_data=DocumentArray()), "InvalidInput", "at least one document"),
    ("no image", lambda: fit(train_data=half_a_pair("text")), "InvalidDocument", "document 2 .*0 image"),
    ("no text", lambda: fit(train_data=half_a_pair("image")), "InvalidDocument", "document 2 .*0 text"),
    ("broken image", lambda: fit(train_data=undecodable()), "InvalidDocument", "document 3 .*decoded"),
    ("epochs", lambda: fit(epochs=0), "InvalidInput", r"epochs must be a whole number in \[1, 10000\]. Got 0"),
    ("learning rate", lambda: fit(learning_rate=-1.0), "InvalidInput", "learning_rate.*Got -1"),
    ("optimizer", lambda: fit(optimizer="Adm"), "InvalidInput", "optimizer must be one of.*'Adm'.*'Adam'"),
    ("option", lambda: fit(optimizer_options={"momentun": 1}), "InvalidInput", "momentun"),
    ("loss", lambda: fit(loss="TripletMarginLoss"), "InvalidInput", "loss must be one of CLIPLoss"),
    ("ONNX", lambda: fit(to_onnx="yes"), "InvalidInput", "to_onnx must be .*'yes'"),
    ("path as run name", lambda: fit(run_name="../run"), "InvalidInput", r"run_name must be.*'\.\./run'"),
    ("no experiment", lambda: finetuner.delete_runs(""), "InvalidInput", "experiment_name must be 1 to 128 .*Got ''"),
    ("letters of a name", lambda: finetuner.delete_runs(["a"]), "InvalidInput", r"experiment_name must be .*\['a'\]"),
    ("epochs of numpy", lambda: fit(epochs=np.int64(0)), "InvalidInput", r"epochs must be a whole number .*Got 0"),
    ("no callback", lambda: fit(callbacks="EarlyStopping"), "InvalidInput", "callbacks must be a callback, or several"),
    ("unknown run", lambda: finetuner.get_run("nope"), "RunNotFound", "nope"),
    ("unknown artifact", lambda: finetuner.promote("f" * 24), "ArtifactNotFound", "f{24}"),
    ("unknown reference", lambda: finetuner.evaluate("nope", "nope-data"), "DatasetNotFound", "nope-data"),
    ("limit", lambda: finetuner.search("x", limit=0), "InvalidInput", r"'limit'.*\[1, 1000\]. Got 0"),
    ("artifact of a search", lambda: finetuner.search("x", artifact="nope"), "ArtifactNotFound", "nope"),
]


@pytest.mark.parametrize(("call", "kind", "pattern"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_errors_teach_in_one_line(client: Any, call: Callable[[], Any], kind: str, pattern: str) -> None:
    runs_before = len(client.list_runs())
    with pytest.raises(FinetunerError) as caught:
        call()
    assert type(caught.value) is getattr(exceptions, kind)
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert len(client.list_runs()) == runs_before


def test_a_run_name_that_exists_is_refused_before_anything_is_uploaded(client: Any) -> None:
    first = fit(run_name="taken")
    datasets = client.list_data()
    with pytest.raises(exceptions.AlreadyExists, match="'taken', which exists"):
        fit(run_name="taken")
    assert client.list_data() == datasets
    first.cancel()


def test_an_undecodable_image_leaves_its_neighbours_indexed(client: Any) -> None:
    documents = DocumentArray([Document(id=f"bad-input-{image.name}", blob=image.jpeg) for image in IMAGES])
    documents[1].blob = b"no image"
    with pytest.raises(exceptions.InvalidDocument, match="cannot be decoded"):
        client.index(documents)
    found = client.search(Document(blob=IMAGES[0].jpeg), limit=1000)[0].matches[:, "id"]
    assert {f"bad-input-{IMAGES[row].name}" for row in (0, 2, 3)} <= set(found)
    assert f"bad-input-{IMAGES[1].name}" not in found
    assert error_of(documents[1]) is None, "the caller's documents are not changed"


def test_no_flow(own_session: None, unused_port: int) -> None:
    with pytest.raises(exceptions.FlowUnreachable, match=r"a Flow must answer at .*finetuner up") as caught:
        finetuner.login(host=f"grpc://127.0.0.1:{unused_port}")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(exceptions.ArtifactNotFound, match=r"manifest\.json"):
        finetuner.get_model(str(tmp_path), select_model="clip-text")
