"""The old API: the configuration of a run, and its log as events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import FinetunerServerError, InvalidInput, ResourceExhausted, RunNotFound
from finetuner.executors.gateway.rest import logstream
from finetuner.executors.gateway.rest.logstream import OpenStreams, follow_log
from finetuner.executors.gateway.rest.run_forms import RunForm
from finetuner.executors.gateway.rest.run_request import described_run, run_config

# The body that the published client sends for fit(model, train_data, ...): every field, null if not set.
CONFIG = {
    "public": False,
    "run_name": "shoes",
    "experiment_name": "spring",
    "model": {
        "name": "clip-mini", "artifact": None, "freeze": False, "output_dim": None, "options": {}, "to_onnx": False,
    },
    "data": {
        "train_data": "finetuner-dastorage-spring-shoes-train", "eval_data": None, "val_split": 0.0, "evaluate": False,
        "num_workers": 2, "sampler": "auto", "num_items_per_class": 4,
    },
    "callbacks": [{"name": "WiSEFTCallback", "options": {"alpha": 0.4}}],
    "hyper_parameters": {
        "optimizer": "Adam", "optimizer_options": {}, "loss": "CLIPLoss", "loss_options": {}, "loss_optimizer": None,
        "loss_optimizer_options": {}, "miner": None, "miner_options": {}, "scheduler": None, "scheduler_options": {},
        "batch_size": 8, "learning_rate": None, "epochs": 3,
    },
}  # fmt: skip
BODY = {
    "name": "shoes", "config": CONFIG, "task": "training", "finetuner_version": "0.13.10", "device": "gpu", "cpus": 4,
    "gpus": 1,
}  # fmt: skip


def with_config(part: str = "", **fields: Any) -> dict[str, Any]:
    """Return BODY with other fields in its configuration, or in a part of that."""
    config: dict[str, Any] = dict(CONFIG)
    changed = {**config, **fields} if not part else {**config, part: {**config[part], **fields}}
    return {**BODY, "config": changed}


def asked(body: dict[str, Any]) -> RunConfig:
    return RunConfig.from_dict(run_config(RunForm.parse_obj(body), "spring"))


def test_the_published_clients_body_is_the_run_of_fit() -> None:
    assert asked(BODY) == RunConfig(
        model="clip-mini",
        train_data="finetuner-dastorage-spring-shoes-train",
        run_name="shoes",
        experiment_name="spring",
        loss="CLIPLoss",
        batch_size=8,
        epochs=3,
        device="gpu",
        num_workers=2,
        callbacks=[{"name": "WiSEFTCallback", "options": {"alpha": 0.4}}],
    )


def test_a_recipe_fills_in_what_the_body_leaves_out() -> None:
    least = {"model": {"name": "clip-mini"}, "data": {"train_data": "shoes"}, "recipe": "keep"}
    config = asked({"name": "shoes", "config": least})
    assert (config.recipe, config.optimizer, config.scheduler) == ("keep", "AdamW", "cosine")
    assert config.training_options == {"captions_per_image": 2, "distillation": 1.0}
    for model, message in (("clip-mini", "'distillation'.*Got 0"), ("resnet50", "recipe must be left out")):
        options = {"model": {"name": model}, "training_options": {"distillation": 0}}
        with pytest.raises(InvalidInput, match=message):
            asked({"name": "shoes", "config": {**least, **options}})
    with pytest.raises(InvalidInput, match="config.recipe needs config.model.name.* Got 'keep' without it"):
        asked({"name": "shoes", "config": {**least, "model": {"artifact": "0" * 24}}})


def test_missing_fields_take_the_defaults_of_fit() -> None:
    for model, loss in (("resnet50", "TripletMarginLoss"), ("clip-mini", "CLIPLoss")):
        least = {"name": "shoes", "config": {"model": {"name": model}, "data": {"train_data": "shoes"}}}
        expected = RunConfig(
            model=model,
            train_data="shoes",
            run_name="shoes",
            experiment_name="spring",
            loss=loss,
            device="gpu",
        )
        assert asked(least) == expected


def test_the_description_of_a_run_is_a_valid_body() -> None:
    config = asked({**with_config("hyper_parameters", learning_rate=1e-4), "description": "red"}).to_dict()
    run = {"name": "shoes", "experiment": "spring", "artifact_id": "a" * 24, "config": config, "created_at": 0.0}
    described = described_run(run)
    assert (described["created_at"], described["task"]) == ("1970-01-01T00:00:00+00:00", "training")
    assert described["description"] == "red"
    again = RunForm.parse_obj({"name": "shoes", "config": described["config"], "description": "red"})
    assert RunConfig.from_dict(run_config(again, "spring")).to_dict() == config
    for part in ("model", "data", "hyper_parameters"):
        assert set(CONFIG[part]) <= set(described["config"][part])  # type: ignore[arg-type]


def test_cpus_and_gpus_set_threads_and_processes() -> None:
    assert asked(with_config("data", num_workers=None)).num_workers == 4
    assert asked({**BODY, "gpus": 2}).options.num_processes == 2
    assert asked({**BODY, "gpus": 0}).options.num_processes == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (with_config(public=True), "public is not supported yet"),
        (with_config(run_name="other"), "config.run_name must be name, 'shoes'. Got 'other'"),
        (with_config(experiment_name="default"), "must be the path's experiment, 'spring'. Got 'default'"),
        (with_config("data", evaluate=True), "data.evaluate needs data.eval_data"),
        (with_config("hyper_parameters", loss="CLIPloss"), "loss must be one of CLIPLoss"),
        (with_config("hyper_parameters", scheduler="linaer"), "Did you mean 'linear'"),
        (with_config(callbacks=[{"name": "Nothing"}]), "callback must be one of"),
    ],
)
def test_values_that_fit_refuses_are_refused(body: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        asked(body)


class Log:
    """Rooms whose log grows by a page with each request."""

    def __init__(self, *pages: Any) -> None:
        self._pages: Iterator[Any] = iter(pages)
        self.asked: list[int] = []

    async def call(self, endpoint: str, *, offset: int, **run: str) -> dict[str, Any]:
        self.asked.append(offset)
        page = next(self._pages)
        if isinstance(page, Exception):
            raise page
        text, status = page
        return {"text": text, "offset": offset + len(text.encode()), "status": status}


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logstream, "INTERVAL", 0.0)


def streamed(log: Log, offset: int = 0) -> str:
    async def collect() -> str:
        named = {"name": "shoes", "experiment": "spring"}
        return "".join([event async for event in follow_log(log, named, offset, OpenStreams())])  # type: ignore[arg-type]

    return asyncio.run(collect())


@pytest.mark.usefixtures("_no_waiting")
def test_each_line_is_an_event_until_the_run_ends() -> None:
    log = Log(
        ("", "CREATED"), ("one\ntwo\n", "STARTED"), ("", "STARTED"), ("\nlöss: 1\r\n", "STARTED"), ("", "FINISHED")
    )
    assert streamed(log) == "data: one\n\ndata: two\nid: 8\n\ndata: \n\ndata: löss: 1\nid: 19\n\n"
    assert log.asked == [0, 0, 8, 8, 19]


@pytest.mark.usefixtures("_no_waiting")
def test_a_stream_resumes_after_a_break() -> None:
    log = Log(("three\n", "FINISHED"), ("", "FINISHED"))
    assert streamed(log, offset=8) == "data: three\nid: 14\n\n"


@pytest.mark.usefixtures("_no_waiting")
def test_a_trainer_that_restarts_is_waited_for_and_a_deleted_run_ends_the_stream() -> None:
    log = Log(("one\n", "STARTED"), FinetunerServerError("down", code=503), ("two\n", "STARTED"), RunNotFound("gone"))
    assert streamed(log) == "data: one\nid: 4\n\ndata: two\nid: 8\n\n"


@pytest.mark.usefixtures("_no_waiting")
def test_a_silent_stream_sends_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logstream, "KEEP_ALIVE", -1.0)
    assert streamed(Log(("", "STARTED"), ("", "FINISHED"))) == ": waiting\n\n"


def test_streams_are_bounded_and_counted_to_their_end() -> None:
    streams = OpenStreams()
    with ExitStack() as others:
        for _ in range(logstream.MAX_STREAMS - 1):
            others.enter_context(streams.one())
        with streams.one(), pytest.raises(ResourceExhausted, match="At most 64 log streams"):
            streams.check()
        streams.check()
