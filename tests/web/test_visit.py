"""Login, a server that goes away, hostile names, keyboard, phone, and accessibility."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route, expect

from .conftest import SCRIPT, TOKEN, Site, Visit, Watched, visit_with


def test_a_token_opens_the_page_that_was_asked_for(visitor: Visit) -> None:
    visitor.allowed = "401"
    visitor.go("#/datasets/web-test")
    page = visitor.page
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    visitor.shoot("login")
    page.get_by_label("Token").fill("another-token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert").filter(has_text="token")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="web-test")).to_be_visible()
    assert TOKEN not in page.url
    page.reload()
    expect(page.get_by_role("heading", name="web-test")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_token_is_remembered_on_this_machine_where_the_user_asks_for_it(visitor: Visit) -> None:
    visitor.allowed = "401"
    visitor.go("#/login")
    page = visitor.page
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("switch", name="Remember on this machine").press("Space")
    page.get_by_role("button", name="Log in").press("Enter")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    other = visit_with(page.context, visitor.site, visitor.shots)
    other.go("#/datasets")
    expect(other.page.get_by_role("link", name="web-test")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    assert other.page.evaluate("localStorage.length + sessionStorage.length") == 0


def test_a_dataset_shows_images_with_captions_page_by_page(visit: Visit) -> None:
    visit.go("#/datasets")
    visit.page.get_by_role("link", name="web-train").click()
    cards = visit.page.locator(".card")
    expect(cards).to_have_count(24)
    expect(cards.first.locator("img")).to_be_visible()
    assert cards.first.locator("p").first.inner_text()
    visit.shoot("dataset")
    visit.page.get_by_role("button", name="Next").click()
    expect(visit.page.locator(".pages").get_by_text("25 to 48 of 80")).to_be_visible()
    visit.page.reload()
    expect(visit.page.locator(".pages").get_by_text("25 to 48 of 80")).to_be_visible()


@pytest.mark.parametrize(
    "address",
    [
        "#/datasets/evil?report=1",
        f"#/search?q=script&group=note&count=note&like={quote(SCRIPT)}",
        "#/marks",
        "#/runs/default/watched",
    ],
    ids=["dataset", "search", "marks", "run"],
)
def test_stored_values_are_shown_as_text(visit: Visit, watched: Watched, address: str) -> None:
    if address == "#/marks":
        mark = {"text": SCRIPT, "shown": [SCRIPT], "chosen": [SCRIPT]}
        visit.site.post("/v1/feedback", {"marks": [mark]})
    visit.go(address)
    expect(visit.page.get_by_text("<script>").first).to_be_visible()
    assert "owned" not in visit.page.title()
    assert visit.page.locator("main script").count() == 0
    assert visit.page.locator("main [onerror]").count() == 0
    if address == "#/marks":
        visit.site.post("/v1/feedback/delete", {"document": SCRIPT})


def test_an_address_with_markup_is_only_a_name(visit: Visit) -> None:
    visit.allowed = "404|405|422"
    visit.go(f"#/runs/default/{SCRIPT.replace('/', '%2F')}")
    expect(
        visit.page.get_by_role("alert")
        .filter(has_text="Cannot show this page")
        .or_(visit.page.get_by_text("Not found"))
    ).to_be_visible()
    assert "owned" not in visit.page.evaluate("document.title.replace(/<.*>/, '')")


def test_the_page_reports_a_server_that_is_gone_and_recovers(visit: Visit) -> None:
    visit.allowed = "ERR_INTERNET_DISCONNECTED"
    visit.go("#/runs")
    heading = visit.page.get_by_role("heading", name="Runs")
    expect(heading).to_be_visible()
    visit.page.context.set_offline(True)
    banner = visit.page.locator("#connection")
    expect(banner).to_contain_text("does not answer")
    visit.shoot("server-gone")
    visit.page.get_by_role("link", name="Datasets", exact=True).click()  # asked for while the server is away
    visit.page.context.set_offline(False)
    expect(banner).to_be_empty()
    expect(visit.page.get_by_role("link", name="web-train")).to_be_visible()


def test_the_page_reports_a_room_that_does_not_answer(visit: Visit) -> None:
    visit.allowed = "503"
    away = {"status": 503, "json": {"detail": "the trainer does not answer", "type": "FlowUnreachable"}}
    visit.page.route("**/v1/runs*", lambda route: route.fulfill(**away))
    visit.go("#/runs")
    banner = visit.page.locator("#connection")
    expect(banner).to_contain_text("the trainer does not answer")
    visit.page.unroute("**/v1/runs*")
    visit.page.get_by_role("button", name="Retry now").click()
    expect(banner).to_be_empty()


@pytest.mark.seconds
def test_the_page_says_after_four_seconds_that_the_server_hangs(visit: Visit) -> None:
    visit.allowed = "ERR_FAILED|ERR_ABORTED"
    held: list[Route] = []
    visit.page.route("**/v1/datasets*", lambda route: held.append(route))
    visit.page.route(
        "**/ui/logo.svg", lambda route: held.append(route) if route.request.method == "HEAD" else route.continue_()
    )
    visit.go("#/datasets")
    banner = visit.page.locator("#connection")
    expect(banner).to_contain_text("has not answered for 4 seconds", timeout=15_000)
    visit.page.unroute_all(behavior="ignoreErrors")
    visit.page.get_by_role("button", name="Retry now").click()
    expect(banner).to_be_empty()
    expect(visit.page.get_by_role("link", name="web-train")).to_be_visible()


def test_the_keyboard_reaches_everything(visit: Visit) -> None:
    visit.go("#/datasets")
    page = visit.page
    page.reload()  # the first key begins at the top
    expect(page.get_by_role("link", name="web-test")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", "the focus is seen"
    assert "web-test" in reached
    page.get_by_role("link", name="web-test").press("Enter")
    expect(page.get_by_role("heading", name="web-test")).to_be_visible()
    expect(page.locator("main")).to_be_focused()


def addresses(watched: Watched) -> dict[str, tuple[str, str]]:
    """Return the address of each page, and an element of the complete page."""
    return {
        "runs": ("#/runs", "table"),
        "run": ("#/runs/default/watched", "article.query img"),
        "compare": ("#/compare?runs=default%2Fwatched,default%2Fwatched", "table"),
        "start": ("#/start?epochs=3&rates=1e-4", "pre.log"),
        "datasets": ("#/datasets", "table"),
        "dataset": ("#/datasets/web-test", ".card img"),
        "artifacts": ("#/artifacts", "table"),
        "artifact": (f"#/artifacts/{watched.artifact_id}", ".lineage"),
        "before-after": (
            f"#/before-after?before=clip-mini&after={watched.artifact_id}&data=web-test&size=48&q=a+red+dress",
            ".pictured img",
        ),
        "bring": ("#/bring", ".drop"),
        "search": ("#/search?q=a+red+dress&compare=1&count=product&like=image-3&unlike=image-4", "h2.model >> nth=1"),
        "index": ("#/index", ".card"),
        "queries": ("#/queries", "form"),
        "marks": ("#/marks", ".empty"),
        "admin": ("#/admin", "table >> nth=1"),
        "login": ("#/login", "form"),
        "docs": ("docs", ".operation"),
    }


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (320, "light"),
        pytest.param(1280, "light", marks=pytest.mark.slow),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
    ],
)
def test_every_page_is_accessible_and_fits(
    browser: Browser, site: Site, watched: Watched, visit: Visit, width: int, scheme: str
) -> None:
    # the page's own policy forbids the injection of axe
    context = browser.new_context(
        viewport={"width": width, "height": 700}, color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True
    )
    other = visit_with(context, site, visit.shots)
    other.log_in()
    for name, (address, complete) in addresses(watched).items():
        other.go(address)
        other.page.locator(complete).first.wait_for()
        expect(other.page.locator("h1")).to_be_visible()
        other.shoot(f"{name}-{scheme}-{width}")
        assert other.page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is too wide"
        twice = "ids => ids.filter((id, at) => ids.indexOf(id) !== at)"
        ids = other.page.locator("[id]").evaluate_all("found => found.map((each) => each.id)")
        assert other.page.evaluate(twice, ids) == [], f"{name}: a label would name another field"
        found = Axe().run(other.page).response["violations"]
        serious = [
            (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], f"{name}, {scheme}, {width}"
    assert other.problems == []
    context.close()


def test_the_api_page_describes_every_path(visit: Visit) -> None:
    visit.go("docs")
    page = visit.page
    expect(page.get_by_role("heading", name="REST API")).to_be_visible()
    page.get_by_label("Filter").fill("/v1/search")
    shown = page.locator("summary:visible")
    expect(shown).to_have_count(1)
    shown.click()
    expect(page.get_by_text("score_threshold", exact=True)).to_be_visible()
    paths = page.evaluate("document.querySelectorAll('.operation').length")
    assert paths > 30


def test_nothing_is_asked_of_another_server(visit: Visit, watched: Watched) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    for address, complete in addresses(watched).values():
        visit.go(address)
        visit.page.locator(complete).first.wait_for()
    foreign = [url for url in asked if not re.match(rf"{visit.site.http}/|blob:{visit.site.http}/", url)]
    assert foreign == []
