"""Search by text and by an image: chosen, dropped, pasted."""

from __future__ import annotations

import base64

import pytest
from playwright.sync_api import Page, expect

from .conftest import Visit

GIVE = """
([how, content, name, type]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, { type }));
  const event = how === "drop"
    ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
  document.getElementById("words").dispatchEvent(event);
}
"""


def give(page: Page, how: str, content: bytes, name: str = "image.jpg", kind: str = "image/jpeg") -> None:
    """Drop or paste a file on the search field, or choose it."""
    page.get_by_label("Text").wait_for()
    if how == "choose":
        page.get_by_label("Choose image").set_input_files({"name": name, "mimeType": kind, "buffer": content})
    else:
        page.evaluate(GIVE, [how, base64.b64encode(content).decode(), name, kind])


def test_text_finds_images_with_scores(visit: Visit) -> None:
    visit.go("#/search")
    page = visit.page
    page.get_by_label("Text").fill("a red dress")
    page.keyboard.press("Enter")
    cards = page.locator(".card")
    expect(cards).to_have_count(12)
    scores = [float(text) for text in page.locator(".score b").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    visit.shoot("search-words")

    page.get_by_label("Filter (JSON)").fill('{"price": {"$lt": 3}}')
    page.get_by_role("button", name="Search").click()
    expect(cards).to_have_count(3)
    page.reload()
    expect(cards).to_have_count(3)
    assert page.get_by_label("Text").input_value() == "a red dress"


def test_a_wrong_filter_is_reported(visit: Visit) -> None:
    visit.go("#/search?q=dress&filter=price")
    problem = visit.page.locator("#problem")
    expect(problem).to_contain_text("must be a JSON object")
    visit.allowed = "422"
    visit.page.get_by_label("Filter (JSON)").fill('{"price": {"$near": 3}}')
    visit.page.get_by_role("button", name="Search").click()
    expect(problem).to_contain_text("$near")


@pytest.mark.parametrize("how", ["choose", "drop", "paste"])
def test_an_image_finds_itself(visit: Visit, how: str) -> None:
    visit.go("#/search")
    give(visit.page, how, visit.site.images[7])
    first = visit.page.locator(".card").first
    expect(first).to_have_attribute("data-id", "image-7")
    expect(first.locator(".score b")).to_have_text("1.000")
    expect(visit.page.get_by_role("img", name="Query image")).to_be_visible()
    visit.shoot(f"search-image-{how}")
    visit.page.get_by_role("button", name="Remove image").click()
    expect(visit.page.get_by_role("img", name="Query image")).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "content"),
    [("page.html", b"<script>document.title = 'owned'</script>"), ("drawing.svg", b'<svg onload="alert(1)"></svg>')],
)
def test_a_file_that_is_no_image_is_not_sent(visit: Visit, name: str, content: bytes) -> None:
    visit.go("#/search")
    sent: list[str] = []
    visit.page.on("request", lambda request: sent.append(request.url))
    give(visit.page, "drop", content, name, "image/jpeg")
    expect(visit.page.locator(".question .wrong")).to_contain_text(f"Got {name}")
    assert not any("/v1/search" in url for url in sent)


@pytest.mark.parametrize(("chances", "line"), [((0.9, 0.6, 0.4), "Less likely to fit"), ((0.3, 0.1), "Nothing fits.")])
def test_a_line_stands_above_what_probably_does_not_fit(visit: Visit, chances: tuple[float, ...], line: str) -> None:
    matches = [{"id": f"d{at}", "score": 0.5, "probability": chance, "tags": {}} for at, chance in enumerate(chances)]
    answer = {"queries": [{"id": "q", "artifact": "a" * 24, "matches": matches}]}
    visit.page.route("**/v1/search", lambda route: route.fulfill(json=answer))
    visit.go("#/search?q=dress")
    expect(visit.page.locator(".below")).to_contain_text(line)
    likely = sum(chance >= 0.5 for chance in chances)
    shown = visit.page.locator(".found section > *").all()
    above = next(at for at, each in enumerate(shown) if "below" in (each.get_attribute("class") or ""))
    counts = [each.locator(".card").count() for each in shown]
    assert (sum(counts[:above]), sum(counts[above:])) == (likely, len(chances) - likely)
    expect(visit.page.locator(".score").first).to_contain_text(f"{chances[0]:.0%}")
