"""Opens ONNX Runtime sessions on a device, with options."""

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
# A provider runs the operations that it supports and leaves the rest to the next one.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}


@dataclass(frozen=True)
class SessionOptions:
    """The options of an ONNX Runtime session that matter for encoders, under ONNX Runtime's names.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    intra_op_num_threads: int = 0
    """CPU threads per operation, at most 1024. 0 for one per core."""
    graph_optimization_level: str = "all"
    """Degree of graph rewriting at load time: 'disabled', 'basic', 'extended' or 'all'."""
    allow_spinning: bool = True
    """Let idle threads spin while they wait. A pass is shorter, and other work gets less CPU."""
    enable_cpu_mem_arena: bool = True
    """Keep memory for the next pass. False frees it and makes the next pass slower."""

    def __post_init__(self) -> None:
        whole("intra_op_num_threads", self.intra_op_num_threads, 0, 1024)
        choice("graph_optimization_level", self.graph_optimization_level, tuple(LEVELS))
        flag("allow_spinning", self.allow_spinning)
        flag("enable_cpu_mem_arena", self.enable_cpu_mem_arena)

    @classmethod
    def read(cls, given: Mapping[str, Any], threads: int = 0) -> SessionOptions:
        """Parse a room's `session_options` and `threads`.

        Args:
            given: options by name, without `intra_op_num_threads`. The room's `threads` sets that.
            threads: CPU threads per operation.

        Raises:
            InvalidInput: unknown option, or a value that is not allowed.
        """
        names = ("graph_optimization_level", "allow_spinning", "enable_cpu_mem_arena")
        return cls(threads, **options("session_options", given, dict.fromkeys(names)))

    def as_onnxruntime(self) -> Any:
        """Return ONNX Runtime's own object with these options."""
        import onnxruntime

        made = onnxruntime.SessionOptions()
        made.log_severity_level = 3  # errors only, which it also raises
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
    """Return an ONNX Runtime session for a file, and check its input and output.

    Args:
        file: model.onnx, see `model`.
        kind: of its input, `TOKENS` or `PIXELS`.
        dim: embedding size.
        device: see `providers`.
        session_options: None for the defaults.

    Raises:
        CorruptedONNXModel: the file is not a model, or has another input or output.
        InvalidInput: ONNX Runtime does not have the device, or cannot start it.
    """
    import onnxruntime

    wanted = providers(device)
    if len(wanted) > 1:
        onnxruntime.preload_dlls()  # CUDA and cuDNN, of the packages that torch brings
    try:
        session = onnxruntime.InferenceSession(
            file, (session_options or SessionOptions()).as_onnxruntime(), providers=wanted
        )
        inputs = [(entry.name, entry.type, len(entry.shape)) for entry in session.get_inputs()]
        outputs = [(entry.name, entry.type, entry.shape[1:]) for entry in session.get_outputs()]
        padding = session.get_modelmeta().custom_metadata_map.get(PADDING, "0")
    except Exception as error:  # ONNX Runtime's errors have no base class
        reason = " ".join(str(error).split())[:200]
        raise CorruptedONNXModel(
            f"{file} must be a model that ONNX Runtime loads. Got: {reason}. Fetch it again."
        ) from error
    first = wanted[0][0]
    if first not in session.get_providers():  # ONNX Runtime only warns and uses the CPU
        raise InvalidInput(
            f"device must be one that ONNX Runtime can use. Got {device!r}, and {first} does not start. "
            f"Install the libraries that it needs, or set device='cpu'."
        )
    expected = [(kind, *INPUT_TYPES[kind])], [(EMBEDDINGS, "tensor(float)", [dim])]
    if (inputs, outputs) != expected or not padding.isdecimal():
        raise CorruptedONNXModel(
            f"{file} must have the input and output {expected}. Got {(inputs, outputs)}. "
            f"Export it again with fit(to_onnx=True)."
        )
    return session


def providers(device: str | None = None) -> list[tuple[str, dict[str, int]]]:
    """Return ONNX Runtime's providers for a device, the preferred one first.

    None never selects TensorRT, which spends minutes on an engine for each new batch size.

    Args:
        device: 'cpu', 'cuda' or 'tensorrt'. An index selects a GPU, as in 'cuda:1'. None selects CUDA if ONNX
            Runtime has it, else the CPU.

    Raises:
        InvalidInput: the installed ONNX Runtime was built without the device.
    """
    import onnxruntime

    installed = onnxruntime.get_available_providers()
    found = [name for name, needed in PROVIDERS.items() if needed[0] in installed]
    kind, colon, index = (device or ("cuda" if "cuda" in found else "cpu")).partition(":")
    if kind not in found or (colon and not index.isdecimal()):
        raise InvalidInput(
            f"device must be one that ONNX Runtime has, {' or '.join(found)}. Got {device!r}. "
            f"For CUDA and TensorRT install onnxruntime-gpu."
        )
    return [
        (name, {} if name == "CPUExecutionProvider" else {"device_id": int(index or 0)}) for name in PROVIDERS[kind]
    ]
