"""Exports an artifact of a workspace for a server, in a process of its own, as one zip.

python -m finetuner.exports.stored REQUEST, a path of JSON: see `main`
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path

from ..exceptions import FinetunerError
from ..workspace.folder import write_atomically
from .export import export_folder

NICE = 10


def main(request: Path) -> int:
    """Export an artifact; return the exit code.

    Args:
        request: JSON of `artifact` (its folder), `to`, `name` (the folder in the zip) and `target`, which receives the
            zip. Then `target` with '.json' receives {} or {'type', 'message'}.
    """
    os.nice(NICE)
    asked = json.loads(request.read_text())
    target = Path(asked["target"])
    answer: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = export_folder(Path(asked["artifact"]), asked["to"], Path(folder) / "export")
            part = Path(folder) / "zip"
            with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:  # weights do not shrink
                for path in sorted(made.rglob("*")):
                    if path.is_file():
                        archive.write(path, f"{asked['name']}/{path.relative_to(made).as_posix()}")
            part.rename(target)
    except FinetunerError as error:
        answer = {"type": type(error).__name__, "message": str(error)}
    except ImportError as error:
        answer = {"type": "InvalidInput", "message": f"to={asked['to']!r} needs a package that is not here: {error}."}
    write_atomically(Path(f"{target}.json"), json.dumps(answer).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
