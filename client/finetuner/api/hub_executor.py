"""Maps the hub name `jinaai://finetuner/FinetunerExecutor:latest` to our own executor, without Jina's hub.

Jina reads `uses` when a Deployment is made, before any of its processes exists. `login` therefore wraps
`Deployment.__init__`: if `uses` is our executor's name on the hub, the path of its config.yml replaces it. From then
on, Jina treats it as any other path: rooms can be forked or spawned, `jinaai+docker://` needs no docker, and nothing
is unpacked into ~/.jina, where later starts would find an old copy. If our gateway answered the hub's own requests
instead, none of the three would hold.

The wrapper reads $FINETUNER_LOGGED_IN at each call. Without that variable, Jina behaves as before.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

import wrapt

from ..contract import environment
from ..contract.environment import LOGGED_IN
from ..transport.connection import DEFAULT_HOST, Connection
from .hub import NO_TOKEN, TOKEN

# Any tag or none, since there is one version; 'jinahub' is the older scheme.
NAME = re.compile(
    r"(jinaai|jinaai\+docker)://finetuner/FinetunerExecutor(:.*)?|jinahub(\+docker)?://FinetunerExecutor(/.*)?"
)
CONFIG = Path(__file__).parents[1] / "executors" / "finetuner_executor" / "config.yml"


def map_hub_name(connection: Connection) -> None:
    """Make the Flows of this process resolve the hub name to our executor.

    Args:
        connection: Flow from which the executor fetches artifacts by default.
    """
    os.environ[LOGGED_IN] = connection.host
    _wrap_deployment()


@functools.cache
def _wrap_deployment() -> None:
    """Wrap `Deployment.__init__` now, or as soon as this process imports Jina, which takes more than a second."""
    wrapt.register_post_import_hook(_wrap, "jina.orchestrate.deployments")


def _wrap(deployments: Any) -> None:
    original = deployments.Deployment.__init__

    @functools.wraps(original)
    def init(self: Any, args: Any = None, *others: Any, **options: Any) -> None:
        if args is not None and hasattr(args, "uses"):
            args.uses = _resolved(args.uses)
        elif "uses" in options:
            options["uses"] = _resolved(options["uses"])
        original(self, args, *others, **options)

    deployments.Deployment.__init__ = init


def _resolved(uses: Any) -> Any:
    """Return the path of our executor's config.yml if `uses` is its hub name, otherwise `uses` unchanged."""
    named = isinstance(uses, str) and NAME.fullmatch(uses) and os.environ.get(LOGGED_IN)
    return str(CONFIG) if named else uses


def executor_connection(host: str | None, token: str | None) -> Connection:
    """Return a connection to the Flow that an executor fetches its artifact from.

    The defaults include the choice of `login` in the process that started this one.

    Args:
        host: None takes `login`'s host, else $FINETUNER_HOST, else the default.
        token: None takes `login`'s token, but only for `login`'s host; else $FINETUNER_TOKEN, else $JINA_AUTH_TOKEN.
    """
    login_host = os.environ.get(LOGGED_IN)
    hub_token = os.environ.get(TOKEN, "").replace(NO_TOKEN, "")  # set by `login`, or by the user without a login
    user_token = os.environ.get(environment.TOKEN, "")
    if login_host and host not in (None, login_host):
        token = token or user_token  # never show one Flow's token to another Flow
    else:
        token = token or (hub_token or user_token if login_host else user_token or hub_token)
    return Connection(host or login_host or os.environ.get(environment.HOST) or DEFAULT_HOST, token)
