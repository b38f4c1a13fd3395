"""The OpenAPI document, and what schemathesis makes of it: no request fails the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from finetuner.flow.running_flow import RunningFlow

REST = ("/api/v1/", "/v1/")
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Flow of its own, in which anything may be deleted and promoted."""
    with RunningFlow(tmp_path_factory.mktemp("fuzzed")) as running:
        yield running.http


def call_all(http: str, examples: int) -> Counter[int]:
    """Call every operation with as many right and as many wrong requests; return how often each status came."""
    statuses: Counter[int] = Counter()
    schema = schemathesis.openapi.from_url(f"{http}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=examples,
                phases=[Phase.generate],
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def call(case: schemathesis.Case) -> None:
                response = case.call(timeout=60)
                statuses[response.status_code] += 1
                checks = CHECKS if case.path.startswith(REST) else [not_a_server_error]
                case.validate_response(response, checks=checks)

            with suppress(Unsatisfiable):  # a request without parameters cannot be wrong
                call()
    return statuses


@pytest.mark.slow
def test_a_few_calls_of_everything_fail_nothing(http: str) -> None:
    statuses = call_all(http, examples=2)
    assert statuses.total() >= 100
    assert {200, 404, 422} <= set(statuses)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_calls_fail_nothing(http: str) -> None:
    statuses = call_all(http, examples=30)
    print(f"{statuses.total()} calls: {dict(sorted(statuses.items()))}")
    assert statuses.total() >= 2000
    assert max(statuses) < 500


def test_every_rest_operation_and_field_is_described(flow: RunningFlow) -> None:
    document = httpx.get(f"{flow.http}/openapi.json").json()
    identifiers = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(identifiers) == len(set(identifiers))
    for path, item in document["paths"].items():
        for operation in item.values() if path.startswith(REST) else ():
            assert operation["summary"]
            assert operation["description"]
            assert {"401", "403", "404", "422", "500", "503"} <= set(operation["responses"])
            assert all(parameter["description"] for parameter in operation.get("parameters", ()))
    for path, item in document["paths"].items():
        for operation in item.values():
            good = [answer for status, answer in operation["responses"].items() if status.startswith("20")]
            answers = [content["schema"] for answer in good for content in answer.get("content", {}).values()]
            assert answers, path
            assert all(answers), f"{path}: an untyped answer"
    names = list(document["components"]["schemas"])
    assert not [name for name in names if "__" in name], "two models of one name, which generators of clients refuse"
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            plain = {"anyOf", "$ref", "allOf", "items", "enum", "const"} & set(described)
            assert "description" in described or plain, f"{name}.{field}"
