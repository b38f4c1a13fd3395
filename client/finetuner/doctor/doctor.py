"""`finetuner doctor`: runs every check of this machine or container and prints the findings.

The checks leave no files behind and contact no host except the Flow and its database.
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
from . import database_check, flow_check, machine_check, package_check, workspace_check
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
    """Yield the findings of all checks in the order of the report. An error in a check is a finding, too.

    Args:
        workspace: folder of the Flow. The checks never create it.
        host: Flow to check. Defaults to $FINETUNER_HOST, then to the running Flow of the workspace.
        token: for that Flow. Defaults to $FINETUNER_TOKEN.
        grpc_port: gRPC port of `finetuner up`.
        http_port: HTTP port of `finetuner up`.
    """
    root = Path(os.path.realpath(workspace))  # resolve() raises on circular links, realpath does not
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": package_check.packages,
        "GPU": machine_check.gpu,
        "ONNX Runtime": machine_check.onnx_runtime,
        "memory": machine_check.memory,
        "disk": lambda: machine_check.disk(workspace_check.nearest_folder(root)),
        "ports": partial(flow_check.ports, root, grpc_port, http_port),
        "workspace": partial(workspace_check.workspace, root),
        "clock": partial(workspace_check.clock, root),
        "database": partial(database_check.database, root),
        "weights": partial(workspace_check.weights, root),
        "Flow": partial(flow_check.flow, root, host, token),
    }
    for name, check in checks.items():
        try:
            yield from check()
        except FinetunerError as error:
            yield failed(name, " ".join(str(error).split()), "Correct the value in the message.")
        except Exception as error:  # a broken machine raises anything. The other checks still run
            found = f"{type(error).__name__}: {' '.join(str(error).split())}"
            yield failed(name, found, "The check itself failed. Fix the cause in the message, then run it again.")


def report(findings: Iterable[Finding], as_json: bool = False) -> bool:
    """Print each finding at once, and return whether no check failed.

    Args:
        findings: of `examine`.
        as_json: print one object, {"ok": bool, "checks": [...]}, at the end instead.
    """
    if as_json:
        with redirect_stdout(sys.stderr):  # some libraries print when they are imported
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
    """Return one row of the report, with the advice below it. All rows have columns of the same widths."""
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
