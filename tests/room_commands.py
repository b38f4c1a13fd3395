"""Reads the `finetuner room ...` commands of deployments with the real command line, and checks their settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import typer

from finetuner.cli.main import app
from finetuner.executors.evaluator.executor import Evaluator
from finetuner.executors.gateway.gateway import FinetunerGateway
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.room.settings import default_settings
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.flow.standalone import GATEWAY, named_values

CLASSES: dict[str, type] = {
    GATEWAY: FinetunerGateway, "trainer": Trainer, "evaluator": Evaluator, "text_encoder": TextEncoder,
    "vision_encoder": VisionEncoder, "indexer": Indexer,
}  # fmt: skip


@cache
def command_line() -> Any:
    """Return the whole command line, which takes a while to make."""
    return typer.main.get_command(app)


def options_of(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options of a command, without running it."""
    name, *others = arguments
    command = command_line().commands[name]
    found: dict[str, Any] = command.make_context(name, others).params
    return found


def settings_given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings given to a room. It must have all of them."""
    settings = named_values("--set", options["set_"] or [])
    assert settings.keys() <= default_settings(CLASSES[options["name"]]).keys(), options
    return settings
