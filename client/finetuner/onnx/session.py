"""ONNX Runtime's session of one file: where it runs and with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract.checks import choice, flag, options, whole
from ..exceptions import CorruptedONNXModel, InvalidInput

TOKENS, PIXELS, EMBEDDINGS = "tokens", "pixels", "embeddings"
PADDING = "padding"
INPUT_TYPES = {TOKENS: ("tensor(int64)", 2), PIXELS: ("tensor(float)", 4)}  # type and number of dimensions
LEVELS = {
    "disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}  # fmt: skip
# A provider takes what it can and leaves the rest to those after it.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}


@dataclass(frozen=True)
class SessionOptions:
    """ONNX Runtime's options of a session that pay for encoders, by its own names.

    Raises:
        InvalidInput: when made with a value that is not allowed.
    """

    intra_op_num_threads: int = 0
    """CPU threads of one operation, at most 1024; 0 is one a core."""
    graph_optimization_level: str = "all"
    """'disabled', 'basic', 'extended' or 'all': how far the graph is rewritten when it is loaded."""
    allow_spinning: bool = True
    """Whether threads without work burn CPU while they wait for more: a shorter pass, and less for other work."""
    enable_cpu_mem_arena: bool = True
    """Whether memory is kept for the next pass: False gives it back, for a slower pass."""

    def __post_init__(self) -> None:
        whole("intra_op_num_threads", self.intra_op_num_threads, 0, 1024)
        choice("graph_optimization_level", self.graph_optimization_level, tuple(LEVELS))
        flag("allow_spinning", self.allow_spinning)
        flag("enable_cpu_mem_arena", self.enable_cpu_mem_arena)

    @classmethod
    def read(cls, given: Mapping[str, Any], threads: int = 0) -> SessionOptions:
        """Return a room's `session_options`, with its `threads`.

        Raises:
            InvalidInput: an option that is none of these; the number of threads has a setting of its own.
        """
        names = ("graph_optimization_level", "allow_spinning", "enable_cpu_mem_arena")
        return cls(threads, **options("session_options", given, dict.fromkeys(names)))

    def as_onnxruntime(self) -> Any:
        """Return them as ONNX Runtime takes them."""
        import onnxruntime

        made = onnxruntime.SessionOptions()
        made.log_severity_level = 3  # errors; they are raised as well
        made.intra_op_num_threads = self.intra_op_num_threads
        made.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, LEVELS[self.graph_optimization_level]
        )
        made.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.allow_spinning)))
        made.enable_cpu_mem_arena = self.enable_cpu_mem_arena
        return made


def open_session(
    file: Path, kind: str, dim: int, device: str | None = None, session_options: SessionOptions | None = None
) -> Any:
    """Return ONNX Runtime's session of a file that has the input and output described in `onnx_model`.

    Args:
        file: model.onnx.
        kind: of its input, `TOKENS` or `PIXELS`.
        dim: embedding size.
        device: see `providers`.
        session_options: the defaults where there are none.

    Raises:
        CorruptedONNXModel, InvalidInput
    """
    import onnxruntime

    wanted = providers(device)
    try:
        session = onnxruntime.InferenceSession(
            file, (session_options or SessionOptions()).as_onnxruntime(), providers=wanted
        )
        inputs = [(entry.name, entry.type, len(entry.shape)) for entry in session.get_inputs()]
        outputs = [(entry.name, entry.type, entry.shape[1:]) for entry in session.get_outputs()]
        padding = session.get_modelmeta().custom_metadata_map.get(PADDING, "0")
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        reason = " ".join(str(error).split())[:200]
        raise CorruptedONNXModel(f"{file} must be a model that ONNX Runtime loads. It is not: {reason}") from error
    first = wanted[0][0]
    if first not in session.get_providers():  # ONNX Runtime only warns, and takes the CPU
        raise InvalidInput(
            f"device must be one that ONNX Runtime can use. Got {device!r}, and {first} does not start. "
            f"Install the libraries that it needs, or take device='cpu'."
        )
    expected = [(kind, *INPUT_TYPES[kind])], [(EMBEDDINGS, "tensor(float)", [dim])]
    if (inputs, outputs) != expected or not padding.isdecimal():
        raise CorruptedONNXModel(
            f"{file} must have the input and output {expected}. Got {(inputs, outputs)}. "
            f"Write it again with fit(to_onnx=True)."
        )
    return session


def providers(device: str | None = None) -> list[tuple[str, dict[str, int]]]:
    """Return ONNX Runtime's providers for a device, the first one first.

    TensorRT is used only by name: it builds an engine, in minutes, for sizes of batches that it has not seen.

    Args:
        device: 'cpu', 'cuda', 'tensorrt', one of the latter with an index as in 'cuda:1'; None takes CUDA where ONNX
            Runtime has it, else the CPU.

    Raises:
        InvalidInput: a device that the installed ONNX Runtime was built without.
    """
    import onnxruntime

    installed = onnxruntime.get_available_providers()
    found = [name for name, needed in PROVIDERS.items() if needed[0] in installed]
    kind, colon, index = (device or ("cuda" if "cuda" in found else "cpu")).partition(":")
    if kind not in found or (colon and not index.isdecimal()):
        raise InvalidInput(
            f"device must be one that ONNX Runtime has, {' or '.join(found)}. Got {device!r}. "
            f"CUDA and TensorRT need the package onnxruntime-gpu."
        )
    return [
        (name, {} if name == "CPUExecutionProvider" else {"device_id": int(index or 0)}) for name in PROVIDERS[kind]
    ]
