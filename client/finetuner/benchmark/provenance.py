"""What a figure was made with: versions, commit, device and date."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..version import __version__

PACKAGES = ("torch", "open_clip_torch", "timm", "numpy", "pillow", "docarray")


def provenance(device: str) -> dict[str, Any]:
    """Return {'versions', 'commit', 'device', 'date'}.

    Args:
        device: torch's name of the device that the figure was made on.
    """
    return {
        "versions": versions(),
        "commit": commit(),
        "device": device_name(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Return name -> version of this project, Python, and each of PACKAGES that is installed."""
    found = {"open-finetuner": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit(folder: Path = Path(__file__).parent) -> str:
    """Return git's hash of the checkout that a folder belongs to, with '-dirty' where files differ from it.

    '' without git, and where the folder merely lies in a checkout of something else, as site-packages may.
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
    """Return a device with its model, such as 'cuda: NVIDIA H200' or 'cpu: x86_64'."""
    import torch

    kind = torch.device(device)
    return f"{device}: {torch.cuda.get_device_name(kind) if kind.type == 'cuda' else platform.machine()}"
