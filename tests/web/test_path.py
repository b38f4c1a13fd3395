"""The whole path by the page alone, from an empty workspace: bring, correct, train, compare, search, mark, improve."""

from __future__ import annotations

import csv
import io
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from finetuner.api.feedback.improve import LEAST
from finetuner.api.feedback.pairs import is_held_out, same_text
from finetuner.catalogue import fashion
from finetuner.flow.running_flow import RunningFlow

from .chromium import Chromium
from .conftest import SCRIPT, TOKEN, Site, Visit, visit_with

IMAGES = 200
ENDS = 300_000  # milliseconds


@pytest.fixture
def newcomer(tmp_path: Path, chromium: Chromium, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """A tab before a Flow whose workspace is empty, that has the token."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with RunningFlow(tmp_path / "workspace", token=TOKEN) as flow, sync_playwright() as playwright:
        variables = {**os.environ, **chromium.env}
        browser = playwright.chromium.launch(executable_path=chromium.path, args=chromium.args, env=variables)
        context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        shots = Path(__file__).with_name("screenshots")
        shots.mkdir(exist_ok=True)
        visit = visit_with(context, Site(flow.http, flow.workspace, [], []), shots)
        visit.log_in()
        yield visit
        browser.close()


def collection() -> bytes:
    """A zip of IMAGES images with captions in a table; the first caption is hostile."""
    target, table = io.BytesIO(), io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["image", "text"])
    images = list(fashion("train", items=IMAGES // 2))[:IMAGES]
    with zipfile.ZipFile(target, "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"{number}.jpg", image.jpeg)
            rows.writerow([f"{number}.jpg", image.captions["en"] if number else f"wrong {SCRIPT}"])
        archive.writestr("table.csv", table.getvalue())
    return target.getvalue()


def queries() -> list[str]:
    """A query that is held out, and one that is not."""
    words = ["a red dress", "a blue dress", "a shirt", "a striped shirt", "a coat", "a skirt", "trousers", "a jacket"]
    aside = next(text for text in words if is_held_out(f"text {same_text(text)}", 0.2))
    return [aside, next(text for text in words if text != aside)]


@pytest.mark.slow
@pytest.mark.seconds
def test_from_an_empty_workspace_to_a_better_search_by_the_page_alone(newcomer: Visit, tmp_path: Path) -> None:
    visit, page = newcomer, newcomer.page
    # bring
    visit.go("#/runs")
    page.get_by_role("link", name="start a run", exact=True).click()
    page.get_by_role("link", name="bring a folder, a zip or a table").click()
    upload = {"name": "shop.zip", "mimeType": "application/zip", "buffer": collection()}
    page.get_by_label("Choose files").set_input_files(upload)
    page.get_by_role("button", name="Send and look").click()
    page.get_by_role("button", name=f"Store {IMAGES} documents").click(timeout=ENDS)
    expect(page.get_by_role("heading", name="shop")).to_be_visible()
    # correct a caption
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Caption of document 1", exact=True).fill("a red dress")
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.locator(".card").first).to_contain_text("a red dress")
    # split, and start a run with both
    page.get_by_text("Split for training and evaluation").click()
    page.get_by_role("button", name="Split", exact=True).click()
    page.get_by_role("link", name="Start a run with both").click()
    start(page, "first")
    expect(page.locator(".badge").first).to_have_attribute("data-status", "FINISHED", timeout=ENDS)
    expect(page.get_by_role("heading", name="Metrics before and after")).to_be_visible()
    # compare with the backbone, promote
    page.locator(".facts a.id").first.click()
    page.get_by_role("link", name="Before and after").click()
    page.get_by_label("Your queries").fill("a red dress")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Captions, worst first")).to_be_visible(timeout=ENDS)
    page.go_back()
    promote(page)
    # index, search by text and image
    visit.go("#/datasets/shop")
    page.get_by_role("button", name="Make searchable").click()
    expect(page.get_by_text(re.compile(r"\d+ images are searchable\. Search them"))).to_be_visible(timeout=ENDS)
    page.get_by_role("link", name="Search them").click()
    page.get_by_label("Text", exact=True).fill("a red dress")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(12)
    picture = next(iter(fashion("test", items=1))).jpeg
    page.locator("#file").set_input_files({"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": picture})
    expect(page.get_by_alt_text("Query image")).to_be_visible()
    expect(page.locator(".card")).to_have_count(12)
    # mark
    for text in queries():
        visit.go("#/search?limit=24")
        page.get_by_label("Text", exact=True).fill(text)
        page.keyboard.press("Enter")
        thumbs = page.get_by_role("button", name="Fits: ")
        expect(thumbs).to_have_count(24)
        for at in range(LEAST + 2):
            thumbs.nth(at).click()
        page.get_by_role("button", name="Does not fit: ").nth(20).click()
        page.get_by_role("button", name="Save marks").click()
        expect(page.get_by_text("Marked. Thank you.")).to_be_visible()
    # improve
    visit.go("#/marks")
    expect(page.get_by_role("row")).to_have_count(3)
    page.get_by_label("Guard").select_option("shop-eval")
    page.get_by_label("Epochs").fill("1")
    page.get_by_label("Batch").fill("8")
    visit.shoot("path-marks")
    page.get_by_role("button", name="Start a round").click()
    expect(page.get_by_role("heading", name="round-1")).to_be_visible(timeout=ENDS)
    page.get_by_role("button", name="Promote if it is better").click(timeout=ENDS)
    expect(page.locator("#round").get_by_text(re.compile(r"^(Promoted|Not promoted)\."))).to_be_visible(timeout=ENDS)
    expect(page.locator(".facts").first).to_contain_text("romoted.")  # the note
    visit.shoot("path-round")
    # export
    visit.go("#/artifacts")
    page.get_by_role("row").filter(has_text="first").get_by_role("link").first.click()
    page.get_by_label("Export for").select_option("open_clip")
    with page.expect_download(timeout=ENDS) as download:
        page.get_by_role("button", name="Export", exact=True).click()
    with zipfile.ZipFile(download.value.path()) as made:
        assert {"first-open_clip/README.md", "first-open_clip/open_clip_config.json"} <= set(made.namelist())
    page.get_by_text("Model card").click()
    expect(page.get_by_role("region", name="Markdown")).to_contain_text("# first")
    visit.shoot("path-artifact")
    # back to the model before
    visit.go("#/artifacts")
    page.get_by_role("button", name="Roll back to").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("is live again.")).to_be_visible()
    # a token
    visit.go("#/admin")
    page.get_by_label("Name of the person or program").fill("anna")
    page.get_by_role("button", name="Create token").click()
    expect(page.get_by_role("region", name="New token")).to_contain_text("ft_")
    # a stopped run goes on
    visit.go("#/start?train_data=shop-train&model=clip-mini&epochs=50")
    start(page, "long")
    page.get_by_role("button", name="Cancel run").click(timeout=ENDS)
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    badge = page.locator(".badge").first
    expect(badge).to_have_attribute("data-status", "CANCELED", timeout=ENDS)
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(badge).to_have_attribute("data-status", re.compile("CREATED|STARTED"))
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(badge).to_have_attribute("data-status", "CANCELED", timeout=ENDS)
    assert "owned" not in page.title()
    assert visit.problems == []


def start(page: Page, name: str) -> None:
    page.get_by_label("Model", exact=True).select_option("clip-mini")
    page.get_by_label("Name of the run").fill(name)
    page.get_by_text(re.compile(r"All \d+ options")).click()
    if name == "first":
        page.get_by_label("epochs", exact=True).fill("1")
        page.get_by_label("batch_size", exact=True).fill("16")
    page.get_by_label("device", exact=True).fill("cpu")
    expect(page.get_by_role("heading", name="What will run")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def promote(page: Page) -> None:
    page.get_by_role("button", name="Promote to live").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote", exact=True).click()
    anyway = page.get_by_role("dialog").get_by_role("button", name="Promote anyway")
    live = page.locator(".badge.live")
    expect(anyway.or_(live)).to_be_visible(timeout=ENDS)
    if anyway.count():
        anyway.click()
    expect(live).to_be_visible()
