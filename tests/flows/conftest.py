"""The real Flow, as `finetuner up` starts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import finetuner
from finetuner.contract.environment import STAND_INS
from finetuner.flow.running_flow import RunningFlow
from tests.sessions import own_session

RESNET = "resnet50=resnet-mini-random"  # for STAND_INS


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFlow]:
    """flows/finetuner.yml with an empty workspace, and a small random network for ResNet-50."""
    with ExitStack() as up:
        with pytest.MonkeyPatch.context() as patch:  # for the Flow alone: this process has other tests, too
            patch.setenv(STAND_INS, RESNET)
            running = up.enter_context(RunningFlow(tmp_path_factory.mktemp("workspace")))
        yield running


def empty_index(flow: RunningFlow) -> None:
    """Delete every document of the Flow's index."""
    with own_session():
        finetuner.login(host=flow.host)
        if finetuner.index_status()["documents"]:
            finetuner.delete_documents(document.id for document in finetuner.filter_documents(limit=1000))
