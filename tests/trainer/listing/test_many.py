"""Large lists: what the page asks for first, and last, is small, however many runs and documents there are."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from docarray import DocumentArray
from PIL import Image

from finetuner import make_pair
from finetuner.config.run_config import RunConfig
from finetuner.contract.wire import read_reply
from finetuner.database.tables import RUNS
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_store import RunStore

RUN_COUNT, DOCUMENT_COUNT = 10_000, 100_000
PART = 1000
MEGABYTE = 10**6

pytestmark = [pytest.mark.slow, pytest.mark.seconds]


def test_a_page_of_ten_thousand_runs_is_small(trainer: Trainer) -> None:
    config = RunConfig(model="clip-mini", train_data="pairs", description="a note of some length " * 20)
    values = {
        "config": json.dumps(config.to_dict()),
        "experiment": "many",
        "data": "{}",
        "status": "FINISHED",
        "details": "done",
        "ended_at": 2.0,
    }
    rows = [
        {
            **values,
            "artifact_id": f"{number:024x}",
            "name": f"run-{number}",
            "created_at": float(number),
        }
        for number in range(RUN_COUNT)
    ]
    store = RunStore(trainer.shared_workspace.runs_database)
    with store.database.begin() as connection:
        connection.execute(sa.insert(RUNS), rows)
    store.close()
    endpoint: Any = trainer.page_of_runs
    for asked in ({}, {"page": RUN_COUNT // 50}, {"sort": "name"}, {"sort": "metric", "metric": "x"}, {"text": "9"}):
        (answered,) = asyncio.run(endpoint(docs=None, parameters={"size": 50, **asked}))
        assert len(read_reply(answered)["items"]) == 50, asked
        assert len(answered.text) < MEGABYTE, asked
    assert read_reply(answered)["total"] == sum("9" in str(number) for number in range(RUN_COUNT))


def test_a_page_of_a_hundred_thousand_documents_is_small(trainer: Trainer, ask: Callable[..., Any]) -> None:
    target = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(target, "JPEG")
    image = target.getvalue()
    for part, first in enumerate(range(0, DOCUMENT_COUNT, PART)):
        pairs = DocumentArray(make_pair(f"caption {number}", image) for number in range(first, first + PART))
        ask(trainer.push, pairs, upload="many", part=float(part), first=float(first))
    made = ask(trainer.push, upload="many", name="many", commit=float(DOCUMENT_COUNT))
    assert made["documents"] == DOCUMENT_COUNT
    endpoint: Any = trainer.show
    for offset in (0, DOCUMENT_COUNT - 24):
        asked = {"version": made["version"], "offset": offset, "limit": 24}
        shown = asyncio.run(endpoint(docs=None, parameters=asked))
        captions = [part.text for each in shown for part in each.chunks if part.text]
        assert captions == [f"caption {offset + number}" for number in range(24)]
        assert shown.to_protobuf().ByteSize() < MEGABYTE
