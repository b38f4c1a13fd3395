"""`finetuner doctor`: whether this machine, or this container, is fit for the Flow, before the first run is lost.

Nothing is left behind, and no network is asked besides the Flow.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ..exceptions import FinetunerError
from . import flow_check, machine_check, package_check, workspace_check
from .finding import Finding, Status, failed

STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red"}


def examine(
    workspace: Path,
    *,
    host: str | None = None,
    token: str | None = None,
    grpc_port: int = 51000,
    http_port: int = 51001,
) -> Iterator[Finding]:
    """Yield what each check finds, in the order of the report. A check that breaks is a finding of its own.

    Args:
        workspace: folder of the Flow; it is not made.
        host: Flow to ask; else $FINETUNER_HOST, else the one of the workspace that is up, else none.
        token: of that Flow; else $FINETUNER_TOKEN.
        grpc_port: that `finetuner up` would use.
        http_port: likewise.
    """
    root = Path(os.path.realpath(workspace))  # unlike resolve() it bears links in a circle
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": package_check.packages,
        "GPU": machine_check.graphics,
        "memory": machine_check.memory,
        "disk": lambda: machine_check.disk(workspace_check.nearest(root)),
        "ports": partial(flow_check.ports, root, grpc_port, http_port),
        "workspace": partial(workspace_check.folder, root),
        "clock": partial(workspace_check.clock, root),
        "weights": partial(workspace_check.weights, root),
        "Flow": partial(flow_check.flow, root, host, token),
    }
    for name, check in checks.items():
        try:
            yield from check()
        except FinetunerError as error:
            yield failed(name, " ".join(str(error).split()), "Correct what the message names.")
        except Exception as error:  # whatever a broken machine raises: the other checks still tell something
            found = f"{type(error).__name__}: {' '.join(str(error).split())}"
            yield failed(name, found, "The check itself could not go on; the message says what stood in its way.")


def report(findings: Iterable[Finding], as_json: bool = False) -> bool:
    """Print findings, each as soon as it is there; return whether none has failed.

    Args:
        findings: of `examine`.
        as_json: print one object, {"ok": bool, "checks": [...]}, at the end.
    """
    if as_json:
        with redirect_stdout(sys.stderr):  # whatever libraries print while they are imported
            found = list(findings)
        healthy = not any(finding.status is Status.FAILED for finding in found)
        print(json.dumps({"ok": healthy, "checks": [asdict(finding) for finding in found]}, indent=1))
        return healthy
    from rich.console import Console

    console, found = Console(highlight=False), []
    for finding in findings:
        found.append(finding)
        console.print(_row(finding))
    counts = {status: sum(finding.status is status for finding in found) for status in Status}
    console.print(f"\n{', '.join(f'{count} {status}' for status, count in counts.items())}")
    return not counts[Status.FAILED]


def _row(finding: Finding) -> object:
    """Return a line of the report, with what to do below it; the columns stand where those of other rows do."""
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 2))
    row.add_column(width=7)
    row.add_column(width=13)
    row.add_column(overflow="fold")
    row.add_row(Text(finding.status, STYLES[finding.status]), Text(finding.name), Text(finding.found))
    if finding.advice:
        row.add_row("", "", Text(f"-> {finding.advice}"))
    return row
