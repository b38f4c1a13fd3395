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

from finetuner.executors.trainer.loop.grad_cache import cached_backward
from finetuner.executors.trainer.losses.codes import CodesLoss
from finetuner.executors.trainer.losses.contrastive import CLIPLoss, Negatives, PairBatch, SigLIPLoss
from finetuner.executors.trainer.losses.distillation import distillation_loss
from finetuner.executors.trainer.losses.matryoshka import MatryoshkaLoss

PAIRS = 16
# Duplicates of rows 0 to 3 are in the second half, the other process's. 8 and 9 are duplicates within it.
IMAGE_IDS = [0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 10, 11, 12, 13, 14, 2]
LABEL_IDS = [-1, -1, 5, 6, 5, -1, 7, -1, -1, 7, 8, 9, 6, -1, -1, 8]
TEXT_IDS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1, 11, 12, 3, 14, 15]
# The halves have unequal sums: a process that divided by its own would give another gradient.
WEIGHTS = [0.1, 0.3, 0.2, 0.1, 0.5, 0.4, 0.1, 0.2, 1.1, 2.0, 0.7, 3.0, 1.5, 0.9, 2.5, 1.0]
# Two negatives of each pair, -1 for fewer. Of other rows they are the caption (11), another caption (30), or the label.
NEGATIVE_IDS = [[20 + row, 11 if row == 3 else 30 if row == 9 else -1] for row in range(PAIRS)]
NEGATIVE_LABELS = [[5 if row == 14 else -1, -1] for row in range(PAIRS)]
KNOWN = [[number, 30 if row == 1 else -1] for row, number in enumerate(TEXT_IDS)]
# Near duplicates of images and of captions, within a half and across.
GROUPS = [[0, 1, 0, 3, 4, 5, 5, 7, 8, 9, 10, 11, 4, 13, 4, 15], [0, 1, 2, 3, 4, 5, 6, 6, 8, 2, 10, 11, 12, 13, 14, 0]]
KINDS = (
    "",
    " masked",
    " negatives",
    " weighted",
    " masked weighted",
    " negatives weighted",
    " negatives weighted soft",
)


class Distilled(torch.nn.Module):
    """The term of self-distillation, with made embeddings as the teacher's."""

    def forward(self, pairs: PairBatch, scale: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(2)
        rows = torch.nn.functional.normalize(torch.randn(2, PAIRS, 6, generator=generator), dim=-1)[:, pairs.own()]
        return distillation_loss(pairs, scale, PairBatch(*rows), torch.tensor(5.0))


LOSSES = {
    "clip": lambda: CLIPLoss(), "smooth": lambda: CLIPLoss(0.1), "siglip": lambda: SigLIPLoss(-2.0),
    "hard": lambda: CLIPLoss(hardness=4.0),
    "matryoshka": lambda: MatryoshkaLoss(CLIPLoss(0.1), (4, 2), (1.0, 0.5, 2.0)),
    "codes": lambda: CodesLoss(CLIPLoss(0.1), 1.0, 0.5), "tanh": lambda: CodesLoss(CLIPLoss(), 2.0, by="tanh"),
    "distilled": Distilled,
}  # fmt: skip


class Towers(torch.nn.Module):
    """Two linear towers, the logit scale, and the loss's own weights."""

    def __init__(self, loss_of: torch.nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = torch.nn.Linear(12, 8), torch.nn.Linear(10, 8)
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.0))
        self.loss_of = loss_of

    def forward(self, chunk: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        sides = self.image(chunk[0]), *map(self.text, chunk[1:])
        return tuple(torch.nn.functional.normalize(side, dim=-1) for side in sides)


def gradients(name: str, kind: str, cached: bool, rank: int, world: int) -> dict[str, Any]:
    """Return the loss and each parameter's gradient for this process's share of the batch."""
    towers = Towers(LOSSES[name]())
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.randn(PAIRS, 12, generator=generator), torch.randn(PAIRS, 10, generator=generator)
    mine = slice(rank * PAIRS // world, (rank + 1) * PAIRS // world)
    given = {"image_ids": IMAGE_IDS, "text_ids": TEXT_IDS, "label_ids": LABEL_IDS}
    ids = {key: torch.tensor(values)[mine] for key, values in given.items()} if kind not in ("", " weighted") else {}
    weights = torch.tensor(WEIGHTS)[mine] if " weighted" in kind else None
    near = [torch.tensor(each)[mine] for each in GROUPS] if kind.endswith(" soft") else None
    network: Any = DistributedDataParallel(towers) if world > 1 else towers

    inputs = [images[mine], texts[mine]]
    if kind.startswith(" negatives"):
        inputs.append(torch.randn(PAIRS, 2, 10, generator=generator)[mine])
    others = [torch.tensor(each)[mine] for each in (NEGATIVE_IDS, NEGATIVE_LABELS, KNOWN)]

    def loss_of(image: torch.Tensor, text: torch.Tensor, *further: torch.Tensor) -> torch.Tensor:
        negatives = Negatives(*further, *others) if further else None
        groups = None if near is None else (near[0], near[1])
        pairs = PairBatch(image, text, **ids, negatives=negatives, weights=weights, groups=groups, soft=0.4)
        loss: torch.Tensor = towers.loss_of(pairs, towers.logit_scale.exp())
        return loss

    if cached:
        chunks = list(zip(*(side.split(3) for side in inputs), strict=True))
        loss_weights = [towers.logit_scale, *towers.loss_of.parameters()]
        no_sync = network.no_sync if world > 1 else nullcontext
        loss = cached_backward(network, chunks, loss_of, loss_parameters=loss_weights, no_sync=no_sync)
    else:
        loss = loss_of(*network(inputs))
        loss.backward()
    return {"loss": loss.detach(), **{key: value.grad for key, value in towers.named_parameters()}}


def main(folder: Path, rank: int, world: int) -> None:
    """Write `<folder>/<rank>-of-<world>.pt`: for each case the loss and the gradients."""
    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world)
    try:
        found = {
            f"{name}{kind}{' cached' * cached}": gradients(name, kind, cached, rank, world)
            for name in LOSSES
            for kind in KINDS
            for cached in (False, True)
        }
        torch.save(found, folder / f"{rank}-of-{world}.pt")
    finally:
        if world > 1:
            distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
