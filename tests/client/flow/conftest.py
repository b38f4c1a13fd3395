"""A Flow's YAML with two rooms that load no model, for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]

ROOMS = """
import numpy as np
from jina import Executor, requests
from prometheus_client import Counter


class Encoder(Executor):
    def __init__(self, workspace_url, **kwargs):
        super().__init__(**kwargs)
        if workspace_url.endswith("broken"):
            raise ValueError("as the test asked")

    @requests(on="/encode")
    def encode(self, docs, **_):
        for document in docs:
            document.embedding = np.ones(2)
"""


@pytest.fixture
def small_flow(tmp_path: Path) -> Path:
    """A Flow's YAML with two rooms that load no model."""
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "rooms.py").write_text(ROOMS)
    room = {
        "uses": "Encoder",
        "py_modules": str(folder / "rooms.py"),
        "uses_with": {"workspace_url": "workspace"},
        "host": "127.0.0.1",
        "monitoring": True,
    }
    content = {
        "jtype": "Flow",
        "version": "1",
        "gateway": {
            "uses": str(ROOT / "executors" / "gateway" / "config.yml"),
            "protocol": ["grpc", "http"],
            "port": [51000, 51001],
            "host": "127.0.0.1",
            "monitoring": True,
            "port_monitoring": 51100,
        },
        "executors": [
            {"name": "text_encoder", **room, "port_monitoring": 51101},
            {"name": "vision_encoder", **room, "port_monitoring": 51102},
        ],
    }
    path = folder / "finetuner.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
