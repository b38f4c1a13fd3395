"""`finetuner data push`, `show` and `stats` of a stored dataset, against the real Flow; a run's log names trouble."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import finetuner
from finetuner.catalogue import fashion
from finetuner.cli.main import app
from finetuner.exceptions import DatasetNotFound
from finetuner.flow.running_flow import RunningFlow


@pytest.fixture(autouse=True)
def _connected(flow: RunningFlow, own_session: None) -> None:
    finetuner.login(host=flow.host)


def run(*arguments: str, host: str) -> str:
    done = CliRunner().invoke(app, ["data", *arguments, "--host", host], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_file_is_pushed_shown_and_counted(flow: RunningFlow, tmp_path: Path) -> None:
    rows = []
    for image in fashion("train", items=3):
        (tmp_path / f"{image.name}.jpg").write_bytes(image.jpeg)
        rows.append(
            json.dumps({"image": f"{image.name}.jpg", "text": image.captions["en"], "label": image.item}) + "\n"
        )
    (tmp_path / "shop.jsonl").write_text("".join(rows))
    pushed = run("push", "shop-of-files", str(tmp_path / "shop.jsonl"), host=flow.host)
    assert pushed.startswith("shop-of-files: 6 pairs, ")
    shown = run("show", "shop-of-files", "--limit", "2", host=flow.host).splitlines()
    assert shown[0].split() == ["NAME", "KIND", "DOCUMENTS", "SIZE", "CREATED", "VERSION"]
    assert shown[1].split()[:3] == ["shop-of-files", "pairs", "6"]
    assert len(shown) == 6
    first = next(fashion("train", items=1))
    assert shown[-2].split(maxsplit=1)[0] == "0"
    assert all(word in shown[-2] for word in (first.captions["en"][:60], "JPEG 120 x 120", f"label={first.item}"))
    stored = json.loads(run("stats", "shop-of-files", "--model", "clip-mini", "--json", host=flow.host))
    local = finetuner.data_stats(tmp_path / "shop.jsonl", model="clip-mini").to_dict()
    assert stored == json.loads(json.dumps(local))
    with pytest.raises(DatasetNotFound):
        run("show", "no-such-dataset", host=flow.host)
    finetuner.delete_data("shop-of-files")


def test_the_log_of_a_run_names_trouble() -> None:
    pairs = [finetuner.make_pair(image.captions["en"], image.jpeg) for image in fashion("train", items=3)]
    pairs[1].chunks[0].text = "word " * 60
    run = finetuner.fit("clip-mini", pairs, eval_data=pairs[:2], epochs=1, wait=True)
    log = run.logs()
    assert "Data: captions that are cut: 1 of 6. clip-mini reads 48 tokens" in log
    assert "Data: images of the evaluation data in the training data: 2, and 0 near duplicates" in log
