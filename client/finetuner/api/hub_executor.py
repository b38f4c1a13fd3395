"""`uses='jinaai://finetuner/FinetunerExecutor:latest'` without Jina's hub: the name leads to our own executor.

Jina decides where an executor runs and what it is by the text of `uses`, when a Deployment is made and before any
process of it exists. So `login` puts one step before `Deployment.__init__`: where `uses` is our executor's name, the
path of its config.yml takes its place. Everything after that is Jina's ordinary way with a path: rooms may be forked or
spawned, `jinaai+docker://` needs no docker, and nothing is unpacked below ~/.jina, where it would be found for ever. An
answer by our gateway to the hub's own requests would have none of the three.

The step asks $FINETUNER_LOGGED_IN each time: without it, Jina is as it was.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

from ..contract import environment
from ..contract.environment import LOGGED_IN
from ..exceptions import InvalidInput
from ..transport.connection import DEFAULT_HOST, Connection
from .hub import NO_TOKEN, TOKEN

# With a tag or without, as there is one version; 'jinahub' is the older scheme.
NAME = re.compile(
    r"(jinaai|jinaai\+docker)://finetuner/FinetunerExecutor(:.*)?|jinahub(\+docker)?://FinetunerExecutor(/.*)?"
)
CONFIG = Path(__file__).parents[3] / "executors" / "finetuner_executor" / "config.yml"


def map_names(connection: Connection) -> None:
    """Let Flows that this process makes find our executor by its name on the hub.

    Args:
        connection: where the executor gets artifacts from, if it is told no other host.
    """
    os.environ[LOGGED_IN] = connection.host
    _step_before_jina()


@functools.cache
def _step_before_jina() -> None:
    from jina.orchestrate.deployments import Deployment

    jinas_own = Deployment.__init__

    @functools.wraps(jinas_own)
    def make(self: Any, args: Any = None, *others: Any, **options: Any) -> None:
        if args is not None and hasattr(args, "uses"):
            args.uses = _ours(args.uses)
        elif "uses" in options:
            options["uses"] = _ours(options["uses"])
        jinas_own(self, args, *others, **options)

    Deployment.__init__ = make


def _ours(uses: Any) -> Any:
    """Return the path of our executor's config.yml where `uses` is its name; any other `uses` as it is."""
    if not (isinstance(uses, str) and NAME.fullmatch(uses) and os.environ.get(LOGGED_IN)):
        return uses
    if not CONFIG.is_file():
        raise InvalidInput(
            f"Expected FinetunerExecutor at {CONFIG}. Found none: the wheel holds the client, not the executors. "
            f"Run from a checkout of the repository."
        )
    return str(CONFIG)


def flow_of(host: str | None, token: str | None) -> Connection:
    """Return the way to the executor's Flow; what `login` chose in the process that started this one counts here.

    Args:
        host: None takes `login`'s, else $FINETUNER_HOST, else the default.
        token: None takes `login`'s for its own host alone, else $FINETUNER_TOKEN, else $JINA_AUTH_TOKEN.
    """
    chosen = os.environ.get(LOGGED_IN)
    left = os.environ.get(TOKEN, "").replace(NO_TOKEN, "")  # by `login`, or by the user where there was none
    users = os.environ.get(environment.TOKEN, "")
    if chosen and host not in (None, chosen):
        token = token or users  # a Flow's token is not shown to another one
    else:
        token = token or (left or users if chosen else users or left)
    return Connection(host or chosen or os.environ.get(environment.HOST) or DEFAULT_HOST, token)
