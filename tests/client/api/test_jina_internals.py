"""Jina's part that `finetuner.api.hub_executor` replaces: `Deployment.__init__`, before it reads `uses`."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from jina import Deployment
from jina.orchestrate import deployments

from finetuner.api import hub_executor


def test_a_deployment_takes_uses_by_name_or_in_parsed_arguments() -> None:
    assert Deployment is deployments.Deployment
    parameters = inspect.signature(inspect.unwrap(Deployment.__init__)).parameters
    assert list(parameters) == ["self", "args", "needs", "include_gateway", "kwargs"]
    assert parameters["args"].default is None


def test_uses_is_resolved_before_jina_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def init(self: Any, args: Any = None, *others: Any, **options: Any) -> None:
        seen.append(args.uses if args is not None else options["uses"])

    monkeypatch.setattr(Deployment, "__init__", init)
    monkeypatch.setattr(hub_executor, "_resolved", lambda uses: f"resolved {uses}")
    hub_executor._wrap(deployments)
    Deployment(uses="a")
    Deployment(SimpleNamespace(uses="b"))
    assert seen == ["resolved a", "resolved b"]
