"""The whole path by the page and the keyboard alone, from an empty workspace to a model that learned from marks."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from finetuner.api.feedback.improve import LEAST
from finetuner.api.feedback.pairs import is_held_out, same_text
from finetuner.catalogue import fashion
from finetuner.flow.running_flow import RunningFlow

from .conftest import PATIENCE, SCRIPT, TOKEN, Site, Visit, visit_with

IMAGES = 200
ENDS = 300_000  # milliseconds


@pytest.fixture
def newcomer(browser: Browser, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """A tab before a Flow whose workspace is empty, that has the token."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with RunningFlow(tmp_path / "workspace", token=TOKEN) as flow:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        visit = visit_with(context, Site(flow.http, flow.workspace, [], []), shots)
        visit.log_in()
        yield visit
        context.close()


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
    press(page.get_by_role("link", name="start a run", exact=True))
    press(page.get_by_role("link", name="bring a folder, a zip or a table"))
    upload = {"name": "shop.zip", "mimeType": "application/zip", "buffer": collection()}
    page.get_by_label("Choose files").set_input_files(upload)
    press(page.get_by_role("button", name="Send and look"))
    press(page.get_by_role("button", name=f"Store {IMAGES} documents"), ENDS)
    expect(page.get_by_role("heading", name="shop")).to_be_visible()
    # correct a caption
    press(page.get_by_role("button", name="Edit", exact=True))
    page.get_by_label("Caption of document 1", exact=True).fill("a red dress")
    press(page.get_by_role("button", name="Save as a new version"))
    expect(page.locator(".card").first).to_contain_text("a red dress")
    expect(page.get_by_text("The version before is")).to_be_visible()  # the page of the new version
    # split, and start a run with both
    press(page.get_by_text("Split for training and evaluation"))
    press(page.get_by_role("button", name="Split", exact=True))
    press(page.get_by_role("link", name="Start a run with both"))
    start(page, "first")
    expect(page.locator(".badge").first).to_have_attribute("data-status", "FINISHED", timeout=ENDS)
    expect(page.get_by_role("heading", name="Metrics before and after")).to_be_visible()
    # compare with the backbone, promote
    press(page.locator(".facts a.id").first)
    press(page.get_by_role("link", name="Before and after"))
    page.get_by_label("Your queries").fill("a red dress")
    press(page.get_by_role("button", name="Compare"))
    expect(page.get_by_role("heading", name="Captions, worst first")).to_be_visible(timeout=ENDS)
    page.go_back()
    promote(page)
    # index, search by text and image
    visit.go("#/datasets/shop")
    press(page.get_by_role("button", name="Make searchable"))
    expect(page.get_by_text(re.compile(r"\d+ images are searchable\. Search them"))).to_be_visible(timeout=ENDS)
    press(page.get_by_role("link", name="Search them"))
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
            press(thumbs.nth(at))
        press(page.get_by_role("button", name="Does not fit: ").nth(20))
        press(page.get_by_role("button", name="Save marks"))
        expect(page.get_by_text("Marked. Thank you.")).to_be_visible()
    # improve
    visit.go("#/marks")
    expect(page.get_by_role("row")).to_have_count(3)
    page.get_by_label("Guard").select_option("shop-eval")
    page.get_by_label("Epochs").fill("1")
    page.get_by_label("Batch").fill("8")
    visit.shoot("path-marks")
    press(page.get_by_role("button", name="Start a round"))
    expect(page.get_by_role("heading", name="round-1")).to_be_visible(timeout=ENDS)
    press(page.get_by_role("button", name="Promote if it is better"), ENDS)
    expect(page.locator("#round").get_by_text(re.compile(r"^(Promoted|Not promoted)\."))).to_be_visible(timeout=ENDS)
    expect(page.locator(".facts").first).to_contain_text("romoted.")  # the note
    visit.shoot("path-round")
    # export
    visit.go("#/artifacts")
    press(page.get_by_role("row").filter(has_text="first").get_by_role("link").first)
    page.get_by_label("Export for").select_option("open_clip")
    with page.expect_download(timeout=ENDS) as download:
        press(page.get_by_role("button", name="Export", exact=True))
    with zipfile.ZipFile(download.value.path()) as made:
        assert {"first-open_clip/README.md", "first-open_clip/open_clip_config.json"} <= set(made.namelist())
    press(page.get_by_text("Model card"))
    expect(page.get_by_role("region", name="Markdown")).to_contain_text("# first")
    visit.shoot("path-artifact")
    # back to the model before
    visit.go("#/artifacts")
    press(page.get_by_role("button", name="Roll back to"))
    press(page.get_by_role("dialog").get_by_role("button", name="Roll back"))
    expect(page.get_by_text("is live again.")).to_be_visible()
    # a token
    visit.go("#/admin")
    page.get_by_label("Name of the person or program").fill("anna")
    press(page.get_by_role("button", name="Create token"))
    expect(page.get_by_role("region", name="New token")).to_contain_text("ft_")
    # a stopped run goes on
    visit.go("#/start?train_data=shop-train&model=clip-mini&epochs=50")
    start(page, "long")
    press(page.get_by_role("button", name="Cancel run"), ENDS)
    press(page.get_by_role("dialog").get_by_role("button", name="Cancel run"))
    badge = page.locator(".badge").first
    expect(badge).to_have_attribute("data-status", "CANCELED", timeout=ENDS)
    press(page.get_by_role("button", name="Resume"))
    press(page.get_by_role("dialog").get_by_role("button", name="Resume"))
    expect(badge).to_have_attribute("data-status", re.compile("CREATED|STARTED"))
    press(page.get_by_role("button", name="Cancel run"))
    press(page.get_by_role("dialog").get_by_role("button", name="Cancel run"))
    expect(badge).to_have_attribute("data-status", "CANCELED", timeout=ENDS)
    assert "owned" not in page.title()
    # the promotion of a model that became worse, before "Promote anyway"; requests of pages that are left
    expected = re.compile("422|The user left the page")
    assert [problem for problem in visit.problems if not expected.search(problem)] == []


def press(target: Locator, timeout: float = PATIENCE) -> None:
    """Press the Enter key at an element, as somebody without a mouse does."""
    expect(target).to_be_enabled(timeout=timeout)
    target.press("Enter")


def start(page: Page, name: str) -> None:
    page.get_by_label("Model", exact=True).select_option("clip-mini")
    page.get_by_label("Name of the run").fill(name)
    options = page.locator("details").filter(has=page.get_by_text(re.compile(r"All \d+ options")))
    if options.get_attribute("open") is None:
        press(options.locator("summary"))
    if name == "first":
        page.get_by_label("epochs", exact=True).fill("1")
        page.get_by_label("batch_size", exact=True).fill("16")
    page.get_by_label("device", exact=True).fill("cpu")
    expect(page.get_by_role("heading", name="What will run")).to_be_visible()
    press(page.get_by_role("button", name="Start", exact=True))
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def promote(page: Page) -> None:
    press(page.get_by_role("button", name="Promote to live"))
    press(page.get_by_role("dialog").get_by_role("button", name="Promote", exact=True))
    anyway = page.get_by_role("dialog").get_by_role("button", name="Promote anyway")
    live = page.locator(".badge.live")
    expect(anyway.or_(live)).to_be_visible(timeout=ENDS)
    if anyway.count():
        press(anyway)
    expect(live).to_be_visible()
