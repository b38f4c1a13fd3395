"""The checks of the workspace, its clock and the weights."""

from __future__ import annotations

import errno
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetuner.doctor import workspace_check
from finetuner.doctor.finding import Finding, Status, ok
from tests.client.doctor.conftest import one

IMAGE_USER = 10001  # uid in the Docker image


def test_a_good_workspace_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "tokens.json").write_text("{}")
    assert one(workspace_check.workspace(tmp_path)).status is Status.OK
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["runs", "tokens.json"]


def test_a_missing_workspace_is_not_created(tmp_path: Path) -> None:
    assert one(workspace_check.workspace(tmp_path / "a" / "b")).status is Status.OK
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inner", ["", "workspace"])
def test_a_file_instead_of_the_folder_fails(tmp_path: Path, inner: str) -> None:
    (tmp_path / "file").touch()
    found = one(workspace_check.workspace(tmp_path / "file" / inner))
    assert (found.status, found.found) == (Status.FAILED, f"{tmp_path / 'file'} is not a folder")


def test_a_folder_that_cannot_be_written_fails() -> None:
    found = one(workspace_check.workspace(Path("/proc/workspace")))
    assert found.status is Status.FAILED
    assert found.found.startswith("/proc cannot be written: ")


@pytest.mark.parametrize("attempt", list(workspace_check.ATTEMPTS))
def test_a_file_system_without_a_feature_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: str) -> None:
    def lacks(trial: Path) -> None:
        (trial / "half").touch()
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setitem(workspace_check.ATTEMPTS, attempt, lacks)
    found = one(workspace_check.workspace(tmp_path))
    assert found.status is Status.FAILED
    assert f"does not support {attempt}: " in found.found
    assert list(tmp_path.iterdir()) == []


def as_image_user(root: Path) -> Finding:
    """Return the finding of the Docker image's user, from a process of its own."""

    def look() -> None:
        os.setgroups([])
        os.setgid(IMAGE_USER)
        os.setuid(IMAGE_USER)
        answers.send(one(workspace_check.workspace(root)))

    read, answers = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=look)
    child.start()
    child.join(200)
    assert child.exitcode == 0
    found: Finding = read.recv()
    return found


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Yield a folder that every user can reach. pytest's own folders are closed to other users."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.process
def test_the_advice_for_a_workspace_of_another_user_is_chown(open_path: Path) -> None:
    root = open_path / "workspace"
    root.mkdir(mode=0o755)
    found = as_image_user(root)
    assert (found.status, found.found) == (Status.FAILED, f"{root} cannot be written: Permission denied")
    assert f"chown -R {IMAGE_USER} {root} " in found.advice
    os.chown(root, IMAGE_USER, -1)
    assert as_image_user(root).status is Status.OK
    (root / "tokens.json").touch(0o600)
    found = as_image_user(root)
    assert found.status is Status.FAILED
    assert found.found == f"uid {IMAGE_USER} cannot read and write these in {root}: tokens.json"
    assert f"chown -R {IMAGE_USER} {root} " in found.advice


@pytest.mark.process
def test_the_advice_for_a_missing_workspace_leaves_its_parent_alone(open_path: Path) -> None:
    found = as_image_user(open_path / "workspace")
    assert f"mkdir -p {open_path / 'workspace'} && chown {IMAGE_USER} {open_path / 'workspace'}" in found.advice
    assert "-R" not in found.advice


def test_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(workspace_check.clock(tmp_path)).status is Status.OK
    assert one(workspace_check.clock(Path("/proc"))).status is Status.OK, "nothing to compare with"
    assert list(tmp_path.iterdir()) == []
    real = time.time()
    for shown, status, said in ((0.0, Status.FAILED, "1970-01-01"), (real + 60, Status.WARNING, "behind")):
        clock = SimpleNamespace(time=lambda shown=shown: shown, gmtime=time.gmtime, strftime=time.strftime)
        monkeypatch.setattr(workspace_check, "time", clock)
        found = one(workspace_check.clock(tmp_path))
        assert found.status is status
        assert said in found.found


@pytest.mark.parametrize(("written", "seconds"), [(5, -5), (10, 0), (11, 0), (12, 0), (20, 8)])
def test_clock_difference_is_the_distance_to_the_interval(written: float, seconds: float) -> None:
    assert workspace_check.clock_difference(written, 10, 12) == seconds


def test_weights_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("weights/ViT-B-32/openai.safetensors", "weights/ViT-B-32/config.json", "given/a.pt", "given/b/c.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("FINETUNER_WEIGHTS", str(tmp_path / "given"))
    monkeypatch.setattr(workspace_check, "_hub_cache", lambda: None)
    found = one(workspace_check.weights(tmp_path))
    assert found == ok("weights", "clip-mini; files: 2 in $FINETUNER_WEIGHTS, 1 in the workspace")
    monkeypatch.setenv("FINETUNER_WEIGHTS", str(tmp_path / "nowhere"))
    assert next(workspace_check.weights(tmp_path)).status is Status.WARNING


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-1], "its header states"),
        (lambda content: content[:100], "ends within its header"),
        (lambda content: b"\x02" + bytes(7) + b"[]", "not a safetensors header"),
        (lambda content: b"", "ends within its header"),
        (None, "No such file"),
    ],
)
def test_damaged_weights_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes] | None, said: str
) -> None:
    file = tmp_path / "clip.safetensors"
    if damage is not None:
        file.write_bytes(damage(workspace_check.PACKAGED.read_bytes()))
    monkeypatch.setattr(workspace_check, "PACKAGED", file)
    found = one(workspace_check.weights(tmp_path))
    assert found.status is Status.FAILED
    assert said in found.found
