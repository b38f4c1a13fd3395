"""One of several processes that share a batch: `contrastive_ranks.py FOLDER RANK WORLD` writes gradients there.

A script of its own, so that it imports neither pytest nor the tests. With WORLD 1 it is the reference.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from finetuner.executors.trainer.loop.contrastive import CLIPLoss, PairBatch, SigLIPLoss
from finetuner.executors.trainer.loop.grad_cache import cached_backward
from finetuner.executors.trainer.loop.matryoshka import MatryoshkaLoss

PAIRS = 16
# Duplicates of rows 0 to 3 are in the second half, the other process's. 8 and 9 are duplicates within it.
IMAGE_IDS = [0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 10, 11, 12, 13, 14, 2]
TEXT_IDS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1, 11, 12, 3, 14, 15]
LOSSES = {
    "clip": lambda: CLIPLoss(),
    "smooth": lambda: CLIPLoss(0.1),
    "siglip": lambda: SigLIPLoss(-2.0),
    "matryoshka": lambda: MatryoshkaLoss(CLIPLoss(0.1), (4, 2), (1.0, 0.5, 2.0)),
}


class Towers(torch.nn.Module):
    """Two linear towers, the logit scale, and the loss's own weights."""

    def __init__(self, loss_of: torch.nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = torch.nn.Linear(12, 8), torch.nn.Linear(10, 8)
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.0))
        self.loss_of = loss_of

    def forward(self, chunk: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        image, text = self.image(chunk[0]), self.text(chunk[1])
        return torch.nn.functional.normalize(image, dim=-1), torch.nn.functional.normalize(text, dim=-1)


def gradients(name: str, masked: bool, cached: bool, rank: int, world: int) -> dict[str, Any]:
    """Return the loss and each parameter's gradient for this process's share of the batch."""
    towers = Towers(LOSSES[name]())
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.randn(PAIRS, 12, generator=generator), torch.randn(PAIRS, 10, generator=generator)
    mine = slice(rank * PAIRS // world, (rank + 1) * PAIRS // world)
    ids = {"image_ids": torch.tensor(IMAGE_IDS)[mine], "text_ids": torch.tensor(TEXT_IDS)[mine]} if masked else {}
    network: Any = DistributedDataParallel(towers) if world > 1 else towers

    def loss_of(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = towers.loss_of(PairBatch(image, text, **ids), towers.logit_scale.exp())
        return loss

    if cached:
        chunks = list(zip(images[mine].split(3), texts[mine].split(3), strict=True))
        loss_weights = [towers.logit_scale, *towers.loss_of.parameters()]
        no_sync = network.no_sync if world > 1 else nullcontext
        loss = cached_backward(network, chunks, loss_of, loss_parameters=loss_weights, no_sync=no_sync)
    else:
        loss = loss_of(*network((images[mine], texts[mine])))
        loss.backward()
    return {"loss": loss.detach(), **{key: value.grad for key, value in towers.named_parameters()}}


def main(folder: Path, rank: int, world: int) -> None:
    """Write `<folder>/<rank>-of-<world>.pt`: for each case the loss and the gradients."""
    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world)
    try:
        found = {
            f"{name}{' masked' * masked}{' cached' * cached}": gradients(name, masked, cached, rank, world)
            for name in LOSSES
            for masked in (False, True)
            for cached in (False, True)
        }
        torch.save(found, folder / f"{rank}-of-{world}.pt")
    finally:
        if world > 1:
            distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
