"""Loading models by reference, and the number of models that stay loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from finetuner.artifacts import registry
from finetuner.artifacts.registry import Models, weights_folder
from finetuner.exceptions import ArtifactNotFound, CorruptedArtifact, NoSuchModel
from finetuner.models.backbone import Backbone
from finetuner.workspace.folder import Workspace


@pytest.fixture
def workspace(tmp_path: Path, published: Path, mini_row: Backbone, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return a workspace with an artifact; clip-mini is the copy of this test session."""
    found = registry.find_backbone
    monkeypatch.setattr(registry, "find_backbone", lambda name: mini_row if name == "clip-mini" else found(name))
    workspace = Workspace(tmp_path)
    shutil.copytree(published, workspace.artifacts / published.name)
    return workspace


def test_live_is_the_default_until_something_is_promoted(workspace: Workspace, published: Path) -> None:
    known = Models(workspace)
    assert known.resolve() == known.resolve("live") == "clip-mini"
    workspace.aliases.set("live", {"artifact": published.name})
    assert known.resolve() == published.name
    assert known.get().model_id == published.name
    workspace.aliases.set("live", {"artifact": "clip-mini"})
    assert known.get().model_id == "clip-mini"


def test_search_is_live_until_the_indexer_sets_it(workspace: Workspace, published: Path) -> None:
    known = Models(workspace)
    assert known.resolve("search") == "clip-mini"
    workspace.aliases.set("live", {"artifact": published.name})
    assert known.resolve("search") == published.name
    workspace.aliases.set("search", {"artifact": "clip-mini"})
    assert (known.resolve("search"), known.resolve("live")) == ("clip-mini", published.name)


def test_ids_aliases_and_backbones_are_references(workspace: Workspace, published: Path) -> None:
    known = Models(workspace)
    workspace.aliases.set("große Änderung", {"artifact": published.name})
    assert known.resolve(published.name) == known.resolve("große Änderung") == published.name
    assert known.resolve("openai/clip-vit-base-patch32") == "clip-base-en"
    assert known.resolve("ViT-B-32#openai") == "ViT-B-32::openai"


@pytest.mark.parametrize(
    ("name", "source"),
    [("chinese-clip-base", "hf-hub:OFA-Sys/chinese-clip-vit-base-patch16"), ("imported-clip", "its folder")],
)
def test_a_backbone_that_only_artifacts_have_is_no_reference(workspace: Workspace, name: str, source: str) -> None:
    """Else `live` could be pointed to it, and every search would fail."""
    with pytest.raises(ArtifactNotFound, match=f"weights of its own. Got '{name}', .* Import {source} and take the"):
        Models(workspace).resolve(name)


def test_the_error_for_an_unknown_reference_lists_aliases_and_backbones(workspace: Workspace) -> None:
    workspace.aliases.set("best", {"artifact": "x"})
    with pytest.raises(ArtifactNotFound, match=r"an alias \(best\) or a backbone \(clip-mini, .*Got 'bets'"):
        Models(workspace).get("bets")
    with pytest.raises(ArtifactNotFound, match="artifact must be published. Got ffffffffffffffffffffffff"):
        Models(workspace).get("f" * 24)
    with pytest.raises(NoSuchModel, match="Nearest: clip-mini"):
        Models(workspace, default="clip-mimi")


@pytest.mark.parametrize("reference", ["../artifacts", "/etc", "0123456789abcdef01234567/..", ""])
def test_a_path_is_no_reference(workspace: Workspace, reference: str) -> None:
    with pytest.raises(ArtifactNotFound):
        Models(workspace).get(reference)


@pytest.mark.parametrize("capacity", [0, 1])
def test_the_least_recently_used_model_is_dropped(workspace: Workspace, published: Path, capacity: int) -> None:
    known = Models(workspace, capacity=capacity)
    assert known.get("clip-mini") is known.get("clip-mini")
    known.get(published.name)
    assert known.loaded == [published.name]


def test_use_keeps_a_model_loaded(workspace: Workspace, published: Path) -> None:
    known = Models(workspace, capacity=2, towers=("clip-text",))
    second = "fedcba9876543210fedcba98"
    shutil.copytree(workspace.artifacts / published.name, workspace.artifacts / second)
    first = known.get(published.name)
    known.get("clip-mini")
    assert known.get(published.name) is first
    known.get(second)
    assert known.loaded == [published.name, second]
    assert known.get(published.name) is first
    assert first.towers == ("clip-text",)


def test_a_damaged_artifact_is_not_loaded_and_leaves_the_others(workspace: Workspace, published: Path) -> None:
    known = Models(workspace)
    known.get("clip-mini")
    (workspace.artifacts / published.name / "config.yml").write_text("other")
    with pytest.raises(CorruptedArtifact):
        known.get(published.name)
    assert known.loaded == ["clip-mini"]


def test_checkpoints_come_from_the_workspaces_folder(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINETUNER_WEIGHTS", raising=False)
    (tmp_path / "x.pt").touch()
    assert weights_folder(workspace) == tmp_path / "weights"
    with pytest.raises(NoSuchModel, match="Got '../x.pt'"):
        Models(workspace).get("ViT-B-32::../x.pt")
    monkeypatch.setenv("FINETUNER_WEIGHTS", str(tmp_path / "shared"))
    assert weights_folder(workspace) == tmp_path / "shared"
