"""The module's functions without a Flow; tests/flows runs them on a real one."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import pytest
from docarray import Document, DocumentArray

import finetuner
from finetuner.api import hub, session
from finetuner.contract import wire
from finetuner.contract.environment import CONTRACT, HTTP, HTTP_PORT, LOGGED_IN, VERSION
from finetuner.exceptions import (
    ArtifactNotFound,
    FinetunerError,
    FlowUnreachable,
    Forbidden,
    InvalidInput,
    NoSuchModel,
    NotFound,
    RunNotFound,
    SelectModelRequired,
)
from finetuner.transport.connection import Connection


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch: pytest.MonkeyPatch, own_session: None, unused_port: int) -> None:
    """Forget the connection of other tests; the default host has no Flow."""
    monkeypatch.setenv("FINETUNER_HOST", f"grpc://127.0.0.1:{unused_port}")
    monkeypatch.delenv("FINETUNER_TOKEN", raising=False)
    for name in (hub.ADDRESS, hub.TOKEN, hub.HINT, HTTP, LOGGED_IN):  # set first: monkeypatch then restores each one
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(hub, "_written", "")
    monkeypatch.setattr(hub, "_users_token", "")


def test_login_to_a_dead_port_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FlowUnreachable, match="Start one with `finetuner up`") as caught:
        finetuner.login()
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert session._current is None


def test_every_function_connects_first() -> None:
    for call in (finetuner.get_token, finetuner.list_runs, finetuner.list_data, finetuner.list_artifacts):
        with pytest.raises(FlowUnreachable):
            call()
    with pytest.raises(FlowUnreachable):
        finetuner.search("a red dress")


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return what each Flow reports, to be changed."""
    found = {CONTRACT: str(wire.CONTRACT), VERSION: "9.9"}
    monkeypatch.setattr(session, "probe", lambda connection: found)
    return found


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch, reported: dict[str, str]) -> None:
    monkeypatch.setattr(Connection, "call", lambda self, endpoint, **parameters: None)


@pytest.mark.parametrize(
    ("contract", "next_step"),
    [
        ("2", "Upgrade the client: pip install --upgrade open-finetuner"),
        ("0", "Upgrade the Flow"),
        ("", "Upgrade the Flow"),
    ],
)
def test_another_contract_is_one_clear_sentence(
    answered: None, reported: dict[str, str], contract: str, next_step: str
) -> None:
    reported[CONTRACT] = contract
    with pytest.raises(FinetunerError, match=f"Got {contract or 'none'}, of open-finetuner 9.9. {next_step}"):
        finetuner.login()
    assert session._current is None


def test_a_flow_before_contracts_and_another_service_are_told_apart(answered: None, reported: dict[str, str]) -> None:
    reported.clear()
    with pytest.raises(FlowUnreachable, match="an Open Finetuner Flow must answer at .* Got another service"):
        finetuner.login()
    reported[HTTP_PORT] = "51001"
    with pytest.raises(FinetunerError, match="Got none, of open-finetuner before contracts had numbers. Upgrade the F"):
        finetuner.login()


def test_the_token_comes_from_the_argument_or_the_environment(answered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_AUTH_TOKEN", "third")
    finetuner.login()
    assert finetuner.get_token() == "third"
    monkeypatch.setenv("FINETUNER_TOKEN", "second")
    finetuner.login()
    assert finetuner.get_token() == "second"
    finetuner.login(token="first", host="x:1")
    assert (finetuner.get_token(), session.connection().host) == ("first", "grpc://x:1")


@pytest.mark.usefixtures("reported")
def test_a_read_only_token_logs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Forbidden, NotFound):  # the role, or a Flow without a trainer

        def call(self: Connection, endpoint: str, kind: Any = kind, **parameters: Any) -> None:
            raise kind(f"{endpoint} is not for you")

        monkeypatch.setattr(Connection, "call", call)
        finetuner.login(token=f"a-readers-{kind.__name__}", host="http://x:1")
        assert finetuner.get_token() == f"a-readers-{kind.__name__}"


def test_login_points_docarray_at_the_http_side(answered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    finetuner.login(host="https://flow.example:8443", token="secret")
    assert {name: os.environ.get(name) for name in (hub.ADDRESS, hub.TOKEN, hub.HINT)} == {
        hub.ADDRESS: "https://flow.example:8443",
        hub.TOKEN: "secret",
        hub.HINT: "NEVER",
    }
    finetuner.login(host="http://other.example:80")  # one Flow's token is never sent to another Flow
    assert os.environ[hub.TOKEN] == hub.NO_TOKEN
    assert finetuner.get_token() == ""
    finetuner.login(host="x:1", http_host="http://outside:9/")
    assert os.environ[hub.ADDRESS] == "http://outside:9"
    monkeypatch.setenv(HTTP, "http://by-environment:8")
    finetuner.login(host="x:1", force=True)
    assert os.environ[hub.ADDRESS] == "http://by-environment:8"
    with pytest.raises(InvalidInput, match="http_host must be like .* Got 'grpc://x:1'"):
        finetuner.login(http_host="grpc://x:1")


def test_the_users_own_token_survives_another_login(answered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hub.TOKEN, "mine")
    finetuner.login(host="http://x:1", token="another")
    assert os.environ[hub.TOKEN] == "another"
    finetuner.login(host="http://y:1")
    assert finetuner.get_token() == "mine"


def test_a_flow_without_http_leaves_the_environment_unchanged(answered: None, caplog: pytest.LogCaptureFixture) -> None:
    finetuner.login()
    assert hub.ADDRESS not in os.environ
    assert hub.TOKEN not in os.environ
    assert "login(http_host=" in caplog.text


UNSUPPORTED: list[tuple[str, Any]] = [
    ("public", True),
]
FOR_IMAGES: list[tuple[str, Any]] = [
    ("model_options", {"pooler": "GeM"}),
    ("miner", "TripletMarginMiner"),
    ("freeze", True),
    ("output_dim", 64),
    ("num_items_per_class", 2),
    ("loss_optimizer", "Adam"),
    ("loss_optimizer_options", {"lr": 1}),
]


@pytest.mark.parametrize(("name", "value"), FOR_IMAGES, ids=lambda value: str(value)[:20])
def test_what_is_for_images_is_refused_for_a_clip(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is for image models. Got .* for clip-mini"):
        finetuner.fit("clip-mini", "pairs", loss="CLIPLoss", **{name: value})


@pytest.mark.parametrize(("name", "value"), UNSUPPORTED, ids=lambda value: str(value)[:20])
def test_unsupported_arguments_of_fit_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is not supported yet and must be .* Got"):
        finetuner.fit("clip-mini", "pairs", loss="CLIPLoss", **{name: value})


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"loss": "TripletMarginLoss"}, "loss must be one of CLIPLoss"),
        ({"epochs": 0}, r"epochs must be a whole number in \[1, 10000\]. Got 0"),
        ({"run_name": "../x"}, "run_name must be 1 to 128 letters.*Got '../x'"),
        ({"run_name": ""}, "run_name must be 1 to 128 letters.*Got ''"),
        ({"run_name": "a/b", "train_data": DocumentArray([Document()])}, "run_name must be.*Got 'a/b'"),
        ({"experiment_name": "a/b"}, "experiment_name must be.*Got 'a/b'"),
        (
            {"experiment_name": "a/b", "train_data": DocumentArray([Document()])},
            "experiment_name must be.*Got 'a/b'",
        ),
        ({"train_data": None}, "train_data must be documents, the name.*Got NoneType"),
        ({"eval_data": 5}, "eval_data must be documents, the name.*Got int"),
        ({"train_data": DocumentArray()}, "train_data must hold at least one document. Got none"),
        ({"scheduler_step": "epoch"}, "scheduler_options need a scheduler of .*Got None"),
        (
            {"scheduler": "cosine", "scheduler_step": "steps"},
            "scheduler_step.* must be one of batch, epoch. Got 'steps'",
        ),
        (
            {"scheduler": "cosine", "scheduler_options": {"scheduler_step": "batch"}, "scheduler_step": "epoch"},
            "scheduler_step must be the same in scheduler_options. Got 'epoch' and 'batch'",
        ),
        ({"optimizer": "Adamw"}, "optimizer must be one of .*, Adam, AdamW, .* Got 'Adamw'. Did you mean 'AdamW'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(wrong: dict[str, Any], expected: str) -> None:
    arguments: dict[str, Any] = {"model": "clip-mini", "train_data": "pairs", "loss": "CLIPLoss"}
    with pytest.raises(InvalidInput, match=expected) as caught:
        finetuner.fit(**arguments | wrong)
    assert "\n" not in str(caught.value)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Flow that takes every run and has none."""

    def call(self: Connection, endpoint: str, **parameters: Any) -> Any:
        if endpoint == wire.FIT:
            return {"name": "run", "experiment": "default", **parameters}
        if endpoint == wire.DATASETS_LIST:
            return [{"name": "data", "documents": 100}]
        raise RunNotFound("no run yet")

    monkeypatch.setattr(Connection, "call", call)
    monkeypatch.setattr(session, "_current", Connection("grpc://127.0.0.1:1", ""))


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize(("model", "loss"), [("clip-mini", "CLIPLoss"), ("resnet-base", "TripletMarginLoss")])
def test_fit_without_a_loss_sends_the_loss_of_the_task(model: str, loss: str) -> None:
    default = inspect.signature(finetuner.fit).parameters["loss"].default
    for given in ({}, {"loss": default}):
        assert finetuner.fit(model, "data", **given).config["loss"] == loss


@pytest.mark.usefixtures("answers")
def test_fit_sends_the_options_of_its_recipe() -> None:
    plain = finetuner.fit("clip-mini", "data").config
    assert (plain["recipe"], plain["optimizer"], plain["scheduler"], plain["callbacks"]) == ("", "Adam", None, [])
    kept = finetuner.fit("clip-mini", "data", eval_data="test", recipe="keep", scheduler="linear").config
    assert (kept["recipe"], kept["optimizer"], kept["scheduler"]) == ("keep", "AdamW", "linear")
    assert kept["training_options"] == {"captions_per_image": 2, "distillation": 1.0}
    assert kept["callbacks"][0]["options"]["alphas"] == [0.2, 0.4, 0.6, 0.8]
    assert finetuner.fit("clip-mini", "data", recipe="keep", optimizer="Adam").config["optimizer"] == "Adam"
    with pytest.raises(InvalidInput, match="recipe 'keep' needs .*'distillation'.*Got 0"):
        finetuner.fit("clip-mini", "data", recipe="keep", training_options={"distillation": 0})
    with pytest.raises(InvalidInput, match="recipe must be one of default, keep.*Got 'kep'. Did you mean 'keep'"):
        finetuner.fit("clip-mini", "data", recipe="kep")


def test_an_unknown_model_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(NoSuchModel, match="Nearest: clip-mini"):
        finetuner.fit("clip-mimi", "pairs", loss="CLIPLoss")


def test_a_local_model_needs_no_flow(published: Path) -> None:
    model = finetuner.get_model(str(published), select_model="clip-text", device="cpu")
    assert finetuner.encode(model, ["a red dress"]).shape == (1, model.dim)
    with pytest.raises(SelectModelRequired):
        finetuner.get_model(str(published))


@pytest.mark.parametrize("name", ["missing.zip", "/no/such/folder", "a/b"])
def test_a_path_that_does_not_exist_is_not_an_artifact(name: str) -> None:
    with pytest.raises(ArtifactNotFound, match="must be a folder, a zip or an artifact id. Got"):
        finetuner.get_model(name, select_model="clip-text")


@pytest.mark.parametrize("name", ["live", "best-of-may", "0123456789abcdef01234567"])
def test_an_id_or_alias_asks_the_flow(name: str) -> None:
    with pytest.raises(FlowUnreachable):
        finetuner.get_model(name, select_model="clip-text")
