"""The search for weights, the content of checkpoints, and the comparison with a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from finetuner.exceptions import KeysMismatchError, NoSuchModel
from finetuner.models.backbone import Backbone
from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone
from finetuner.models.weights import checkpoint_file, missing_weights, read_checkpoint, require_same, tag_file

ROW = find_backbone("ViT-B-32::openai")
TENSORS = {"a.weight": torch.ones(2), "b": torch.zeros(1)}


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that $FINETUNER_WEIGHTS names."""
    folder = tmp_path / "shared"
    (folder / "ViT-B-32").mkdir(parents=True)
    monkeypatch.setenv("FINETUNER_WEIGHTS", str(folder))
    return folder


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_tag_is_a_file_of_the_folder(shared: Path, tmp_path: Path, suffix: str) -> None:
    assert tag_file(ROW, None) is None
    (shared / "ViT-B-32" / f"openai{suffix}").touch()
    assert tag_file(ROW, None) == shared / "ViT-B-32" / f"openai{suffix}"
    assert tag_file(ROW, tmp_path / "server") is None


def test_a_relative_path_is_searched_here_and_in_the_folder(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = find_backbone("ViT-B-32::mine.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoSuchModel) as caught:
        checkpoint_file(row, None, ["openai"])
    assert str(caught.value) == (
        f"ViT-B-32::... must name a tag (openai) or a checkpoint file (.safetensors, .pt, .pth, .bin). "
        f"Got 'mine.pt'. Searched: {tmp_path}/mine.pt, {shared}/mine.pt."
    )
    (shared / "mine.pt").touch()
    assert checkpoint_file(row, None, []) == shared / "mine.pt"
    (tmp_path / "mine.pt").touch()
    assert checkpoint_file(row, None, []) == tmp_path / "mine.pt"


def test_missing_weights_name_each_path(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = str(missing_weights(ROW, None, "owner/name/file.bin", OSError("no\nnetwork.")))
    for path in (f"{shared}/ViT-B-32/openai.safetensors", f"{shared}/ViT-B-32/openai.pt"):
        assert path in message
    assert "/models--owner--name/snapshots/<commit>/file.bin) or downloadable. Got: no network. Download" in message
    monkeypatch.delenv("FINETUNER_WEIGHTS")
    assert "$FINETUNER_WEIGHTS is not set." in str(missing_weights(ROW, None, "owner/name/file.bin", OSError()))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    ],
)
def test_wrappers_of_trainers_are_removed(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    torch.save(wrap(TENSORS), tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[key], TENSORS[key]) for key in TENSORS)


@pytest.mark.parametrize("content", [b"", b"\x80\x04no pickle"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(KeysMismatchError, match="must hold only weights. Got: ") as caught:
        read_checkpoint(tmp_path / f"x{suffix}")
    assert "\n" not in str(caught.value)


def test_differences_are_named_by_kind() -> None:
    own = {f"layer.{number}": torch.zeros(2) for number in range(5)} | {"same": torch.zeros(1), "x": torch.zeros(2, 3)}
    given = {"same": torch.zeros(1), "x": torch.zeros(3, 2), "new": torch.zeros(1)}
    with pytest.raises(KeysMismatchError) as caught:
        require_same(own, given, "weights must fit")
    assert str(caught.value) == (
        "weights must fit. Missing: layer.0, layer.1, layer.2 and 2 more. Unexpected: new. "
        "Of another shape: x (3, 2) for (2, 3). Check the architecture."
    )


def test_a_counter_of_old_checkpoints_may_be_missing() -> None:
    own = {"bn.weight": torch.ones(1), "bn.num_batches_tracked": torch.tensor(0)}
    require_same(own, {"bn.weight": torch.ones(1)}, "x")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.seconds
def test_another_clip_is_refused_by_its_keys(tmp_path: Path, suffix: str) -> None:
    state = {key: value.contiguous() for key, value in open_clip.create_model("ViT-S-32-alt").state_dict().items()}
    state["visual.proj"] = state["visual.proj"][:5].contiguous()
    state["odd"] = state.pop("logit_scale")
    file = tmp_path / f"x{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save({"state_dict": state}, file)
    with pytest.raises(KeysMismatchError) as caught:
        load_backbone(Backbone("x", "ViT-S-32-alt", str(file)))
    assert f"{file} must hold weights of ViT-S-32-alt. " in str(caught.value)
    for part in ("Missing: logit_scale.", "Unexpected: odd.", "Of another shape: visual.proj (5, "):
        assert part in str(caught.value)
