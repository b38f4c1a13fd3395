"""The page in headless Chromium, before a Flow with a token that holds data and trains a run."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, expect, sync_playwright

import finetuner
from finetuner import Document, DocumentArray, make_pair
from finetuner.catalogue import fashion
from finetuner.flow.running_flow import RunningFlow
from tests.sessions import own_session

from .chromium import Chromium, find_chromium

TOKEN = "the-token-of-these-tests"
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
TRAIN, TEST = 40, 12  # items, of two images each
EPOCHS, BATCH = 3, 8
PATIENCE = 60_000  # milliseconds; a machine that other tests keep busy is slow


@dataclass(frozen=True)
class Site:
    """A Flow with data in it."""

    http: str
    workspace: Path
    images: list[bytes]
    """The indexed images, by the number in their ids."""
    items: list[str]
    """The garment of each."""

    def get(self, path: str) -> httpx.Response:
        """Read from the REST API as the owner of the token."""
        answer = httpx.get(f"{self.http}{path}", headers={"Authorization": f"token {TOKEN}"}, timeout=120)
        answer.raise_for_status()
        return answer

    def post(self, path: str, body: object) -> httpx.Response:
        """Ask the REST API as the owner of the token."""
        answer = httpx.post(f"{self.http}{path}", json=body, headers={"Authorization": f"token {TOKEN}"}, timeout=120)
        answer.raise_for_status()
        return answer


@pytest.fixture(scope="package")
def chromium() -> Chromium:
    return find_chromium()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    images = list(fashion("test", items=TEST))
    with own_session(), pytest.MonkeyPatch.context() as patch, ExitStack() as up:
        patch.setenv("OMP_NUM_THREADS", "1")  # beside a browser, threads would wait for one another
        flow = up.enter_context(RunningFlow(tmp_path_factory.mktemp("workspace"), token=TOKEN))
        finetuner.login(host=flow.host, token=TOKEN)
        for split, items in (("train", TRAIN), ("test", TEST)):
            finetuner.push_data(f"web-{split}", _pairs(split, items))
        finetuner.push_data("evil", DocumentArray([Document(text=SCRIPT, tags={SCRIPT: SCRIPT})]))
        finetuner.index(
            DocumentArray(
                Document(id=f"image-{number}", blob=image.jpeg, tags=tags_of(number, image.item))
                for number, image in enumerate(images)
            )
        )
        finetuner.index(DocumentArray([Document(id=SCRIPT, text=SCRIPT, tags={"note": SCRIPT})]))
        yield Site(flow.http, flow.workspace, [image.jpeg for image in images], [image.item for image in images])


def tags_of(number: int, item: str) -> dict[str, object]:
    """Return the tags of an indexed image; searches of many tests count on them."""
    return {"price": float(number), "product": item}


def _pairs(split: str, items: int) -> DocumentArray:
    return DocumentArray(
        make_pair(image.captions["en"], image.jpeg, {"finetuner_label": image.item})
        for image in fashion(split, items=items)
    )


@dataclass
class Visit:
    """A browser tab, its console errors, and the folder for screenshots."""

    page: Page
    site: Site
    shots: Path
    problems: list[str] = field(default_factory=list)
    """Errors and warnings of the console."""
    allowed: str = "(?!)"
    """Pattern of the problems that this test causes on purpose."""

    def go(self, address: str) -> None:
        """Open a page of the site, such as '#/runs'."""
        self.page.goto(f"{self.site.http}/{address}")

    def shoot(self, name: str) -> None:
        """Keep an image of the whole page among the screenshots."""
        self.page.screenshot(path=self.shots / f"{name}.png", full_page=True)

    def log_in(self) -> None:
        """Give this tab the token, as the login page does. That page sends no request by itself."""
        self.go("#/login")
        self.page.evaluate("token => sessionStorage.setItem('finetuner-token', token)", TOKEN)
        self.page.reload()  # shows the button to log out


@pytest.fixture(scope="package")  # not longer: an asyncio loop is running in this thread meanwhile
def browser(site: Site, chromium: Chromium) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        variables = {**os.environ, **chromium.env}
        browser = playwright.chromium.launch(executable_path=chromium.path, args=chromium.args, env=variables)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def shots() -> Path:
    """The folder with the screenshots of the last run of these tests."""
    folder = Path(__file__).with_name("screenshots")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@dataclass(frozen=True)
class Watched:
    """A run as a browser saw it that stayed on its page."""

    artifact_id: str
    points: list[int]
    """Points of the loss curve at each look during training, and at the end."""
    end: dict[str, str]
    """Texts of the page at the end, without a reload."""
    problems: list[str]


@pytest.fixture(scope="package")
def watched(site: Site, browser: Browser, shots: Path) -> Iterator[Watched]:
    """A run that is watched from its first second to its last."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    visit = visit_with(context, site, shots)
    visit.log_in()
    callback = {"query_data": "web-test", "gather_examples": True, "limit": 5}
    config = {
        "model": {"name": "clip-mini"},
        "data": {"train_data": "web-train", "eval_data": "web-test"},
        "hyper_parameters": {"loss": "CLIPLoss", "epochs": EPOCHS, "batch_size": BATCH},
        "callbacks": [{"name": "EvaluationCallback", "options": callback}],
    }
    form = {"name": "watched", "config": config, "device": "cpu", "description": SCRIPT}
    run = site.post("/api/v1/experiments/default/runs", form).json()
    visit.go("#/runs/default/watched")
    page, points, deadline = visit.page, [], time.monotonic() + 250
    line = page.locator("figure:has-text('Loss') polyline").first
    while (status := page.locator(".badge").first.get_attribute("data-status")) in ("CREATED", "STARTED"):
        if status == "STARTED" and line.count():
            points.append(int(line.get_attribute("data-points") or 0))
            if len(points) == 1:
                visit.shoot("run-training")
        assert time.monotonic() < deadline, visit.page.locator("main").inner_text()
        page.wait_for_timeout(100)
    page.get_by_role("heading", name="Queries before and after").wait_for()
    points.append(int(line.get_attribute("data-points") or 0))
    log = page.get_by_role("log").inner_text()
    end = {"status": status or "", "log": log, "main": page.locator("main").inner_text()}
    yield Watched(run["artifact_id"], points, end, visit.problems)
    context.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture
def visitor(context: BrowserContext, site: Site, shots: Path) -> Iterator[Visit]:
    """A tab without a token."""
    visit = visit_with(context, site, shots)
    yield visit
    assert [problem for problem in visit.problems if not re.search(visit.allowed, problem)] == []


@pytest.fixture
def visit(visitor: Visit) -> Visit:
    """A tab that has logged in."""
    visitor.log_in()
    return visitor


def visit_with(context: BrowserContext, site: Site, shots: Path) -> Visit:
    """Open a tab and listen to its console."""
    expect.set_options(timeout=PATIENCE)
    context.set_default_timeout(PATIENCE)
    visit = Visit(context.new_page(), site, shots)

    def log(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.problems.append(f"{message.text} {message.location['url']}")

    def failed(error: Error) -> None:
        visit.problems.append(str(error))

    visit.page.on("console", log)
    visit.page.on("pageerror", failed)
    visit.page.on("dialog", lambda dialog: failed(Error(f"a dialog: {dialog.message}")))
    return visit
