"""One call of this client for a gateway, in a process whose memory and time are bounded; see `over_pipe`.

A server reads no caller's file in its own process, and makes no training data there. The first frame that arrives is
{'task': a name in TASKS, 'arguments': {...}}. The last one that is sent is {'result': ...} or {'type', 'message'}.

python -m finetuner.api.task
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..exceptions import FinetunerError, InvalidInput
from ..transport.over_pipe import PipeConnection, read_frame, write_frame
from .feedback.improve import finish_round, start_round
from .queries.evaluate import evaluate_queries
from .runs import get_run
from .session import use

SECONDS = 1500
MEMORY = 4 * 2**30  # bytes
NICE = 10
ENDINGS = (".csv", ".jsonl", ".tsv", ".txt")
WORST = 100  # queries


def main() -> int:
    """Do one task for the process at the other end of stdin and stdout; return the exit code."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no frame
    asked, _ = read_frame(reader)
    use(PipeConnection(reader, writer))
    try:
        write_frame(writer, {"result": TASKS[asked["task"]](asked["arguments"])})
    except FinetunerError as error:
        write_frame(writer, {"type": type(error).__name__, "message": str(error)})
    except MemoryError:
        write_frame(writer, {"type": "InvalidInput", "message": f"data must fit into {MEMORY} bytes. Take less of it."})
    return 0


def begin_round(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Start a round of learning from marks; return its run."""
    guard, replay = arguments["guard"], arguments["replay"]
    more = {name: arguments[name] for name in ("model", "epochs", "recipe", "batch_size", "learning_rate", "device")}
    run = start_round(guard, replay_data=replay, **more)
    return {"name": run.name, "artifact_id": run.artifact_id}


def end_round(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the models of a round, and promote the new one if it is better."""
    run = get_run(arguments["run"], arguments["experiment"])
    return asdict(finish_round(run, arguments["margin"], arguments["guard_tolerance"]))


def score_queries(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Score the index on the queries of a caller's files, given as {'name', 'content'}; return the worst WORST."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [_written(Path(folder), role, arguments[role]) for role in ("queries", "qrels")]
        found = asdict(evaluate_queries(*paths, **arguments["options"]))  # type: ignore[arg-type]
    return {**found, "scored": len(found["queries"]), "queries": found["queries"][:WORST]}


def _written(folder: Path, role: str, file: Mapping[str, str] | None) -> Path | None:
    if file is None:
        return None
    ending = Path(file["name"]).suffix.lower()
    if ending not in ENDINGS:
        raise InvalidInput(f"{role} must end in {', '.join(ENDINGS)}. Got {file['name'][-40:]!r}. Rename it.")
    path = folder / f"{role}{ending}"  # nothing else of the caller's name
    path.write_text(file["content"], encoding="utf-8", newline="")
    return path


TASKS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "begin_round": begin_round,
    "end_round": end_round,
    "score_queries": score_queries,
}

if __name__ == "__main__":
    sys.exit(main())
