"""Makes images/page/*.png, the screenshots of page.md: `python docs/page_shots.py`, some minutes on a CPU.

It starts a Flow of its own with the packaged CLIP and the generated catalogue. Each view is seen at two widths.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

import finetuner
from finetuner import Document, DocumentArray, make_pair
from finetuner.callback import EvaluationCallback
from finetuner.catalogue import fashion
from finetuner.flow.running_flow import RunningFlow
from tests.web.chromium import find_chromium

FOLDER = Path(__file__).parent / "images" / "page"
SIZES = {"desk": (1440, 900), "phone": (390, 844)}
MOST_BYTES = 150_000
COLORS = (256, 128, 64, 32)
TOKEN = "a-token-for-screenshots"  # of a Flow that lives for minutes


def main() -> None:
    """Fill a Flow, and take the screenshots; arguments are names of views, by default all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    chromium = find_chromium()
    with TemporaryDirectory() as folder, RunningFlow(Path(folder) / "workspace", token=TOKEN) as flow:
        finetuner.login(host=flow.host, token=TOKEN)
        artifact = fill(flow.http)
        archive = Path(folder) / "spring-collection.zip"
        archive.write_bytes(collection())
        with sync_playwright() as playwright:
            variables = {**os.environ, **chromium.env}
            browser = playwright.chromium.launch(executable_path=chromium.path, args=chromium.args, env=variables)
            for size in SIZES:
                shoot(browser, flow.http, size, artifact, archive)
            browser.close()


def fill(http: str) -> str:
    """Give a Flow datasets, runs, an index and marks; return the artifact of the last run."""
    for name, split, items in (("shop-train", "train", 150), ("shop-test", "test", 48)):
        finetuner.push_data(name, _pairs(split, items))
    shop = list(fashion("test", items=48))
    documents = [
        Document(
            id=image.name,
            blob=image.jpeg,
            tags={"price": 15.0 + 7 * (at % 9), "product": image.item, "shelf": "AB"[at % 2]},
        )
        for at, image in enumerate(shop)
    ]
    finetuner.index(DocumentArray(documents))
    for name, epochs, rate in (("first-try", 1, 1e-4), ("shop-5-epochs", 5, 3e-4)):
        run = finetuner.fit(
            "clip-mini",
            "shop-train",
            eval_data="shop-test",
            run_name=name,
            loss="CLIPLoss",
            epochs=epochs,
            batch_size=32,
            learning_rate=rate,
            device="cpu",
            callbacks=[EvaluationCallback("shop-test", gather_examples=True, limit=8)],
        )
        for _ in run.stream_logs():
            pass
        run.status()
    finetuner.promote(run.artifact_id, force=True)
    found = finetuner.search("a striped shirt", limit=12)[0]
    finetuner.feedback(found, chosen=found.matches[0].id, refused=found.matches[5].id)
    finetuner.index(DocumentArray(documents), artifact="clip-mini")
    header = {"Authorization": f"token {TOKEN}"}
    httpx.post(
        f"{http}/v1/tokens", json={"name": "anna", "role": "write", "days": 90}, headers=header
    ).raise_for_status()
    return str(run.artifact_id)


def _pairs(split: str, items: int) -> DocumentArray:
    return DocumentArray(
        make_pair(image.captions["en"], image.jpeg, {"finetuner_label": image.item})
        for image in fashion(split, items=items)
    )


def collection() -> bytes:
    """A zip of images with a table, two of whose rows cannot be used."""
    target, table = io.BytesIO(), io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["image", "title", "price"])
    with zipfile.ZipFile(target, "w") as archive:
        for image in fashion("validation", items=40):
            archive.writestr(f"photos/{image.name}.jpg", image.jpeg)
            rows.writerow([f"photos/{image.name}.jpg", image.captions["en"], 30])
        rows.writerow(["photos/lost.jpg", "a linen jacket", 80])
        rows.writerow([f"photos/{image.name}.jpg", "", 45])
        archive.writestr("table.csv", table.getvalue())
    return target.getvalue()


def judged() -> FilePayload:
    """Queries with the images that fit them."""
    target = io.StringIO()
    rows = csv.writer(target)
    rows.writerow(["query", "document", "relevance"])
    for image in list(fashion("test", items=48))[:24]:
        rows.writerow([image.captions["en"], image.name, 1])
    return {"name": "customers.csv", "mimeType": "text/csv", "buffer": target.getvalue().encode()}


def views(artifact: str) -> dict[str, tuple[str, str]]:
    """Return the address of each view, and an element of the complete one."""
    return {
        "runs": ("#/runs", "table"),
        "run": ("#/runs/default/shop-5-epochs", "article.query img"),
        "compare": ("#/compare?runs=default%2Fshop-5-epochs,default%2Ffirst-try", "table"),
        "start": ("#/start?train_data=shop-train&eval_data=shop-test&model=clip-mini&name=autumn", "pre.log"),
        "datasets": ("#/datasets", "table"),
        "bring": ("#/bring", ".drop"),
        "dataset": ("#/datasets/shop-train?report=1", "#report .facts"),
        "artifacts": ("#/artifacts", "table"),
        "artifact": (f"#/artifacts/{artifact}", ".lineage"),
        "before-after": (
            f"#/before-after?before=clip-mini&after={artifact}&data=shop-test&size=48&q=a+red+dress%0Aa+striped+shirt",
            ".pictured img",
        ),
        "search": ("#/search?q=a+red+dress&count=shelf%2C+price%3A+30+50", ".card img"),
        "search-two": ("#/search?q=a+red+dress&compare=1&other=clip-mini", "h2.model >> nth=1"),
        "index": ("#/index", ".card img"),
        "queries": ("#/queries", "form"),
        "marks": ("#/marks", ".thumbnail img"),
        "admin": ("#/admin", "table >> nth=1"),
        "login": ("#/login", "form"),
    }


def shoot(browser: Browser, http: str, size: str, artifact: str, archive: Path) -> None:
    """Take the screenshots of one size."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    page.goto(f"{http}/#/login")
    page.evaluate("token => sessionStorage.setItem('finetuner-token', token)", TOKEN)
    page.reload()
    for name, (address, complete) in views(artifact).items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        page.goto(f"{http}/{address}")
        page.locator(complete).first.wait_for()
        if name == "bring":
            page.get_by_label("Choose files").set_input_files(archive)
            page.get_by_role("button", name="Send and look").click()
            page.locator("section .card img").first.wait_for()
            page.evaluate("scrollTo(0, document.querySelector('form').offsetTop - 20)")
        if name == "queries":
            page.get_by_label("Queries", exact=True).set_input_files(judged())
            page.get_by_role("button", name="Score").click()
            page.locator("article.query img").first.wait_for()
            page.evaluate("scrollTo(0, document.querySelector('.facts').offsetTop - 140)")
        if name == "admin":
            page.locator("#rooms summary").first.click()
            page.locator("#rooms section").first.wait_for()
        if name == "search":
            page.get_by_role("button", name="Fits: ").first.click()
            page.get_by_role("button", name="Does not fit: ").nth(3).click()
            page.mouse.move(0, 0)
            page.evaluate(
                "width => width > 600 ? scrollTo(0, 0) : document.querySelector('.facets').scrollIntoView()", width
            )
            page.evaluate("width => width > 600 || scrollBy(0, -70)", width)
        if name == "before-after" and size == "phone":
            page.evaluate("scrollTo(0, document.querySelector('.facts').offsetTop - 120)")
        page.wait_for_timeout(400)  # images
        keep(page, FOLDER / f"{name}-{size}.png")
    page.close()


def keep(page: Page, file: Path) -> None:
    """Write what is shown with a palette that keeps the file below MOST_BYTES."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colors in COLORS:
        image.quantize(colors).save(file, optimize=True)
        if file.stat().st_size < MOST_BYTES:
            return
    raise SystemExit(f"{file} must have less than {MOST_BYTES} bytes. Got {file.stat().st_size}.")


if __name__ == "__main__":
    main()
