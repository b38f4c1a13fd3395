"""WiSE-FT: the mix against a plain loop, the sweep against its own curve and against scoring each mix anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from finetuner.artifacts.calibrations import CALIBRATION_FILE, load_calibration
from finetuner.artifacts.manifest import read_manifest, verify_artifact
from finetuner.catalogue import fashion
from finetuner.config.callbacks import BestModelCheckpoint, WiSEFTCallback, callback_config
from finetuner.config.run_config import RunConfig
from finetuner.documents.pairs import Pair, make_pair, read_pairs
from finetuner.evaluation import calibration_fit
from finetuner.evaluation.pairs import evaluate_pairs, mean_recall
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.evaluation import Scores
from finetuner.executors.trainer.hooks.weights import KeepBestModel, Weights, copied_weights
from finetuner.executors.trainer.hooks.wise_ft import (
    MixWeights,
    Point,
    SweepMixes,
    best_point,
    interpolated,
    kept_files,
    reached_area,
)
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, VISION, Clip
from finetuner.models.clip_files import load_backbone
from finetuner.models.model_kinds import load_model
from finetuner.workspace.folder import Workspace
from tests.trainer.short_training import Announce, Recorder, equal, trained

ALPHAS = [0.25, 0.5]


@pytest.fixture(scope="module")
def evaluation() -> list[Pair]:
    return read_pairs(make_pair(entry.captions["en"], entry.jpeg) for entry in fashion("test", items=20))


def naive_network(pretrained: Weights, tuned: Weights, alpha: float) -> Weights:
    return {name: (1 - alpha) * value + alpha * tuned[name] for name, value in pretrained.items()}


def naive_mix(pretrained: list[float], tuned: list[float], alpha: float) -> list[float]:
    return [(1 - alpha) * before + alpha * after for before, after in zip(pretrained, tuned, strict=True)]


@pytest.mark.parametrize("alpha", [0, 0.25, 0.4, 1])
def test_wise_ft_equals_a_plain_loop(alpha: float, blobs_of_colour: TrainingData) -> None:
    start = copied_weights(load_backbone(find_backbone("clip-mini")).network)
    tuned = copied_weights(trained(blobs_of_colour, epochs=1)[0].model.network)
    progress, _ = trained(blobs_of_colour, MixWeights(alpha), epochs=1)
    mixed = copied_weights(progress.model.network)
    if alpha in (0, 1):
        assert equal(mixed, tuned if alpha else start)
    for name, value in mixed.items():
        before, after, found = (
            tensor.double().flatten()[:200].tolist() for tensor in (start[name], tuned[name], value)
        )
        assert found == pytest.approx(naive_mix(before, after, alpha), abs=1e-6), name


def test_wise_ft_mixes_only_floating_point_entries() -> None:
    pretrained = {"weight": torch.tensor([0.0, -0.0]), "count": torch.tensor(3)}
    tuned = {"weight": torch.tensor([1.0, -2.0]), "count": torch.tensor(5)}
    for alpha in (0.0, 0.5, 1.0):
        mixed = interpolated(pretrained, tuned, alpha)
        assert mixed["weight"].tolist() == [alpha, -2 * alpha]
        assert mixed["count"].item() == 5


def test_the_best_weights_are_mixed(blobs_of_colour: TrainingData, clip_mini: Clip) -> None:
    recorder = Recorder()
    hooks = (recorder, Announce("x", [2, 1]), KeepBestModel(BestModelCheckpoint("x")), MixWeights(0.5))
    progress, _ = trained(blobs_of_colour, *hooks, epochs=2)
    expected = interpolated(copied_weights(clip_mini.network), recorder.weights[0], 0.5)
    assert equal(copied_weights(progress.model.network), expected)


def test_the_best_point_is_the_highest_and_among_equals_the_least_tuned() -> None:
    curve = [Point(0, 0.3), Point(0.25, 0.5), Point(0.5, 0.7), Point(0.75, 0.7), Point(1, 0.6)]
    assert best_point(curve) == Point(0.5, 0.7)


@pytest.mark.parametrize(
    ("guard", "alpha"), [((0.9, 0.95, 0.88, 0.7), 0.5), ((0.9, 0.879, 0.5, 0.1), 0), ((0.5, 0.6, 0.7, 0.8), 1)]
)
def test_the_best_point_keeps_the_score_of_the_guard(guard: tuple[float, ...], alpha: float) -> None:
    alphas = (0, 0.25, 0.5, 1)
    curve = [Point(alpha, 0.3 + 0.1 * alpha) for alpha in alphas]
    assert best_point(curve, [Point(*both) for both in zip(alphas, guard, strict=True)]).alpha == alpha


@pytest.mark.seconds
def test_a_sweep_publishes_the_best_mix_and_keeps_the_curve_and_the_tuned_model(
    blobs_of_colour: TrainingData, evaluation: list[Pair], clip_mini: Clip, tmp_path: Path
) -> None:
    recorder = Recorder()
    sweep = SweepMixes(ALPHAS, evaluation, RunFolder(tmp_path))
    progress, _ = trained(blobs_of_colour, recorder, sweep, epochs=2)
    files = kept_files(RunFolder(tmp_path))
    told = json.loads(files["wise_ft.json"].read_text())
    pretrained, tuned = copied_weights(clip_mini.network), recorder.weights[-1]
    curve = {}
    for alpha in (0, *ALPHAS, 1):  # mixed and scored one by one, in a fresh model
        clip_mini.network.load_state_dict(naive_network(pretrained, tuned, alpha))
        scores = evaluate_pairs(clip_mini, evaluation)
        curve[alpha] = (scores["text_to_image_recall_at_5"] + scores["image_to_text_recall_at_5"]) / 2
    assert dict(told["curve"]) == pytest.approx(curve, abs=1e-6)
    highest = max(curve.values())
    assert told["alpha"] == min(alpha for alpha, value in curve.items() if value == highest)
    assert curve[told["alpha"]] >= max(curve[0], curve[1])
    assert curve[0] > curve[1]  # colours alone make it forget: the ends differ
    assert equal(copied_weights(progress.model.network), interpolated(pretrained, tuned, told["alpha"]))
    kept = load_model(files["ends/tuned"], "tuned")
    assert equal(copied_weights(kept.network), tuned)


def naive_area(points: list[tuple[float, float]], cells: int) -> float:
    """The share of a grid's cells whose middle some point reaches in both scores."""
    middles = [(cell + 0.5) / cells for cell in range(cells)]
    return sum(any(x <= a and y <= b for a, b in points) for x in middles for y in middles) / cells**2


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0.5, 0.4)],
        [(0.2, 0.9), (0.6, 0.8), (0.9, 0.3)],
        [(0.2, 0.9), (0.3, 0.5), (0.6, 0.8)],  # one that is no better than another in either
        [(0.5, 0.1), (0.5, 0.7), (0.0, 0.9), (0.3, 0.7)],
    ],
)
def test_the_area_is_that_of_a_grid(points: list[tuple[float, float]]) -> None:
    assert reached_area(points) == pytest.approx(naive_area(points, 100), abs=1e-9)


@pytest.mark.seconds
def test_a_sweep_with_a_guard_reports_both_scores_of_each_mix(
    blobs_of_colour: TrainingData, evaluation: list[Pair], clip_mini: Clip, tmp_path: Path
) -> None:
    folder, guard = RunFolder(tmp_path), evaluation[:12]
    scores = Scores(folder)
    progress, _ = trained(blobs_of_colour, SweepMixes([0.5], evaluation, folder, guard, scores), epochs=2)
    told = json.loads((tmp_path / "wise_ft.json").read_text())
    assert [alpha for alpha, _ in told["guard_curve"]] == [0, 0.5, 1]
    assert told["guard_curve"][0][1] == pytest.approx(mean_recall(evaluate_pairs(clip_mini, guard)))
    both = [(target, kept) for (_, target), (_, kept) in zip(told["curve"], told["guard_curve"], strict=True)]
    assert scores.metrics == {"after": {"guard_area": told["guard_area"]}}
    assert told["guard_area"] == reached_area(both) >= max(target * kept for target, kept in both)
    chosen = dict(told["guard_curve"])[told["alpha"]]
    assert mean_recall(evaluate_pairs(progress.model, guard)) == pytest.approx(chosen)


def test_without_a_sweep_nothing_is_kept(tmp_path: Path) -> None:
    assert kept_files(RunFolder(tmp_path)) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": []}, "1 to 101 numbers"),
        ({"alphas": 0.5}, "1 to 101 numbers"),
        ({"alphas": [0.5, 1.5]}, "in \\[0, 1\\]. Got 1.5"),
        ({"alpha": 0.3, "alphas": [0.5]}, "alpha must be left out beside alphas"),
    ],
)
def test_wrong_alphas_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        WiSEFTCallback(**options)  # type: ignore[arg-type]


def test_a_sweep_without_evaluation_data_is_refused() -> None:
    entry = callback_config(WiSEFTCallback(alphas=[0.5]), {})
    RunConfig(model="clip-mini", train_data="data", eval_data="test", callbacks=[entry])
    for model, loss in (("clip-mini", "CLIPLoss"), ("resnet50", "TripletMarginLoss")):
        with pytest.raises(InvalidInput, match="alphas need eval_data"):
            RunConfig(model=model, train_data="data", loss=loss, callbacks=[entry])


@pytest.mark.seconds
def test_the_artifact_of_a_run_holds_curve_and_tuned_end(
    work: Callable[..., tuple[int, RunFolder]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_fit, "LEAST_RECALL", -1)  # so short a run tells nothing apart
    callbacks = [callback_config(WiSEFTCallback(alphas=(0.5,)), {})]
    code, folder = work(eval_data="pairs", guard_data="pairs", callbacks=callbacks, training_options={"lora_rank": 2})
    assert code == 0, folder.log
    artifact = folder.path.parent.parent / "artifacts" / folder.path.name
    manifest = verify_artifact(artifact)
    assert {"wise_ft.json", "ends/tuned/clip-text/weights.safetensors"} <= set(manifest.files)
    calibration = load_calibration(Workspace(artifact.parent.parent), artifact.name)
    assert calibration is not None, "24 pairs of 12 garments"
    assert calibration.to_json() == (artifact / CALIBRATION_FILE).read_text()
    assert calibration.directions[TEXT, VISION].documents == 24
    assert "Calibration of text to image: at 0.5 precision" in caplog.text
    assert 0 <= manifest.metrics["after"]["guard_area"] <= 1
    before, after = (
        (mean_recall(manifest.metrics[stage]), mean_recall(manifest.metrics[stage], "guard_"))
        for stage in ("before", "after")
    )
    assert (
        "Target and guard: mean R@5 was ({:.3f}, {:.3f}) and is ({:.3f}, {:.3f})".format(*before, *after) in caplog.text
    )
    assert read_manifest(artifact).parent == "clip-mini"
    pretrained = copied_weights(load_backbone(find_backbone("clip-mini")).network)
    tuned = copied_weights(load_model(artifact / "ends" / "tuned", "tuned").network)
    alpha = json.loads((artifact / "wise_ft.json").read_text())["alpha"]
    published = load_model(artifact / "models", "published")
    assert equal(copied_weights(published.network), interpolated(pretrained, tuned, alpha))
    assert set(manifest.metrics) == {"before", "after"}
    assert {"guard_text_to_image_recall_at_5", "guard_image_to_text_recall_at_1"} <= set(manifest.metrics["after"])
