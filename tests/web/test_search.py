"""Search by text and by an image: chosen, dropped, pasted."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import finetuner

from .conftest import SCRIPT, TOKEN, Visit

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


def test_results_are_marked_and_become_examples(visit: Visit) -> None:
    def marks() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = visit.site.post("/v1/feedback/list", {}).json()["marks"]
        return found

    visit.go("#/search?q=a+red+dress")
    page, cards = visit.page, visit.page.locator(".card")
    expect(cards).to_have_count(12)
    shown = [str(card.get_attribute("data-id")) for card in cards.all()]
    page.get_by_role("button", name=f"Fits: {shown[0]}", exact=True).press("Enter")
    page.get_by_role("button", name=f"Does not fit: {shown[1]}", exact=True).press("Space")
    expect(page.locator(".marks")).to_contain_text("1 fit, 1 does not")
    visit.shoot("search-marks")
    page.get_by_role("button", name="Save marks").press("Enter")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    (mark,) = marks()
    assert (mark["text"], mark["shown"], mark["artifact"]) == ("a red dress", shown, "clip-mini")
    assert (mark["chosen"], mark["refused"]) == ([shown[0]], [shown[1]])
    page.get_by_role("button", name="Undo").press("Enter")
    expect(page.locator(".marks")).to_contain_text("1 fit, 1 does not")
    assert marks() == []

    with page.expect_response("**/v1/feedback"):  # a new search keeps what is not saved
        page.get_by_role("button", name=f"More like this: {shown[0]}", exact=True).press("Enter")
    expect(page.get_by_role("button", name=f"Remove example {shown[0]}")).to_be_focused()
    expect(page.locator(f".card[data-id={shown[0]}]")).to_have_count(0)
    page.get_by_role("button", name=f"Not this: {shown[1]}", exact=True).click()
    expect(page.locator(f".card[data-id={shown[1]}]")).to_have_count(0)
    expect(cards).to_have_count(12)
    refined = [card.get_attribute("data-id") for card in cards.all()]
    page.reload()
    expect(page.get_by_role("list", name="Not like", exact=True)).to_contain_text(shown[1])
    expect(cards).to_have_count(12)
    assert [card.get_attribute("data-id") for card in cards.all()] == refined
    page.get_by_role("button", name=f"Remove example {shown[1]}").click()
    page.get_by_label("Text").fill("")
    page.keyboard.press("Enter")  # the example alone is the query, and has no thumbs
    expect(page.get_by_role("button", name="Fits: ")).to_have_count(0)
    expect(cards).to_have_count(12)

    page.get_by_role("link", name="Marks").click()
    row = page.get_by_role("row").filter(has_text="a red dress")
    expect(row.get_by_role("img", name=shown[0], exact=True)).to_be_visible()
    page.get_by_text("Copy as a command").click()
    expect(page.get_by_role("region", name="Command")).to_contain_text("finetuner improve --on feedback --guard")
    visit.shoot("marks")
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No marks here.")).to_be_visible()
    assert marks() == []


def test_options_of_a_search_stand_in_the_address_and_in_code(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    visit.go("#/search?q=a+dress")
    page, cards = visit.page, visit.page.locator(".card")
    expect(cards).to_have_count(12)
    page.get_by_text("More options").press("Enter")
    page.get_by_label("Count by tags").fill("product, price: 4 8")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="below 4 4").press("Enter")
    expect(cards).to_have_count(4)
    assert page.get_by_label("Filter (JSON)").input_value() == '{"price":{"$lt":4}}'
    visit.shoot("search-facets")
    page.get_by_role("button", name="below 4 4", pressed=True).click()
    expect(cards).to_have_count(12)

    for label, text in (("Group by tag", "product"), ("Results of a group", "2"), ("Variety", "0.2")):
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_label("Hide near duplicates").fill("0.999")
    page.get_by_label("Words in").fill("product, note")
    page.get_by_label("Weight of words").fill("0.3")
    page.locator("#limit").select_option("24")
    expect(page.locator(".answer")).to_contain_text("weight of words 0.3")
    groups = page.locator(".card .group").all_inner_texts()
    assert len(groups) > 12
    assert max(groups.count(group) for group in groups) == 2
    ids = [card.get_attribute("data-id") for card in cards.all()]
    page.reload()
    expect(page.locator("summary")).to_contain_text(["More options, 7 in use", "Copy as code"])
    assert [card.get_attribute("data-id") for card in cards.all()] == ids

    page.get_by_text("Copy as code").click()
    monkeypatch.setattr(finetuner, "login", lambda: None)
    exec(page.get_by_role("region", name="As Python").inner_text(), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if not line.startswith("<")] == [
        name for name in ids if name != SCRIPT
    ]
    page.get_by_label("Weight of words").fill("7")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("Weight of words: ")

    hostile = f"""it's "$(touch {tmp_path}/owned)" `touch {tmp_path}/owned` \\ $HOME <script>"""
    visit.go("#/search")
    page.get_by_label("Text").fill(hostile)
    page.keyboard.press("Enter")
    commands = [_command(page)]
    give(page, "choose", visit.site.images[7])
    page.get_by_label("Filter (JSON)").fill('{"$not": {"product": {"$eq": "$(touch owned) `touch owned`"}}}')
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_text("Your image is the file image.jpg there.")).to_be_attached()
    commands.append(_command(page))
    (tmp_path / "image.jpg").write_bytes(visit.site.images[7])
    for command, first in zip(commands, ("", '"id":"image-7"'), strict=True):
        environment = os.environ | {"FINETUNER_TOKEN": TOKEN}
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert '"matches":[{' in done.stdout.replace(" ", ""), done.stdout + done.stderr
        assert first in done.stdout.replace(" ", "")
    assert not (tmp_path / "owned").exists()


def _command(page: Page) -> str:
    """The command of the search that is shown."""
    expect(page.locator(".card")).to_have_count(12)
    return page.locator("details.codes pre").nth(1).evaluate("element => element.textContent")  # type: ignore[no-any-return]
