"""Fetches a model's folder from the Hugging Face hub: configs, tokenizer and safetensors, nothing else.

The hub's answers are not trusted: names of files, their sizes and the commit are checked before anything is fetched.
`$HF_ENDPOINT`, `$HF_TOKEN` and `$HF_HUB_CACHE` mean what they mean to huggingface_hub.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInput, NoSuchModel
from ..models.weights import one_line
from .clip_config import read_object

PREFIX = "hf-hub:"
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
OPEN_CLIP, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
CONFIGS = (
    "config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.txt", OPEN_CLIP,
)  # fmt: skip
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES = 2**26, 2**35  # of one config, and of all weights; the latter are 32 GiB
SECONDS = 30.0
KINDS = ("clip", "chinese_clip", "siglip", "siglip2")  # of the last, `imports` names the form that it reads


def fetch_model(name: str) -> Path:
    """Return the folder of a model in the hub's cache, fetched if it is not there.

    Args:
        name: 'hf-hub:OWNER/NAME'.

    Raises:
        InvalidInput: a malformed name, no safetensors, a file outside of the folder, more bytes than allowed, or an
            architecture that `imports` does not read, before its weights are fetched.
        NoSuchModel: the hub does not answer, or has no such model for this token.
    """
    repository = name.removeprefix(PREFIX)
    if not REPOSITORY.fullmatch(repository) or ".." in repository:
        raise InvalidInput(f"model of the hub must be {PREFIX}OWNER/NAME. Got {name!r:.120}. Correct it.")
    from huggingface_hub import HfApi, snapshot_download

    endpoint, cache = os.environ.get("HF_ENDPOINT") or None, os.environ.get("HF_HUB_CACHE") or None
    try:
        info = HfApi(endpoint=endpoint).model_info(repository, files_metadata=True, timeout=SECONDS)
    except Exception as error:  # from the hub's client or its HTTP library
        raise _not_fetched(name, error) from error
    commit = str(info.sha)
    if not COMMIT.fullmatch(commit):
        raise InvalidInput(f"the hub must name the commit of {name}. Got {commit!r:.60}. Is $HF_ENDPOINT a hub?")
    sizes = _wanted(name, {str(file.rfilename): file.size for file in info.siblings or ()})
    folder = Path()
    for files in ([file for file in sizes if file in CONFIGS], [*sizes]):  # weights once the config is known to fit
        try:
            folder = Path(
                snapshot_download(
                    repository, revision=commit, allow_patterns=sorted(files), endpoint=endpoint, cache_dir=cache
                )
            )
        except Exception as error:  # from the hub's client or its HTTP library
            raise _not_fetched(name, error) from error
        _check_kind(name, folder)
    for file, size in sizes.items():
        found = (folder / file).stat().st_size if (folder / file).is_file() else -1
        if found != size:
            raise InvalidInput(
                f"{file} of {name} must have {size} bytes, as the hub says. Got {found}. Fetch it again."
            )
    return folder


def _wanted(name: str, sizes: dict[str, Any]) -> dict[str, int]:
    """Return the files to fetch, and their sizes in bytes."""
    for file in sizes:
        if file.startswith("/") or "\\" in file or ".." in file.split("/"):
            raise InvalidInput(f"files of {name} must be inside its folder. Got {file!r:.120}. Do not use this model.")
    weights = [file for file in sizes if WEIGHTS.fullmatch(file)]
    if OPEN_CLIP in sizes and OPEN_CLIP_WEIGHTS in sizes:
        weights = [OPEN_CLIP_WEIGHTS]
    if not weights:
        others = ", ".join(sorted(sizes)[:5]) or "no files"
        raise InvalidInput(
            f"{name} must hold its weights as model.safetensors or {OPEN_CLIP_WEIGHTS}. Got {others:.300}. Pickles are "
            f"not opened: ask for safetensors there, or write them once, where you trust the file, by transformers' "
            f"AutoModel and AutoProcessor, from_pretrained and save_pretrained(FOLDER). Then name FOLDER."
        )
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]
    wanted = {file: sizes[file] for file in (*weights, *(one for one in CONFIGS if one in sizes))}
    for file, size in wanted.items():
        if not isinstance(size, int) or size < 0 or (file in CONFIGS and size > MAX_CONFIG_BYTES):
            raise InvalidInput(f"{file} of {name} must have at most {MAX_CONFIG_BYTES} bytes. Got {size!r:.40}.")
    if (total := sum(wanted[file] for file in weights)) > MAX_WEIGHTS_BYTES:
        raise InvalidInput(f"weights of {name} must have at most {MAX_WEIGHTS_BYTES} bytes. Got {total}.")
    return wanted


def _check_kind(name: str, folder: Path) -> None:
    """Check that a model's config does not name an architecture that `imports` does not read."""
    file = folder / "config.json"
    if (folder / OPEN_CLIP).is_file() or not file.is_file():
        return
    kind = read_object(file).get("model_type", KINDS[0])
    if kind not in KINDS:
        raise InvalidInput(
            f"{name} must be a model of {', '.join(KINDS)}, of timm or of open_clip. Got the model_type {kind!r:.60}. "
            f"No program of a repository is run. Choose one of finetuner.list_models()."
        )


def _not_fetched(name: str, error: Exception) -> NoSuchModel:
    return NoSuchModel(
        f"{name} must be a model that the hub gives. Got: {one_line(error)}. Check the name, the network, and HF_TOKEN "
        f"for a private or gated model."
    )
