"""The task of a CLIP: pairs of images and captions, and a contrastive loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.models.clip import Clip, text_features, without_padding

from ..data.training_data import Plan, TrainingData
from .contrastive import CLIPLoss, PairBatch, PairLoss, SigLIPLoss
from .matryoshka import with_short_vectors
from .optimization import make_optimizer
from .task import Batch, Outputs, Task, share, split_generator

MAX_LOGIT_SCALE = math.log(100)
COMPILED_LENGTHS = 8  # a compiled network gets texts of lengths in multiples of this, so that it compiles for few
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

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> Outputs:
        """Return the embeddings of (batch, 3, size, size) images and (batch, context) tokens, L2-normalised."""
        image = nn.functional.normalize(self.clip.encode_image(images).float(), dim=-1)  # type: ignore[operator]
        text = nn.functional.normalize(text_features(self.clip, tokens).float(), dim=-1)
        return image, text


class ClipTask(Task):
    """A contrastive loss over images and captions.

    Args:
        model: tuned in place.
        data: with at least two images.
        config: loss, val_split, optimizer, seed.
        batch_size: most pairs in a step.
        validation: data of the validation loss; None holds out a share of `data`, `config.val_split`.

    Raises:
        InvalidInput: val_split leaves fewer than two images on a side.
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
    ) -> None:
        self.model = model
        self._loss = with_short_vectors(_LOSSES[config.loss], config.loss_options).to(model.device)
        self.network = PairNetwork(model.network, self._loss)
        self._data = data
        self._config = config
        self._rows, self._held_out = _split(len(data), config)
        self._validation = data
        if validation is not None:
            self._validation, self._held_out = validation, np.arange(len(validation))
        self.batch_size = min(batch_size, len(self._rows))
        self.steps_per_epoch = len(range(0, len(self._rows) - 1, self.batch_size))  # one alone has no negatives

    def summary(self) -> str:
        """Return the number of images, and the loss."""
        return f"{len(self._rows)} images, {self._config.loss}"

    def optimizers(self, learning_rate: float) -> list[torch.optim.Optimizer]:
        """Return the optimizer of both towers, and one of the loss's weights if it has any."""
        own = [make_optimizer(self._loss, self._config, learning_rate)] if any(self._loss.parameters()) else []
        return [make_optimizer(self.model.network, self._config, learning_rate), *own]

    def plan(self, generator: np.random.Generator) -> Sequence[Plan]:
        """Draw the order of the images and a caption of each."""
        return self._data.plan(self._rows, self.batch_size, generator)

    def held_out(self) -> Sequence[Plan]:
        """Return the images of the validation data with the first caption of each."""
        return self._validation.plan(self._held_out, self.batch_size, None)

    def fetch(self, planned: Plan, process: int = 0, processes: int = 1) -> Batch:
        """Return images and tokens, and as keys ids that are equal for equal images and equal captions."""
        own = Plan(share(planned.rows, process, processes), share(planned.choices, process, processes))
        return self._batch(self._data, own)

    def fetch_held_out(self, planned: Plan) -> Batch:
        """Return a batch of the validation data, as `fetch` does."""
        return self._batch(self._validation, planned)

    def _batch(self, data: TrainingData, plan: Plan) -> Batch:
        pixels, captions = data.fetch(plan)
        ids = (torch.from_numpy(plan.image_ids), torch.from_numpy(data.caption_ids(plan)))
        multiple = COMPILED_LENGTHS if self._config.options.compile else 1
        tokens = without_padding(self.model.network, self.model.tokenizer(captions), multiple)
        return Batch(torch.from_numpy(pixels), (tokens,), ids, f"the captions {captions[:3]}")

    def loss(self, outputs: Outputs, keys: tuple[torch.Tensor, ...], *, validation: bool = False) -> torch.Tensor:
        """Return the loss. Equal images, or equal captions, are no negatives of one another."""
        (image, text), (image_ids, text_ids) = outputs, keys
        pairs = PairBatch(image, text, image_ids, text_ids, gather=not validation)
        loss: torch.Tensor = self._loss(pairs, self.model.network.logit_scale.exp())
        return loss

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
