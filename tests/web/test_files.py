"""The page's files as the gateway serves them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from finetuner.executors.gateway.access.roles import of_page
from finetuner.executors.gateway.pages import FOLDER, HEADERS, PAGES, POLICY, page_routes, read_files


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI(docs_url=None)
    app.include_router(page_routes())
    return TestClient(app)


@pytest.mark.parametrize("path", [*PAGES, *(f"/ui/{name}" for name in read_files(FOLDER))])
def test_each_file_comes_with_its_headers_and_its_etag(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert answer.headers["content-type"].split(";")[0] in ("text/html", "text/css", "text/javascript", "image/svg+xml")
    for known in (answer.headers["etag"], f'"other", W/{answer.headers["etag"]}'):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == POLICY
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert of_page("GET", path) is None, "a login page needs no login"


@pytest.mark.parametrize(
    "path",
    [
        "/ui/",
        "/ui/none.js",
        "/ui/../web.py",
        "/ui/%2e%2e/web.py",
        "/ui/..%2fweb.py",
        "/ui//etc/passwd",
        "/ui/js",
        "/ui/%00",
    ],
)
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_only_files_that_a_page_needs_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "notes.txt").write_text("2")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.css").write_text("3")
    assert set(read_files(tmp_path)) == {"a.js", "deep/b.css"}


def test_the_page_stays_small() -> None:
    sizes = [len(gzip.compress(file.content)) for file in read_files(FOLDER).values()]
    assert sum(sizes) < 120_000, "bytes as they would be sent compressed: every view, without an image"
    assert max(sizes) < 4_000


def test_pages_hold_no_script_or_style_of_their_own_and_name_no_other_server() -> None:
    for name, file in read_files(FOLDER).items():
        text = file.content.decode()
        for address in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)):
            assert address.startswith("http://www.w3.org"), f"{name} names {address}"
        if name.endswith(".html"):
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text), name
        if name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), (
                name
            )
