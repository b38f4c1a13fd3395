"""Names of the environment variables that open-finetuner reads or sets."""

from __future__ import annotations

import os

# Set by users.
HOST = "FINETUNER_HOST"
"""Address of the Flow's gRPC side, such as 'grpc://127.0.0.1:51000'."""
HTTP = "FINETUNER_HTTP"
"""Address of the Flow's HTTP side, such as 'http://127.0.0.1:51001'."""
TOKEN = "FINETUNER_TOKEN"
"""Token that a client sends. In the environment of the Flow: the admin token that the gateway accepts."""
CA = "FINETUNER_CA"
"""PEM file of certificates to trust, in addition to the machine's own."""
WEIGHTS = "FINETUNER_WEIGHTS"
"""Folder of pretrained weights, `<ARCH>/<TAG>.safetensors` or `.pt`."""
DATABASE = "FINETUNER_DATABASE"
"""PostgreSQL server of a Flow, postgresql://user:password@host/db; without it, SQLite files in the workspace."""
FLOWS = "FINETUNER_FLOWS"
"""Folder of Flow YAMLs; by default the package's `flows/`."""
PRIVATE_URIS = "FINETUNER_PRIVATE_URIS"
"""'true' allows FinetunerExecutor to fetch private addresses, for tutorials that cannot set its uses_with."""

# Set by our own processes.
PARENT = "FINETUNER_PARENT"
"""Id of the parent process; the Flow stops when it ends."""
FLOW_ID = "FINETUNER_FLOW_ID"
"""Id of a RunningFlow, which marks its processes."""
PREPARED = "FINETUNER_PREPARED"
"""Socket of the process from which the trainer forks runs."""
LOGGED_IN = "FINETUNER_LOGGED_IN"
"""The Flow that `login` chose, for this process and its children."""
HTTP_PORT = "FINETUNER_HTTP_PORT"
"""Key under which the gateway's gRPC side reports the port of its HTTP side."""
CONTRACT = "FINETUNER_CONTRACT"
"""Key under which the gateway reports `wire.CONTRACT`."""
VERSION = "FINETUNER_VERSION"
"""Key under which the gateway reports the version of its package."""

# Set by tests.
STAND_INS = "FINETUNER_STAND_INS"
"""'NAME=MODEL,...': models that replace others on machines without their weights."""

# Parts of names whose values open something. A database's URL has its password.
SECRET = ("TOKEN", "SECRET", "PASSWORD", "KEY", "CREDENTIAL", "DATABASE")


def without_secrets() -> dict[str, str]:
    """Return this process's environment for a process that reads what strangers send: no credentials, no GPU."""
    kept = {name: value for name, value in os.environ.items() if not any(part in name.upper() for part in SECRET)}
    return kept | {"CUDA_VISIBLE_DEVICES": ""}
