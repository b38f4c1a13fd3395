"""`make seeds SEEDS=DIR`: runs the code cells of the tutorials in DIR against flows/finetuner.yml, prints a table.

What cannot be had without a network is stood in for: backbones, datasets and images as `stand_ins.py` says, JCloud as
`notebook.LocalCloud` says. Two things are added that a reader would add: `from docarray import Document, DocumentArray`
before a page's first cell, and a cell that wants the result of a run before its end is run again after it. `!pip` lines
are left out, and the cells that hold nothing but JCloud's commands are not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .notebook import run_cells
from .stand_ins import prepare, tutorial_flow


def main() -> int:
    """Run every file and return the exit code: 0 only where every cell ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    files = sorted(path for path in parser.parse_args().folder.resolve().iterdir() if path.is_file())
    table, failed = Table("seed", "cell", "seconds", "outcome"), 0
    with tempfile.TemporaryDirectory() as scratch, tutorial_flow(Path(scratch)) as images:
        for path in files:
            text = path.read_text()
            prepare(text)
            for outcome in run_cells(path.name, text, images):
                table.add_row(path.stem, str(outcome.cell), f"{outcome.seconds:.1f}", outcome.error or "ok")
                failed += bool(outcome.error)
    Console().print(table)
    print(f"{table.row_count - failed} of {table.row_count} cells ran")
    return 1 if failed or not table.row_count else 0


if __name__ == "__main__":
    sys.exit(main())
