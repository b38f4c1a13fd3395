"""The real Flow, as `finetuner up` starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finetuner.running_flow import RunningFlow


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFlow]:
    """flows/finetuner.yml with an empty workspace, on ports that the system chose."""
    with RunningFlow(tmp_path_factory.mktemp("workspace")) as running:
        yield running
