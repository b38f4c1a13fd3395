"""A reading of links that is killed twice, and then finishes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.sources.links.link_server import link_server
from tests.waiting import wait_until

LINKS = 1000
CONCURRENCY = 8
READ = """
import json, sys
from finetuner.documents.pairs import read_pair
from finetuner.sources.kinds import documents_from
from finetuner.sources.links.options import LinkOptions
from finetuner.sources.tables.csv_file import CSVOptions

options = CSVOptions(links=LinkOptions(cache=sys.argv[2], concurrency=int(sys.argv[3]), retries=0))
documents = documents_from(sys.argv[1], task="text-to-image", csv_options=options, on_error="skip")
print(json.dumps([read_pair(document).text for document in documents]))
"""


def kind(number: int) -> str:
    return "dead" if number % 10 == 0 else "page" if number % 50 == 1 else "good"


@pytest.mark.process
@pytest.mark.seconds
def test_a_reading_that_is_killed_twice_ends_with_every_image_once(
    tmp_path: Path, jpeg: Callable[[int], bytes]
) -> None:
    with link_server(jpeg) as server:
        lines = [f"{server.url}/{kind(number)}/{number},{number}\n" for number in range(LINKS)]
        (tmp_path / "links.csv").write_text("url,text\n" + "".join(lines))
        command = [sys.executable, "-c", READ, "links.csv", "cache", f"{CONCURRENCY}"]
        for share in (0.3, 0.6):
            with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
                goal = int(share * LINKS)
                wait_until(lambda goal=goal: len(server.asked) > goal, f"{goal} links")  # type: ignore[misc]
                process.kill()
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        asked = dict(server.asked)
    expected = [str(number) for number in range(LINKS) if kind(number) == "good"]
    assert json.loads(ended.stdout) == expected
    assert "left out 120 entries" in ended.stderr
    assert "all 120: 100 answered 404, 20 not an image" in ended.stderr
    twice = [address for address, count in asked.items() if count > 1 and address.startswith("/good")]
    assert len(twice) <= 2 * CONCURRENCY  # those that ran when it was killed
