"""The index in the browser: browsed, edited, deleted, added; judged queries; datasets that are split; rooms."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from finetuner.workspace.tokens import TokenFile

from .conftest import SCRIPT, TOKEN, Site, Visit


def test_documents_are_added_edited_and_deleted_by_keyboard(visit: Visit, site: Site) -> None:
    visit.allowed = "422"
    visit.go("#/index")
    page = visit.page
    expect(page.locator(".card")).to_have_count(len(site.images) + 1)
    assert "owned" not in page.title()
    page.get_by_text("Add images").press("Enter")
    name = "<b>new</b>.jpg"
    files = [{"name": name, "mimeType": "image/jpeg", "buffer": site.images[0]}]
    page.get_by_label("Images", exact=True).set_input_files(
        [*files, {"name": "x.jpg", "mimeType": "", "buffer": b"no"}]
    )
    page.get_by_label("Caption of all of them").fill(SCRIPT)
    page.get_by_role("button", name="Add", exact=True).press("Enter")
    added = page.locator("#add .said")
    expect(added).to_contain_text("1 image is searchable")
    expect(added).to_contain_text("Got x.jpg")
    page.get_by_label("Filter").fill('{"caption": {"$exists": true}}')
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator(".card")).to_contain_text("<script>")
    visit.shoot("index")
    page.get_by_role("button", name="Edit <b>new</b>.jpg").press("Enter")
    tags = page.get_by_label("Tags of <b>new</b>.jpg, JSON")
    tags.fill("[]")
    page.get_by_role("button", name="Store").press("Enter")
    expect(page.locator(".card .wrong")).to_contain_text("must be a JSON object")
    tags.fill('{"caption": "a coat", "shelf": "A"}')
    page.get_by_role("button", name="Store").press("Enter")
    expect(page.locator(".card .tags")).to_contain_text("shelf: A")
    expect(page.locator(".card img")).to_be_visible()
    page.reload()
    expect(page.locator(".card")).to_have_count(1)
    page.get_by_role("checkbox", name="Choose <b>new</b>.jpg").press("Space")
    page.get_by_role("button", name="Delete 1").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    expect(page.get_by_text("Nothing passes this filter.")).to_be_visible()
    page.get_by_label("Filter").fill("{")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("must be a JSON object")


def test_judged_queries_show_the_worst_with_their_pictures(visit: Visit) -> None:
    visit.allowed = "422"
    visit.go("#/queries")
    page = visit.page
    rows = f"query,document,relevance\na red dress,image-1,1\n{SCRIPT},image-2,1\na coat,gone,1\n"
    page.get_by_label("Queries", exact=True).set_input_files(
        {"name": "mine.csv", "mimeType": "", "buffer": rows.encode()}
    )
    page.get_by_label("Matches that count").fill("3")
    page.get_by_role("button", name="Score").press("Enter")
    expect(page.get_by_role("heading", name="Worst first")).to_be_visible()
    expect(page.locator("article.query")).to_have_count(3)
    expect(page.locator("article.query img").first).to_be_visible()
    expect(page.get_by_text("1 documents that fit are not indexed")).to_contain_text("gone")
    assert "owned" not in page.title()
    visit.shoot("queries")
    page.get_by_label("Queries", exact=True).set_input_files(
        {"name": "mine.csv", "mimeType": "", "buffer": b"a,b\n1,2\n"}
    )
    page.get_by_role("button", name="Score").press("Enter")
    expect(page.locator("form .wrong")).to_contain_text("query")


def test_a_dataset_is_split_and_the_split_undone(visit: Visit, site: Site) -> None:
    visit.allowed = "409|422"
    visit.go("#/datasets/web-test")
    page = visit.page
    page.get_by_text("Split for training and evaluation").press("Enter")
    page.get_by_label("For evaluation").fill("web-train")
    page.get_by_role("button", name="Split", exact=True).press("Enter")
    expect(page.locator("#split .wrong")).to_contain_text("web-train")
    page.get_by_label("For evaluation").fill("web-test-eval")
    page.get_by_role("button", name="Split", exact=True).press("Enter")
    expect(page.locator("#split").get_by_role("link", name="web-test-eval")).to_be_visible()
    page.get_by_role("button", name="Undo").press("Enter")
    expect(page.get_by_text("Both are deleted again.")).to_be_visible()
    names = {each["name"] for each in site.get("/v1/datasets").json()["items"]}
    assert not names & {"web-test-eval", "web-test-train"}


@pytest.mark.slow
def test_sample_data_is_three_clicks_from_a_search(visit: Visit, site: Site) -> None:
    visit.page.route("**/v1/datasets", lambda route: route.fulfill(json={"items": []}))  # as in an empty workspace
    visit.go("#/datasets")
    page = visit.page
    page.get_by_role("button", name="Try it with sample data").press("Enter")
    page.get_by_role("button", name="Make searchable").press("Enter")
    page.get_by_role("link", name="Search them").press("Enter")
    expect(page.get_by_role("list", name="Results of").locator(".card")).to_have_count(12)
    assert "q=" in page.url
    header = {"Authorization": f"token {TOKEN}"}
    httpx.delete(f"{site.http}/v1/datasets/sample-garments", headers=header).raise_for_status()
    site.post("/v1/index/delete", {"filter": {"product": {"$exists": True}, "price": {"$exists": False}}})


def test_administrators_see_memory_settings_and_logs_of_rooms(visit: Visit) -> None:
    visit.go("#/admin")
    page = visit.page
    page.get_by_text("Memory, settings and logs of the rooms").press("Enter")
    rooms = page.locator("#rooms section")
    expect(rooms).to_have_count(5)
    expect(rooms.first).to_contain_text("MB")
    page.locator("#settings-indexer summary").press("Enter")
    expect(page.locator("#settings-indexer")).to_contain_text("workspace_url")
    visit.shoot("admin-rooms")
    assert TOKEN not in page.content()


def test_what_the_page_changes_needs_the_role(site: Site) -> None:
    header = {"Authorization": f"token {TokenFile(site.workspace).create('only-reads', 'read')}"}
    queries = {"queries": {"name": "a.csv", "content": "x"}}
    with httpx.Client(base_url=site.http, headers=header, timeout=60) as client:
        for path, body in (
            ("/v1/datasets/web-test/index", {}),
            ("/v1/datasets/web-test/split", {"version": "x", "train": "a", "evaluation": "b"}),
            ("/v1/feedback/rounds", {"guard": "web-test"}),
            ("/v1/feedback/rounds/round-1/finish", {}),
            ("/v1/evaluate/queries", queries),
            ("/v1/artifacts/live/exports/onnx", {}),
            ("/v1/index", {"documents": [{"text": "a"}]}),
            ("/v1/index/delete", {"ids": ["a"]}),
        ):
            assert client.post(path, json=body).status_code == 403, path
        assert client.get("/v1/rooms").status_code == 403
        assert client.get("/v1/aliases").status_code == 200
    as_owner = {"Authorization": f"token {TOKEN}"}
    for path, body in (
        ("/v1/feedback/rounds", {"guard": "<img src=x>"}),
        ("/v1/feedback/rounds", {"guard": "web-test", "epochs": 0}),
        ("/v1/feedback/rounds/..%2f/finish", {}),
        ("/v1/evaluate/queries", {"queries": {"name": "../a.exe", "content": "x"}}),
        ("/v1/artifacts/live/exports/pickle", {}),
        ("/v1/datasets/web-test/index", {"part": -1}),
    ):
        answer = httpx.post(f"{site.http}{path}", json=body, headers=as_owner, timeout=60)
        assert answer.status_code in (404, 422), (path, answer.text)
