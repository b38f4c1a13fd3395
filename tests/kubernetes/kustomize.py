"""What `kubectl kustomize` makes of our kustomizations: as much of it as they use, and a refusal of the rest.

It is stricter in one thing: a patch must find something to patch. Kustomize says nothing of one that does not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Object = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "flows" / "kubernetes"
PARTS = FOLDER / "components"  # of others
FIELDS = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}
TARGET = {"kind", "name"}
IMAGE = {"name", "newName", "newTag"}


def folders() -> dict[str, Path]:
    """Return the base and the overlays by name."""
    files = sorted(FOLDER.rglob("kustomization.yaml"))
    return {file.parent.name: file.parent for file in files if PARTS not in file.parents}


def documents(text: str) -> list[Object]:
    """Return the documents of a YAML text, by libyaml, which is ten times as fast."""
    return list(yaml.load_all(text, yaml.CSafeLoader))


def render(folder: Path) -> list[Object]:
    """Return the objects of a kustomization, in no order that means anything.

    Raises:
        ValueError: it holds what this does not know, or patches nothing.
    """
    return _transformed(folder, "Kustomization", [])


def _transformed(folder: Path, kind: str, objects: list[Object]) -> list[Object]:
    """Return `objects`, and those that a kustomization adds, after what it does to them, in kustomize's order."""
    (content,) = documents((folder / "kustomization.yaml").read_text())
    _only(FIELDS, content, folder)
    if content["kind"] != kind:
        raise ValueError(f"{folder} must be a {kind}. Got {content['kind']}.")
    for name in content.get("resources", []):
        path = folder / name
        objects = objects + (render(path) if path.is_dir() else documents(path.read_text()))
    for name in content.get("components", []):
        objects = _transformed(folder / name, "Component", objects)
    for patch in content.get("patches", []):
        objects = _patched(folder, patch, objects)
    if "namespace" in content:
        for each in objects:
            each["metadata"]["name" if each["kind"] == "Namespace" else "namespace"] = content["namespace"]
    for image in content.get("images", []):
        _only(IMAGE, image, folder)
        for each in objects:
            _tag(each, image)
    return objects


def _patched(folder: Path, patch: Object, objects: list[Object]) -> list[Object]:
    _only({"target", "patch", "path"}, patch, folder)
    target = patch["target"]
    _only(TARGET, target, folder)
    operations = yaml.safe_load(patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text())
    found = [
        re.fullmatch(target.get("kind", ".*"), each["kind"]) is not None
        and re.fullmatch(target.get("name", ".*"), each["metadata"]["name"]) is not None
        for each in objects
    ]
    if not any(found):
        raise ValueError(f"a patch of {folder} must have a target. Got {target}, which finds nothing.")
    return [jsonpatch.apply_patch(each, operations) if hit else each for each, hit in zip(objects, found, strict=True)]


def _tag(each: Object, image: Object) -> None:
    pod = each.get("spec", {}).get("template", {}).get("spec", {})
    for container in (*pod.get("initContainers", []), *pod.get("containers", [])):
        name, _, tag = container["image"].partition(":")
        if name == image["name"]:
            container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"


def _only(known: set[str], found: Object, folder: Path) -> None:
    if unknown := sorted(set(found) - known):
        raise ValueError(f"{folder} must have no more than {', '.join(sorted(known))}. Got {', '.join(unknown)}.")
