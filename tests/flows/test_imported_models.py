"""A folder of transformers' CLIPModel becomes an artifact of the real Flow: it is tuned, served and exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from docarray import Document, DocumentArray
from typer.testing import CliRunner

import finetuner
from finetuner.catalogue import fashion
from finetuner.cli.main import app
from finetuner.contract.environment import STAND_INS
from finetuner.exceptions import ArtifactNotFound, InvalidInput, NoSuchModel
from finetuner.exports.clip_model import write_clip_model
from finetuner.flow.running_flow import RunningFlow
from finetuner.models.clip import Clip
from tests.client.exports.test_export import vit
from tests.client.imports.made_bert import write_bert
from tests.client.imports.made_chinese_clip import TEXTS as CHINESE
from tests.client.imports.made_chinese_clip import write_chinese_clip

TEXTS = ["a red dress", "a blue shirt"]


@pytest.fixture(autouse=True)
def _connected(flow: RunningFlow, own_session: None) -> None:
    finetuner.login(host=flow.host)


@pytest.fixture(scope="module")
def model() -> Clip:
    return vit()


@pytest.fixture(scope="module")
def folder(model: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "my model"
    path.mkdir()
    write_clip_model(model, path)
    return path


def pairs() -> DocumentArray:
    return DocumentArray(finetuner.make_pair(image.captions["en"], image.jpeg) for image in fashion("train", items=6))


@pytest.mark.slow
def test_an_imported_model_is_tuned_and_served(flow: RunningFlow, folder: Path, model: Clip, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["artifact", "import", str(folder), "--host", flow.host], catch_exceptions=False)
    artifact = done.stdout.strip()
    manifest = finetuner.import_artifact(folder, "another-name")  # it is there already
    assert (manifest["artifact_id"], manifest["run_name"]) == (artifact, "my-model")
    np.testing.assert_allclose(
        finetuner.encode(finetuner.get_model(artifact, select_model="clip-text"), TEXTS),
        model.encode_texts(TEXTS),
        atol=1e-5,
    )
    finetuner.index(DocumentArray([Document(id="red", text="a red dress")]), artifact=artifact)
    assert [match.id for match in finetuner.search("a red dress", artifact=artifact)[0].matches] == ["red"]
    finetuner.delete_documents("red")

    run = finetuner.fit(artifact, pairs(), eval_data=pairs(), epochs=1, learning_rate=1e-4, wait=True)
    assert (run.status()["status"], run.config["model"], run.config["model_artifact"]) == (
        "FINISHED",
        "imported-clip",
        artifact,
    )
    tuned = finetuner.encode(finetuner.get_model(run.artifact_id, select_model="clip-text"), TEXTS)
    assert np.abs(tuned - model.encode_texts(TEXTS)).max() > 1e-4
    exported = finetuner.export_artifact(run.artifact_id, "transformers", tmp_path / "exported")
    assert finetuner.import_artifact(exported)["artifact_id"] != artifact
    again = finetuner.fit(run.artifact_id, pairs(), epochs=1, wait=True)
    assert again.config["model_artifact"] == run.artifact_id


def test_fit_takes_the_folder_itself(folder: Path) -> None:
    run = finetuner.fit(folder, pairs(), epochs=1, wait=True)
    assert run.status()["status"] == "FINISHED"
    same = finetuner.fit(str(folder), pairs(), epochs=1)
    same.cancel()
    assert same.config["model_artifact"] == run.config["model_artifact"]
    sizes = {entry["artifact_id"]: entry for entry in finetuner.list_artifacts()}
    assert sizes[run.config["model_artifact"]]["backbone"] == "imported-clip"


def test_what_is_no_model_is_refused_before_anything_is_sent(folder: Path, tmp_path: Path) -> None:
    artifacts, datasets = finetuner.list_artifacts(), finetuner.list_data()
    with pytest.raises(InvalidInput, match="model_artifact must be left out where model is a folder"):
        finetuner.fit(folder, pairs(), model_artifact="live")
    with pytest.raises(InvalidInput, match="must hold config.json of transformers' CLIPModel"):
        finetuner.fit(tmp_path, pairs())
    with pytest.raises(InvalidInput, match="model must be a folder. Got './no-such-folder'|model must be a folder"):
        finetuner.fit("./no-such-folder", pairs())
    with pytest.raises(ArtifactNotFound):
        finetuner.fit("0" * 24, pairs())
    with pytest.raises(InvalidInput, match="must have weights of its own without model_artifact. Got 'imported-clip'"):
        finetuner.fit("imported-clip", pairs())
    with pytest.raises(NoSuchModel, match="imported-clip has weights in artifacts alone. Got no artifact"):
        finetuner.build_model("imported-clip", select_model="clip-text")
    with pytest.raises(InvalidInput, match="epochs must be"):
        finetuner.fit(folder, pairs(), epochs=0)
    assert finetuner.list_artifacts() == artifacts
    assert finetuner.list_data() == datasets


@pytest.mark.slow
def test_a_chinese_clip_is_tuned_and_goes_back(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, ChineseCLIPModel

    texts = [text for text in CHINESE if text]
    (tmp_path / "chinese").mkdir()
    write_chinese_clip(tmp_path / "chinese")
    run = finetuner.fit(tmp_path / "chinese", pairs(), eval_data=pairs(), epochs=1, learning_rate=1e-3, wait=True)
    assert (run.status()["status"], run.config["model"]) == ("FINISHED", "imported-clip")
    model = finetuner.get_model(run.artifact_id, select_model="clip-text", device="cpu")
    tuned = finetuner.encode(model, texts)
    untuned = finetuner.encode(finetuner.get_model(run.config["model_artifact"], select_model="clip-text"), texts)
    assert np.abs(tuned - untuned).max() > 1e-4
    run.export("transformers", tmp_path / "out")
    own = ChineseCLIPModel.from_pretrained(tmp_path / "out").eval()
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        found = torch.nn.functional.normalize(own.get_text_features(**tokens).pooler_output, dim=-1)
    np.testing.assert_allclose(found.numpy(), tuned, atol=1e-5)


@pytest.mark.slow
def test_a_clip_from_parts_is_tuned_with_its_image_tower_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STAND_INS, "none=none")
    write_bert(tmp_path)
    options = {"frozen": ["visual.trunk."]}
    run = finetuner.fit(f"resnet-mini-random+{tmp_path}", pairs(), epochs=1, training_options=options, wait=True)
    assert (run.status()["status"], run.config["model"]) == ("FINISHED", "clip-from-parts")
    before, after = (
        finetuner.get_model(artifact, select_model="clip-vision").encoder.network.state_dict()  # type: ignore[union-attr]
        for artifact in (run.config["model_artifact"], run.artifact_id)
    )
    moved = {name.partition(".")[2].partition(".")[0] for name in before if not before[name].equal(after[name])}
    assert moved <= {"head", ""}  # the projection, and the scale of the logits
    assert "head" in moved
