"""A CLIP's tokenizer as the files that transformers reads: tokenizer.json and tokenizer_config.json."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInput
from ..models.clip import Clip
from ..models.text.byte_pair_tokenizer import PAD, START, BytePairTokenizer
from ..models.text.clip_tokenizer import ClipTokenizer
from ..models.text.text_towers import AS_GIVEN, CONTEXT_LENGTH, TOKENIZER_FILE, FileTokenizer

CONFIG_FILE = "tokenizer_config.json"
CLASS = "PreTrainedTokenizerFast"  # transformers 5 writes another name, which transformers 4 does not know
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
PUNCTUATION = "[" + "".join(f"\\{sign}" for sign in string.punctuation) + "]"
RESERVED = 2  # ids of clip-mini before those of its file: padding and start


def write_tokenizer(model: Clip, folder: Path) -> dict[str, int]:
    """Write the files of a model's tokenizer.

    Args:
        model: its tokenizer is CLIP's own, clip-mini's, or that of an imported CLIPModel.
        folder: exists.

    Returns:
        `bos_token_id`, `eos_token_id` and `pad_token_id`.

    Raises:
        InvalidInput: another tokenizer.
    """
    from transformers import PreTrainedTokenizerFast

    if isinstance(model.tokenizer, ClipTokenizer):
        tokenizer, (start, end) = _of_clip(model.tokenizer), ("<start_of_text>", "<end_of_text>")
        padding = end  # as OpenAI's: transformers would read the token 0, "!", as padding in texts, too
    elif isinstance(model.tokenizer, BytePairTokenizer):
        content = json.loads(model.files[TOKENIZER_FILE])
        tokenizer, (start, end, padding) = _of_clip_mini(content), ("<start>", "<end>", "<padding>")
    elif isinstance(model.tokenizer, FileTokenizer) and (found := _of_file(model.files[TOKENIZER_FILE])):
        tokenizer, (start, end, padding) = found
    else:
        raise InvalidInput(
            f"tokenizer must be CLIP's own, clip-mini's or an imported one that ends texts with its highest token. Got "
            f"{type(model.tokenizer).__name__}. Export to open_clip."
        )
    length = int(model.config["text_cfg"].get("context_length", CONTEXT_LENGTH))
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=padding, model_max_length=length
    )
    fast.save_pretrained(folder)
    config = json.loads((folder / CONFIG_FILE).read_text())
    config |= {"tokenizer_class": CLASS, "model_input_names": ["input_ids", "attention_mask"]}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1))
    return {"bos_token_id": fast.bos_token_id, "eos_token_id": fast.eos_token_id, "pad_token_id": fast.pad_token_id}


def write_file_config(model: Clip, folder: Path) -> None:
    """Write what transformers needs beside the tokenizer.json of a model, such as SigLIP's.

    Args:
        model: its tokenizer is a file that pads.
        folder: exists.
    """
    padding = json.loads(model.files[TOKENIZER_FILE])["padding"]["pad_token"]
    length = model.config["text_cfg"].get("context_length", CONTEXT_LENGTH)
    config = {"tokenizer_class": CLASS, "pad_token": padding, "model_max_length": length}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1))


def write_padded_tokenizer(model: Clip, folder: Path, inputs: Sequence[str] = ("input_ids",)) -> None:
    """Write the tokenizer of a model that reads its padding, as SigLIP does: `padding="max_length"`, without a mask.

    The cleaning of texts becomes a part of the file, without the mending of HTML entities.

    Args:
        model: its tokenizer is a file that pads.
        folder: exists.
        inputs: what the tokenizer gives. Other models, such as BERT, read an 'attention_mask' too.

    Raises:
        InvalidInput: another tokenizer.
    """
    from tokenizers import Tokenizer, normalizers

    if not isinstance(model.tokenizer, FileTokenizer):
        raise InvalidInput(
            f"tokenizer must be a file, as SigLIP's. Got {type(model.tokenizer).__name__}. Export to open_clip."
        )
    text_cfg = model.config["text_cfg"]
    tokenizer: Any = Tokenizer.from_str(model.files[TOKENIZER_FILE])
    cleaning = _cleaning((text_cfg.get("tokenizer_kwargs") or {}).get("clean", "whitespace"))
    own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
    tokenizer.normalizer = normalizers.Sequence([*cleaning, *own])
    tokenizer.save(str(folder / TOKENIZER_FILE))
    write_file_config(model, folder)
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(config | {"model_input_names": list(inputs)}, indent=1))


def _cleaning(kind: str) -> list[Any]:
    """Return what does as open_clip's cleaning of texts of this name."""
    from tokenizers import Regex, normalizers

    if kind == AS_GIVEN:
        return []
    spaces = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if kind == "canonicalize":
        removed = [normalizers.Replace("_", " "), normalizers.Replace(Regex(PUNCTUATION), "")]
        return [*removed, normalizers.Lowercase(), *spaces]
    return [*spaces, normalizers.Lowercase()] if kind == "lower" else spaces


def _of_file(content: str) -> tuple[Any, tuple[str, str, str]] | None:
    """Return a tokenizer of a file, and its start, end and padding; None if a text has no such start and end."""
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_str(content)
    padding = tokenizer.padding["pad_token"]
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ends = tokenizer.encode("").ids
    if len(ends) != 2 or ends[1] != max(tokenizer.get_vocab(with_added_tokens=True).values()):
        return None
    start, end = (str(tokenizer.id_to_token(number)) for number in ends)
    return tokenizer, (start, end, padding)


def _of_clip(own: ClipTokenizer) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    exact = own.exact
    tokenizer = Tokenizer(models.BPE(vocab=exact.encoder, merges=list(exact.bpe_ranks), end_of_word_suffix="</w>"))
    tokenizer.normalizer = _cleaned()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    _close(tokenizer, ("<start_of_text>", exact.sot_token_id), ("<end_of_text>", exact.eot_token_id))
    return tokenizer


def _of_clip_mini(content: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer, pre_tokenizers

    vocabulary = {token: number + RESERVED for token, number in content["model"]["vocab"].items()}
    end = len(vocabulary) + RESERVED
    content["model"]["vocab"] = {"<padding>": PAD, "<start>": START, **vocabulary, "<end>": end}
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer])  # as CLIPTokenizerFast wants it
    tokenizer.normalizer = _cleaned()
    _close(tokenizer, ("<start>", START), ("<end>", end))
    return tokenizer


def _cleaned() -> Any:
    """Return what lower-cases a text, without white space around it and more than one between two words."""
    from tokenizers import Regex, normalizers

    steps = [
        normalizers.NFC(),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
        normalizers.Lowercase(),
    ]
    return normalizers.Sequence(steps)


def _close(tokenizer: Any, start: tuple[str, int], end: tuple[str, int]) -> None:
    """Put a start and an end around each text."""
    from tokenizers import AddedToken, processors

    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name, _ in (start, end)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start[0]} $A {end[0]}", special_tokens=[start, end]
    )
