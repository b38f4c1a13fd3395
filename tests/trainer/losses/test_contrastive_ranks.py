"""Two processes that share a batch against one process with all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.losses.contrastive_ranks import KINDS

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).parent / "contrastive_ranks.py"
LOSSES = ("clip", "smooth", "hard", "siglip", "matryoshka", "codes", "tanh", "distilled")
PAIR_LOSSES = LOSSES[:7]
CASES = [f"{name}{kind}{cached}" for name in LOSSES for kind in KINDS for cached in ("", " cached")]

Found = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """Results of each process, by '<rank>-of-<world>'."""
    folder = tmp_path_factory.mktemp("ranks")
    names = [(0, 1), (0, 2), (1, 2)]
    environment: dict[str, Any] = {"cwd": SCRIPT.parents[2], "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.trainer.losses.contrastive_ranks", folder, *map(str, name)], **environment
        )
        for name in names
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=250)
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
            process.wait()
    return {
        f"{rank}-of-{world}": torch.load(folder / f"{rank}-of-{world}.pt", weights_only=True) for rank, world in names
    }


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_two_processes_are_those_of_one(found: dict[str, Found], case: str) -> None:
    whole = found["0-of-1"][case.removesuffix(" cached")]
    mean_loss = (found["0-of-2"][case]["loss"] + found["1-of-2"][case]["loss"]) / 2
    assert mean_loss.item() == pytest.approx(whole["loss"].item(), rel=1e-6)
    names = [name for name in whole if name != "loss"]
    for shared in (found["0-of-2"][case], found["1-of-2"][case], found["0-of-1"][case]):
        assert list(shared) == list(whole)
        for name in names:
            error = (shared[name] - whole[name]).norm() / whole[name].norm()
            assert error < 1e-5, f"{name} is off by {error:.1e}"


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_the_weights_do_something_across_processes(found: dict[str, Found], name: str) -> None:
    plain, weighted = found["0-of-2"][f"{name} masked"], found["0-of-2"][f"{name} masked weighted"]
    assert abs(plain["loss"] - weighted["loss"]) > 1e-3


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_near_duplicates_do_something_across_processes(found: dict[str, Found], name: str) -> None:
    plain, soft = (found["0-of-2"][f"{name} negatives weighted{kind}"] for kind in ("", " soft"))
    assert abs(plain["loss"] - soft["loss"]) > 1e-3


@pytest.mark.parametrize("name", LOSSES)
def test_the_masks_do_something_across_processes(found: dict[str, Found], name: str) -> None:
    plain, masked, negatives = (found["0-of-2"][f"{name}{kind}"]["loss"] for kind in KINDS[:3])
    assert abs(plain - masked) > 1e-3
    assert name not in PAIR_LOSSES or negatives - masked > 1e-3, "further columns make it harder"
