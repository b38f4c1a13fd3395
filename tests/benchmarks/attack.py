"""What the holder of a read token, or of none, can do to a running Flow while an honest caller goes on.

Starts the real Flow with tokens, indexes documents, and attacks it in every way of attacks/ alone, then 4 times at
once; one way, "uploads, a writer's", has a write token. An honest caller sends one text every 100 ms. Prints a line of
JSON last: `worst_stall_s` (slowest honest answer), `worst_growth_mb` (of one process over what it had at rest),
`kept_mb` (30 s after the last attack), `worst_written` (bytes in the workspace's files, logs among them, for each bad
request of the ways "log: ..."), `entered` (refusals that did not come), `lost` (acknowledged documents that are gone).
Fails past 1 s, 300 MB, 100 bytes, or where anything has entered or is lost.

    python tests/benchmarks/attack.py                # all
    python tests/benchmarks/attack.py bombs resets   # those whose names hold one of the words
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import httpx
from attacks import bodies, doors, floods, noise
from attacks.siege import siege_of

from finetuner.flow.running_flow import RunningFlow
from finetuner.workspace.tokens import TokenFile

DOCUMENTS = 200
STALL_S, GROWTH_MB, WRITTEN = 1.0, 300.0, 100.0


def indexed(flow: RunningFlow, token: str) -> int:
    """Return the number of documents in the index."""
    answer = httpx.get(f"{flow.http}/v1/index", headers={"authorization": f"token {token}"}, timeout=60)
    return int(answer.json()["documents"])


def main() -> int:
    """Attack, print what was seen, and return 1 where a bound is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="of the names of attacks; none takes all")
    words = parser.parse_args().words
    every = {**bodies.attacks(), **floods.attacks(), **doors.attacks(), **noise.attacks()}
    chosen = {name: act for name, act in every.items() if not words or any(word in name for word in words)}
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        file = TokenFile(workspace)
        admin, token, writer = (file.create(role, role) for role in ("admin", "read", "write"))
        with RunningFlow(workspace) as flow:
            documents = [{"id": str(number), "text": f"garment {number}"} for number in range(DOCUMENTS)]
            stored = httpx.post(
                f"{flow.http}/v1/index",
                json={"documents": documents},
                headers={"authorization": f"token {admin}"},
                timeout=120,
            )
            stored.raise_for_status()
            worst, written = {}, {}
            with siege_of(flow, token, writer) as siege:
                for name, act in chosen.items():
                    for times in (1, 4):
                        siege.seconds, siege.peaks, before = 0.0, {}, noise.written(siege)
                        threads = [threading.Thread(target=act, args=(siege,)) for _ in range(times)]
                        started = time.perf_counter()
                        for thread in threads:
                            thread.start()
                        for thread in threads:
                            thread.join()
                        took = time.perf_counter() - started
                        time.sleep(1)
                        growth, room = siege.growth(siege.peaks)
                        if name.startswith("log:"):
                            written[f"{name} x{times}"] = (noise.written(siege) - before) / noise.TIMES / times
                        worst[f"{name} x{times}"] = (siege.seconds, growth)
                        seen = f"{took:6.1f} s  honest {siege.seconds:5.2f} s  +{growth:5.0f} MB of {room}"
                        print(f"{name:40} x{times} {seen}", flush=True)
                time.sleep(30)
                kept, _ = siege.growth(siege.memory())
            found = {
                "worst_stall_s": round(max(stall for stall, _ in worst.values()), 2),
                "worst_growth_mb": round(max(growth for _, growth in worst.values())),
                "kept_mb": round(kept),
                "worst_written": round(max(written.values(), default=0.0), 1),
                "entered": siege.entered,
                "lost": DOCUMENTS - indexed(flow, token),
            }
    print(json.dumps(found))
    past = [found["worst_stall_s"] > STALL_S, found["worst_growth_mb"] > GROWTH_MB, found["worst_written"] > WRITTEN]
    return 1 if any(past) or found["entered"] or found["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
