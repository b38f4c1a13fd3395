"""Makes images/before-after.png from the demo's report: `make demo`, then `python docs/screenshot.py demo/report.html`.

It needs Chromium. The image has the scores and the first two queries.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

QUERIES = 2
MARGIN = 8  # pixels above the scores
CHROMIUM = "/usr/bin/chromium"
FILE = Path(__file__).parent / "images" / "before-after.png"


def main() -> None:
    """Write the image with a palette of 256 colors, which keeps it small."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 1600}, color_scheme="light")
        page.goto(Path(sys.argv[1]).resolve().as_uri())
        top, bottom = page.locator(".cards").bounding_box(), page.locator(".query").nth(QUERIES).bounding_box()
        assert top is not None
        assert bottom is not None
        above = top["y"] - MARGIN
        clip = {"x": 0, "y": above, "width": 1000, "height": bottom["y"] - above}
        image = Image.open(io.BytesIO(page.screenshot(clip=clip)))
        browser.close()
    FILE.parent.mkdir(exist_ok=True)
    image.convert("RGB").quantize(256).save(FILE, optimize=True)


if __name__ == "__main__":
    main()
