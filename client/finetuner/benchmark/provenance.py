"""Records the provenance of a figure: versions, commit, device and date."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..version import __version__

PACKAGE_FOLDER = Path(__file__).parents[1]  # holds version.py
PACKAGES = ("torch", "open_clip_torch", "timm", "numpy", "pillow", "docarray")


def provenance(device: str) -> dict[str, Any]:
    """Return {'versions', 'commit', 'device', 'date'}.

    Args:
        device: torch's name of the device that computed the figure.
    """
    return {
        "versions": versions(),
        "commit": commit(),
        "device": device_name(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Return name -> version of this project, Python and the installed PACKAGES."""
    found = {"open-finetuner": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit(folder: Path = PACKAGE_FOLDER) -> str:
    """Return the git commit of this project's checkout, with '-dirty' if tracked files differ from it.

    Return '' without git, or if git does not track `version.py` in the folder. So a site-packages folder inside
    another project's checkout has no commit.

    Args:
        folder: the package's, with version.py.
    """
    if not _git(folder, "ls-files", "--error-unmatch", "version.py"):
        return ""
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def device_name(device: str) -> str:
    """Return a device and its model, such as 'cuda: NVIDIA H200' or 'cpu: x86_64'."""
    import torch

    kind = torch.device(device)
    return f"{device}: {torch.cuda.get_device_name(kind) if kind.type == 'cuda' else platform.machine()}"
