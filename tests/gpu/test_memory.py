"""The search for a batch size on a GPU."""

from __future__ import annotations

import pytest
import torch

from finetuner.exceptions import FinetunerError
from finetuner.executors.trainer.loop.memory_probe import CudaMemory, find_batch_size, memory_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_memory_on_a_gpu_is_that_of_torch() -> None:
    memory = memory_of(torch.device("cuda"))
    assert isinstance(memory, CudaMemory)
    memory.start()
    before = memory.peak()
    block = torch.ones(64 << 20, dtype=torch.uint8, device="cuda")
    del block
    assert memory.peak() - before == 64 << 20


def test_a_gpu_that_is_too_small_is_an_error() -> None:
    def step(count: int) -> None:
        torch.empty(count << 50, device="cuda")

    with pytest.raises(FinetunerError, match="smallest batch must fit"):
        find_batch_size(step, memory_of(torch.device("cuda")), 4)
