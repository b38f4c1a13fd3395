"""Data that is brought with the browser: a folder, a broken connection, what was understood, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Route, expect

from finetuner.workspace.tokens import TokenFile

from .conftest import SCRIPT, TOKEN, Site, Visit
from .test_search import GIVE


def test_a_folder_is_sent_looked_at_stored_and_edited(visit: Visit, site: Site, tmp_path: Path) -> None:
    visit.allowed = "ERR_FAILED"
    folder = tmp_path / "Shop & more"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(site.images[number])
    quoted = SCRIPT.replace('"', '""')
    captions = [f'"{quoted}"', "a dress", "فستان أحمر", "a coat", "a shirt"]
    rows = [f"{number}.jpg,{caption},x" for number, caption in enumerate(captions)]
    (folder / "table.csv").write_text("\n".join(["image,text,shelf", *rows, "none.jpg,missing,x"]))
    broken: list[Route] = []

    def breaks_once(route: Route) -> None:
        if route.request.method == "PATCH" and not broken:
            broken.append(route)
            route.abort()
        else:
            route.continue_()

    visit.page.route("**/v1/uploads/*", breaks_once)
    visit.go("#/datasets")
    page = visit.page
    page.get_by_role("link", name="Bring data").press("Enter")
    page.get_by_label("Choose a folder").set_input_files(folder)
    name = page.get_by_label("Name of the dataset")
    expect(name).to_have_value("Shop-more")
    name.fill("brought")
    page.get_by_role("button", name="Send and look").press("Enter")
    understood = page.get_by_role("region", name="What was understood")
    expect(understood.locator(".card")).to_have_count(5)
    assert len(broken) == 1
    expect(understood).to_contain_text("text is column 'text'; not read: shelf")
    expect(understood.get_by_role("row").filter(has_text="line 7")).to_contain_text("none.jpg")
    visit.shoot("bring")
    page.reload()
    expect(understood.locator(".card")).to_have_count(5)
    assert "owned" not in page.title()
    name.fill("brought-here")
    page.get_by_role("button", name="Store 5 documents").press("Enter")
    expect(page.get_by_role("heading", name="brought-here")).to_be_visible()
    expect(page.locator(".card")).to_have_count(5)
    page.get_by_text("Statistics and warnings").press("Enter")
    expect(page.locator("#report .facts")).to_contain_text("5, 5 different")
    assert "report=1" in page.url
    visit.shoot("dataset-report")

    page.get_by_role("button", name="Edit", exact=True).press("Enter")
    page.get_by_label("Caption of document 2").fill(f"a red {SCRIPT}")
    page.get_by_role("checkbox", name="Remove document 5").press("Space")
    expect(page.get_by_text("1 caption changed, 1 removed")).to_be_visible()
    visit.shoot("dataset-edit")
    page.get_by_role("button", name="Save as a new version").press("Enter")
    back = page.get_by_role("button", name="Go back to it")
    expect(page.locator(".card")).to_have_count(4)
    expect(page.locator(".card").nth(1)).to_contain_text("a red <script>")
    assert "owned" not in page.title()
    back.press("Enter")
    expect(page.locator(".card")).to_have_count(5)
    expect(page.locator(".card").nth(1)).to_contain_text("a dress")
    httpx.delete(f"{site.http}/v1/datasets/brought-here", headers={"Authorization": f"token {TOKEN}"})  # for others


def test_a_table_that_is_not_understood_is_read_again_or_thrown_away(visit: Visit, site: Site) -> None:
    visit.allowed = "422"
    uri = "data:image/jpeg;base64," + base64.b64encode(site.images[0]).decode()
    column = "<img src=x onerror=alert(1)>"
    lines = "\n".join(json.dumps({"foto": uri, column: f"a dress {number}"}) for number in range(3))
    visit.go("#/bring")
    page = visit.page
    page.get_by_text("Drop a zip").wait_for()
    content = base64.b64encode(lines.encode()).decode()
    drop = GIVE.replace('document.getElementById("words")', 'document.querySelector(".drop")')
    page.evaluate(drop, ["drop", content, "web-test.jsonl", ""])
    page.get_by_role("button", name="Send and look").click()
    expect(page.locator("form .wrong")).to_contain_text("must have a column image")
    page.get_by_label("Column of the image").fill("foto")
    page.get_by_label("Column of the caption").fill(column)
    page.get_by_role("button", name="Read again").click()
    understood = page.get_by_role("region", name="What was understood")
    expect(understood.locator(".card")).to_have_count(3)
    expect(understood).to_contain_text("There is a dataset web-test already")
    page.get_by_role("button", name="Throw away").click()
    expect(page.get_by_label("Name of the dataset")).to_be_hidden()
    stored = {each["name"]: each["documents"] for each in site.get("/v1/datasets").json()["items"]}
    assert stored["web-test"] > 3
    page.get_by_label("Choose files").set_input_files({"name": "a.exe", "mimeType": "", "buffer": b"MZ"})
    expect(page.locator("form .wrong")).to_contain_text("Got a.exe")


def test_a_reader_may_search_and_mark_and_no_more(site: Site) -> None:
    header = {"Authorization": f"token {TokenFile(site.workspace).create('who-reads', 'read')}"}
    upload = "/v1/uploads/" + "0" * 32
    with httpx.Client(base_url=site.http, headers=header, timeout=60) as client:
        asked: list[tuple[str, str, Any]] = [
            ("POST", "/v1/uploads", None),
            ("PATCH", upload, None),
            ("DELETE", upload, None),
            ("POST", f"{upload}/preview", {}),
            ("POST", f"{upload}/complete", {}),
            ("POST", "/v1/datasets/web-test/edit", {"version": "0" * 64, "removed": [0]}),
            ("POST", "/v1/feedback/list", {}),
            ("POST", "/v1/feedback/delete", {"ids": ["x"]}),
        ]
        for method, path, body in asked:
            answer = client.request(method, path, json=body)
            assert answer.status_code == 403, (method, path, answer.text)
        assert client.post("/v1/search", json={"positives": [{"id": "image-1"}]}).status_code == 200
        assert (
            client.post("/v1/encode", json={"documents": [{"text": "a"}], "artifact": "clip-mini"}).status_code == 200
        )
