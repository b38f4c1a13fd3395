"""The check of Python and the packages against the declared versions."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

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


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_check.metadata, "version", without("peft", "qdrant-edge-py"))
    found = one(package_check.packages(), "packages")
    assert (found.status, found.found) == (
        Status.WARNING,
        "not installed, but part of [server]: peft>=0.17, qdrant-edge-py==0.9.0",
    )
    monkeypatch.setattr(package_check.metadata, "version", without("wrapt"))
    assert "wrapt is not installed" in one(package_check.packages(), "packages").found


def test_either_onnx_runtime_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    without_it = without("onnxruntime")
    monkeypatch.setattr(
        package_check.metadata, "version", lambda name: "1.31.1" if name == "onnxruntime-gpu" else without_it(name)
    )
    assert one(package_check.packages(), "packages").status is Status.OK
    monkeypatch.setattr(package_check.metadata, "version", without("onnxruntime", "onnxruntime-gpu"))
    assert "part of [full]: onnxruntime>=" in one(package_check.packages(), "packages").found


def test_a_client_has_no_pins_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside today's libraries: their versions are none of jina's, and need not be."""
    installed = importlib.metadata.version
    moved = {"pydantic": "2.14", "protobuf": "7.36", "grpcio": "1.85", "setuptools": "90", "torch": "2.9"}

    def version(name: str) -> str:
        if name in package_check.EXTRAS.values():
            raise importlib.metadata.PackageNotFoundError(name)
        return moved.get(name) or installed(name)

    monkeypatch.setattr(package_check.metadata, "version", version)
    found = one(package_check.packages(), "packages")
    assert found.status is Status.OK
    assert found.found.endswith(" as pinned, of a client; `finetuner up` needs [server]")
    monkeypatch.setattr(
        package_check.metadata, "version", lambda name: installed(name) if name == "jina" else version(name)
    )
    assert "pydantic 2.14, not <2" in one(package_check.packages(), "packages").found


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
    for extra, needed in read.extras.items():
        assert {each.name.replace("_", "-") for each in needed} == {each.name for each in declared.extras[extra]}


def test_pyproject_is_that_of_the_checkout() -> None:
    assert Path(__file__).parents[3] / "pyproject.toml" == package_check.PYPROJECT
    assert package_check.PYPROJECT.is_file()


def test_another_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_check.platform, "python_version", lambda: "3.10.1")
    found = one(package_check.packages(), "Python")
    assert found.status is Status.FAILED
    assert found.found.startswith("3.10.1, not ")
