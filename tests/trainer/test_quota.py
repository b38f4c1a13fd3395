"""The disk that uploads take: a quota for each token, and free space."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.exceptions import InsufficientStorage
from finetuner.executors.trainer import quota
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.quota import UploadQuota, mark_owner, owner_of
from finetuner.workspace.folder import Workspace

Ask = Callable[..., Any]
MEGABYTE = 10**6


def part(trainer: Trainer, ask: Ask, upload: str, owner: str, number: int = 0, size: int = MEGABYTE) -> Any:
    noise = DocumentArray([Document(blob=os.urandom(size), mime_type="image/png")])
    return ask(trainer.push, noise, upload=upload, part=number, **{wire.OWNER: owner})


@pytest.fixture
def small(tmp_path: Path, still_queue: None, trainer_at: Any) -> Iterator[Trainer]:
    """A trainer whose tokens may upload 3.5 MB each."""
    with trainer_at(tmp_path, upload_quota_gb=0.0035, min_free_mb=0) as opened:
        yield opened


def test_a_token_has_its_own_quota_with_its_unfinished_uploads(small: Trainer, ask: Ask) -> None:
    for number in range(3):
        part(small, ask, "one", "anna", number)
    with pytest.raises(InsufficientStorage, match="uploads of a token may take 3 MiB. Got 1 MiB beside .* of 'anna'"):
        part(small, ask, "two", "anna")
    assert ask(small.push, upload="two")["parts"] == []
    part(small, ask, "three", "ben")
    assert ask(small.push, upload="one")["parts"] == [0, 1, 2], "the other uploads of the token stay"


def test_a_stored_dataset_counts_until_it_is_deleted(small: Trainer, ask: Ask) -> None:
    for number in range(3):
        part(small, ask, "one", "anna", number)
    ask(small.push, upload="one", name="noise", commit=3)
    with pytest.raises(InsufficientStorage):
        part(small, ask, "two", "anna")
    ask(small.delete_dataset, name="noise")
    assert part(small, ask, "two", "anna")["documents"] == 1


def test_a_part_that_is_sent_again_counts_once(small: Trainer, ask: Ask) -> None:
    for _ in range(10):
        part(small, ask, "one", "anna")


def test_uploads_leave_space(trainer: Trainer, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    part(trainer, ask, "one", "anna")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**30 + 10))
    with pytest.raises(InsufficientStorage, match="must keep 1,024 MiB free. Got an upload of 1 MiB, and 1,024 MiB"):
        part(trainer, ask, "one", "anna", 1)
    assert ask(trainer.push, upload="one")["parts"] == [], "it is deleted, which makes room"


def test_every_trainer_leaves_space(trainer: Trainer, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**30))
    with pytest.raises(InsufficientStorage):
        part(trainer, ask, "one", "")


def test_the_quota_is_a_setting(tmp_path: Path, still_queue: None, trainer_at: Any, ask: Ask) -> None:
    with trainer_at(tmp_path, upload_quota_gb=0.0015, min_free_mb=1) as trainer:
        part(trainer, ask, "one", "")
        with pytest.raises(InsufficientStorage, match="upload_quota_gb"):
            part(trainer, ask, "one", "", 1)


def test_a_count_is_remembered_for_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, workspace = 0.0, Workspace(tmp_path)
    found = UploadQuota(workspace, 100 * MEGABYTE, 0, clock=lambda: now)
    counts = []
    monkeypatch.setattr(found, "used", lambda owner: counts.append(owner) or 0)
    for _ in range(90):
        found.admit("anna", MEGABYTE)
    assert counts == ["anna"]
    now = quota.REMEMBERED + 1
    found.admit("anna", MEGABYTE)
    assert counts == ["anna"] * 2


def test_a_mark_keeps_the_first_owner_and_a_damaged_one_is_nobodys(tmp_path: Path) -> None:
    mark_owner(tmp_path / "a", "anna")
    mark_owner(tmp_path / "a", "ben")
    assert owner_of(tmp_path / "a") == "anna"
    (tmp_path / "a" / quota.OWNER).write_text("[[")
    assert owner_of(tmp_path / "a") == ""
