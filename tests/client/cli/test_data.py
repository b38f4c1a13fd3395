"""`finetuner data`: what it prints, and what it refuses before it sends anything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from finetuner.catalogue import fashion
from finetuner.cli.main import app
from finetuner.exceptions import InvalidInput


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments], catch_exceptions=False, env={"COLUMNS": "120"})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A CSV of four pairs, one cut and one without a letter, and of one bad line."""
    rows = ["titel,foto"]
    for image in fashion("train", items=2):
        (tmp_path / f"{image.name}.jpg").write_bytes(image.jpeg)
        rows.append(f'"{image.captions["en"]}",{image.name}.jpg')
    names = [row.rpartition(",")[2] for row in rows]
    rows[1], rows[2] = f"{'word ' * 90},{names[1]}", f"12,{names[2]}"
    path = tmp_path / "shop.csv"
    path.write_text("\n".join([*rows, "a,none.jpg"]) + "\n")
    return path


COLUMNS = ("--column", "text=titel", "--column", "image=foto", "--model", "clip-mini", "--on-error", "skip")


def test_stats_print_a_table_the_oddest_and_the_trouble(shop: Path) -> None:
    done = run("stats", str(shop), *COLUMNS)
    assert done.exit_code == 0
    assert re.search(r"^captions cut at 48 tokens +1$", done.stdout, re.MULTILINE)
    assert "\nODDEST   DOCUMENT  REASON" in done.stdout
    assert "\nTROUBLE\ncaptions that are cut: 1 of 4. clip-mini reads 48 tokens" in done.stdout
    assert done.stdout.endswith("captions without a letter: 1, the first is document 1. Describe the images.\n")
    assert "left out 1 entries" in done.stderr
    assert "UserWarning" not in done.stderr


def test_stats_print_json(shop: Path) -> None:
    done = run("stats", str(shop), "--eval", str(shop), "--json", *COLUMNS)
    found = json.loads(done.stdout)
    assert found["statistics"]["captions"]["tokens"]["cut"] == 1
    assert found["overlap"] == {"images": 4, "near_images": 0, "first": [0, 0], "captions": 4}
    assert len(found["troubles"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "x.csv", "--as", "images"], "--as must be one of pairs, labelled. Got 'images'"),
        (["stats", "x.csv", "--model", "resnet-base"], "--model must train on pairs. Got resnet-base"),
        (["stats", "x.csv", "--column", "text"], "--column must be CONTENT=NAME, each content once. Got 'text'"),
        (["push", "shop", "x.csv", "--column", "text=a", "--column", "text=b"], "each content once. Got 'text=b'"),
        (["push", "shop", "x.csv", "--as", "x"], "--as must be one of"),
    ],
)
def test_options_are_checked_before_a_flow_is_asked(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        run(*arguments)
