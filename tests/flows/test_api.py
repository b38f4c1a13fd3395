"""The old package's functions against a real Flow."""

from __future__ import annotations

import pytest
from docarray import DocumentArray

import finetuner
from finetuner.catalogue import fashion
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import ExperimentNotFound, InvalidInput, RunFailedError, RunNotFound
from finetuner.flow.running_flow import RunningFlow


@pytest.fixture(autouse=True)
def _connected(flow: RunningFlow, own_session: None) -> None:
    finetuner.login(host=flow.host)


def pairs(items: int) -> DocumentArray:
    return DocumentArray(make_pair(one.captions["en"], one.jpeg) for one in fashion("train", items=items))


def test_an_experiment_from_beginning_to_end() -> None:
    assert finetuner.create_experiment("spring") == finetuner.create_experiment("spring"), "get or create"
    everything = finetuner.list_experiments(size=1000)
    assert {"default", "spring"} <= {experiment.name for experiment in everything}
    assert finetuner.list_experiments(page=2, size=1) == everything[1:2], "one a page, the second of them"
    runs = [
        finetuner.fit(
            "clip-mini", pairs(2), loss="CLIPLoss", epochs=1, experiment_name="spring", run_name=name, wait=True
        )
        for name in ("first", "second")
    ]
    assert [run.status()["status"] for run in runs] == ["FINISHED", "FINISHED"], "wait waits"
    spring = finetuner.get_experiment("spring")
    assert [run.name for run in spring.list_runs()] == ["first", "second"]
    assert [run.name for run in finetuner.list_runs("spring", page=2, size=1)] == ["second"]
    assert spring.get_run("first").artifact_id == runs[0].artifact_id
    finetuner.delete_run("first", "spring")
    with pytest.raises(RunNotFound, match="'first'"):
        spring.get_run("first")
    assert finetuner.delete_experiment("spring").name == "spring"
    with pytest.raises(ExperimentNotFound, match="Got 'spring'"):
        finetuner.get_experiment("spring")
    assert finetuner.list_runs("spring") == []
    assert runs[0].artifact_id in {entry["artifact_id"] for entry in finetuner.list_artifacts()}, "artifacts stay"


def test_an_experiment_with_a_run_under_way_stays() -> None:
    run = finetuner.create_training_run("clip-mini", pairs(2), loss="CLIPLoss", epochs=5000, experiment_name="busy")
    with pytest.raises(InvalidInput, match="run must have ended"):
        finetuner.delete_experiment("busy")
    run.cancel()
    with pytest.raises(RunFailedError, match="CANCELED"):
        run.wait()
    finetuner.delete_runs("busy")
    assert finetuner.get_experiment("busy").list_runs() == []
    finetuner.delete_experiment("busy")


def test_arguments_of_older_scripts(flow: RunningFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNER_HOST", flow.host)
    for name in ("notebook_login", "connect"):
        with pytest.warns(DeprecationWarning, match=f"finetuner.{name} is deprecated: use finetuner.login"):
            getattr(finetuner, name)(force=True)
    with pytest.warns(DeprecationWarning, match="cpu= is deprecated"):
        run = finetuner.fit("clip-mini", pairs(2), loss="CLIPLoss", epochs=1, cpu=True, scheduler_step="batch")
    assert run.config["device"] == "cpu"
    run.wait()
    with pytest.raises(InvalidInput, match="scheduler_options need a scheduler of .*Got None"):
        finetuner.fit("clip-mini", pairs(2), loss="CLIPLoss", scheduler_step="epoch")


def test_pages_start_at_one() -> None:
    for page, size in ((0, 10), (1, 0)):
        with pytest.raises(InvalidInput, match="page and size must be at least 1"):
            finetuner.list_runs(page=page, size=size)
        with pytest.raises(InvalidInput, match="page and size must be at least 1"):
            finetuner.list_experiments(page, size)
