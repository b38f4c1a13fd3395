"""Artifacts and aliases through the trainer's endpoints; the artifacts are published without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from finetuner.artifacts.manifest import MANIFEST, Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.exceptions import ArtifactNotFound, InvalidInput
from finetuner.executors.trainer.executor import Trainer
from finetuner.models.clip import TOWERS, Clip

Ask = Callable[..., Any]
OLD, NEW = "a" * 24, "b" * 24


@pytest.fixture
def published(trainer: Trainer, clip_mini: Clip) -> Trainer:
    """A trainer with two artifacts, of which the second was made first by its name."""
    for artifact_id, day in ((NEW, "2026-02-02"), (OLD, "2026-01-01")):
        manifest = Manifest(artifact_id, f"run-{day}", "clip-mini", clip_mini.dim, [*TOWERS], {}, {}, day, "0")
        publish_artifact(trainer.shared_workspace, clip_mini, manifest, {})
    return trainer


def test_artifacts_are_listed_oldest_first_with_their_aliases(published: Trainer, ask: Ask) -> None:
    (published.shared_workspace.artifacts / ".new-half").mkdir()
    ask(published.promote, artifact=NEW)
    ask(published.promote, artifact=NEW, alias="spring")
    listed = ask(published.list_artifacts)
    assert [entry["artifact_id"] for entry in listed] == [OLD, NEW]
    assert [sorted(entry["aliases"]) for entry in listed] == [[], ["live", "spring"]]
    assert listed[0]["run_name"] == "run-2026-01-01"


def test_a_damaged_manifest_does_not_hide_the_others(published: Trainer, ask: Ask) -> None:
    (published.shared_workspace.artifacts / OLD / MANIFEST).write_text("{")
    assert [entry["artifact_id"] for entry in ask(published.list_artifacts)] == [NEW]


def test_an_empty_workspace_lists_nothing(trainer: Trainer, ask: Ask) -> None:
    assert ask(trainer.list_artifacts) == []


def test_promote_moves_an_alias_forth_and_back(published: Trainer, ask: Ask) -> None:
    for target in (OLD, NEW, OLD, "clip-mini"):
        assert ask(published.promote, artifact=target) == {"alias": "live", "artifact": target}
        assert (published.shared_workspace.aliases.get("live") or {})["artifact"] == target


def test_an_alias_remembers_what_it_meant_before(published: Trainer, ask: Ask) -> None:
    for target in (OLD, OLD, NEW):
        ask(published.promote, artifact=target)
    (live,) = ask(published.list_aliases)
    assert (live["alias"], live["artifact"]) == ("live", NEW)
    assert [each["artifact"] for each in live["before"]] == [OLD, "clip-mini"]
    for _ in range(15):
        ask(published.promote, artifact=OLD)
        ask(published.promote, artifact=NEW)
    assert len(ask(published.list_aliases)[0]["before"]) == 20


def test_an_export_that_was_not_made_is_not_here(published: Trainer, ask: Ask) -> None:
    with pytest.raises(ArtifactNotFound, match="made within a day"):
        ask(published.pull_artifact, artifact=OLD, export="onnx")
    with pytest.raises(InvalidInput, match="export must be"):
        ask(published.pull_artifact, artifact=OLD, export="../../tokens")


def test_an_alias_of_an_alias_points_to_the_artifact(published: Trainer, ask: Ask) -> None:
    ask(published.promote, artifact=OLD, alias="candidate")
    assert ask(published.promote, artifact="candidate")["artifact"] == OLD
    ask(published.promote, artifact=NEW, alias="candidate")
    assert (published.shared_workspace.aliases.get("live") or {})["artifact"] == OLD


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({}, InvalidInput, "parameter 'artifact' is required"),
        ({"artifact": "c" * 24}, ArtifactNotFound, "artifact must be published. Got ccc"),
        ({"artifact": "nobody"}, ArtifactNotFound, r"an alias \(none\) or a backbone \(clip-mini, .*Got 'nobody'"),
        ({"artifact": f"../artifacts/{OLD}"}, ArtifactNotFound, r"Got '\.\./artifacts/"),
        ({"artifact": OLD, "alias": "../live"}, InvalidInput, r"alias must be 1 to 128 letters.*Got '\.\./live'"),
        ({"artifact": OLD, "alias": NEW}, InvalidInput, "alias must be no artifact id and no backbone. Got 'bbb"),
        ({"artifact": OLD, "alias": "clip-mini"}, InvalidInput, "no backbone. Got 'clip-mini'"),
        ({"artifact": OLD, "alias": "search"}, InvalidInput, "must not be 'search', which follows 'live' by itself"),
        ({"artifact": OLD, "forced": True}, InvalidInput, "must be of: artifact, alias, force, tolerance. Got forced"),
        ({"artifact": OLD, "force": "yes"}, InvalidInput, "parameter 'force' must be true or false. Got 'yes'"),
        ({"artifact": OLD, "tolerance": -0.1}, InvalidInput, r"parameter 'tolerance' must be .*\[0, 1\]. Got -0.1"),
    ],
    ids=str,
)
def test_a_wrong_promotion_is_refused_and_changes_nothing(
    parameters: dict[str, Any], error: type[Exception], message: str, published: Trainer, ask: Ask
) -> None:
    with pytest.raises(error, match=message):
        ask(published.promote, **parameters)
    assert list(published.shared_workspace.aliases.all()) == []


@pytest.mark.parametrize(
    "file",
    [
        "../../runs.sqlite",
        "/etc/passwd",
        MANIFEST,
        "models",
        "models/../config.yml",
        "./config.yml",
        "config.yml\0",
        "..",
    ],
)
def test_only_files_of_the_manifest_are_pulled(file: str, published: Trainer, ask: Ask) -> None:
    with pytest.raises(ArtifactNotFound, match=f"file must be listed in the manifest of {OLD}. Got "):
        ask(published.pull_artifact, artifact=OLD, file=file)


def test_artifacts_are_pulled_by_alias_and_backbones_are_not(published: Trainer, ask: Ask) -> None:
    ask(published.promote, artifact=OLD)
    assert ask(published.pull_artifact, artifact="live") == ask(published.pull_artifact, artifact=OLD)
    ask(published.promote, artifact="clip-mini")
    for reference in ("live", "clip-mini"):
        with pytest.raises(ArtifactNotFound, match="published by a run. Got 'clip-mini', a backbone"):
            ask(published.pull_artifact, artifact=reference)
    with pytest.raises(ArtifactNotFound, match="Got 'nobody'"):
        ask(published.pull_artifact, artifact="nobody")
    past = published.pull_artifact(parameters={"artifact": OLD, "file": "config.yml", "offset": 10.0**9})
    assert past[0].blob == b""


def test_a_run_starts_from_an_artifact_of_its_own_backbone_only(published: Trainer, ask: Ask) -> None:
    ask(published.promote, artifact=OLD)
    config = {"model": "clip-mini", "train_data": "pairs"}
    for start, pinned in ((OLD, OLD), ("live", OLD), ("clip-mini", "")):
        run = ask(published.fit, config={**config, "model_artifact": start})
        assert (run["status"], run["config"]["model_artifact"]) == ("CREATED", pinned), "aliases move; a run does not"
    with pytest.raises(InvalidInput, match="backbone of model_artifact 'live', which is clip-mini. Got clip-base-en"):
        ask(published.fit, config={**config, "model": "clip-base-en", "model_artifact": "live"})
