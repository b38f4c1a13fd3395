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

from .finding import Finding, failed, ok, warning

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "open-finetuner"
PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"  # in a checkout, or in the Docker image
# Extra -> the package that shows that it is installed, at whatever version.
EXTRAS = {"full": "open_clip_torch", "server": "jina"}
SAME_MODULE = {"onnxruntime": "onnxruntime-gpu"}  # either of them will do
SHOWN = 8


@dataclass(frozen=True)
class Declared:
    """The requirements of this project."""

    python: str
    """Versions of Python, such as '>=3.11'."""
    core: list[Requirement]
    """Packages of every installation."""
    extras: dict[str, list[Requirement]]
    """Further packages by extra: 'full' for local models, 'server' for a Flow. A client may lack them."""


def packages() -> Iterator[Finding]:
    """Check the version of Python and of every pinned package. Extras that are not installed have no pins here."""
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
    core = _compared(declared.core)
    extras = {name: _compared(declared.extras[name]) for name, shown in EXTRAS.items() if version_of(shown)}
    wrong = core.wrong | core.missing
    for extra in extras.values():
        wrong |= extra.wrong
    missing = {name: extra.missing for name, extra in extras.items() if extra.missing}
    if wrong:
        pins = " ".join(shlex.quote(pin) for pin in wrong)
        yield failed("packages", _listed(list(wrong.values())), f"Install the pinned versions: pip install {pins}")
    elif missing:
        name, absent = next(iter(missing.items()))
        names = [pin.partition(";")[0] for pin in absent]
        yield warning(
            "packages",
            f"not installed, but part of [{name}]: {_listed(names)}",
            f"Run `make` in a checkout, or pip install '{DISTRIBUTION}[{name}]'.",
        )
    else:
        installed = f" of [{', '.join(extras)}]" if extras else " of a client; `finetuner up` needs [server]"
        yield ok("packages", f"{core.right + sum(extra.right for extra in extras.values())} as pinned,{installed}")


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
        pin, version = f"{needed.name}{needed.specifier}", version_of(needed.name)
        if version is None and needed.name in SAME_MODULE:
            version = version_of(SAME_MODULE[needed.name])
        if version is None:
            missing[pin] = f"{needed.name} is not installed"
        elif needed.specifier.contains(version, prereleases=True):
            right += 1
        else:
            wrong[pin] = f"{needed.name} {version}, not {needed.specifier}"
    return _Compared(right, wrong, missing)


def version_of(name: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _declared() -> Declared | None:
    """Return the requirements from the installed metadata, else from pyproject.toml. None without either."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        python = metadata.metadata(DISTRIBUTION)["Requires-Python"]
        every = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
        core = [needed for needed in every if needed.marker is None or needed.marker.evaluate({"extra": ""})]
        extras = {name: [needed for needed in every if needed not in core and _is_of(needed, name)] for name in EXTRAS}
    except metadata.PackageNotFoundError:
        if not PYPROJECT.is_file():
            return None
        project = tomllib.loads(PYPROJECT.read_text())["project"]
        python = project["requires-python"]
        core = [Requirement(line) for line in project["dependencies"]]
        extras = {name: [Requirement(line) for line in project["optional-dependencies"][name]] for name in EXTRAS}
    # [server] contains [full]: the built metadata list its packages, pyproject.toml the project itself
    counted, own = {DISTRIBUTION}, {}
    for name, found in extras.items():
        own[name] = [needed for needed in found if canonicalize_name(needed.name) not in counted]
        counted |= {canonicalize_name(needed.name) for needed in own[name]}
    return Declared(python, core, own)


def _is_of(needed: Requirement, extra: str) -> bool:
    return needed.marker is not None and needed.marker.evaluate({"extra": extra})


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
