"""Re-indexes until it is done or killed, while it searches; prints the artifact that each search was answered by.

python -m tests.indexer.kill_reindex WORKSPACE
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from docarray import Document

from finetuner.executors.indexer.engines.engine import SearchOptions
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep.live import FINISHED, Live
from finetuner.executors.indexer.upkeep.reindex import Reindex
from finetuner.workspace.folder import Workspace

from .hashed_encoder import encode, encoded_text


def slow(artifact: str, documents: Sequence[Document]) -> list[Document]:
    time.sleep(0.02)
    return encode(artifact, documents)


def main(root: str) -> None:
    place = Workspace(root)
    index, live = Index(place.index, min_free_mb=0), Live(place)
    reindex = Reindex(index, live, slow, 1.0, 0, print)
    print("open", flush=True)
    number = 0
    ended = False
    while not ended:
        job = live.job()
        ended = job is not None and job.state == FINISHED  # then the last search is one of the new artifact's
        searched = live.searched
        document_id = f"d{number % 100}"
        answer = index.search([encoded_text("q", document_id, searched)], SearchOptions(1))[0]
        assert isinstance(answer, list), answer
        assert answer[0].id == document_id, answer
        print(f"{searched} {(reindex.status() or {}).get('done')}", flush=True)
        number += 1
    reindex.close()
    index.close()


if __name__ == "__main__":
    main(sys.argv[1])
