"""The help of the options, as the page's form of a new run shows it."""

from __future__ import annotations

from dataclasses import fields

from finetuner.config.described import described
from finetuner.config.run_config import RunConfig
from finetuner.config.training_options import TrainingOptions


def test_every_option_has_its_help_and_its_default() -> None:
    for kind in (RunConfig, TrainingOptions):
        found = {each.name: each for each in described(kind)}
        assert found.keys() <= {each.name for each in fields(kind)}
        assert all(each.help for name, each in found.items())
    epochs = next(each for each in described(RunConfig) if each.name == "epochs")
    assert (epochs.type, epochs.default, epochs.help) == ("int", 5, "Passes over the images, 1 to 10,000.")
