"""`make seeds SEEDS=DIR`: runs the code cells of the tutorials in DIR against flows/finetuner.yml, prints a table.

What cannot be had without a network is stood in for, and nothing else is:
backbones by clip-mini and a small random ResNet (FINETUNER_STAND_INS),
datasets by generated ones pushed beforehand under the names that the
cells use, pictures of the web by a server on this machine. `!pip` lines and jcloud's cells are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from docarray import Document, DocumentArray
from rich.console import Console
from rich.table import Table

import finetuner
from finetuner.backbones import STAND_INS
from finetuner.catalogue import Picture, fashion
from finetuner.pairs import make_pair
from finetuner.running_flow import RunningFlow
from finetuner.wire import LABEL_TAG, LANGUAGE_TAG

from .cells import cells, runnable

BACKBONES = ("openai/clip-vit-base-patch32", "xlm-roberta-base-ViT-B-32::laion5b_s13b_b90k", "ViT-B-32#openai")
DATASET = re.compile(r"""(?:pull\(|(?:train|eval|query|index)_data=)\s*['"]([\w.-]+)['"]""")
URL = re.compile(r"https?://[^/'\"\s]+/")
ITEMS = 24


class Pictures(BaseHTTPRequestHandler):
    """Answers any path with a picture of the catalogue: the same path, the same one; four numbers a garment."""

    pictures: tuple[Picture, ...] = ()

    def do_GET(self) -> None:
        """Send the picture."""
        numbers = re.findall(r"\d+", self.path)
        content = self.pictures[(int(numbers[-1]) // 4 if numbers else 0) % len(self.pictures)].jpeg
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Keep the table readable."""


@contextlib.contextmanager
def picture_server() -> Iterator[str]:
    """Yield the address of a server with pictures."""
    Pictures.pictures = tuple(fashion("test", items=ITEMS))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def dataset(name: str) -> DocumentArray:
    """Return generated data for a dataset's name: texts for '-query', pictures for '-index', pairs otherwise."""
    split = "train" if "train" in name else "test"
    language = "de" if name.startswith("DE") else "en"
    documents = DocumentArray()
    for picture in fashion(split, items=ITEMS):
        tags = {LABEL_TAG: picture.item, LANGUAGE_TAG: language}
        if name.endswith("-query"):
            documents.append(Document(text=picture.captions[language], tags=tags))
        elif name.endswith("-index"):
            documents.append(Document(blob=picture.jpeg, tags=tags))
        else:
            documents.append(make_pair(picture.captions[language], picture.jpeg, tags))
    return documents


def run_file(path: Path, pictures: str) -> Iterator[tuple[int, str, float]]:
    """Run the cells of one file in one namespace; yield number, 'ok' or the error, and seconds of each."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(path.read_text()), 1):
        code = URL.sub(pictures, runnable(cell))
        if not code.strip() or "jcloud" in cell:
            continue
        started, printed = time.perf_counter(), io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, f"{path.name}:{number}", "exec"), names)
            outcome = "ok"
        except Exception as error:
            outcome = " ".join("".join(traceback.format_exception_only(error)).split())
        yield number, outcome, time.perf_counter() - started


def main() -> int:
    """Run every file and return the exit code: 0 only where every cell ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    files = sorted(path for path in parser.parse_args().folder.resolve().iterdir() if path.is_file())
    stand_ins = dict.fromkeys(BACKBONES, "clip-mini") | {"resnet50": "resnet-mini-random"}
    os.environ[STAND_INS] = ",".join(f"{name}={model}" for name, model in stand_ins.items())
    table, failed = Table("seed", "cell", "seconds", "outcome"), 0
    with tempfile.TemporaryDirectory() as scratch, RunningFlow(Path(scratch) / "flow") as flow, picture_server() as url:
        os.environ["FINETUNER_HOST"] = flow.host
        finetuner.login()
        for name in sorted({name for path in files for name in DATASET.findall(path.read_text())}):
            finetuner.push_data(name, dataset(name))
        os.chdir(scratch)
        for path in files:
            for number, outcome, seconds in run_file(path, url):
                table.add_row(path.stem, str(number), f"{seconds:.1f}", outcome)
                failed += outcome != "ok"
    Console().print(table)
    print(f"{table.row_count - failed} of {table.row_count} cells ran")
    return 1 if failed or not table.row_count else 0


if __name__ == "__main__":
    sys.exit(main())
