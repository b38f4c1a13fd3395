"""`make docs`: the site builds, dead links fail it, and its pages load nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from finetuner.config.training_options import TrainingOptions
from tests.snippets import ROOT

pytestmark = pytest.mark.process

OUTSIDE = re.compile(r"(?:https?:)?//")
# In mkdocs-material's script; it loads them for diagrams, for browsers without ResizeObserver, and beside a
# repository's address. No page has these.
UNUSED = ("unpkg.com/mermaid", "unpkg.com/resize-observer", "api.github.com", "/api/v4/projects/")
LOADING = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


def build(folder: Path, to: Path) -> subprocess.CompletedProcess[str]:
    # Not with --quiet, under which a warning does not even count.
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", "mkdocs.yml", "--site-dir", str(to)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """What a browser loads with a page, and the classes and ids of the page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= set((given.get("class") or "").split()) | {given.get("id") or ""}
        address = given.get(LOADING.get(tag, "")) or ""
        if address and not (tag == "link" and given.get("rel") in ("canonical", "prev", "next")):
            self.addresses.append(address)


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for path in pages:
        page = Loads(path)
        assert [address for address in page.addresses if OUTSIDE.match(address)] == []
        assert not {"mermaid", "md-source"} & page.names
        for address in page.addresses:
            if path.name != "404.html" and not address.startswith("data:"):
                assert (path.parent / urlsplit(address).path).exists(), address
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", style.read_text())
    for script in site.rglob("*.js"):
        loaded = re.findall(r"[\"'`](https?://[^\"'`\s]+)", script.read_text())
        assert [address for address in loaded if not any(known in address for known in UNUSED)] == [], script


def test_tables_come_from_the_code(site: Path) -> None:
    assert not [path for path in site.rglob("*.html") if "<!-- table:" in path.read_text()]
    training, rest = (site / "training.html").read_text(), (site / "rest.html").read_text()
    assert all(f"<code>{name}</code>" in training for name in TrainingOptions.__dataclass_fields__)
    assert "Rank of LoRA adapters, 1 to 1,024" in training
    assert re.search(r"POST</td>\s*<td><code>/v1/search</code></td>\s*<td><code>read</code></td>", rest)


@pytest.mark.parametrize(
    ("page", "named"),
    [
        ("[gone](nowhere.md)", "nowhere.md"),
        ("[gone](other.md#nowhere)", "does not contain an anchor"),
        ("[gone](../README.md)", "README.md"),
        ('--8<-- "nowhere.md"', "nowhere.md"),
    ],
)
def test_a_dead_link_fails_the_build(tmp_path: Path, page: str, named: str) -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text()) | {"hooks": [], "nav": ["index.md", "other.md"]}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config | {"plugins": []}))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Other\n")
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n{page}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert named in done.stderr
