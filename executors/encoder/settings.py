"""The settings of both encoder rooms."""

from __future__ import annotations

from dataclasses import dataclass, field

from finetuner.contract.checks import flag, text, whole
from finetuner.executors.encoder.lane.settings import EngineSettings, LaneSettings, ServedSettings
from finetuner.executors.room.settings import RoomSettings


@dataclass(frozen=True)
class EncoderSettings(RoomSettings):
    """Settings of an encoder room.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    backbone: str = "clip-mini"
    """Model of the alias `live` until an artifact is promoted."""
    device: str = "cpu"
    """Device by torch's name. With engine onnx see `finetuner.onnx.session.providers`."""
    threads: int = 0
    """CPU threads of a forward pass, 0 to 1024. 0 leaves the number to the engine."""
    private_uris: bool = False
    """Whether images may be fetched from private addresses."""
    lane: LaneSettings = field(default_factory=LaneSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    served: ServedSettings = field(default_factory=ServedSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        text("backbone", self.backbone)
        text("device", self.device)
        whole("threads", self.threads, 0, 1024)
        flag("private_uris", self.private_uris)
