"""The task of a CLIP: pairs of images and captions, and a contrastive loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from finetuner.config.losses import SCORE_WEIGHTS
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.models.clip import Clip, text_features, without_padding

from ..data.hard_batches import HardBatches
from ..data.mining import Miner
from ..data.near_duplicates import NearGroups
from ..data.negatives import BatchNegatives, NegativeTexts
from ..data.replay import Replay, ReplayPlan
from ..data.score_weights import weights_for
from ..data.training_data import Plan, TrainingData
from ..hooks.freezing import require_parts
from ..losses.codes import with_codes
from ..losses.contrastive import CLIPLoss, Negatives, PairBatch, PairLoss, SigLIPLoss
from ..losses.distillation import Teacher, distillation_loss
from ..losses.matryoshka import with_short_vectors
from .batch_parts import both_parts, by_caption, own_share, second_half
from .optimization import make_optimizer
from .task import Batch, Outputs, Task, split_generator

MAX_LOGIT_SCALE = math.log(100)
COMPILED_LENGTHS = 8  # a compiled network gets texts of lengths in multiples of this, so that it compiles for few

NEGATIVE_KEYS = 3  # ids, labels, and known captions of the negatives
SIGLIP, BIAS = "SigLIPLoss", "logit_bias"
_LOSSES: dict[str, Callable[..., PairLoss]] = {"CLIPLoss": CLIPLoss, "SigLIPLoss": SigLIPLoss}


class PairNetwork(nn.Module):
    """A CLIP as one call, as wrappers of a network need it, together with the weights of its loss.

    Args:
        clip: open_clip's network.
        loss: of the embeddings; its weights are trained too.
    """

    def __init__(self, clip: nn.Module, loss: PairLoss) -> None:
        super().__init__()
        self.clip = clip
        self.loss = loss

    def forward(self, images: torch.Tensor, tokens: torch.Tensor, negatives: torch.Tensor | None = None) -> Outputs:
        """Return the embeddings of each argument, L2-normalised.

        Args:
            images: (batch, 3, size, size) float32.
            tokens: (batch, context) int64, or (batch, captions, context) for several captions of each image.
            negatives: (batch, most, context) int64, of further captions.
        """
        image = nn.functional.normalize(self.clip.encode_image(images).float(), dim=-1)  # type: ignore[operator]
        return image, *(self._texts(each) for each in (tokens, negatives) if each is not None)

    def _texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (batch, dim) for (batch, context), and (batch, captions, dim) for (batch, captions, context)."""
        found = text_features(self.clip, tokens.flatten(0, -2)).float()
        return nn.functional.normalize(found, dim=-1).view(*tokens.shape[:-1], -1)


class ClipTask(Task):
    """A contrastive loss over images and captions.

    Args:
        model: tuned in place, with the weights from before training: a resumed run loads its own later.
        data: with at least two images.
        config: loss, val_split, optimizer, seed, training options.
        batch_size: most pairs in a step.
        validation: data of the validation loss; None holds out a share of `data`, `config.val_split`.
        replay: pairs beside those of each batch, scored among themselves: the second half of a batch. None for none.

    Raises:
        InvalidInput: val_split leaves fewer than two images on a side, or all pairs have one label.
    """

    model: Clip
    unit = "pairs"

    def __init__(
        self,
        model: Clip,
        data: TrainingData,
        config: RunConfig,
        batch_size: int,
        validation: TrainingData | None = None,
        replay: TrainingData | None = None,
    ) -> None:
        if data.of_one_label():
            raise InvalidInput(
                "train_data must have pairs of two labels: pairs of the same label are no negatives of one another. "
                "Got one label for all. Correct finetuner_label, or leave it out."
            )
        self.model = model
        of_loss = {name: value for name, value in config.loss_options.items() if name != SCORE_WEIGHTS}
        bias = getattr(model.network, BIAS, None)
        if config.loss == SIGLIP and bias is not None and BIAS not in of_loss:
            of_loss[BIAS] = bias  # of a model that was trained with this loss
        loss_of = _LOSSES[config.loss]
        self._loss = with_short_vectors(lambda **own: with_codes(loss_of, own), of_loss).to(model.device)
        self.network = PairNetwork(model.network, self._loss)
        weight = config.options.distillation
        self._teacher = Teacher(self.network, model.network.logit_scale) if weight else None
        self._data = data
        self._weights = weights_for(data.scores, config.loss_options)
        self._config = config
        self._rows, self._held_out = _split(len(data), config)
        self._validation = data
        if validation is not None:
            self._validation, self._held_out = validation, np.arange(len(validation))
        self.batch_size = min(batch_size, len(self._rows))
        options = config.options
        self._captions = min(options.captions_per_image, max(map(len, data.captions)))
        self._miner: Miner | None = None
        if options.mining is not None:
            self._miner = Miner(model, data, self._rows, options.mining, config.seed)
        self._near: NearGroups | None = None
        if options.duplicates is not None:
            self._near = NearGroups(model, data, self._rows, options.duplicates)
        self._negatives = NegativeTexts(data, self._miner, self._near)
        self._replay = None if replay is None else Replay(replay, config.seed)
        self._hard_batches: HardBatches | None = None
        if options.hard_batches is not None:
            self._hard_batches = HardBatches(
                model, data, options.hard_batches, options.hard_batches_from, config.seed, self._near
            )
        self.steps_per_epoch = len(range(0, len(self._rows) - 1, self.batch_size))  # one alone has no negatives

    def summary(self) -> str:
        """Return the number of images and labels, the loss, and the range of the scores."""
        weight, used = self._config.options.distillation, self._weights
        labels = f", {self._data.label_count} labels" if self._data.label_count else ""
        taught = f" and {weight:g} * distillation" if weight else ""
        scores = f", scores {used.low:g} to {used.high:g}, {used.choice} weights" if used else ""
        replayed = f", {len(self._replay.data)} images replayed" if self._replay else ""
        return f"{len(self._rows)} images{labels}{replayed}, {self._config.loss}{taught}{scores}"

    @property
    def rows_per_step(self) -> int:
        """Number of pairs in a full batch, with those that are replayed."""
        return 2 * self.batch_size if self._replay else self.batch_size

    def loss_options(self) -> dict[str, Any]:
        """Return the options of the loss, with the choice of weights for pairs with scores."""
        return dict(self._config.loss_options) | ({SCORE_WEIGHTS: self._weights.choice} if self._weights else {})

    def optimizers(self, learning_rate: float) -> list[torch.optim.Optimizer]:
        """Return the optimizer of both towers, and one of the loss's weights if it has any."""
        require_parts(self.model.network, tuple(self._config.options.learning_rates or ()))
        own = [make_optimizer(self._loss, self._config, learning_rate)] if any(self._loss.parameters()) else []
        return [make_optimizer(self.model.network, self._config, learning_rate), *own]

    def plan(self, generator: np.random.Generator) -> Sequence[Plan]:
        """Draw the order of the images and a caption of each."""
        return self._data.plan(self._rows, self.batch_size, generator)

    def arrange(self, plan: Sequence[Plan], epoch: int) -> Sequence[Plan]:
        """Return the batches, of similar pairs with hard_batches. Find near duplicates and mine, if options ask."""
        if self._near is not None:
            self._near.prepare()
        if self._miner is not None:
            self._miner.prepare(epoch)
        arranged = plan if self._hard_batches is None else self._hard_batches.arrange(plan, epoch)
        return arranged if self._replay is None else self._replay.beside(arranged, epoch)

    def state(self) -> dict[str, Any]:
        """Return the order of the current epoch, mined captions and near duplicates, if the weights decided them."""
        found = {"hard_batches": self._hard_batches, "hard_negatives": self._miner, "near_duplicates": self._near}
        return {name: decided.state() for name, decided in found.items() if decided is not None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        if self._hard_batches is not None:
            self._hard_batches.restore(state["hard_batches"])
        if self._miner is not None:
            self._miner.restore(state["hard_negatives"])
        if self._near is not None:
            self._near.restore(state["near_duplicates"])

    def held_out(self) -> Sequence[Plan]:
        """Return the images of the validation data with the first caption of each."""
        return self._validation.plan(self._held_out, self.batch_size, None)

    def fetch(self, planned: Plan, process: int = 0, processes: int = 1) -> Batch:
        """Return images and tokens, and as keys ids that are equal for equal images, captions and labels.

        With scores, the weights of the pairs, (batch,) float32, are the next key. With several captions of each image,
        tokens and keys of captions have them as their second dimension.
        """
        own = own_share(planned, process, processes)
        parts = [(self._data, self._each_caption(self._data, own))]
        negatives = self._negatives.of(own, planned)
        if self._replay is not None and isinstance(planned, ReplayPlan):
            replayed = own_share(planned.replayed, process, processes)
            parts.append((self._replay.data, self._each_caption(self._replay.data, replayed)))
            negatives = negatives and negatives.with_rows_of_none(len(replayed.rows))
        return self._batch(parts, negatives, self._near)

    def fetch_held_out(self, planned: Plan) -> Batch:
        """Return a batch of the validation data, as `fetch` does."""
        return self._batch([(self._validation, [planned])])

    def _each_caption(self, data: TrainingData, own: Plan) -> list[Plan]:
        """Return the same images with each of the captions of a step."""
        return [own, *(data.with_next_captions(own, by) for by in range(1, self._captions))]

    def _batch(
        self,
        parts: Sequence[tuple[TrainingData, Sequence[Plan]]],
        negatives: BatchNegatives | None = None,
        near: NearGroups | None = None,
    ) -> Batch:
        """Return one batch of all parts, each with the same images in every plan, and each plan's captions.

        Near duplicates of the training data have equal ids, or with `soft` further keys that are equal.
        """

        def of_captions(found: Callable[[TrainingData, Plan], np.ndarray]) -> np.ndarray:
            each = [[found(data, plan) for plan in plans] for data, plans in parts]
            return np.concatenate([one[0] if len(one) == 1 else np.stack(one, axis=1) for one in each])

        def ids_of(groups: NearGroups | None) -> list[np.ndarray]:
            def of_images(data: TrainingData, plan: Plan) -> np.ndarray:
                return groups.image_ids(plan) if groups and data is self._data else plan.image_ids

            def of_texts(data: TrainingData, plan: Plan) -> np.ndarray:
                return groups.caption_ids(plan) if groups and data is self._data else data.caption_ids(plan)

            return [np.concatenate([of_images(data, plans[0]) for data, plans in parts]), of_captions(of_texts)]

        keys = [*ids_of(None if near and near.soft else near), of_captions(TrainingData.label_ids)]
        keys += ids_of(near) if near and near.soft else []
        if self._weights is not None and parts[0][0].scores is not None:
            keys.append(of_captions(self._weights_of))
        every = [
            caption
            for data, plans in parts
            for of_image in zip(*map(data.captions_of, plans), strict=True)
            for caption in of_image
        ]
        inputs: tuple[torch.Tensor, ...] = (self._tokens(every).view(*keys[1].shape, -1),)
        if negatives is not None:
            inputs = (*inputs, self._tokens(negatives.texts).view(*negatives.ids.shape, -1))  # (batch, most, context)
            keys += [negatives.ids, negatives.label_ids, negatives.known]
        pixels = [data.fetch(plans[0])[0] for data, plans in parts]
        return Batch(
            torch.from_numpy(pixels[0] if len(pixels) == 1 else np.concatenate(pixels)),
            inputs,
            tuple(map(torch.from_numpy, keys)),
            f"the captions {every[:3]}",
        )

    def _weights_of(self, data: TrainingData, plan: Plan) -> np.ndarray:
        """Return (batch,) float32 weights of pairs; 1 for those without scores beside others that have some."""
        assert self._weights is not None
        if data.scores is None or (self._replay is not None and data is self._replay.data):
            return np.ones(len(plan.rows), np.float32)
        return self._weights(data.scores_of(plan)).astype(np.float32)

    def _tokens(self, captions: list[str]) -> torch.Tensor:
        multiple = COMPILED_LENGTHS if self._config.options.compile else 1
        return without_padding(self.model.network, self.model.tokenizer(captions), multiple)

    def loss(self, outputs: Outputs, keys: tuple[torch.Tensor, ...], *, validation: bool = False) -> torch.Tensor:
        """Return the loss. Equal images, captions or labels are no negatives of one another.

        With several captions of each image, it is the mean over batches that each have one of them. The pairs that are
        replayed have a loss of their own, which is added.
        """
        if self._replay is None or validation:
            return self._loss_of(outputs, keys, gather=not validation)
        own, replayed = both_parts(outputs, keys)
        return self._loss_of(*own) + self._loss_of(*replayed)

    def _loss_of(self, outputs: Outputs, keys: tuple[torch.Tensor, ...], *, gather: bool = True) -> torch.Tensor:
        (image, text, *further), (image_ids, text_ids, label_ids, *others) = outputs, keys
        negatives = Negatives(*further, *others[-NEGATIVE_KEYS:]) if further else None
        others = others[:-NEGATIVE_KEYS] if further else others
        weights = others.pop() if len(others) % 2 else None
        near_images, near_texts = others or (None, None)
        scale, losses = self.model.network.logit_scale.exp(), []
        soft = 0.0 if near_images is None or self._near is None else self._near.soft
        for one, ids, labels, counts, near in by_caption(text, text_ids, label_ids, weights, near_texts):
            groups = None if near is None or near_images is None else (near_images, near)
            pairs = PairBatch(image, one, image_ids, ids, labels, negatives, counts, groups, soft, gather=gather)
            losses.append(self._loss(pairs, scale))
        return torch.stack(losses).mean()

    def teach(self, inputs: Sequence[torch.Tensor], at_once: int | None) -> Outputs:
        """Return the initial model's embeddings of the pairs that it teaches; () without distillation."""
        if self._teacher is None:
            return ()
        taught = inputs[:2] if self._replay is None else second_half(inputs[:2])
        return self._teacher.embed(taught, at_once)

    def distillation(self, outputs: Outputs, taught: Outputs, keys: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the weighted cross entropy with the initial model, over the replayed pairs if there are any."""
        assert self._teacher is not None
        if self._replay is not None:
            outputs, keys = both_parts(outputs, keys)[1]
        (image, text), (image_ids, text_ids, label_ids) = outputs[:2], keys[:3]
        scale, losses = self.model.network.logit_scale.exp(), []
        for one, of_teacher, ids, labels in by_caption(text, taught[1], text_ids, label_ids):
            student, teacher = PairBatch(image, one, image_ids, ids, labels), PairBatch(taught[0], of_teacher)
            losses.append(distillation_loss(student, scale, teacher, self._teacher.scale))
        return self._config.options.distillation * torch.stack(losses).mean()

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """Return the logit scale and the loss's weights."""
        return [self.model.network.logit_scale, *self._loss.parameters()]

    def after_step(self) -> None:
        """Clamp the scale of the logits to [1, 100]."""
        with torch.no_grad():
            self.model.network.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def _split(count: int, config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    share = config.val_split
    order = split_generator(config).permutation(count)
    held_out = round(count * share)
    if count - held_out < 2 or (share and held_out < 2):
        raise InvalidInput(
            f"val_split must leave two images on each side. Got {share:g} of {count} images. Choose another share."
        )
    return np.sort(order[held_out:]), np.sort(order[:held_out])
