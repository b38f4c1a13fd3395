"""The list of runs: filters in the address, order, several at once, notes, resume, and live changes."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path

import pytest
from playwright.sync_api import expect

from finetuner.workspace.tokens import TokenFile

from .conftest import SCRIPT, Site, Visit, Watched

TAG = "<img src=x onerror=document.title=1>"


def start(site: Site, name: str) -> None:
    """Record a run and cancel it."""
    config = {"model": {"name": "clip-mini"}, "data": {"train_data": "web-train"}, "hyper_parameters": {"epochs": 900}}
    site.post("/api/v1/experiments/shelf/runs", {"name": name, "config": config, "device": "cpu"})
    site.post(f"/v1/experiments/shelf/runs/{name}/cancel", {})


@pytest.fixture(scope="module")
def shelf(watched: Watched, site: Site) -> None:
    """Two canceled runs beside the watched one."""
    for name in ("first", "second"):
        start(site, name)
    site.post("/v1/experiments/shelf/runs/first/edit", {"note": f"=1+1 {SCRIPT}", "tags": [TAG, "good"]})


def test_filters_and_order_stand_in_the_address(visit: Visit, shelf: None) -> None:
    visit.go("#/runs")
    page, rows = visit.page, visit.page.locator("tbody tr")
    expect(rows.filter(has_text="watched")).to_have_count(1)
    assert "owned" not in page.title()
    assert page.locator("main script, main [onerror]").count() == 0
    expect(page.get_by_text(TAG)).to_be_visible()
    visit.shoot("runs-list")
    page.get_by_label("Find").fill("shelf")
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Run", exact=True).press("Enter")
    expect(rows.first).to_contain_text("first")
    page.get_by_role("button", name="Run", exact=True).press("Enter")
    expect(rows.first).to_contain_text("second")
    page.get_by_label("Choose second").check()
    page.reload()
    expect(rows.first).to_contain_text("second")
    expect(page.get_by_label("Choose second")).to_be_checked()
    assert page.get_by_label("Find").input_value() == "shelf"
    visit.go("#/runs?tag=good")
    expect(rows).to_have_count(1)
    visit.go("#/runs?status=FINISHED&metric=text_to_image_recall_at_5&least=2")
    expect(page.get_by_text("No run matches.")).to_be_visible()


def test_runs_are_compared_and_exported(visit: Visit, shelf: None, tmp_path: Path) -> None:
    visit.go("#/runs")
    page = visit.page
    for name in ("watched", "first"):
        page.get_by_label(f"Choose {name}", exact=True).check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export chosen as CSV").press("Enter")
    download.value.save_as(tmp_path / "runs.csv")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO((tmp_path / "runs.csv").read_text()))}
    assert rows.keys() == {"watched", "first"}
    assert rows["first"]["note"].startswith("'=1+1 <script>"), "no spreadsheet takes it for a formula"
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare runs")).to_be_visible()
    settings = page.get_by_role("region", name="Settings that differ").get_by_role("row")
    expect(settings.filter(has_text="epochs")).to_contain_text("900")
    expect(settings.filter(has_text="train_data")).to_have_count(0)
    expect(page.get_by_role("slider", name="Loss by step").locator("polyline")).to_have_count(1)
    visit.shoot("compare")


def test_a_run_is_renamed_resumed_canceled_and_deleted(visit: Visit, shelf: None, site: Site) -> None:
    visit.go("#/runs/shelf/second")
    page = visit.page
    page.get_by_text("Name, tags and note").click()
    page.get_by_label("Name", exact=True).fill("kept")
    page.get_by_label("Note", exact=True).fill(SCRIPT)
    visit.shoot("run-naming")

    reader = TokenFile(site.workspace).create("looker", "read")
    page.evaluate("token => sessionStorage.setItem('finetuner-token', token)", reader)
    visit.allowed = "403"
    page.get_by_role("button", name="Store").click()
    expect(page.get_by_text("Your token may not do this")).to_contain_text("the role write is needed, yours is read")
    visit.log_in()
    visit.go("#/runs/shelf/second")
    page.get_by_text("Name, tags and note").click()
    page.get_by_label("Name", exact=True).fill("kept")
    page.get_by_label("Note", exact=True).fill(SCRIPT)
    page.get_by_role("button", name="Store").click()
    expect(page.get_by_role("heading", name="kept")).to_be_visible()
    expect(page.locator(".facts").get_by_text("<script>")).to_be_visible()
    assert "owned" not in page.title()

    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Cancel run")).to_be_visible()
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(page.locator(".badge").first).to_have_text("canceled")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="kept")).to_have_count(0)


def test_the_list_follows_changes_without_asking_for_all_runs(visit: Visit, shelf: None, site: Site) -> None:
    visit.go("#/runs?text=shelf")
    page, asked = visit.page, []
    expect(page.locator(".head .badge").first).to_be_visible()
    page.on("request", lambda request: asked.append(request.url))
    start(site, "late")
    expect(page.get_by_role("row").filter(has_text="late").locator(".badge")).to_have_text("canceled")
    assert 1 <= len(asked) <= 4, "one question for each change, and none between"
    site.post("/v1/experiments/shelf/runs/late/delete", {})
    expect(page.get_by_role("row").filter(has_text="late")).to_have_count(0)


def test_a_run_starts_from_data_and_model_and_again_with_changes(visit: Visit, shelf: None, site: Site) -> None:
    visit.go("#/datasets/web-train")
    page = visit.page
    page.get_by_role("link", name="Start a run with it").click()
    expect(page.get_by_text("Without evaluation data nobody sees")).to_be_visible()
    page.get_by_label("Name of the run", exact=True).fill("by-page")
    page.get_by_label("Experiment", exact=True).fill("shelf")
    page.get_by_label("Evaluation data", exact=True).select_option("web-test")
    page.locator("summary").filter(has_text="options").click()
    page.get_by_label("epochs", exact=True).fill("many")
    expect(page.get_by_role("alert").get_by_text("epochs must be a number")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_label("epochs", exact=True).fill("800")
    page.get_by_label("description", exact=True).fill(SCRIPT + "'; rm -rf /; '")
    python, command = (page.get_by_role("region", name=name) for name in ("As Python", "As a command"))
    expect(python).to_contain_text("epochs=800")
    expect(command).to_contain_text("curl -X POST")
    assert "epochs=800" in python.inner_text()
    compile(python.inner_text(), "page", "exec")
    assert shlex.split(command.inner_text())[-1].endswith("}"), "a hostile text stays within its word"
    assert "owned" not in page.title()
    assert page.locator("main script, main [onerror]").count() == 0
    visit.shoot("start")
    page.reload()
    expect(page.get_by_label("epochs", exact=True)).to_have_value("800")
    page.get_by_role("button", name="Start", exact=True).press("Enter")
    expect(page.get_by_role("heading", name="by-page")).to_be_visible()
    site.post("/v1/experiments/shelf/runs/by-page/cancel", {})
    page.get_by_role("link", name="Start again with changes").click()
    expect(page.get_by_label("epochs", exact=True)).to_have_value("800")
    expect(page.get_by_label("Evaluation data", exact=True)).to_have_value("web-test")
    expect(page.get_by_label("Recipe", exact=True)).to_have_value("default")
    assert page.get_by_label("Name of the run", exact=True).input_value().startswith("by-page-")
