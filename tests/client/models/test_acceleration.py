"""Repeated blocks are compiled, a network without any as a whole; oneDNN keeps fp32 exact."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import open_clip
import pytest
import timm
import torch
from torch import nn

from finetuner.models.acceleration import compile_network, prefer_onednn, without_initial_weights
from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone

LARGE_NETWORK = torch.nn.Linear(4_500, 4_500, device="meta")  # has a size, and takes no memory


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return the modules on which `compile` is called."""
    found: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: found.append(module))
    return found


@pytest.mark.seconds
def test_the_layers_of_both_towers_are_compiled(compiled: list[nn.Module]) -> None:
    network = open_clip.create_model("ViT-B-32", device="meta")
    compile_network(network)
    assert compiled == [*network.visual.transformer.resblocks, *network.transformer.resblocks]


def test_a_network_whose_blocks_differ_is_compiled_as_a_whole(compiled: list[nn.Module]) -> None:
    network = timm.create_model("resnet18")
    compile_network(network)
    assert compiled == [network]


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    before = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before  # type: ignore[attr-defined]


def test_products_stay_exact() -> None:
    torch.manual_seed(0)
    left, right = torch.randn(300, 768), torch.randn(768, 500)
    prefer_onednn(LARGE_NETWORK)
    exact = left.double() @ right.double()
    assert (left @ right - exact).abs().max() < 1e-3  # of numbers around 28; rounded to bf16 it is above 0.1
    assert (left.bfloat16().double() @ right.bfloat16().double() - exact).abs().max() > 0.1


@pytest.mark.parametrize(("has_amx", "setting"), [(False, "bf16"), (True, "none")])
def test_a_cpu_with_amx_keeps_mkl(has_amx: bool, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    torch.backends.mkldnn.matmul.fp32_precision = "none"  # type: ignore[attr-defined]
    prefer_onednn(LARGE_NETWORK)
    assert torch.backends.mkldnn.matmul.fp32_precision == setting  # type: ignore[attr-defined]


def test_a_small_network_changes_nothing() -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"  # type: ignore[attr-defined]
    prefer_onednn(torch.nn.Linear(8, 8))
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"  # type: ignore[attr-defined]


def test_a_build_without_initial_weights_draws_no_numbers_in_its_thread_alone() -> None:
    def built() -> nn.Module:
        return open_clip.CLIP(
            8, {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1}, {"width": 64, "layers": 1}
        )

    before = torch.get_rng_state()
    with without_initial_weights(), torch.random.fork_rng(devices=[]):
        nn.Linear(64, 64)
        assert torch.equal(torch.get_rng_state(), before)
        with ThreadPoolExecutor(1) as other:
            weights = [weight for weight in other.submit(built).result().parameters() if weight.ndim == 2]
        assert not torch.equal(torch.get_rng_state(), before)
    assert all(weight.isfinite().all() and 0 < weight.std() < 10 for weight in weights)
    state = torch.get_rng_state()
    nn.Linear(64, 64)
    assert not torch.equal(torch.get_rng_state(), state)


def test_a_model_loaded_without_initial_weights_is_the_same_each_time() -> None:
    first, second = (load_backbone(find_backbone("clip-mini")).network.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert all(value.isfinite().all() for name, value in first.items() if name != "attn_mask")
