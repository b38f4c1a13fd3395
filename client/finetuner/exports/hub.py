"""Pushes an exported folder to the Hugging Face hub, with a card that loads the model from there.

`$HF_ENDPOINT` and `$HF_TOKEN`, or the token of `hf auth login`, mean what they mean to huggingface_hub. Large
files go by Git LFS, whether or not the package hf_xet is installed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..exceptions import FinetunerError, InvalidInput
from ..models.weights import one_line

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
CARD = "README.md"
LIBRARIES = {"open_clip": "open_clip", "transformers": "transformers", "sentence-transformers": "sentence-transformers",
             "timm": "timm", "onnx": "onnxruntime"}  # fmt: skip


def check_hub(repository: str) -> None:
    """Check what can be checked before anything is exported.

    Raises:
        InvalidInput: not OWNER/NAME, or no token.
    """
    if not isinstance(repository, str) or not REPOSITORY.fullmatch(repository) or ".." in repository:
        raise InvalidInput(f"push_to_hub must be OWNER/NAME, of a model on the hub. Got {repository!r:.120}.")
    if _token() is None:
        raise InvalidInput(
            "push_to_hub needs a token that may write. Got none. Set HF_TOKEN, or run: hf auth login. The hub shows "
            "yours under Settings, Access Tokens."
        )


def push_to_hub(folder: Path, repository: str, to: str) -> str:
    """Send the files of an exported folder as one commit. A repository that does not exist is created, private.

    Args:
        folder: see `export_folder`.
        repository: 'OWNER/NAME'.
        to: format of the folder.

    Returns:
        The address of the repository.

    Raises:
        InvalidInput: see `check_hub`.
        FinetunerError: the hub does not answer, or refuses. The folder stays.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    check_hub(repository)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=_token())
    card = hub_card((folder / CARD).read_text(encoding="utf-8"), repository, to).encode()
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        with ExitStack() as opened:
            opened.enter_context(_without_warnings())
            operations = [
                # an open file: huggingface_hub sends files by Xet if it is installed, but these by LFS
                CommitOperationAdd(name, card if name == CARD else opened.enter_context(open(path, "rb")))
                for name, path in files.items()
            ]
            api.create_commit(repository, operations, commit_message="Artifact of Open Finetuner")
    except Exception as error:  # from the hub's client or its HTTP library
        cause = error.__cause__  # of a file that is refused, the answer of the hub
        reason = one_line(error) + (f" {one_line(cause)}" if isinstance(cause, Exception) else "")
        raise FinetunerError(
            f"the hub must take {repository}. Got: {reason}. Check that HF_TOKEN may write there. The exported folder "
            f"is in {folder}."
        ) from error
    return str(url)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence the warning of huggingface_hub that open files do not go by Xet."""
    logger = logging.getLogger("huggingface_hub._commit_api")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def hub_card(card: str, repository: str, to: str) -> str:
    """Return a model card for the hub: its metadata, and the same lines to load the model, by its name there."""
    for own, theirs in (
        ('"local-dir:."', f'"hf-hub:{repository}"'),
        ('from_pretrained(".")', f'from_pretrained("{repository}")'),
        ('SentenceTransformer(".")', f'SentenceTransformer("{repository}")'),
    ):
        card = card.replace(own, theirs)
    return f"---\nlibrary_name: {LIBRARIES[to]}\ntags:\n- open-finetuner\n---\n\n{card}"


def _token() -> str | None:
    from huggingface_hub import get_token

    return os.environ.get("HF_TOKEN") or get_token()
