"""Settings of a room: flat names, nested dataclasses, and a table in a README for each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from jina import Executor

from finetuner.contract.checks import whole
from finetuner.exceptions import InvalidInput
from finetuner.executors.evaluator.executor import Evaluator
from finetuner.executors.finetuner_executor.executor import FinetunerExecutor
from finetuner.executors.gateway.gateway import FinetunerGateway
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.room.room import Room
from finetuner.executors.room.settings import RoomSettings, default_settings, read_settings
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.vision_encoder.executor import VisionEncoder

EXECUTORS = Path(__file__).parents[2] / "executors"
ROW = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| (.*?) \|", re.MULTILINE)


@dataclass(frozen=True)
class LampSettings:
    lumen: int = 800

    def __post_init__(self) -> None:
        whole("lumen", self.lumen, 1, 2000)


@dataclass(frozen=True)
class DeskSettings(RoomSettings):
    color: str = "red"
    lamp: LampSettings = field(default_factory=LampSettings)


class Desk(Room):
    settings: DeskSettings


class SmallDesk(Desk):
    pass


@dataclass(frozen=True)
class TwoLamps(RoomSettings):
    left: LampSettings = field(default_factory=LampSettings)
    right: LampSettings = field(default_factory=LampSettings)


def test_groups_are_flat_by_name_and_nested_by_type(tmp_path: Path) -> None:
    desk = SmallDesk(workspace_url=str(tmp_path), lumen=3)
    assert desk.settings == DeskSettings(str(tmp_path), "red", LampSettings(3))
    assert default_settings(SmallDesk) == {"workspace_url": "workspace", "color": "red", "lumen": 800}
    with pytest.raises(FrozenInstanceError):
        desk.settings.color = "blue"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"lumens": 3},
            "uses_with of Desk must be of color, lumen, workspace_url. Got lumens. Correct the Flow's YAML",
        ),
        ({"lamp": LampSettings()}, "uses_with of Desk must be of color, lumen, workspace_url. Got lamp."),
        ({"b": 1, "a": 2}, "Got a, b."),
        ({"lumen": 0}, r"lumen must be a whole number in \[1, 2000\]. Got 0"),
        ({"workspace_url": 7}, "workspace_url must be a string. Got 7"),
    ],
)
def test_wrong_settings_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_settings(Desk, given)


def test_a_setting_belongs_to_one_dataclass() -> None:
    with pytest.raises(TypeError, match="must belong to one dataclass. Got lumen in two"):

        class _TwoLampDesk(Room):
            settings: TwoLamps


def test_jina_loads_a_room_with_settings_of_both_files(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(yaml.dump({"jtype": "Desk", "with": {"color": "blue"}, "metas": {"name": "desk"}}))
    desk = Executor.load_config(str(file), uses_with={"workspace_url": str(tmp_path), "lumen": 3})
    assert desk.settings == DeskSettings(str(tmp_path), "blue", LampSettings(3))


@pytest.mark.parametrize(
    ("room", "readmes"),
    [
        (FinetunerGateway, ["gateway"]),
        (Trainer, ["trainer"]),
        (Evaluator, ["evaluator"]),
        (Indexer, ["indexer"]),
        (TextEncoder, ["text_encoder", "encoder/lane"]),
        (VisionEncoder, ["vision_encoder", "encoder/lane"]),
        (FinetunerExecutor, ["finetuner_executor"]),
    ],
)
def test_readmes_list_every_setting_with_its_default(room: type, readmes: Sequence[str]) -> None:
    documented: dict[str, str] = {}
    for folder in readmes:
        text = (EXECUTORS / folder / "README.md").read_text()
        table = re.search(r"^\| setting.*?\n\n", text, re.MULTILINE | re.DOTALL)
        assert table is not None
        for names, default in ROW.findall(table[0]):
            documented |= dict.fromkeys(re.findall(r"`(\w+)`", names), default.strip("`"))
    defaults = default_settings(room)
    assert documented.keys() == defaults.keys()
    for name, default in defaults.items():
        if default not in (None, ""):
            assert yaml.safe_load(documented[name]) == default, name
