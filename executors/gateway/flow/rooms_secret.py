"""The secret that the gateway sends to its rooms with each request."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from finetuner.executors.room.secret import METADATA
from finetuner.workspace.folder import Workspace
from finetuner.workspace.tokens import rooms_secret


def add_secret(args: Any) -> None:
    """Let Jina send the workspace's secret as metadata of each call to a room.

    Args:
        args: Jina's arguments of the gateway. Without a workspace in `uses_with`, they stay as they are.
    """
    workspace = (args.uses_with or {}).get("workspace_url")
    if workspace is None:
        return
    with suppress(OSError):  # a read-only workspace, whose rooms ask for no secret that was never written
        secret = {METADATA: rooms_secret(Workspace(workspace).root)}
        given = json.loads(args.deployments_metadata)
        rooms = json.loads(args.deployments_addresses)
        args.deployments_metadata = json.dumps({room: (given.get(room) or {}) | secret for room in rooms})
