"""REST: Finetuner's old API under /api/v1, and typed routes to every room under /v1."""

from __future__ import annotations

from fastapi import FastAPI

from executors.gateway.flow.handler import Handler
from executors.gateway.flow.rooms import Rooms

from . import api_v1, v1_documents, v1_embeddings, v1_library, v1_runs
from .logstream import OpenStreams


def mount(app: FastAPI, handler: Handler, rooms: Rooms) -> None:
    """Add the REST API's routes to the app."""
    app.state.handler, app.state.rooms, app.state.streams = handler, rooms, OpenStreams()
    for module in (api_v1, v1_documents, v1_embeddings, v1_library, v1_runs):
        app.include_router(module.routes)
