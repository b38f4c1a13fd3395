"""A run from its first step to its promotion: progress, results, search with two models, and going live."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from playwright.sync_api import expect

from finetuner.workspace.tokens import TokenFile

from .conftest import BATCH, EPOCHS, SCRIPT, TEST, TRAIN, Site, Visit, Watched, tags_of

STEPS = EPOCHS * TRAIN * 2 // BATCH


def test_the_page_follows_a_run_from_its_first_step_to_its_last(watched: Watched, visit: Visit) -> None:
    assert watched.problems == []
    assert watched.points[0] < watched.points[-1] == STEPS, "the curve grows while the run trains"
    assert watched.points == sorted(watched.points)
    assert watched.end["status"] == "FINISHED"
    assert f"step {STEPS}/{STEPS}" in watched.end["log"], "the log was followed to its end"
    assert watched.artifact_id[:8] in watched.end["main"]
    visit.go("#/runs")
    row = visit.page.get_by_role("row").filter(has_text="watched")
    expect(row.locator(".badge")).to_have_text("finished")
    expect(row.locator(".delta")).to_have_count(1)
    visit.shoot("runs")


def test_before_and_after_stand_side_by_side(watched: Watched, visit: Visit) -> None:
    visit.go("#/runs/default/watched")
    page = visit.page
    expect(page.get_by_role("row").filter(has_text="text to image recall at 5")).to_be_visible()
    query = page.locator("article.query").first
    for stage in ("before", "after"):
        images = query.get_by_role("group", name=stage).locator("img")
        expect(images).to_have_count(5)
        assert all(address.startswith("blob:") for address in images.evaluate_all("all => all.map(one => one.src)"))
        drawn = "([...all]) => all.every(one => one.complete && one.naturalWidth > 0)"
        page.wait_for_function(drawn, arg=images.element_handles())
    before, after = (query.get_by_role("group", name=stage).bounding_box() for stage in ("before", "after"))
    assert before
    assert after
    assert before["y"] == after["y"]
    assert before["x"] + before["width"] <= after["x"]
    visit.shoot("run-finished")


def test_a_chart_is_read_by_keyboard(watched: Watched, visit: Visit) -> None:
    visit.go("#/runs/default/watched")
    chart = visit.page.get_by_role("slider", name="Loss by step")
    expect(chart).to_have_attribute("aria-valuenow", str(STEPS))
    chart.focus()
    chart.press("ArrowLeft")
    expect(chart).to_have_attribute("aria-valuenow", str(STEPS - 1))
    expect(visit.page.locator("figure:has-text('Loss') .readout")).to_contain_text(f"step {STEPS - 1}")


@pytest.mark.slow
def test_two_models_are_searched_side_by_side(watched: Watched, visit: Visit) -> None:
    documents = [
        {"id": f"image-{number}", "blob": base64.b64encode(jpeg).decode(), "tags": tags_of(number, item)}
        for number, (jpeg, item) in enumerate(zip(visit.site.images, visit.site.items, strict=True))
    ]
    visit.site.post("/v1/index", {"documents": documents, "artifact": watched.artifact_id})
    visit.go("#/search?q=a+red+dress")
    page = visit.page
    expect(page.get_by_role("list", name="Results of")).to_have_count(1)
    page.get_by_role("switch", name="Two models side by side").check()
    grids = page.get_by_role("list", name="Results of")
    expect(grids).to_have_count(2)
    expect(page.locator("h2.model").nth(0)).to_have_text("clip-mini")
    expect(page.locator("h2.model").nth(1)).to_contain_text(watched.artifact_id[:8])
    expect(grids.nth(1).locator(".card")).to_have_count(12)
    expect(grids.nth(1).locator(".move")).to_have_count(12)
    visit.shoot("search-two-models")
    page.reload()
    expect(grids).to_have_count(2)


def test_an_artifact_shows_its_lineage(watched: Watched, visit: Visit) -> None:
    visit.allowed = "422"
    visit.go("#/artifacts")
    visit.page.get_by_role("link", name=watched.artifact_id[:8]).click()
    lineage = visit.page.locator("section").filter(has=visit.page.get_by_role("heading", name="Lineage"))
    for name in ("web-train", "web-test", "watched"):
        expect(lineage.get_by_role("link", name=name, exact=True).first).to_be_visible()
    expect(lineage).to_contain_text("clip-mini")
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Download zip").click()
    assert download.value.suggested_filename == "watched.zip"
    assert download.value.path().read_bytes()[:2] == b"PK"
    page = visit.page
    page.get_by_text("Give it an alias").press("Enter")
    page.get_by_label("Alias", exact=True).fill("spring")
    page.keyboard.press("Enter")
    expect(page.locator(".badge.finished")).to_have_text("spring")
    visit.go("#/artifacts")
    page.get_by_text("Upload an artifact").press("Enter")
    page.get_by_label("Zip").set_input_files({"name": "x.zip", "mimeType": "", "buffer": b"PK no zip"})
    page.get_by_role("button", name="Upload").press("Enter")
    expect(page.locator("#upload .wrong")).to_contain_text("zip")


def test_a_reader_is_not_offered_what_the_server_refuses(watched: Watched, visitor: Visit, site: Site) -> None:
    visitor.go("#/login")
    reader = TokenFile(site.workspace).create("who-only-looks", "read")
    visitor.page.evaluate("token => sessionStorage.setItem('finetuner-token', token)", reader)
    visitor.page.reload()
    visitor.go(f"#/artifacts/{watched.artifact_id}")
    expect(visitor.page.get_by_role("link", name="Before and after")).to_be_visible()
    for name in ("Promote to live", "Export", "Set"):
        expect(visitor.page.get_by_role("button", name=name, exact=True)).to_have_count(0)


def test_promotion_asks_first_and_reports_a_refusal(watched: Watched, visit: Visit, site: Site) -> None:
    visit.go(f"#/artifacts/{watched.artifact_id}")
    page = visit.page
    promote = page.get_by_role("button", name="Promote to live")
    promote.click()
    visit.shoot("promote")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".badge.live")).to_have_count(0)

    reader = TokenFile(site.workspace).create("reader", "read")
    page.evaluate("token => sessionStorage.setItem('finetuner-token', token)", reader)
    visit.allowed = "403"
    promote.click()
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(page.locator(".wrong")).to_contain_text("read")
    expect(page.locator(".badge.live")).to_have_count(0)

    visit.log_in()
    visit.go(f"#/artifacts/{watched.artifact_id}")
    promote.click()
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(page.locator(".badge.live")).to_have_text("live")
    expect(promote).to_be_disabled()
    visit.shoot("artifact-live")
    visit.go("#/artifacts")
    expect(page.get_by_role("row").filter(has_text=watched.artifact_id[:8]).locator(".badge.live")).to_be_visible()
    site.post("/v1/artifacts/clip-mini/promote", {})  # as the other tests expect it


def test_before_and_after_have_the_ranks_of_the_embeddings(watched: Watched, visit: Visit, site: Site) -> None:
    visit.go(f"#/artifacts/{watched.artifact_id}")
    page = visit.page
    page.get_by_role("link", name="Before and after").press("Enter")
    expect(page.get_by_label("Before", exact=True)).to_have_value("clip-mini")
    expect(page.get_by_label("Images of")).to_have_value("web-test")
    page.get_by_label("Your queries, one a line").fill("a red dress\n" + SCRIPT)
    page.get_by_role("button", name="Compare").press("Enter")
    table = page.get_by_role("region", name="Ranks of captions")
    expect(table.get_by_role("row")).to_have_count(1 + 2 * TEST)
    expect(page.locator("article.query")).to_have_count(2)
    visit.shoot("before-after")

    shown = site.get("/v1/datasets/web-test/documents?limit=48").json()["documents"]
    parts = {kind: [part for each in shown for part in each["chunks"] if kind in part] for kind in ("text", "blob")}
    ranks = []
    for model in ("clip-mini", watched.artifact_id):
        vectors = {}
        for kind, some in parts.items():
            body = {"documents": [{kind: part[kind]} for part in some], "artifact": model}
            encoded = site.post("/v1/encode", body).json()["documents"]
            vectors[kind] = np.array([each["embedding"] for each in encoded])
        scores = vectors["text"] @ vectors["blob"].T
        ranks.append([1 + int((row > row[own] + 1e-12).sum()) for own, row in enumerate(scores)])
    cells = [row.get_by_role("cell").all_inner_texts() for row in table.get_by_role("row").all()[1:]]
    change = [int(after) - int(before) for before, after, _ in cells]
    assert change == sorted(change, reverse=True), "the greatest losses first"
    assert sorted((int(before), int(after)) for before, after, _ in cells) == sorted(zip(*ranks, strict=True))
    first = f"{ranks[0].count(1)}{ranks[1].count(1)} of {2 * TEST}"
    expect(page.locator(".facts .progress").first).to_have_text(first)
