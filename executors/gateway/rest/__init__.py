"""The REST API: Finetuner's old API under /api/v1, and typed routes under /v1; imports access, flow and artifacts."""

from __future__ import annotations

from fastapi import FastAPI

from ..flow.handler import Handler
from ..flow.rooms import Rooms
from . import api_v1, v1_artifact_zip, v1_documents, v1_embeddings, v1_feedback, v1_library, v1_runs, v1_uploads
from .logstream import OpenStreams
from .manage import admin, exports, index_dataset, rounds, start
from .manage.live import RunChanges

OFTEN = ("/v1/embeddings", "/v1/encode", "/v1/search")


def mount(app: FastAPI, handler: Handler, rooms: Rooms) -> None:
    """Add the REST API's routes to the app."""
    app.state.handler, app.state.rooms, app.state.streams = handler, rooms, OpenStreams()
    app.state.run_changes = RunChanges(rooms, app.state.streams)
    of_documents = (v1_documents, v1_embeddings, v1_feedback)
    of_page = (start, admin, index_dataset, rounds, exports)
    for module in (api_v1, *of_documents, v1_library, v1_runs, v1_artifact_zip, v1_uploads, *of_page):
        app.include_router(module.routes)
    app.include_router(v1_documents.without_documents)
    app.include_router(v1_feedback.without_documents)
    app.include_router(rounds.of_files)
    # Starlette compares a request with one route after the other
    app.router.routes.sort(key=lambda route: getattr(route, "path", "") not in OFTEN)
