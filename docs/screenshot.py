"""Makes images/before-after.png from the demo's report: `make demo`, then `python docs/screenshot.py demo/report.html`.

The image has the scores and the first two queries.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.web.chromium import find_chromium

QUERIES = 2
MARGIN = 8  # pixels above the scores
FILE = Path(__file__).parent / "images" / "before-after.png"


def main() -> None:
    """Write the image with a palette of 256 colors, which keeps it small."""
    chromium = find_chromium()
    with sync_playwright() as playwright:
        variables = {**os.environ, **chromium.env}
        browser = playwright.chromium.launch(executable_path=chromium.path, args=chromium.args, env=variables)
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
