"""Runs that freeze a tower: the artifact has its parent's fingerprint, and nobody else's claim counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from finetuner.artifacts.archive import zip_artifact
from finetuner.artifacts.fingerprints import known_fingerprints, model_fingerprints, same_towers
from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import FINGERPRINTS, MANIFEST, read_manifest, sealed
from finetuner.config.callbacks import WiSEFTCallback, callback_config
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.artifacts.upload_checks import unpack
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.clip import TEXT, VISION, Clip

Work = Callable[..., tuple[int, RunFolder]]
SAME = "clip-vision is the same as in "


@pytest.mark.seconds
def test_a_frozen_tower_is_its_parents(
    work: Work, trainer: Trainer, clip_mini: Clip, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    workspace = trainer.shared_workspace
    callbacks = [callback_config(WiSEFTCallback(0.3), {})]
    code, folder = work(run_name="first", training_options={"frozen": ["vision"], "lora_rank": 4}, callbacks=callbacks)
    assert code == 0, caplog.text
    assert f"{SAME}clip-mini: an index keeps its vectors" in caplog.text
    first = folder.path.name
    backbone, tuned = (known_fingerprints(workspace, name) for name in ("clip-mini", first))
    assert backbone == model_fingerprints(clip_mini), "the backbone is recorded"
    assert same_towers(backbone, tuned) == [VISION]
    network = load_artifact(workspace.artifacts / first).network.state_dict()
    for name, value in clip_mini.network.state_dict().items():
        assert torch.equal(value, network[name]) or not name.startswith("visual."), name

    code, folder = work(run_name="second", model_artifact=first, training_options={"frozen": ["vision"]})
    assert code == 0, caplog.text
    assert f"{SAME}{first}" in caplog.text
    assert same_towers(tuned, known_fingerprints(workspace, folder.path.name)) == [VISION]

    caplog.clear()
    code, folder = work(run_name="third", model_artifact=first, training_options={"frozen": ["text"]})
    assert code == 0, caplog.text
    assert SAME not in caplog.text
    assert same_towers(tuned, known_fingerprints(workspace, folder.path.name)) == [TEXT]

    # an upload that claims another's tower would let two models' vectors meet
    made = workspace.artifacts / folder.path.name
    manifest = read_manifest(made)
    unpack(zip_artifact(made, tmp_path / "right.zip", "right"), tmp_path / "right")
    training = manifest.training | {FINGERPRINTS: manifest.fingerprints | {VISION: tuned[VISION]}}
    (made / MANIFEST).write_text(sealed(asdict(manifest) | {"training": training}))
    with pytest.raises(InvalidInput, match="must have the fingerprints of the artifact's towers"):
        unpack(zip_artifact(made, tmp_path / "false.zip", "false"), tmp_path / "false")
