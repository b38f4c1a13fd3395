"""The role that each request needs."""

from __future__ import annotations

import pytest

from finetuner.contract import wire
from finetuner.executors.gateway.access import roles
from finetuner.workspace.tokens import Role

READ, WRITE, ADMIN = Role


def test_every_endpoint_of_the_contract_has_a_role() -> None:
    contract = {value for name, value in vars(wire).items() if name.isupper() and str(value).startswith("/")}
    assert set(roles.ENDPOINTS) == contract


@pytest.mark.parametrize(
    "endpoint", ["", "/Encode", "/encode ", "/fit/", "encode", "/search/x", "/index/drop", "_jina_dry_run_", "/default"]
)
def test_endpoints_outside_the_tables_need_admin(endpoint: str) -> None:
    assert roles.of_endpoint(endpoint) == ADMIN
    if endpoint.startswith("/"):
        assert roles.of_page("POST", endpoint) == ADMIN


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/", None),
        ("HEAD", "/healthz", None),
        ("GET", "/v2/rpc/user.identity.proxiedAuthorize", None),
        ("POST", "/v2/rpc/user.identity.proxiedAuthorize", ADMIN),
        ("GET", "/ui/app.js", None),
        ("GET", "/uix", READ),
        ("GET", "/v2/download/x", None),
        ("POST", "/v2/download/x", ADMIN),
        ("GET", "/openapi.json", READ),
        ("GET", "/v1/artifacts/x/zip", READ),
        ("POST", "/", READ),
        ("POST", "/encode/clip-mini", READ),
        ("POST", "/encode/../fit", READ),  # a model's name, not a path
        ("POST", "/v1/search", READ),
        ("POST", "/v1/search\n", ADMIN),
        ("POST", "//v1/search", ADMIN),
        ("POST", "/v1/search/", ADMIN),
        ("POST", "/v1/index", WRITE),
        ("POST", "/v1/feedback", READ),
        ("POST", "/v1/feedback/list", WRITE),
        ("POST", "/v1/feedback/delete", WRITE),
        ("POST", "/v1/artifacts/x/promote", WRITE),
        ("POST", "/v1/datasets/x/split", WRITE),
        ("POST", "/v1/datasets/x/y/index", ADMIN),
        ("POST", "/v1/feedback/rounds/x/finish", WRITE),
        ("POST", "/v1/artifacts/x/exports/onnx", WRITE),
        ("GET", "/v1/artifacts/x/exports/onnx", READ),
        ("GET", "/v1/rooms", ADMIN),
        ("DELETE", "/v1/datasets/x", WRITE),
        ("DELETE", "/api/v1/experiments/", WRITE),
        ("DELETE", "/api/v1/experiments/e/runs/r", WRITE),
        ("POST", "/v2/rpc/artifact.upload", WRITE),
        ("POST", "/v2/rpc/artifactXupload", ADMIN),
        ("POST", "/fit", WRITE),
        ("POST", "/index/backup", ADMIN),
        ("PUT", "/encode", ADMIN),
        ("PUT", "/v1/search", WRITE),
        ("OPTIONS", "/", ADMIN),
        ("TRACE", "/healthz", ADMIN),
    ],
)
def test_pages(method: str, path: str, needed: Role | None) -> None:
    assert roles.of_page(method, path) == needed


def test_unknown_grpc_methods_need_admin() -> None:
    assert roles.of_method("/jina.JinaExecutorSnapshot/snapshot") == ADMIN
    assert roles.of_method("/jina.JinaRPC/Call") == READ
    assert roles.of_method("/grpc.health.v1.Health/Check") is None
    assert roles.of_method("/grpc.health.v1.HealthX/Check") == ADMIN
