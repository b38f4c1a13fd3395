"""Which tests share a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.once import made_once
from tests.order import SHARED_FLOW, SHARED_SERVER, group_of


@pytest.mark.parametrize(
    ("file", "group"),
    [
        ("tests/flows/test_rest.py", SHARED_FLOW),
        ("tests/flows/test_going_live.py", "tests/flows/test_going_live.py"),  # a Flow of its own
        ("tests/web/test_run.py", "tests/web"),
        ("tests/gateway/rest/test_bodies.py", "tests/gateway"),
        ("tests/trainer/test_leases.py", SHARED_SERVER),
        ("tests/indexer/feedback/test_store.py", SHARED_SERVER),
        ("tests/client/test_metrics.py", "tests/client/test_metrics.py"),
    ],
)
def test_files_that_share_a_flow_or_a_browser_are_one_group(file: str, group: str) -> None:
    assert group_of(file) == group


def test_a_folder_is_made_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    made: list[Path] = []
    for _ in range(2):
        folder = made_once(tmp_path_factory, "once", made.append)
    assert made == [folder]
