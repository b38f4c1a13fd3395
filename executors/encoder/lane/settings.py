"""The settings of a lane, checked when its room starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetuner.contract.checks import choice, flag, number, whole
from finetuner.exceptions import InvalidInput
from finetuner.onnx.session import SessionOptions

PRECISIONS = ("fp32", "bf16", "int8", "auto")
ENGINES = ("torch", "onnx")


@dataclass(frozen=True)
class LaneSettings:
    """How documents wait and are put together.

    Raises:
        InvalidInput: when made with a value that is not allowed.
    """

    batch_size: int = 32
    """Documents a forward pass at most, 1 to 4096."""
    max_wait_ms: float = 2.0
    """Milliseconds that a batch which is not full waits for documents of other requests, 0 to 1000."""
    queue_size: int = 16384
    """Documents in the room at most, 1 to 1,000,000; those past it are refused at once."""
    deadline: float = 300.0
    """Seconds that a document has from its arrival to its vector, 0.01 to 3600; past them it is refused."""
    workers: int = 0
    """Threads that decode images and read texts into tokens, at most 64; 0 is one a CPU core, at most 8."""
    fetchers: int = 16
    """Threads that fetch images by URI, 1 to 256: so many slow servers hold up nobody else."""

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size, 1, 4096)
        number("max_wait_ms", self.max_wait_ms, 0, 1000)
        whole("queue_size", self.queue_size, 1, 1_000_000)
        number("deadline", self.deadline, 0.01, 3600)
        whole("workers", self.workers, 0, 64)
        whole("fetchers", self.fetchers, 1, 256)

    @property
    def decoders(self) -> int:
        """Number of decoding threads that `workers` means."""
        return self.workers or min(len(os.sched_getaffinity(0)), 8)


@dataclass(frozen=True)
class EngineSettings:
    """How a forward pass is computed.

    Raises:
        InvalidInput: when made with a value that is not allowed.
    """

    engine: str = "torch"
    """'torch', or 'onnx': ONNX Runtime with the artifact's own file, a backbone is exported when it is loaded."""
    precision: str = "fp32"
    """'fp32'; 'bf16': torch's autocast, and on a CPU bf16 weights of a vision transformer; 'int8': ONNX Runtime with
    the artifact's int8 files; 'auto': bf16 where that is faster, on GPUs that have it, and for vision transformers on
    CPUs that have it; else fp32; of ONNX Runtime fp32."""
    compile: bool = False
    """Whether torch compiles the network when it is loaded: minutes then, for less time a pass."""
    session_options: Mapping[str, Any] = field(default_factory=dict)
    """Of ONNX Runtime, see `SessionOptions`: graph_optimization_level, allow_spinning, enable_cpu_mem_arena."""
    draft: int = 0
    """2 to 64: a JPEG so many times as large as the model's input, or larger, is decoded at 1/2, 1/4 or 1/8 of its
    size, never below that many times: large photographs take a tenth of the time, and the vectors differ a little from
    those of training, which decodes every pixel. 0: every pixel here, too."""

    def __post_init__(self) -> None:
        choice("engine", self.engine, ENGINES)
        choice("precision", self.precision, PRECISIONS)
        flag("compile", self.compile)
        if whole("draft", self.draft, 0, 64) == 1:
            raise InvalidInput("draft must be 0 or 2 to 64. Got 1, which would blur. Take 4.")
        SessionOptions.read(self.session_options)
        if self.engine == "torch" and (self.precision == "int8" or self.session_options):
            raise InvalidInput(
                f"precision int8 and session_options need engine onnx. Got engine torch with precision "
                f"{self.precision}, session_options {dict(self.session_options)}. Leave them out."
            )
        if self.engine == "onnx" and (self.precision == "bf16" or self.compile):
            raise InvalidInput(
                f"precision bf16 and compile need engine torch. Got engine onnx with precision {self.precision}, "
                f"compile {self.compile}. Leave them out."
            )
