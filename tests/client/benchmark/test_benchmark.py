"""`finetuner benchmark` with clip-mini on made sets, against plain loops."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from finetuner.artifacts.archive import zip_artifact
from finetuner.artifacts.manifest import MANIFEST, sealed
from finetuner.benchmark.benchmark import Benchmark
from finetuner.catalogue import CatalogueImage
from finetuner.cli.main import app
from finetuner.contract.environment import STAND_INS
from finetuner.documents.images import decode
from finetuner.exceptions import FinetunerError, FlowUnreachable, InvalidDocument, InvalidInput
from finetuner.metrics import NINE
from finetuner.models.backbones import find_backbone
from finetuner.models.model_kinds import load_row


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["benchmark", *arguments, "--device", "cpu"])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def rows(output: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((output / "benchmark.json").read_text())["rows"]
    return content


def naive_scores(relevance: list[list[bool]], limit: int) -> dict[str, float]:
    return {
        metric.__name__: sum(metric(row[:limit], sum(row)) for row in relevance) / len(relevance) for metric in NINE
    }


def naive_pairs(images: list[CatalogueImage], languages: tuple[str, ...]) -> dict[str, float]:
    """Return the metrics of every caption against every image, and back, from plain loops."""
    model = load_row(find_backbone("clip-mini"))
    owner = [number for number in range(len(images)) for _ in languages]
    text = model.encode_texts([one.captions[language] for one in images for language in languages]).astype(np.float64)
    vision = [model.encode_images([decode(one.jpeg)])[0].astype(np.float64) for one in images]
    forward = [
        [row == owner[query] for row in sorted(range(len(vision)), key=lambda row: -float(text[query] @ vision[row]))]
        for query in range(len(text))
    ]
    back = [
        [owner[row] == query for row in sorted(range(len(text)), key=lambda row: -float(text[row] @ vision[query]))]
        for query in range(len(vision))
    ]
    scores = naive_scores(forward, 20)
    for k in (1, 5, 10):
        scores[f"text_to_image_recall_at_{k}"] = sum(any(row[:k]) for row in forward) / len(forward)
        scores[f"image_to_text_recall_at_{k}"] = sum(any(row[:k]) for row in back) / len(back)
    return scores


def test_zero_shot_figures_are_those_of_a_plain_loop(
    flickr8k: Path, images: list[CatalogueImage], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    printed = run("flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(output))
    (row,) = rows(output)
    expected = naive_pairs(images[12:], ("en", "de"))
    assert {name: row["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert (row["images"], row["texts"], row["published_images"], row["limit"]) == (12, 24, 1000, 20)
    assert (row["set"], row["split"], row["model"], row["stage"]) == ("flickr8k", "test", "clip-mini", "zero-shot")
    assert str(output / "benchmark.md") in printed
    assert 0 < expected["text_to_image_recall_at_1"] < 1


def test_fashion12k_figures_are_those_of_a_plain_loop(
    fashion12k: Path, images: list[CatalogueImage], tmp_path: Path
) -> None:
    run("fashion12k", str(fashion12k), "--model", "clip-mini", "--output", str(tmp_path))
    expected = naive_pairs(images[16:], ("de",))
    assert {name: rows(tmp_path)[0]["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_ukbench_figures_are_those_of_a_plain_loop(
    ukbench: Path, images: list[CatalogueImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STAND_INS, "resnet50=resnet-mini-random")
    run("ukbench", str(ukbench), "--model", "resnet50", "--output", str(tmp_path))
    vectors = load_row(find_backbone("resnet50")).encode_images([decode(one.jpeg) for one in images[12:]])
    index = [number for number in range(12) if number % 4]
    relevance = [
        [row // 4 == query // 4 for row in sorted(index, key=lambda row: -float(vectors[query] @ vectors[row]))]
        for query in (0, 4, 8)
    ]
    (row,) = rows(tmp_path)
    expected = naive_scores(relevance, 3)
    assert {name: row["metrics"][name] for name in expected} == pytest.approx(expected)
    assert (row["model"], row["images"], row["texts"], row["limit"]) == ("resnet-mini-random", 12, 0, 3)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_an_artifact_adds_a_tuned_row(flickr8k: Path, tuned: Path, tmp_path: Path, form: str) -> None:
    given = tuned if form == "folder" else zip_artifact(tuned, tmp_path / "tuned.zip", "tuned")
    arguments = ["flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(tmp_path)]
    run(*arguments, "--artifact", str(given))
    before, after = rows(tmp_path)
    assert (before["stage"], before["artifact"]) == ("zero-shot", "")
    assert (after["stage"], after["artifact"]) == ("tuned", "0123456789abcdef01234567")
    assert before["metrics"].keys() == after["metrics"].keys()
    assert before["metrics"] != after["metrics"]


@pytest.mark.seconds
def test_the_table_grows_and_a_repeated_row_is_replaced(
    flickr8k: Path, fashion12k: Path, tuned: Path, tmp_path: Path
) -> None:
    flickr = ["flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(tmp_path)]
    run("fashion12k", str(fashion12k), "--model", "clip-mini", "--output", str(tmp_path))
    run(*flickr, "--artifact", str(tuned))
    run(*flickr, "--split", "val")
    run(*flickr)
    keys = [(row["set"], row["split"], row["stage"]) for row in rows(tmp_path)]
    assert keys == [
        ("flickr8k", "test", "zero-shot"),
        ("flickr8k", "test", "tuned"),
        ("flickr8k", "val", "zero-shot"),
        ("fashion12k", "test", "zero-shot"),
    ]
    lines = (tmp_path / "benchmark.md").read_text().splitlines()
    assert sum(line.startswith("| Flickr8k | test | 12 of 1,000 | 24 | clip-mini |") for line in lines) == 2
    assert sum(line.startswith("* Flickr8k, test, clip-mini") for line in lines) == 2


def test_a_row_has_its_provenance_and_no_secret(flickr8k: Path, tmp_path: Path) -> None:
    output = tmp_path / "my out"
    run("flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(output), "--token", "secret")
    (row,) = rows(output)
    words = shlex.split(row["command"])
    assert words[:3] == ["finetuner", "benchmark", "flickr8k"]
    assert run(*words[2:-2]).splitlines()[-1] == str(output / "benchmark.md")  # run adds the device
    assert words[-2:] == ["--device", "cpu"]
    assert torch.__version__.startswith(row["versions"]["torch"])
    assert {"open-finetuner", "python", "open_clip_torch"} <= row["versions"].keys()
    assert row["device"].startswith("cpu: ")
    assert row["date"].endswith("+00:00")
    assert "secret" not in (output / "benchmark.json").read_text() + (output / "benchmark.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"set_name": "imagenet"}, r"set must be one of flickr8k"),
        ({"split": "train"}, r"split must be .*val.*test.*Got 'train'"),
        ({"model": "resnet50"}, r"model must be for text-to-image to be scored on Flickr8k. Got resnet-base"),
        ({"tune": True, "artifact": "x"}, r"--tune or --artifact must choose the tuned model"),
        ({"epochs": 3, "learning_rate": 0.1}, r"epochs, learning_rate must come with --tune"),
        ({"tune": True, "epochs": 0}, r"epochs must be .*1, 10000.*Got 0"),
        ({"on_error": "ignore"}, r"on_error must be one of raise, skip"),
        ({"model": "clip-mega"}, r"model must be one of"),
    ],
)
def test_wrong_options_are_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"set_name": "flickr8k", "folder": Path(), "model": "clip-mini", "output": Path()}
    with pytest.raises(FinetunerError, match=message):
        Benchmark(**good | change)


def test_nothing_is_written_after_an_error(flickr8k: Path, tmp_path: Path, tuned: Path) -> None:
    output = tmp_path / "out"
    arguments = ["flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(output)]
    with pytest.raises(InvalidInput, match=r"device must exist on this machine"):
        CliRunner().invoke(app, ["benchmark", *arguments, "--device", "gpu"], catch_exceptions=False)
    next((flickr8k / "Flicker8k_Dataset").iterdir()).unlink()
    for path in sorted((flickr8k / "Flicker8k_Dataset").iterdir()):
        path.write_bytes(b"no image")
    with pytest.raises(InvalidDocument, match=r"Got 12 that cannot be used"):
        run(*arguments)
    assert not output.exists()


def test_an_artifact_of_another_backbone_is_refused(flickr8k: Path, tuned: Path, tmp_path: Path) -> None:
    manifest = json.loads((tuned / MANIFEST).read_text()) | {"backbone": "clip-base-en"}
    other = tmp_path / "other"
    other.mkdir()
    (other / MANIFEST).write_text(sealed(manifest))
    with pytest.raises(InvalidInput, match=r"artifact must be tuned from clip-mini. Got one of clip-base-en"):
        run("flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(tmp_path), "--artifact", str(other))


def test_an_unreachable_flow_is_an_error_before_any_work(flickr8k: Path, tmp_path: Path, unused_port: int) -> None:
    arguments = ["flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(tmp_path / "out")]
    for way in (["--tune"], ["--artifact", "0123456789abcdef01234567"]):
        with pytest.raises(FlowUnreachable):
            run(*arguments, *way, "--host", f"grpc://127.0.0.1:{unused_port}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"rows": [{}]}', '{"rows": [3]}', '{"rows": 3}'])
def test_another_file_is_not_overwritten(flickr8k: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "benchmark.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"must be a benchmark table. .* Choose another --output"):
        run("flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(tmp_path))
    assert (tmp_path / "benchmark.json").read_text() == content


def test_skipped_entries_show_in_the_count(flickr8k: Path, images: list[CatalogueImage], tmp_path: Path) -> None:
    (flickr8k / "Flicker8k_Dataset" / f"{images[-1].name}.jpg").unlink()
    arguments = ["flickr8k", str(flickr8k), "--model", "clip-mini", "--output", str(tmp_path)]
    with pytest.warns(UserWarning, match="left out 1 entries"):
        run(*arguments, "--on-error", "skip")
    assert (rows(tmp_path)[0]["images"], rows(tmp_path)[0]["texts"]) == (11, 22)
    assert rows(tmp_path)[0]["command"].endswith("--on-error skip")


def test_coco_is_scored_from_filepaths(karpathy: Callable[..., Path], tmp_path: Path) -> None:
    root = karpathy("coco", ".", *[("test", "val2014")] * 4, ("restval", "val2014"))
    run("coco", str(root), "--model", "clip-mini", "--output", str(tmp_path))
    assert (rows(tmp_path)[0]["images"], rows(tmp_path)[0]["texts"]) == (4, 8)
