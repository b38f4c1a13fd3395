"""LoRA: adapted layers, trained parameters, merged weights with the same outputs, and kills."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

from finetuner.config.callbacks import BestModelCheckpoint
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.freezing import Freeze
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.hooks.lora import MergeAdapters, TrainAdapters, adapted
from finetuner.executors.trainer.hooks.weights import KeepBestModel, KeepCheckpoints, copied_weights
from finetuner.executors.trainer.loop.optimization import make_optimizer
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip, text_features
from finetuner.models.clip_files import load_backbone
from finetuner.models.image_network import Average, ImageNetwork
from finetuner.models.model_kinds import load_model, save_model
from tests.trainer.short_training import Announce, Recorder, equal, trained

TINY_TIMM = {"embed_dim": 16, "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "image_size": 224,
             "timm_model_pretrained": False}, "text_cfg": {"width": 16, "heads": 2, "layers": 1, "vocab_size": 99,
             "context_length": 8}}  # fmt: skip


class Holder:
    """The parts of a model that the hook needs."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network


def adapters_in(network: nn.Module, rank: int = 2, alpha: float | None = None, seed: int = 0) -> TrainAdapters:
    adapters = TrainAdapters(rank, alpha, seed)
    adapters.before_training(Progress(Holder(network)))  # type: ignore[arg-type]
    return adapters


def shake(network: nn.Module) -> None:
    torch.manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.05)


def outputs(model: Clip) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model.network.encode_image(images), text_features(model.network, model.tokenizer(["a hat", "b", "c d"]))


def test_at_most_a_twentieth_is_trained_and_nothing_changes_at_first(
    clip_mini: Clip, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "finetuner")
    before = outputs(clip_mini)
    adapters_in(clip_mini.network, rank=8)
    assert type(clip_mini.network) is open_clip.CLIP
    sizes = {name: value.numel() for name, value in clip_mini.network.named_parameters()}
    trained = {name for name, value in clip_mini.network.named_parameters() if value.requires_grad}
    assert all("lora_" in name for name in trained - {"logit_scale"})
    assert "logit_scale" in trained
    share = sum(sizes[name] for name in trained) / sum(sizes.values())
    assert 0.02 < share <= 0.05
    assert f"rank 8 trains {100 * share:.2f}%" in caplog.text
    torch.testing.assert_close(outputs(clip_mini), before, rtol=0, atol=1e-5)


def test_merged_weights_have_the_old_names_and_the_same_outputs(clip_mini: Clip, tmp_path: Path) -> None:
    names = set(clip_mini.network.state_dict())
    adapters = adapters_in(clip_mini.network)
    shake(clip_mini.network)
    unmerged, state = outputs(clip_mini), copied_weights(clip_mini.network)
    copied = adapters.merged(clip_mini)
    assert isinstance(copied, Clip)
    assert equal(copied_weights(clip_mini.network), state)  # training continues unchanged
    adapters.merge()
    assert set(clip_mini.network.state_dict()) == set(copied.network.state_dict()) == names
    assert type(clip_mini.network) is open_clip.CLIP
    save_model(clip_mini, tmp_path / "saved")
    loaded = load_model(tmp_path / "saved", "saved")
    assert isinstance(loaded, Clip)
    for model in (clip_mini, copied, loaded):
        for merged, expected in zip(outputs(model), unmerged, strict=True):
            torch.testing.assert_close(merged, expected, atol=1e-5, rtol=0)


def test_merging_equals_the_formula(clip_mini: Clip) -> None:
    before = copied_weights(clip_mini.network)
    adapters = adapters_in(clip_mini.network, rank=2, alpha=6)
    shake(clip_mini.network)
    state = copied_weights(clip_mini.network)
    adapters.merge()
    after = copied_weights(clip_mini.network)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    embedding = "token_embedding"
    b, a = state[f"{embedding}.lora_embedding_B.default"], state[f"{embedding}.lora_embedding_A.default"]
    torch.testing.assert_close(after[f"{embedding}.weight"], before[f"{embedding}.weight"] + 6 / 2 * (b @ a).T)
    changed.remove(f"{embedding}.weight")
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in changed} == {"attn", "c_fc", "c_proj"}
    for name in changed:
        layer = name.rpartition(".")[0]
        b, a = state[f"{layer}.lora_B.default.weight"], state[f"{layer}.lora_A.default.weight"]
        torch.testing.assert_close(after[name], before[name] + 6 / 2 * b @ a)


def test_the_gradient_is_that_of_the_merged_weight(clip_mini: Clip) -> None:
    """peft's layer for fused attention would fail: it adds the output's adapter twice."""
    adapters = adapters_in(clip_mini.network, rank=2)
    shake(clip_mini.network)
    merged = adapters.merged(clip_mini).network.requires_grad_(requires_grad=True)
    images = torch.rand(2, 3, 80, 80)
    for network in (clip_mini.network, merged):
        network.train()
        network.encode_image(images).square().sum().backward()
    grads = {name: value.grad for name, value in clip_mini.network.named_parameters() if value.grad is not None}
    for name in (
        "visual.transformer.resblocks.1.attn.in_proj_weight",
        "visual.transformer.resblocks.1.mlp.c_fc.weight",
    ):
        layer = name.rpartition(".")[0]
        a = clip_mini.network.get_parameter(f"{layer}.lora_A.default.weight")
        expected = 2 * merged.get_parameter(name).grad @ a.T  # alpha / rank * dL/dW @ A^T
        torch.testing.assert_close(grads[f"{layer}.lora_B.default.weight"], expected, rtol=1e-4, atol=1e-4)


def test_adapters_come_from_the_seed_alone() -> None:
    def drawn(seed: int) -> torch.Tensor:
        network = load_backbone(find_backbone("clip-mini")).network
        state = torch.get_rng_state()
        adapters_in(network, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return torch.cat([value.flatten() for name, value in network.named_parameters() if "lora_A" in name])

    torch.manual_seed(1)
    first = drawn(3)
    torch.manual_seed(2)
    assert torch.equal(drawn(3), first)
    assert not torch.equal(drawn(4), first)


@pytest.mark.parametrize(("given", "ratio"), [({}, 16.0), ({"lora_plus_ratio": 3}, 3.0)])
def test_matrices_that_start_at_zero_learn_faster(clip_mini: Clip, given: dict[str, float], ratio: float) -> None:
    adapters_in(clip_mini.network)
    config = RunConfig(model="clip-mini", train_data="data", training_options={"lora_rank": 2} | given)
    groups = make_optimizer(clip_mini.network, config, 0.01).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in clip_mini.network.named_parameters():
        if parameter.requires_grad:
            starts_at_zero = not parameter.any() and "embedding" not in name
            assert rates[id(parameter)] == pytest.approx(0.01 * (ratio if starts_at_zero else 1)), name
    assert sorted(set(rates.values())) == pytest.approx([0.01, 0.01 * ratio])


class ReadsWeight(nn.Module):
    """Calls one of its two layers and reads only the weight of the other, as timm's EVA does."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.read = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.called(rows), self.read.weight)


def test_idle_adapters_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    network = ReadsWeight()
    adapters = adapters_in(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    adapters.after_step(Progress(Holder(network)))  # type: ignore[arg-type]  # a step that fp16 left out
    for _ in range(2):
        network(torch.rand(2, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        adapters.after_step(Progress(Holder(network)))  # type: ignore[arg-type]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["LoRA: 1 adapters have no effect here: read.lora_B.default.weight"]


def test_frozen_parts_get_no_adapters(clip_mini: Clip) -> None:
    Freeze(["vision"]).before_training(Progress(clip_mini))
    adapters_in(clip_mini.network)
    named = [name for name, _ in clip_mini.network.named_parameters() if "lora_" in name]
    assert named
    assert not any(name.startswith("visual.") for name in named)


@pytest.mark.parametrize("vision", ["vit_tiny_patch16_224", "resnet10t", "RN"])
def test_other_towers_are_adapted_and_merge(vision: str) -> None:
    config: dict[str, dict[str, object]] = {**TINY_TIMM}  # type: ignore[dict-item]
    config["vision_cfg"] = TINY_TIMM["vision_cfg"] | {"timm_model_name": vision}  # type: ignore[operator]
    if vision == "RN":
        config["vision_cfg"] = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}
    network = open_clip.model.CustomTextCLIP(**config).eval()  # type: ignore[arg-type]
    names = set(network.state_dict())
    adapters = adapters_in(network)
    shake(network)
    images, tokens = torch.rand(2, 3, *[64 if vision == "RN" else 224] * 2), torch.randint(1, 99, (2, 8))
    (network.encode_image(images).square().sum() + network.encode_text(tokens).square().sum()).backward()
    without = [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]
    assert without == ["logit_scale"]
    with torch.inference_mode():
        expected = network.encode_image(images), network.encode_text(tokens)
        adapters.merge()
        torch.testing.assert_close((network.encode_image(images), network.encode_text(tokens)), expected)
    assert set(network.state_dict()) == names


@pytest.mark.parametrize("architecture", ["resnet10t", "efficientnet_b0"])
def test_an_image_backbone_is_adapted_and_its_head_trained(architecture: str) -> None:
    network = ImageNetwork(architecture, Average(), 8)
    names = set(network.state_dict())
    adapters = adapters_in(network)
    shake(network)
    trains = [name for name, value in network.named_parameters() if value.requires_grad]
    assert all("lora_" in name or name.startswith("head.") for name in trains)
    assert {name.split(".")[0] for name in trains} == {"features", "head"}
    images = torch.rand(4, 3, 64, 64)
    statistics = {name: value.clone() for name, value in network.features.named_buffers()}
    network.train()(images).sum().backward()
    assert all(torch.equal(value, statistics[name]) for name, value in network.features.named_buffers())
    assert all(value.grad is not None for value in network.parameters() if value.requires_grad)
    network.eval()
    with torch.inference_mode():
        expected = network(images)
        adapters.merge()
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    assert set(network.state_dict()) == names


def test_a_frozen_backbone_has_nothing_to_adapt() -> None:
    network = ImageNetwork("resnet10t", Average(), 8)
    network.freeze()
    assert adapted(network) == ([], [])
    with pytest.raises(InvalidInput, match="lora_rank needs linear layers"):
        adapters_in(network)


def test_checkpoints_and_the_chosen_model_are_plain(
    blobs_of_colour: TrainingData, clip_mini: Clip, tmp_path: Path
) -> None:
    adapters, recorder = TrainAdapters(4, None, 0), Recorder()
    best = KeepBestModel(BestModelCheckpoint("x"))
    kept = KeepCheckpoints(tmp_path, 3, adapters)
    hooks = (recorder, Announce("x", [1, 2, 0]), best, kept, MergeAdapters(adapters), adapters)
    progress, _ = trained(blobs_of_colour, *hooks, epochs=3)
    chosen = copied_weights(progress.model.network)
    files = [copied_weights(load_model(tmp_path / f"epoch-000{epoch}", "kept").network) for epoch in (1, 2, 3)]
    for name, value in chosen.items():
        torch.testing.assert_close(value, files[1][name], rtol=0, atol=1e-6)
    start = copied_weights(clip_mini.network)
    assert {name.rpartition(".")[2] for name in start if not torch.equal(start[name], files[2][name])} <= {
        "weight", "in_proj_weight", "logit_scale"
    }  # fmt: skip
    assert not equal(files[0], files[2])
    frozen = "visual.transformer.resblocks.0.attn.base_layer.in_proj_weight"
    assert all(torch.equal(step[frozen], start[frozen.replace("base_layer.", "")]) for step in recorder.steps)


def test_a_killed_run_ends_in_the_same_weights(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    def run(epochs: int, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
        adapters = TrainAdapters(4, None, 0)
        progress, _ = trained(blobs_of_colour, MergeAdapters(adapters), adapters, epochs=epochs, checkpoint=checkpoint)
        return dict(copied_weights(progress.model.network))

    whole = run(2)
    run(1, tmp_path / "checkpoint.pt")
    assert equal(run(2, tmp_path / "checkpoint.pt"), whole)
