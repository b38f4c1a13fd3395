"""What `make container-check` does with the Flow, from outside its containers: python use.py STEP.

fill      push pairs, tune clip-mini on them, promote, index images, search; remembers what was found
again     the same search finds the same, by the same artifact
balanced  both text encoders have answered
begin     start a run, and return in the middle of it
finish    it goes on from its checkpoint, and finishes
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from docarray import Document, DocumentArray

import finetuner
from finetuner.api.run import Run
from finetuner.catalogue import fashion

REMEMBERED = Path("/x/remembered.json")
QUERY = "a red dress"
SECONDS = 600.0


def found() -> list[str]:
    return [str(match.id) for match in finetuner.search(QUERY, limit=5)[0].matches]


def pairs(items: int) -> DocumentArray:
    return DocumentArray(
        finetuner.make_pair(image.captions["en"], image.jpeg) for image in fashion("train", items=items)
    )


def wait_for(run: Run, step: int = 0) -> None:
    """Wait until a run has finished, or has done this step."""
    deadline = time.monotonic() + SECONDS
    while True:
        status = run.status()
        if status["status"] == "FINISHED" or (step and len(run.history()["steps"]) > step):
            return
        assert status["status"] in ("CREATED", "STARTED"), status
        assert time.monotonic() < deadline, status
        time.sleep(0.5)


def fill() -> None:
    finetuner.push_data("shop", pairs(40))
    run = finetuner.fit("clip-mini", train_data="shop", loss="CLIPLoss", epochs=2, batch_size=16, run_name="first")
    wait_for(run)
    finetuner.promote(run.artifact_id)
    finetuner.index(DocumentArray(Document(id=image.name, blob=image.jpeg) for image in fashion("test", items=20)))
    assert len(found()) == 5
    assert finetuner.index_status()["searched"] == run.artifact_id
    REMEMBERED.write_text(json.dumps({"artifact": run.artifact_id, "found": found()}))


def again() -> None:
    remembered = json.loads(REMEMBERED.read_text())
    assert finetuner.index_status()["searched"] == remembered["artifact"]
    assert found() == remembered["found"], found()


def balanced() -> None:
    for _ in range(40):
        found()
    read = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
    for number in ("1", "2"):
        command = ["docker", "compose", "exec", "-T", "--index", number, "text-encoder", "python", "-c", read]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        answered = [line for line in lines if line.startswith("finetuner_artifact_documents_total")]
        print(f"text-encoder {number}: {answered}")
        assert sum(float(line.split()[-1]) for line in answered) >= 10, answered


def begin() -> None:
    run = finetuner.fit(
        "clip-mini", train_data="shop", loss="CLIPLoss", epochs=60, batch_size=8, run_name="interrupted"
    )
    wait_for(run, step=5)


def finish() -> None:
    run = finetuner.get_run("interrupted")
    wait_for(run)
    assert "Resuming from step" in run.logs()


if __name__ == "__main__":
    finetuner.login(host="grpc://127.0.0.1:51000", token=os.environ["FINETUNER_TOKEN"])
    {step.__name__: step for step in (fill, again, balanced, begin, finish)}[sys.argv[1]]()
