"""Writes the report on stored datasets, in a process of its own, whose memory and time are bounded, for a server.

python -m finetuner.statistics.stored REQUEST, a path of JSON: see `main`
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from ..models.backbones import find_backbone
from ..workspace.datasets import Datasets
from ..workspace.folder import Workspace, write_atomically
from .describe import Collector
from .report import report_of
from .tokens import counter_or_reason

SECONDS = 300
MEMORY = 4 * 2**30  # bytes
NICE = 10
MOST_LOOKED_AT = 4000
"""Image files of each dataset that are decoded."""


def main(request: Path) -> int:
    """Write the report within the bounds.

    Args:
        request: JSON of `workspace`, `version`, `evaluation` (a version, or ''), `model`, and `target`, which receives
            the report as JSON.
    """
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    asked = json.loads(request.read_text())
    with suppress(ImportError):
        from ..models.lean_open_clip import import_lean

        import_lean()
    row, datasets = find_backbone(asked["model"]), Datasets(Workspace(asked["workspace"]))
    counter, reason = counter_or_reason(row)
    train, evaluation = (
        Collector(counter, MOST_LOOKED_AT).add_all(datasets.documents(version)) if version else None
        for version in (asked["version"], asked["evaluation"])
    )
    assert train is not None
    report = report_of(train, evaluation, row.batch_size, reason)
    write_atomically(Path(asked["target"]), json.dumps(report.to_dict()).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
