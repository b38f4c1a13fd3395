"""Many links of a table, of which some are dead and some are pages, read by a process that is killed twice.

A local server answers 10% of the links with 404 and 2% with HTML, and counts what it is asked. A process reads them as
pairs with on_error='skip' and is killed (SIGKILL) after about a third and two thirds of the links; a third one ends.
Fails if an image is missing or comes twice, if the reasons are not counted, or if a reading took more than 300 MB.
Prints a line of JSON last.

    python tests/benchmarks/many_links.py --links 100000
"""

from __future__ import annotations

import argparse
import http.server
import io
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

from PIL import Image

MOST_MB = 300
DEAD, PAGES = 10, 50  # one in so many
CONCURRENCY = 32

READ = """
import json, sys
from pathlib import Path
from finetuner.documents.pairs import read_pair
from finetuner.sources.kinds import documents_from
from finetuner.sources.links.options import LinkOptions
from finetuner.sources.tables.csv_file import CSVOptions

links = LinkOptions(cache=sys.argv[2], concurrency=int(sys.argv[3]), per_host=int(sys.argv[3]), retries=0)
seen, twice = set(), 0
for document in documents_from(
    sys.argv[1], task="text-to-image", csv_options=CSVOptions(links=links), on_error="skip"
):
    pair = read_pair(document)
    twice += pair.text in seen
    seen.add(pair.text)
memory = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(json.dumps({"images": len(seen), "twice": twice, "memory_mb": int(memory[0].split()[1]) / 1000}))
"""


def image(number: int) -> bytes:
    """Return a JPEG of its own for each number."""
    picture = Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, number // 65536 % 256))
    target = io.BytesIO()
    picture.save(target, "JPEG", comment=str(number).encode())
    return target.getvalue()


def kind(number: int) -> str:
    """Return the answer to the link of a number."""
    return "dead" if number % DEAD == 0 else "page" if number % PAGES == 1 else "good"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers `/KIND/NUMBER`, and `/asked` with what it was asked for."""

    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        if self.path == "/asked":
            good = [count for path, count in list(self.asked.items()) if path.startswith("/good")]
            again = sum(count > 1 for count in good)
            self.answer(200, json.dumps({"addresses": len(self.asked), "images_asked_again": again}).encode())
            return
        self.asked[self.path] += 1
        _, how, number = self.path.split("/")
        if how == "dead":
            self.answer(404, b"gone")
        else:
            self.answer(200, b"<!DOCTYPE html><html></html>" if how == "page" else image(int(number)))

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """A server of many callers."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def asked(url: str) -> dict[str, int]:
    """Return what the server was asked for."""
    from urllib.request import urlopen

    with urlopen(f"{url}/asked") as answer:
        return dict(json.load(answer))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", type=int, default=100_000)
    links = parser.parse_args().links
    command = [sys.executable, __file__, "serve"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        try:
            report(links, Path(folder), server.stdout.readline().strip())
        finally:
            server.kill()


def report(links: int, folder: Path, url: str) -> None:
    """Read the links in three processes, and print what came of it."""
    with open(folder / "links.csv", "w") as table:
        table.write("url,text\n")
        table.writelines(f"{url}/{kind(number)}/{number},{number}\n" for number in range(links))
    command, started = [sys.executable, "-c", READ, "links.csv", "cache", str(CONCURRENCY)], time.monotonic()
    for share in (1 / 3, 2 / 3):
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
            while asked(url)["addresses"] < share * links and process.poll() is None:
                time.sleep(0.2)
            process.kill()
        print(f"killed after {asked(url)['addresses']} links, {time.monotonic() - started:.0f} s", flush=True)
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    dead, pages = (sum(kind(number) == each for number in range(links)) for each in ("dead", "page"))
    reasons = f"all {dead + pages}: {dead} answered 404, {pages} not an image"
    found = json.loads(ended.stdout) | asked(url)
    found |= {"links": links, "seconds": round(time.monotonic() - started, 1), "reasons": reasons in ended.stderr}
    good = found["images"] == links - dead - pages and not found["twice"] and found["reasons"]
    print(json.dumps(found))
    if not good or found["memory_mb"] > MOST_MB or found["images_asked_again"] > 2 * CONCURRENCY:
        sys.exit(f"expected {links - dead - pages} images, none twice, below {MOST_MB} MB; because of: {reasons}")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        with Server(("127.0.0.1", 0), Handler) as running:
            print(f"http://127.0.0.1:{running.server_port}", flush=True)
            running.serve_forever()
    else:
        main()
