"""`python -m tests.kubernetes.validate`: whether the oldest and the newest Kubernetes take every overlay as it is.

By their own schemas, strictly: a field that they do not know is a fault.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from kubernetes_validate import ValidationError, latest_version, utils

from tests.kubernetes.kustomize import Object, folders, render

OLDEST = "1.27"  # the first that asks gRPC's health service by itself
VERSIONS = (OLDEST, utils.major_minor(latest_version()))

utils.schema_contents = cache(utils.schema_contents)  # megabytes, which it reads again for each object


def faults(objects: list[Object], version: str) -> list[str]:
    """Return what a version of Kubernetes would say against objects."""
    found = []
    for each in objects:
        try:
            utils.validate(each, version, strict=True)
        except (ValidationError, utils.SchemaNotFoundError) as error:
            found.append(f"{each['kind']} {each['metadata']['name']}: {_place(error)}{error.message}")
    return found


def _place(error: Any) -> str:
    path = ".".join(map(str, getattr(error, "path", ())))
    return f"{path}: " if path else ""


def main() -> int:
    """Print a line for each overlay and version; return 1 where one has a fault."""
    failed = False
    for name, folder in folders().items():
        objects = render(folder)
        for version in VERSIONS:
            found = faults(objects, version)
            failed = failed or bool(found)
            print(f"{name}, Kubernetes {version}: {len(objects)} objects, {'; '.join(found) or 'valid'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
