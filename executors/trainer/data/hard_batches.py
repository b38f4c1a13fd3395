"""Orders an epoch so that pairs that the model confuses share a batch.

The simple variant of B3 (Thirukovalluru et al., arXiv:2505.11293): no graph is cut into communities; pairs in random
order take their nearest free neighbours.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast

from .near_duplicates import NearGroups
from .training_data import Plan, TrainingData

if TYPE_CHECKING:
    from finetuner.models.clip import Clip

MOST_COMPARED = 50_000
"""Pairs of larger data are cut into random parts of at most this many, and neighbours are of one part."""
AT_ONCE = 64  # pairs whose similarities to all others are in memory
EMBEDDED_AT_ONCE = 256  # images in memory

log = logging.getLogger("finetuner")


def hard_groups(image: torch.Tensor, text: torch.Tensor, ids: np.ndarray, size: int) -> list[np.ndarray]:
    """Return groups of similar pairs. Each pair is in one group.

    The first free pair takes its nearest free ones, one after the other, until its group is full; and so on. Similarity
    is the mean cosine of one pair's image and the other's text, and of its text and the other's image. O(pairs**2)
    time, O(pairs) memory.

    Args:
        image: (pairs, dim) float32, L2-normalised.
        text: (pairs, dim) float32, L2-normalised.
        ids: (kinds, pairs) int64. Two pairs with one equal id are false negatives and never share a group; -1 equals
            nothing.
        size: most pairs in a group, at least 2.

    Returns:
        (group,) int64 positions each, the nearest one after the first. A group is short where all other free pairs are
        false negatives.
    """
    count = len(image)
    free = np.ones(count, dtype=bool)
    groups = []
    for first, similar in _similarities(image, text, free):
        if not free[first]:
            continue
        free[first] = False
        candidates = np.where(free, similar, -np.inf)
        group = [first]
        while len(group) < size:
            for kind in ids:
                if kind[group[-1]] >= 0:
                    candidates[kind == kind[group[-1]]] = -np.inf
            nearest = int(candidates.argmax())
            if candidates[nearest] == -np.inf:
                break
            group.append(nearest)
            free[nearest], candidates[nearest] = False, -np.inf
        groups.append(np.array(group, dtype=np.int64))
    return groups


def _similarities(image: torch.Tensor, text: torch.Tensor, free: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield pairs in order with their similarities to all, (pairs,) float32; most that are not free are left out."""
    start = 0
    while start < len(free):
        rows = start + np.flatnonzero(free[start:])[:AT_ONCE]
        if not len(rows):
            return
        at = torch.from_numpy(rows).to(image.device)
        block = ((image[at] @ text.T + text[at] @ image.T) / 2).cpu().numpy()
        yield from zip(rows.tolist(), block, strict=True)
        start = int(rows[-1]) + 1


def mean_similarity(image: np.ndarray, text: np.ndarray) -> float:
    """Return the mean cosine of the images, (pairs, dim), and the texts of other pairs; at least two pairs."""
    count = len(image)
    total = image.sum(0, dtype=np.float64) @ text.sum(0, dtype=np.float64)
    return float((total - np.einsum("id,id->", image, text, dtype=np.float64)) / (count * (count - 1)))


class HardBatches:
    """The order of each epoch from a given one on, found with the weights at its start.

    Args:
        model: embeds the pairs.
        data: of the pairs.
        size: of a group.
        first: epoch, from 1; earlier ones stay as they were drawn.
        seed: of the run.
        near: near duplicates never share a group. None: only equal captions and labels do not.
    """

    def __init__(
        self, model: Clip, data: TrainingData, size: int, first: int, seed: int, near: NearGroups | None = None
    ) -> None:
        self._near = near
        self._model = model
        self._data = data
        self._size = size
        self._first = first
        self._seed = seed
        self._epoch, self._order = 0, np.empty(0, dtype=np.int64)

    def arrange(self, plans: Sequence[Plan], epoch: int) -> Sequence[Plan]:
        """Return the same pairs in batches of the same sizes, each of several groups. The network is in eval mode then.

        Every process must call it at the same time; all get the order of the first one.

        Args:
            plans: the epoch as it was drawn.
            epoch: from 1.
        """
        if epoch < self._first or not plans:
            return plans
        whole = Plan(*(np.concatenate([getattr(plan, name) for plan in plans]) for name in ("rows", "choices")))
        if self._epoch != epoch:
            self._epoch, self._order = epoch, self._find(whole, epoch)
        ends = np.cumsum([len(plan.rows) for plan in plans])[:-1]
        return [Plan(whole.rows[order], whole.choices[order]) for order in np.split(self._order, ends)]

    def state(self) -> dict[str, Any]:
        """Return the last order, for a checkpoint: later weights would give another one."""
        return {"epoch": self._epoch, "order": torch.from_numpy(self._order)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._epoch, self._order = int(state["epoch"]), state["order"].numpy()

    def _find(self, whole: Plan, epoch: int) -> np.ndarray:
        started = time.perf_counter()
        generator = np.random.default_rng([self._seed, 2, epoch])
        groups: list[np.ndarray] = []
        near, far = [], []
        count = len(whole.rows)
        for part in np.array_split(np.arange(count), -(-count // MOST_COMPARED)):
            plan = Plan(whole.rows[part], whole.choices[part])
            image, text = embedded(self._model, self._data, plan)
            ids = np.stack([self._data.caption_ids(plan), self._data.label_ids(plan)])
            if self._near is not None:
                ids = np.stack([self._near.caption_ids(plan), self._data.label_ids(plan), self._near.image_ids(plan)])
            images, texts = (torch.from_numpy(side).to(self._model.device) for side in (image, text))
            found = hard_groups(images, texts, ids, self._size)
            groups += [part[group] for group in found]
            near += [mean_similarity(image[group], text[group]) for group in found if len(group) > 1]
            far += [mean_similarity(image, text)] if len(part) > 1 else []
        order = np.concatenate([groups[position] for position in generator.permutation(len(groups))])
        log.info(
            "Hard batches of epoch %d: groups of %d pairs have mean similarity %.3f, random pairs %.3f; %.1f s",
            epoch,
            self._size,
            np.mean(near) if near else np.nan,
            np.mean(far) if far else np.nan,
            time.perf_counter() - started,
        )
        of_first: torch.Tensor = broadcast(torch.from_numpy(order).to(self._model.device))
        return of_first.cpu().numpy()


def embedded(model: Clip, data: TrainingData, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and the captions of pairs, (pairs, dim) float32 each, L2-normalised. No image is changed.

    Args:
        model: put into eval mode.
        data: of the pairs.
        plan: the pairs.
    """
    model.network.eval()
    images, texts = [], []
    for start in range(0, len(plan.rows), EMBEDDED_AT_ONCE):
        taken = slice(start, start + EMBEDDED_AT_ONCE)
        pixels, captions = data.fetch(Plan(plan.rows[taken], plan.choices[taken]))
        images.append(model.encode_pixels(list(torch.from_numpy(np.ascontiguousarray(pixels)))))
        texts.append(model.encode_texts(captions))
    return np.concatenate(images), np.concatenate(texts)
