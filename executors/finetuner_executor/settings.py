"""The settings of FinetunerExecutor."""

from __future__ import annotations

from dataclasses import dataclass

from finetuner.contract.checks import flag, text
from finetuner.exceptions import InvalidInput
from finetuner.executors.encoder.lane.settings import LaneSettings

MAX_THREADS = 1024
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class ExecutorSettings:
    """One artifact, its Flow, and its computation.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    artifact: str | None = None
    """Required: artifact id or alias of the Flow at `host`, or folder or zip on this machine."""
    token: str | None = None
    """Token of the Flow. None takes the one of `finetuner.login`, else $FINETUNER_TOKEN, else $JINA_AUTH_TOKEN."""
    host: str | None = None
    """Address of the Flow. None takes the host of `finetuner.login` in the starting process, else $FINETUNER_HOST."""
    batch_size: int = 32
    """Largest number of documents in a forward pass, 1 to 4096."""
    select_model: str | None = None
    """'clip-text' or 'clip-vision'. None takes both towers of a CLIP: one for texts, the other for images."""
    device: str = "cpu"
    """Device by torch's name."""
    is_onnx: bool = False
    """Whether the artifact's ONNX models run instead of torch's."""
    omp_num_threads: int | None = None
    """CPU threads of one operation, 1 to 1024. None leaves the number to torch."""
    intra_op_num_threads: int | None = None
    """The same number by torch's own name."""
    inter_op_num_threads: int | None = None
    """Operations that run at a time, 1 to 1024. None leaves the number to torch."""
    logging_level: str = "WARNING"
    """Level of this executor's log, one of `LEVELS`."""
    private_uris: bool = False
    """Whether images may be fetched from private addresses. $FINETUNER_PRIVATE_URIS=true allows it as well."""

    def __post_init__(self) -> None:
        if not self.artifact:
            raise InvalidInput("artifact must be an artifact id, an alias, a folder or a zip. Got none. Set uses_with.")
        text("artifact", self.artifact)
        LaneSettings(batch_size=self.batch_size)
        text("device", self.device)
        flag("is_onnx", self.is_onnx)
        if self.logging_level not in LEVELS:
            raise InvalidInput(f"logging_level must be one of {', '.join(LEVELS)}. Got {self.logging_level!r}.")
        flag("private_uris", self.private_uris)
        self._check_threads()

    @property
    def threads(self) -> int | None:
        """CPU threads of one operation by either name, or None."""
        return self.omp_num_threads or self.intra_op_num_threads

    def _check_threads(self) -> None:
        names = ("omp_num_threads", "intra_op_num_threads", "inter_op_num_threads")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        for name, value in given.items():
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_THREADS:
                raise InvalidInput(
                    f"{name} must be 1 to {MAX_THREADS}. Got {value!r}. Leave it out for torch's own choice."
                )
        if self.is_onnx and given:
            raise InvalidInput(
                f"{', '.join(given)} must be left out with is_onnx: ONNX Runtime has threads of its own. "
                f"Got {', '.join(str(value) for value in given.values())}."
            )
        if self.intra_op_num_threads not in (None, self.threads):
            raise InvalidInput(
                f"omp_num_threads and intra_op_num_threads must be equal: both are the threads of one operation. "
                f"Got {self.omp_num_threads} and {self.intra_op_num_threads}. Leave one out."
            )
