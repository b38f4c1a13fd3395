"""Compares Python and the installed packages with the versions that this project declares."""

from __future__ import annotations

import platform
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..exceptions import InvalidInput
from ..flow.settings import flow_file
from .finding import Finding, failed, ok, warning

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "open-finetuner"
PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"  # in a checkout, or in the Docker image
SERVER = "server"
SHOWN = 8


@dataclass(frozen=True)
class Declared:
    """The requirements of this project."""

    python: str
    """Versions of Python, such as '>=3.11,<3.12'."""
    core: list[Requirement]
    """Packages of every installation."""
    server: list[Requirement]
    """Further packages that a Flow needs. A client may lack them."""


def packages() -> Iterator[Finding]:
    """Check the version of Python and of every pinned package."""
    from packaging.specifiers import SpecifierSet

    declared = _declared()
    python = platform.python_version()
    if declared is None:
        yield ok("Python", python)
        yield warning(
            "packages",
            f"not checked: {DISTRIBUTION} is not installed, and {PYPROJECT} does not exist",
            "Install the package with `pip install --no-deps -e .`, or copy pyproject.toml there.",
        )
        return
    if SpecifierSet(declared.python).contains(python):
        yield ok("Python", python)
    else:
        yield failed("Python", f"{python}, not {declared.python}", f"Install Python {declared.python}.")
    core, server = _compared(declared.core), _compared(declared.server)
    wrong = core.wrong | core.missing | server.wrong
    if wrong:
        pins = " ".join(shlex.quote(pin) for pin in wrong)
        yield failed("packages", _listed(list(wrong.values())), f"Install the pinned versions: pip install {pins}")
    elif server.missing and _is_server():
        names = [pin.partition(";")[0] for pin in server.missing]
        yield warning(
            "packages",
            f"not installed, but needed by `finetuner up`: {_listed(names)}",
            "Run `make`, or pip install -e '.[server]'. A client does not need them.",
        )
    else:
        yield ok("packages", f"{core.right + server.right} as pinned")


@dataclass(frozen=True)
class _Compared:
    right: int
    wrong: dict[str, str]
    """Pin -> the installed version, in words."""
    missing: dict[str, str]
    """Pin -> that it is not installed, in words."""


def _compared(requirements: list[Requirement]) -> _Compared:
    right, wrong, missing = 0, {}, {}
    for needed in requirements:
        pin = f"{needed.name}{needed.specifier}"
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            missing[pin] = f"{needed.name} is not installed"
            continue
        if needed.specifier.contains(version, prereleases=True):
            right += 1
        else:
            wrong[pin] = f"{needed.name} {version}, not {needed.specifier}"
    return _Compared(right, wrong, missing)


def _declared() -> Declared | None:
    """Return the requirements from the installed metadata, else from pyproject.toml. None without either."""
    from packaging.requirements import Requirement

    try:
        python = metadata.metadata(DISTRIBUTION)["Requires-Python"]
        every = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
        core = [needed for needed in every if needed.marker is None or needed.marker.evaluate({"extra": ""})]
        with_server = [needed for needed in every if needed.marker and needed.marker.evaluate({"extra": SERVER})]
        return Declared(python, core, [needed for needed in with_server if needed not in core])
    except metadata.PackageNotFoundError:
        pass
    if not PYPROJECT.is_file():
        return None
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    full = [Requirement(line) for line in extras["full"] + extras[SERVER]]
    return Declared(
        project["requires-python"],
        [Requirement(line) for line in project["dependencies"]],
        [needed for needed in full if needed.name != DISTRIBUTION],  # the project itself, with another extra
    )


def _is_server() -> bool:
    """Return whether a Flow can start here: true in a checkout or image, false in an installed wheel."""
    try:
        return flow_file().is_file()
    except InvalidInput:
        return False


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
