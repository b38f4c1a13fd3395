"""The search for a batch size against steps of known cost, and a real one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import torch

from finetuner.exceptions import FinetunerError
from finetuner.executors.trainer.loop.memory_probe import (
    CpuMemory,
    find_batch_size,
    is_out_of_memory,
    memory_of,
    sizes_to,
)
from finetuner.executors.trainer.losses.contrastive import CLIPLoss, PairBatch
from finetuner.models.clip import Clip, text_features


class Machine:
    """Memory of a known size and steps of a known cost: both arguments of the search."""

    def __init__(self, cost: Callable[[int], float], size: int, breaks: BaseException | None = None) -> None:
        self.cost, self.size, self.breaks = cost, size, breaks
        self.tried: list[int] = []
        self._peak = 0

    def step(self, batch_size: int) -> None:
        self.tried.append(batch_size)
        self._peak = int(self.cost(batch_size))
        if self.breaks is not None and self._peak > self.size:
            raise self.breaks

    def start(self) -> None:
        self._peak = 0

    def peak(self) -> int:
        return self._peak

    def total(self) -> int:
        return self.size


def linear(batch_size: int) -> int:
    return 100 + 10 * batch_size


def brute_force(machine: Machine, limit: int, smallest: int = 1) -> int:
    return max(size for size in sizes_to(limit, smallest) if machine.cost(size) <= 0.8 * machine.size)


@pytest.mark.parametrize("size", [180, 200, 300, 1000, 1234, 5000, 10**6])
@pytest.mark.parametrize("limit", [1, 2, 3, 8, 100, 1000])
def test_it_is_the_largest_of_the_sizes_that_fit(size: int, limit: int) -> None:
    machine = Machine(linear, size)
    assert find_batch_size(machine.step, machine, limit) == brute_force(machine, limit)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory"), MemoryError()]
)
@pytest.mark.parametrize("size", [180, 300, 5000])
def test_running_out_of_memory_is_no_error(size: int, error: BaseException) -> None:
    machine = Machine(lambda count: 100 + 10 * count + count * count / 10, size, error)  # more than the line predicts
    assert find_batch_size(machine.step, machine, 1000) == brute_force(machine, 1000)


def test_few_sizes_are_tried_if_memory_grows_linearly() -> None:
    machine = Machine(linear, 10_000)
    assert find_batch_size(machine.step, machine, 4096) == 768
    assert machine.tried == [4, 4, 8, 768]


def test_one_time_allocations_do_not_count_as_growth() -> None:
    machine = Machine(linear, 10_000)
    machine.cost = lambda count: linear(count) + 2000 * (len(machine.tried) > 1)
    assert find_batch_size(machine.step, machine, 4096) == 512  # with the optimizer's 2000 in place


def test_cost_that_does_not_grow_allows_the_limit() -> None:
    machine = Machine(lambda count: 50, 100)
    assert find_batch_size(machine.step, machine, 777) == 777


@pytest.mark.parametrize("breaks", [None, torch.OutOfMemoryError("out of memory")])
def test_a_model_that_does_not_fit_is_an_error(breaks: BaseException | None) -> None:
    machine = Machine(linear, 100, breaks)
    with pytest.raises(FinetunerError, match="smallest batch must fit .* It does not. Free memory") as caught:
        find_batch_size(machine.step, machine, 64)
    assert "\n" not in str(caught.value)


def test_no_size_below_smallest_is_tried() -> None:
    machine = Machine(linear, 5000)
    assert find_batch_size(machine.step, machine, 64, smallest=16) == 64
    assert min(machine.tried) == 16


def test_another_share_of_memory_allows_another_batch() -> None:
    machine = Machine(linear, 1100)
    found = [find_batch_size(machine.step, machine, 1000, share=share) for share in (0.3, 0.5, 1.0)]
    assert found == [16, 32, 96]


def test_other_errors_are_raised() -> None:
    def step(batch_size: int) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        find_batch_size(step, Machine(linear, 1000), 8)


def test_measurements_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "finetuner")
    machine = Machine(lambda count: 1e6 * linear(count), 10**9)
    find_batch_size(machine.step, machine, 1000)
    assert "4 pairs take 140 MB, 8 pairs take 180 MB; 800 MB allowed, about 10.00 MB a pair" in caplog.text
    assert "64 pairs take 740 MB of 800 MB allowed" in caplog.text


@pytest.mark.parametrize(
    ("limit", "smallest", "expected"),
    [(1, 1, [1]), (20, 1, [20, 16, 12, 8, 6, 4, 3, 2, 1]), (8, 8, [8]), (10, 4, [10, 8, 6, 4])],
)
def test_sizes(limit: int, smallest: int, expected: list[int]) -> None:
    assert sizes_to(limit, smallest) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (torch.OutOfMemoryError("tried to allocate 2 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_errors_are_recognised(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_memory_on_a_cpu_is_that_of_the_process() -> None:
    memory = memory_of(torch.device("cpu"))
    assert isinstance(memory, CpuMemory)
    memory.start()
    before = memory.peak()  # of other tests, where the kernel cannot reset it
    for _ in range(20):  # while the block is filled, the kernel may take other pages from this process
        block = torch.ones(before - psutil.Process().memory_info().rss + (64 << 20), dtype=torch.uint8)
        del block
        if memory.peak() - before > 50e6:
            break
    assert memory.peak() - before > 50e6  # the block is gone, its peak is not
    assert before < memory.total()


def test_a_real_step_gets_a_batch(clip_mini: Clip, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "finetuner")
    network, loss_of = clip_mini.network, CLIPLoss()
    optimizer = torch.optim.AdamW(network.parameters())
    tried = []

    def step(count: int) -> None:
        tried.append(count)
        size: Any = clip_mini.preprocess_config.size
        images, tokens = torch.zeros(count, 3, *size), clip_mini.tokenizer(["a dress"] * count)
        optimizer.zero_grad()
        embeddings = PairBatch(network.encode_image(images), text_features(network, tokens))
        loss_of(embeddings, network.logit_scale.exp()).backward()
        optimizer.step()

    assert find_batch_size(step, CpuMemory(), 12) == 12
    assert tried == [4, 4, 8, 12]
    assert "12 pairs take" in caplog.text
