"""Bodies and answers of the routes in http_app.py, for OpenAPI."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .rest.form import Answer

FLOW_REQUEST: dict[str, Any] = {
    "title": "FlowRequest",
    "type": "object",
    "properties": {
        "data": {
            "type": "array",
            "items": {"type": "object"},
            "description": 'Documents: {"text": ...}, {"blob": base64} or {"uri": ...}, with "id" and "tags".',
        },
        "parameters": {"type": "object", "description": "Of the endpoint, such as limit."},
        "exec_endpoint": {"type": "string", "description": "For /post: the endpoint."},
    },
}


class FlowAnswer(Answer):
    """The answer of an endpoint of the Flow."""

    header: dict[str, Any] = Field(..., description="Jina's header, with the request's id and status.")
    parameters: dict[str, Any] = Field(..., description="Those of the request.")
    routes: list[dict[str, Any]] = Field(..., description="The rooms that answered, with their times.")
    data: list[dict[str, Any]] = Field(..., description="The documents, without empty fields.")


class HealthState(Answer):
    """The state of the encoders and rooms."""

    status: Literal["ok", "degraded", "unavailable"]
    encoders: dict[str, dict[str, Any]] = Field(..., description="text, vision -> {artifact, dim, seconds} or {error}.")
    rooms: dict[str, dict[str, int]] = Field(..., description="Room -> {up, replicas}.")
    detail: str | None = Field(None, description="The parts that do not work.")


class DryRun(Answer):
    """Jina's state of the Flow."""

    code: int = Field(..., description="0 if every room answers.")
    description: str = Field(..., description="The reason otherwise.")
