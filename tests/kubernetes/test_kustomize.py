"""The renderer of these tests: what it refuses, and that kubectl makes the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from finetuner.cli.main import app

from .kustomize import FOLDER, Object, documents, folders, render
from .objects import container_of, of_kind, rendered, rooms

README = (FOLDER / "README.md").read_text()
ROOM = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "room"}, "spec": {"replicas": 1}}
REMOVE = "[{op: remove, path: /spec/replicas}]"


def kustomization(folder: Path, **fields: Any) -> Path:
    (folder / "room.yaml").write_text(yaml.safe_dump(ROOM))
    content = {"kind": "Kustomization", "resources": ["room.yaml"], **fields}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"namePrefix": "a-"}, "Got namePrefix"),
        ({"patches": [{"patch": REMOVE, "target": {"labelSelector": "a=b"}}]}, "Got labelSelector"),
        ({"patches": [{"patch": REMOVE, "target": {"name": "r"}}]}, "finds nothing"),
        ({"patches": [{"patch": REMOVE, "target": {"kind": "StatefulSet"}}]}, "finds nothing"),
        ({"images": [{"name": "a", "digest": "sha256:0"}]}, "Got digest"),
        ({"kind": "Component"}, "must be a Kustomization"),
    ],
)
def test_what_it_does_not_know_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        render(kustomization(tmp_path, **fields))


def test_patches_find_by_whole_names(tmp_path: Path) -> None:
    target = {"kind": "Deployment|StatefulSet", "name": "(r|b)oom"}
    (room,) = render(kustomization(tmp_path, namespace="here", patches=[{"patch": REMOVE, "target": target}]))
    assert room["spec"] == {}
    assert room["metadata"] == {"name": "room", "namespace": "here"}


def kubectls_kustomize() -> str:
    """Return why kubectl cannot be asked, '' where it can."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed"
    asked = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True)
    version = json.loads(asked.stdout or "{}").get("kustomizeVersion", "")
    return "" if version >= "v5" else f"kubectl has kustomize {version or 'of long ago'}, and not v5"


def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    assert len(found) == len(objects)
    return found


@pytest.mark.seconds
def test_kubectl_renders_the_same() -> None:
    if reason := kubectls_kustomize():
        pytest.skip(reason)
    for name, folder in folders().items():
        printed = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, check=True).stdout
        assert by_name(rendered(name)) == by_name(documents(printed.decode())), name


def test_the_readmes_overlay_renders(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(example.replace("[../", f"[{FOLDER}/overlays/"))
    objects = render(tmp_path)
    images = {container_of(workload)["image"] for workload in rooms(objects).values()}
    assert images == {"registry.example.com/open-finetuner:1.0"}
    (claim,) = of_kind(objects, "PersistentVolumeClaim")
    assert claim["spec"]["storageClassName"] == "nfs"


def test_the_readmes_commands_exist() -> None:
    found = re.findall(r"finetuner\.cli ([^`]+)`", README)
    assert len(found) >= 4
    for command in found:
        asked = CliRunner().invoke(app, [*command.split(), "--help"])  # reads the options before, and does nothing
        assert asked.exit_code == 0, command
    for file in re.findall(r"flows/kubernetes/[\w./-]+", README):
        assert (FOLDER.parents[1] / file).exists(), file
