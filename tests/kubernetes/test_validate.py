"""Kubernetes' own schemas, of the oldest version that can run these manifests and of the newest."""

from __future__ import annotations

from copy import deepcopy

import pytest
import yaml

from .kustomize import FOLDER, Object, folders
from .objects import pod_of, rendered, rooms
from .validate import VERSIONS, faults, main


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(overlay: list[Object], version: str) -> None:
    assert faults(overlay, version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_field_that_it_does_not_know_is_a_fault(version: str) -> None:
    objects = deepcopy(rendered("base"))
    spec, pod = rooms(objects)["trainer"]["spec"], pod_of(rooms(objects)["gateway"])
    spec["servicename"] = "trainer"
    pod["terminationGracePeriodSeconds"] = "long"
    of_gateway, of_trainer = faults(objects, version)
    assert of_gateway.startswith("Deployment gateway: spec.template.spec.terminationGracePeriodSeconds")
    assert of_trainer.startswith("StatefulSet trainer: spec: ")
    assert "servicename" in of_trainer


@pytest.mark.seconds
def test_lint_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(folders()) * len(VERSIONS)
    assert all(line.endswith("valid") for line in lines)


def test_every_file_is_of_a_kustomization() -> None:
    """But the values, which are Helm's."""
    used = {FOLDER / "overlays" / "scaled-out" / "prometheus-adapter-values.yaml"}
    for file in FOLDER.rglob("kustomization.yaml"):
        used |= {file, *(file.parent / name for name in yaml.safe_load(file.read_text()).get("resources", []))}
    assert set(FOLDER.rglob("*.yaml")) == {path for path in used if path.is_file()}


def test_everything_is_in_one_namespace_once(overlay: list[Object]) -> None:
    (namespace,) = [each for each in overlay if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [each for each in overlay if each is not namespace]
    assert {each["metadata"]["namespace"] for each in others} == {namespace["metadata"]["name"]}
    assert len({(each["kind"], each["metadata"]["name"]) for each in overlay}) == len(overlay)
