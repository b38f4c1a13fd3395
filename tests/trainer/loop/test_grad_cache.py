"""The cached gradient of a batch against the plain one, and its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from finetuner.executors.trainer.loop.grad_cache import cached_backward
from finetuner.executors.trainer.losses.contrastive import CLIPLoss, PairBatch
from finetuner.models.clip import Clip, text_features

Chunk = tuple[torch.Tensor, torch.Tensor]


def batch_for(model: Clip, count: int) -> Chunk:
    generator = torch.Generator().manual_seed(count)
    size = model.preprocess_config.size
    shape = size if isinstance(size, tuple) else (size, size)
    tokens = model.tokenizer([f"dress number {row:03d}" for row in range(count)])
    return torch.randint(256, (count, 3, *shape), generator=generator, dtype=torch.uint8), tokens


def split(batch: Chunk, size: int) -> list[Chunk]:
    return list(zip(batch[0].split(size), batch[1].split(size), strict=True))


def encoder(model: Clip, autocast: bool = False) -> Callable[[Chunk], Chunk]:
    def encode(chunk: Chunk) -> Chunk:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            image = model.network.encode_image(chunk[0] / 255)
            text = text_features(model.network, chunk[1])
        return torch.nn.functional.normalize(image.float(), dim=-1), torch.nn.functional.normalize(text.float(), dim=-1)

    return encode


def loss_for(model: Clip, ids: torch.Tensor | None = None) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    loss = CLIPLoss()
    return lambda image, text: loss(PairBatch(image, text, text_ids=ids), model.network.logit_scale.exp())


def taken_gradients(model: Clip) -> dict[str, torch.Tensor]:
    taken = {name: value.grad for name, value in model.network.named_parameters() if value.grad is not None}
    model.network.zero_grad(set_to_none=True)
    return taken


def error_of(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Norm of the difference divided by the norm, over all parameters at once."""
    assert list(found) == list(expected)
    difference = sum((found[name] - expected[name]).square().sum() for name in expected)
    return float((difference / sum(value.square().sum() for value in expected.values())).sqrt())


@pytest.mark.parametrize(("count", "chunk"), [(16, 5), (16, 16), (64, 24)])
@pytest.mark.seconds
def test_the_gradient_is_that_of_the_whole_batch(clip_mini: Clip, count: int, chunk: int) -> None:
    clip_mini.network.train()
    batch, ids = batch_for(clip_mini, count), torch.arange(count) // 2
    loss_of = loss_for(clip_mini, ids)
    loss = loss_of(*encoder(clip_mini)(batch))
    loss.backward()
    expected = taken_gradients(clip_mini)
    cached = cached_backward(
        encoder(clip_mini), split(batch, chunk), loss_of, loss_parameters=[clip_mini.network.logit_scale]
    )
    assert not cached.requires_grad
    assert cached.item() == pytest.approx(loss.item(), rel=1e-6)
    found = taken_gradients(clip_mini)
    assert error_of(found, expected) < 1e-5
    torch.testing.assert_close(found["logit_scale"], expected["logit_scale"], rtol=1e-4, atol=1e-7)


def test_the_gradient_adds_to_earlier_ones(clip_mini: Clip) -> None:
    batch = batch_for(clip_mini, 4)
    arguments: Any = (encoder(clip_mini), split(batch, 3), loss_for(clip_mini))
    cached_backward(*arguments)
    once = {name: value.grad.clone() for name, value in clip_mini.network.named_parameters() if value.grad is not None}
    cached_backward(*arguments)
    assert error_of(taken_gradients(clip_mini), {name: 2 * value for name, value in once.items()}) < 1e-6
    assert "logit_scale" not in once


def test_frozen_loss_parameters_are_left_alone(clip_mini: Clip) -> None:
    scale = clip_mini.network.logit_scale.requires_grad_(requires_grad=False)
    batch = batch_for(clip_mini, 4)
    cached_backward(encoder(clip_mini), split(batch, 2), loss_for(clip_mini), loss_parameters=[scale])
    assert scale.grad is None


class Dropped(torch.nn.Module):
    """Two linear towers whose outputs are dropped at random."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = torch.nn.Linear(6, 4).double(), torch.nn.Linear(5, 4).double()

    def forward(self, chunk: Chunk) -> Chunk:
        return torch.dropout(self.image(chunk[0]), 0.5, True), torch.dropout(self.text(chunk[1]), 0.5, True)


def dot_loss(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(image @ text.T, torch.arange(len(image)))


def test_dropout_is_the_same_in_both_passes_and_advances_the_generator_once() -> None:
    network = Dropped()
    images, texts = torch.randn(7, 6, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    chunks = list(zip(images.split(3), texts.split(3), strict=True))
    torch.manual_seed(5)
    parts = [network(chunk) for chunk in chunks]
    dot_loss(*(torch.cat(side) for side in zip(*parts, strict=True))).backward()
    expected = [value.grad.clone() for value in network.parameters()]
    after = torch.get_rng_state()

    network.zero_grad()
    torch.manual_seed(5)
    cached_backward(network, chunks, dot_loss)
    torch.testing.assert_close([value.grad for value in network.parameters()], expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("around", [False, True], ids=["inside", "around"])
@pytest.mark.seconds
def test_autocast_loses_no_gradient(clip_mini: Clip, around: bool) -> None:
    batch, loss_of = batch_for(clip_mini, 8), loss_for(clip_mini)
    loss_of(*encoder(clip_mini, autocast=True)(batch)).backward()
    expected = taken_gradients(clip_mini)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=around):
        cached_backward(
            encoder(clip_mini, autocast=True),
            split(batch, 3),
            loss_of,
            loss_parameters=[clip_mini.network.logit_scale],
        )
    assert error_of(taken_gradients(clip_mini), expected) < 0.03  # bfloat16 holds 8 bits


def test_backward_and_no_sync_are_the_callers() -> None:
    network, events = Dropped(), []
    chunks = [(torch.randn(2, 6).double(), torch.randn(2, 5).double()) for _ in range(3)]

    @contextmanager
    def no_sync() -> Iterator[None]:
        events.append("no_sync")
        yield
        events.append("end")

    def backward(loss: torch.Tensor) -> None:
        events.append("backward")
        (2 * loss).backward()

    torch.manual_seed(1)
    cached_backward(network, chunks, dot_loss)
    expected = [2 * value.grad for value in network.parameters()]
    network.zero_grad()
    torch.manual_seed(1)
    cached_backward(network, chunks, dot_loss, backward=backward, no_sync=no_sync)
    assert events == ["no_sync", "backward", "end"] * 2 + ["backward"]
    torch.testing.assert_close([value.grad for value in network.parameters()], expected)


class SavedBytes:
    """Peak bytes held by graphs, without weights. A storage counts once."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        self.peak = self._now = 0
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self._holders: dict[int, int] = {}

    def pack(self, tensor: torch.Tensor) -> Any:
        return Held(self, tensor)

    def take(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._weights:
            return
        if storage.data_ptr() not in self._holders:
            self._now += storage.nbytes()
        self._holders[storage.data_ptr()] = self._holders.get(storage.data_ptr(), 0) + 1
        self.peak = max(self.peak, self._now)

    def give_back(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._weights:
            return
        self._holders[storage.data_ptr()] -= 1
        if not self._holders[storage.data_ptr()]:
            del self._holders[storage.data_ptr()]
            self._now -= storage.nbytes()


class Held:
    """A saved tensor, counted while the graph holds it."""

    def __init__(self, counter: SavedBytes, tensor: torch.Tensor) -> None:
        self._counter, self.tensor = counter, tensor.detach()
        counter.take(self.tensor)

    def __del__(self) -> None:
        self._counter.give_back(self.tensor)


def peak_of(model: Clip, batch: Chunk, step: Callable[[], Any]) -> int:
    """Peak bytes of the batch and of graphs."""
    counter = SavedBytes(list(model.network.parameters()))
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda held: held.tensor):
        step()
    model.network.zero_grad(set_to_none=True)
    return counter.peak + sum(part.nbytes for part in batch)


@pytest.mark.seconds
def test_eight_times_the_batch_takes_less_than_a_third_more_memory(clip_mini: Clip) -> None:
    clip_mini.network.train()
    encode, loss_of = encoder(clip_mini), loss_for(clip_mini)
    small, large = batch_for(clip_mini, 8), batch_for(clip_mini, 64)
    plain = peak_of(clip_mini, small, lambda: loss_of(*encode(small)).backward())
    cached = peak_of(clip_mini, large, lambda: cached_backward(encode, split(large, 8), loss_of))
    plain_large = peak_of(clip_mini, large, lambda: loss_of(*encode(large)).backward())
    assert plain > 1e6
    assert cached < 1.3 * plain
    assert plain_large > 6 * plain  # the counter sees what grows
