"""The settings of a lane, checked when its room starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetuner.contract.checks import choice, flag, number, whole
from finetuner.exceptions import InvalidInput
from finetuner.onnx.session import SessionOptions

PRECISIONS = ("fp32", "bf16", "int8", "auto")
ENGINES = ("torch", "onnx")


@dataclass(frozen=True)
class LaneSettings:
    """Queue, batches and threads.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    batch_size: int = 32
    """Largest number of documents in a forward pass, 1 to 4096."""
    max_wait_ms: float = 0.0
    """Milliseconds that a partial batch waits for documents of other requests, 0 to 1000.

    Documents that arrive during a forward pass share the next one without waiting."""
    queue_size: int = 16384
    """Largest number of documents in the room, 1 to 1,000,000. Further documents are refused at once."""
    deadline: float = 300.0
    """Seconds from a document's arrival to its embedding, 0.01 to 3600. Late documents are refused."""
    workers: int = 0
    """Threads that decode images and tokenize texts, at most 64. 0 starts one per CPU core, at most 8."""
    fetchers: int = 16
    """Threads that fetch images by URI, 1 to 256. That many slow servers delay no other request."""
    cache_mb: int = 0
    """MiB of vectors of earlier texts and image files, 0 to 1,000,000, that answer the same content of the same model
    again. 0 keeps none.

    Each replica has its own: asking another process takes about as long as the forward pass of a short text."""

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size, 1, 4096)
        number("max_wait_ms", self.max_wait_ms, 0, 1000)
        whole("queue_size", self.queue_size, 1, 1_000_000)
        number("deadline", self.deadline, 0.01, 3600)
        whole("workers", self.workers, 0, 64)
        whole("fetchers", self.fetchers, 1, 256)
        whole("cache_mb", self.cache_mb, 0, 1_000_000)

    @property
    def decoders(self) -> int:
        """Number of decoding threads, resolved from `workers`."""
        return self.workers or min(len(os.sched_getaffinity(0)), 8)


@dataclass(frozen=True)
class EngineSettings:
    """Computation of a forward pass.

    Raises:
        InvalidInput: a value that is not allowed, or a pair of values that exclude each other.
    """

    engine: str = "torch"
    """'torch', or 'onnx' for ONNX Runtime with the artifact's own file. A backbone is exported when it is loaded."""
    precision: str = "fp32"
    """'fp32', 'bf16', 'int8' or 'auto'.

    'bf16': torch's autocast; on a CPU, bf16 weights of a vision transformer. 'int8': ONNX Runtime with the artifact's
    int8 files. 'auto' with torch: bf16 where it is faster, on GPUs with bf16 and for vision transformers on CPUs with
    bf16; else fp32. 'auto' with onnx: fp32."""
    compile: bool = False
    """Whether torch compiles the network when it is loaded: minutes of loading for a shorter forward pass."""
    cuda_graphs: bool = False
    """Whether a GPU replays recorded forward passes of up to 32 items: a fifth of the time of a single item, for some
    seconds of loading and a batch's memory. It excludes `compile`."""
    session_options: Mapping[str, Any] | None = None
    """Options of ONNX Runtime: graph_optimization_level, allow_spinning, enable_cpu_mem_arena; see `SessionOptions`."""
    draft: int = 0
    """0 to decode every pixel of a JPEG, or 2 to 64.

    A JPEG at least `draft` times as large as the model's input is decoded at 1/2, 1/4 or 1/8 of its size, but never
    below `draft` times the input. Large photographs take a tenth of the time. Training decodes every pixel, so
    embeddings differ a little from those of training."""
    fast_jpeg: bool = False
    """Whether torchvision decodes and resizes JPEGs, in half of Pillow's time and on all cores at once: for a GPU that
    waits for images. A few pixels of a thousand differ by 1 of 255 from those of training. It excludes `draft`.

    On a GPU with nvJPEG, files of at least 1.5 times the model's input are decoded there, many at once; their pixels
    differ by 7 of 255 at most."""

    def __post_init__(self) -> None:
        choice("engine", self.engine, ENGINES)
        choice("precision", self.precision, PRECISIONS)
        flag("compile", self.compile)
        if flag("fast_jpeg", self.fast_jpeg) and self.draft:
            raise InvalidInput(f"fast_jpeg decodes every pixel. Got draft {self.draft} beside it. Leave one out.")
        if flag("cuda_graphs", self.cuda_graphs) and (self.compile or self.engine == "onnx"):
            raise InvalidInput(
                f"cuda_graphs needs engine torch without compile. Got engine {self.engine}, compile {self.compile}. "
                f"Leave one out."
            )
        if whole("draft", self.draft, 0, 64) == 1:
            raise InvalidInput("draft must be 0 or 2 to 64. Got 1, which would blur. Take 4.")
        SessionOptions.read(self.options)
        if self.engine == "torch" and (self.precision == "int8" or self.options):
            raise InvalidInput(
                f"precision int8 and session_options need engine onnx. Got engine torch with precision "
                f"{self.precision}, session_options {dict(self.options)}. Leave them out."
            )
        if self.engine == "onnx" and (self.precision == "bf16" or self.compile):
            raise InvalidInput(
                f"precision bf16 and compile need engine torch. Got engine onnx with precision {self.precision}, "
                f"compile {self.compile}. Leave them out."
            )

    @property
    def options(self) -> Mapping[str, Any]:
        """`session_options`, empty if there are none."""
        return {} if self.session_options is None else self.session_options


@dataclass(frozen=True)
class ServedSettings:
    """Models in memory, and the duration of a promotion.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    models: int = 2
    """Models that stay loaded, 1 to 100. While another one is loading, there is one more."""
    models_mb: int = 0
    """MiB that the weights of all models may take. 0 sets no bound. The last used model always stays."""
    switch_wait: float = 1.0
    """Seconds that a request by alias waits for a newly promoted model before the previous one answers, 0 to 60."""
    switch_limit: float = 60.0
    """Seconds that the previous model answers for the new one, 0 to 3600. After that, requests wait."""

    def __post_init__(self) -> None:
        whole("models", self.models, 1, 100)
        whole("models_mb", self.models_mb, 0, 10_000_000)
        number("switch_wait", self.switch_wait, 0, 60)
        number("switch_limit", self.switch_limit, 0, 3600)
