"""docarray as `finetuner search` loads it: its hub comes when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys

os.environ |= {"JINA_HUBBLE_REGISTRY": "http://127.0.0.1:9", "JINA_AUTH_TOKEN": "any"}  # nothing listens there
from finetuner.cli.late_hubble import import_docarray

import_docarray()
from docarray import DocumentArray
from docarray.array.mixins.io import pushpull

assert not [name for name in sys.modules if name.split(".")[0] in ("hubble", "aiohttp", "jose")]
for call in (DocumentArray.cloud_list, lambda: DocumentArray.pull("name"), lambda: DocumentArray.empty(1).push("name")):
    try:
        call()
    except Exception as error:
        print(type(error).__name__)

import hubble

assert pushpull.hubble.get_token is hubble.get_token
assert type(pushpull.HubbleClient(jsonify=True)) is hubble.Client
assert pushpull.EndpointsV2.list_artifacts == hubble.client.endpoints.EndpointsV2.list_artifacts
"""


@pytest.mark.process
def test_the_hub_is_loaded_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout.split()) == (0, ["ConnectionError"] * 3), done.stderr
