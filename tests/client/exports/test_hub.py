"""Exports are sent to the hub, to a stand-in here, with a card that loads them from there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import finetuner
from finetuner.cli.main import app
from finetuner.exceptions import FinetunerError, InvalidInput
from tests.client.exports.test_export import image_model, published
from tests.hub_stand_in import LFS_BYTES, NAME, Hub, started_hub

__all__ = ["published"]  # a fixture
pytestmark = pytest.mark.seconds


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with started_hub() as hub:
        hub.token = "hf_secret"
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        yield hub


def test_the_folder_is_sent_with_a_card_for_the_hub(hub: Hub, published: Any, tmp_path: Path) -> None:
    artifact, folder = published(image_model()), tmp_path / "out"
    command = ["artifact", "export", str(artifact), str(folder), "--to", "timm", "--push-to-hub", NAME]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.stdout.strip() == str(folder)
    assert [(one["name"], one["organization"], one["visibility"]) for one in hub.created] == [
        ("model", "owner", "private")
    ]
    card = hub.sent.pop("README.md").decode()
    assert hub.sent == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}
    assert card.startswith("---\nlibrary_name: timm\n")
    assert f'timm.create_model("hf-hub:{NAME}", pretrained=True)' in card
    assert 'timm.create_model("local-dir:.", pretrained=True)' in (folder / "README.md").read_text()


@pytest.mark.parametrize("part_bytes", [0, 6 * 2**20], ids=["whole", "parts"])
def test_large_files_go_by_lfs(
    part_bytes: int, hub: Hub, published: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.part_bytes = part_bytes
    folder = tmp_path / "out"
    finetuner.export_artifact(published(image_model()), "timm", folder, push_to_hub=NAME)
    weights = (folder / "model.safetensors").read_bytes()
    oid = hashlib.sha256(weights).hexdigest()
    assert len(weights) > LFS_BYTES
    assert hub.large == {oid: weights}
    assert hub.verified == [oid]
    assert hub.sent["model.safetensors"] == weights
    assert sorted(hub.sent) == sorted(path.name for path in folder.iterdir())
    assert len(hub.parts.get(oid, {})) == (-(-len(weights) // part_bytes) if part_bytes else 0)
    assert "Xet" not in caplog.text


def test_a_large_file_that_the_hub_does_not_verify_is_an_error(hub: Hub, published: Any, tmp_path: Path) -> None:
    hub.refuses_verify = True
    message = f"the hub must take {NAME}. Got: .*model.safetensors.*the object is not the one announced.*folder is in"
    with pytest.raises(FinetunerError, match=message):
        finetuner.export_artifact(published(image_model()), "timm", tmp_path / "out", push_to_hub=NAME)
    assert not hub.sent
    assert (tmp_path / "out/model.safetensors").is_file()


def test_a_hub_that_refuses_leaves_the_folder(
    hub: Hub, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(FinetunerError, match=f"the hub must take {NAME}. Got: .* HF_TOKEN may write") as caught:
        finetuner.export_artifact(published(image_model()), "timm", tmp_path / "out", push_to_hub=NAME)
    assert "hf_another" not in str(caught.value)
    assert (tmp_path / "out/model.safetensors").is_file()
    assert not hub.sent


@pytest.mark.parametrize("name", ["model", "a/b/c", "../b", "a/..", "", "a/b c"])
def test_a_malformed_name_is_refused_before_anything_is_written(name: str, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="push_to_hub must be OWNER/NAME"):
        finetuner.export_artifact(tmp_path / "none", "timm", tmp_path / "out", push_to_hub=name)
    assert not (tmp_path / "out").exists()


def test_without_a_token_nothing_is_written(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InvalidInput, match="push_to_hub needs a token that may write. Got none. Set HF_TOKEN"):
        finetuner.export_artifact(tmp_path / "none", "timm", tmp_path / "out", push_to_hub=NAME)
    assert not (tmp_path / "out").exists()
