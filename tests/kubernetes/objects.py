"""Reading what an overlay renders to: rooms, their pods, and who finds them by labels."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

from .kustomize import Object, folders, render


def rendered(name: str) -> list[Object]:
    """Return the objects of the base or an overlay."""
    return deepcopy(_rendered(name))


@cache
def _rendered(name: str) -> list[Object]:
    return render(folders()[name])


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def rooms(objects: list[Object]) -> dict[str, Object]:
    """Return the workloads by the room that they run."""
    workloads = of_kind(objects, "Deployment", "StatefulSet")
    found = {arguments_of(each)[1]: each for each in workloads}
    assert len(found) == len(workloads)
    return found


def pod_of(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]["spec"]
    return found


def container_of(workload: Object) -> Object:
    """Return the one container that a workload keeps up."""
    (found,) = pod_of(workload)["containers"]
    return dict(found)


def containers(workload: Object) -> list[Object]:
    """Return its container, and those of its start."""
    return [*pod_of(workload).get("initContainers", []), container_of(workload)]


def arguments_of(workload: Object) -> list[str]:
    return list(container_of(workload)["args"])


def labels_of(workload: Object) -> dict[str, str]:
    """Return the labels of its pods."""
    return dict(workload["spec"]["template"]["metadata"]["labels"])


def selects(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def selected(selector: Object, objects: list[Object]) -> list[str]:
    """Return the rooms whose pods a selector finds."""
    return [name for name, workload in rooms(objects).items() if selects(selector, labels_of(workload))]
