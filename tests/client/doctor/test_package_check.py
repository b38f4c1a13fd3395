"""The check of Python and the packages against the declared versions."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from finetuner.contract.environment import FLOWS
from finetuner.doctor import package_check
from finetuner.doctor.finding import Finding, Status
from tests.client.doctor.conftest import one


def test_a_package_of_another_version_is_named_with_its_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version
    monkeypatch.setattr(
        package_check.metadata, "version", lambda name: {"setuptools": "82.0"}.get(name) or installed(name)
    )
    found = one(package_check.packages(), "packages")
    assert found == Finding(
        "packages",
        Status.FAILED,
        "setuptools 82.0, not <81",
        "Install the pinned versions: pip install 'setuptools<81'",
    )


def without(*names: str) -> Callable[[str], str]:
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    return version


def test_packages_of_the_flow_are_missed_only_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_check.metadata, "version", without("peft", "qdrant-edge-py"))
    found = one(package_check.packages(), "packages")
    assert (found.status, found.found) == (
        Status.WARNING,
        "not installed, but needed by `finetuner up`: peft>=0.17, qdrant-edge-py==0.9.0",
    )
    monkeypatch.setenv(FLOWS, str(tmp_path))
    assert one(package_check.packages(), "packages").status is Status.OK, "a client does not need them"
    monkeypatch.setattr(package_check.metadata, "version", without("jina"))
    assert "jina is not installed" in one(package_check.packages(), "packages").found


def test_without_installed_metadata_pyproject_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = package_check._declared()
    monkeypatch.setattr(package_check, "DISTRIBUTION", "no-such-distribution")
    monkeypatch.setattr(package_check, "PYPROJECT", tmp_path / "pyproject.toml")
    found = one(package_check.packages(), "packages")
    assert found.status is Status.WARNING
    assert str(tmp_path / "pyproject.toml") in found.found
    monkeypatch.undo()
    monkeypatch.setattr(package_check.metadata, "metadata", without(package_check.DISTRIBUTION))
    read = package_check._declared()
    assert declared is not None
    assert read is not None
    assert read.python.replace(" ", "").split(",").sort() == declared.python.split(",").sort()
    assert set(map(str, read.core)) == set(map(str, declared.core))
    assert {needed.name.replace("_", "-") for needed in read.server} == {needed.name for needed in declared.server}


def test_pyproject_is_that_of_the_checkout() -> None:
    assert Path(__file__).parents[3] / "pyproject.toml" == package_check.PYPROJECT
    assert package_check.PYPROJECT.is_file()


def test_another_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_check.platform, "python_version", lambda: "3.12.1")
    found = one(package_check.packages(), "Python")
    assert found.status is Status.FAILED
    assert found.found.startswith("3.12.1, not ")
