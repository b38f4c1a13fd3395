"""The queues of devices, as a pure function, and the names of GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer import devices
from finetuner.executors.trainer.devices import Devices, environment, find_gpus
from finetuner.executors.trainer.run_store import RunRecord

FOUR = Devices(["0", "1", "2", "3"])


def waiting(*runs: str) -> list[RunRecord]:
    """Return runs from 'name:gpus', where 0 is device='cpu'."""
    records = []
    for name, _, count in (run.partition(":") for run in runs):
        options = {"num_processes": int(count)} if int(count) > 1 else {}
        config: dict[str, Any] = {"device": "cuda" if int(count) else "cpu", "training_options": options}
        records.append(RunRecord(name, "default", name, config, {}, "CREATED", "", 0.0, None, None))
    return records


def started(devices: Devices, runs: list[RunRecord], *occupied: str) -> dict[str, tuple[str, ...]]:
    return {entry.run.name: entry.devices for entry in devices.assign(runs, occupied)}


def test_each_device_takes_one_run() -> None:
    runs = waiting("a:1", "b:0", "c:2", "d:0", "e:1", "f:1")
    assert started(FOUR, runs) == {"a": ("0",), "b": ("cpu",), "c": ("1", "2"), "e": ("3",)}


@pytest.mark.parametrize(
    ("occupied", "expected"),
    [
        ((), {"a": ("0",), "b": ("cpu",)}),
        (("1", "3"), {"a": ("0",), "b": ("cpu",)}),
        (("0", "2"), {"a": ("1",), "b": ("cpu",)}),
        (("cpu",), {"a": ("0",)}),
        (("0", "1", "2", "3"), {"b": ("cpu",)}),
        (("0", "1", "2", "3", "cpu"), {}),
    ],
    ids=str,
)
def test_occupied_devices_are_left_alone(occupied: tuple[str, ...], expected: dict[str, tuple[str, ...]]) -> None:
    assert started(FOUR, waiting("a:1", "b:0"), *occupied) == expected


def test_a_run_on_many_gpus_does_not_starve() -> None:
    runs = waiting("many:4", "one:1", "on-cpu:0")
    assert started(FOUR, runs, "2") == {"on-cpu": ("cpu",)}, "the free GPUs wait for the first run"
    assert started(FOUR, runs) == {"many": ("0", "1", "2", "3"), "on-cpu": ("cpu",)}


def test_without_gpus_every_run_takes_the_cpu_in_turn() -> None:
    runs = waiting("a:2", "b:0", "c:1")
    assert started(Devices([]), runs) == {"a": ("cpu",)}
    assert started(Devices([]), runs[1:]) == {"b": ("cpu",)}
    assert started(Devices([]), runs, "cpu") == {}


def test_a_run_of_a_larger_machine_takes_all_gpus() -> None:
    assert started(Devices(["0"]), waiting("many:8", "one:1")) == {"many": ("0",)}


def test_no_run_waits() -> None:
    assert FOUR.assign([], []) == []


def test_more_processes_than_gpus_are_refused_at_the_door() -> None:
    config = RunConfig("clip-mini", "pairs", training_options={"num_processes": 2})
    with pytest.raises(InvalidInput, match="num_processes must be at most the number of GPUs, 1. Got 2. Lower it."):
        Devices(["0"]).check(config)
    Devices(["0", "1"]).check(config)
    Devices([]).check(config)
    Devices(["0"]).check(RunConfig("clip-mini", "pairs", device="cpu", training_options={"num_processes": 2}))


def test_a_worker_sees_its_own_devices_alone() -> None:
    assert environment(("2", "5")) == {"CUDA_VISIBLE_DEVICES": "2,5"}
    assert environment(("cpu",)) == {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize(
    ("visible", "found", "names"),
    [
        (None, 2, ("0", "1")),
        ("4, 7", 2, ("4", "7")),
        ("GPU-a,-1,GPU-b", 1, ("GPU-a",)),
        ("", 0, ()),
        (None, 0, ()),
    ],
)
def test_gpus_have_the_names_that_cuda_visible_devices_gives_them(
    visible: str | None, found: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(devices, "_count_cuda_devices", lambda: found)
    assert find_gpus() == names


def test_a_setting_replaces_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_gpus(0) == ()
    assert find_gpus(3) == ("0", "1", "2")
    with pytest.raises(InvalidInput, match=r"gpus must be a whole number in \[0, 1024\]. Got -1"):
        find_gpus(-1)


def test_the_driver_counts_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    assert devices._count_cuda_devices() == torch.cuda.device_count()
