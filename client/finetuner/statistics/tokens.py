"""Counts the tokens of captions as a model's tokenizer makes them, before it cuts a caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..exceptions import FinetunerError, InvalidInput
from ..models.backbone import CLIP_TASK, Backbone
from ..models.backbones import find_backbone

if TYPE_CHECKING:
    from ..models.clip import Tokenizer


@dataclass(frozen=True)
class TokenCounter:
    """A model's tokenizer, as what counts."""

    model: str
    """Name of the model."""
    limit: int
    """Most tokens of a text that the model reads, start and end included."""
    count: Callable[[Sequence[str]], list[int]]
    """Returns the number of tokens of each text, start and end included, without any cut."""


def token_counter(model: str, *, here: bool = False) -> TokenCounter:
    """Return the counter of a backbone's tokenizer. Its weights are not loaded. `here`: see `counter_or_reason`.

    Raises:
        NoSuchModel: unknown backbone, or a tokenizer of transformers that is neither here nor on the hub.
        InvalidInput: an image model, a backbone that only artifacts have, or no open_clip on this machine.
    """
    row = find_backbone(model)
    if row.task != CLIP_TASK:
        raise InvalidInput(f"model must be a CLIP to count tokens. Got {model!r}, an image model. Name a CLIP.")
    try:
        tokenizer, limit = _tokenizer(row, here)
    except ImportError as error:
        raise InvalidInput(
            f"tokens are counted by open_clip. Got no {error.name}. Install it: pip install 'open-finetuner[full]'."
        ) from error
    return counter_of(row.name, tokenizer, limit)


def counter_or_reason(row: Backbone, *, here: bool = False) -> tuple[TokenCounter | None, str]:
    """Return the counter of a backbone's tokenizer, or None and the reason; other statistics need no tokenizer.

    Args:
        row: the backbone.
        here: whether only open_clip's own tokenizers and those of packaged backbones count: nothing is fetched.
    """
    if row.task != CLIP_TASK:
        return None, f"{row.name} reads no captions"
    try:
        return token_counter(row.name, here=here), ""
    except FinetunerError as error:
        return None, str(error)


def counter_of(model: str, tokenizer: Tokenizer, limit: int) -> TokenCounter:
    """Return the counter of a loaded model's tokenizer.

    Raises:
        InvalidInput: a tokenizer that cannot count.
    """
    from ..models.text.byte_pair_tokenizer import BytePairTokenizer
    from ..models.text.clip_tokenizer import ClipTokenizer
    from ..models.text.text_towers import FileTokenizer

    if isinstance(tokenizer, BytePairTokenizer | ClipTokenizer | FileTokenizer):
        return TokenCounter(model, limit, tokenizer.count_tokens)
    encode = getattr(tokenizer, "encode", None)  # of open_clip's SimpleTokenizer
    if encode is None:
        raise InvalidInput(f"tokenizer of {model} must count tokens. Got {type(tokenizer).__name__}, which does not.")
    return TokenCounter(model, limit, lambda texts: [len(encode(text)) + 2 for text in texts])


def _tokenizer(row: Backbone, here: bool = False) -> tuple[Tokenizer, int]:
    from ..models import clip_files
    from ..models.text import text_towers

    if row.folder is not None:
        config = clip_files.read_clip_config(row.folder)["model_cfg"]
        return clip_files.load_tokenizer(row.folder, config), config["text_cfg"]["context_length"]
    if row.in_artifacts:
        raise InvalidInput(f"tokenizer of {row.name} must be here. Got a backbone whose artifacts alone have one.")
    import open_clip

    from ..models.text.clip_tokenizer import open_clip_tokenizer
    from ..models.weights import architecture_folder

    text_cfg = open_clip.get_model_config(row.architecture)["text_cfg"]
    limit = text_cfg.get("context_length", text_towers.CONTEXT_LENGTH)
    if not text_cfg.get("hf_tokenizer_name"):
        return open_clip_tokenizer(row.architecture), limit
    if here:
        raise InvalidInput(f"tokenizer of {row.name} must be on this machine. It may have to be fetched.")
    folder = architecture_folder(row, None)
    only = {"text_cfg": {**text_cfg, "hf_model_name": ""}}  # the tower's own config is not needed
    files = text_towers.find_text_files(only, [] if folder is None else [folder])
    return text_towers.FileTokenizer(files[text_towers.TOKENIZER_FILE], text_cfg), limit
