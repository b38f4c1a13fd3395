"""The tokenizer of a transformers folder: CLIP's own, or a file that pads and cuts as our text tower needs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..exceptions import CorruptedArtifact, InvalidInput
from ..models.text.text_towers import TOKENIZER_FILE, read_tokenizer
from ..models.weights import MAX_CONFIG_BYTES, one_line

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
VOCABULARY_FILE = "vocab.txt"  # of a BERT, without a tokenizer.json
LEGACY_END = 2  # in a config: the end is the highest id of a text, as in OpenAI's first files
PROBES = ("A Red DRESS, 12 pieces", "naïve café's 日本", "striped  socks\nworn")


def tokenizer_content(folder: Path, text_cfg: Mapping[str, Any], end: int) -> str:
    """Return the content of a tokenizer.json for `FileTokenizer`, '' if CLIP's own tokenizer makes the same tokens.

    Args:
        folder: holds tokenizer.json, and may hold tokenizer_config.json.
        text_cfg: open_clip's, with `context_length` and `vocab_size`.
        end: id of the token that ends a text, or LEGACY_END.

    Raises:
        InvalidInput: no tokenizer, a damaged one, or one that does not fit the text tower.
    """
    file = folder / TOKENIZER_FILE
    tokenizer = _tokenizer(file)
    padding = _padding(folder, tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    _check(file, tokenizer, text_cfg["vocab_size"], end)
    if text_cfg["context_length"] and _is_clips_own(tokenizer):
        return ""
    empty = tokenizer.encode("").ids
    number = empty[-1] if padding is None else padding
    if number > empty[-1]:
        raise InvalidInput(f"{file} must pad with a token up to the end's id, {empty[-1]}. Got {number}. Correct it.")
    length = text_cfg["context_length"]
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=number, pad_token=tokenizer.id_to_token(number))
    return str(tokenizer.to_str())


def padded_tokenizer_content(folder: Path, text_cfg: Mapping[str, Any]) -> str:
    """Return the content of a tokenizer.json for `FileTokenizer`, of a model that reads its padding, as SigLIP does.

    Args:
        folder: holds tokenizer.json, and may hold tokenizer_config.json.
        text_cfg: open_clip's, with `context_length` and `vocab_size`.

    Raises:
        InvalidInput: no tokenizer, a damaged one, one that names no padding, or one that does not fit the text tower.
    """
    file = folder / TOKENIZER_FILE
    return _padded(file, _tokenizer(file), text_cfg["context_length"], text_cfg["vocab_size"], "which the tower reads")


def first_token_content(folder: Path, length: int, rows: int, padding: int) -> str:
    """Return the content of a tokenizer.json for `FileTokenizer`, of a text tower that is read at its first token.

    Args:
        folder: holds tokenizer.json, or BERT's vocab.txt alone; and may hold tokenizer_config.json.
        length: tokens of a text.
        rows: tokens of the tower.
        padding: the token that the tower masks.

    Raises:
        InvalidInput: no tokenizer, a damaged one, one that begins texts with no token of its own, or one that does not
            fit the text tower.
    """
    file = folder / TOKENIZER_FILE
    if file.is_file() or not (folder / VOCABULARY_FILE).is_file():
        tokenizer = _tokenizer(file)
    else:
        file = folder / VOCABULARY_FILE
        tokenizer = _of_vocabulary(file)
    first, words = tokenizer.encode("").ids[:1], tokenizer.encode("a").ids
    if not first or words[:1] != first:
        raise InvalidInput(
            f"{file} must begin each text with one token, such as [CLS]: there the tower reads it. Got none. Take the "
            f"tokenizer of this model."
        )
    content = _padded(file, tokenizer, length, rows, "which the tower masks")
    if (found := json.loads(content)["padding"]["pad_id"]) != padding:
        raise InvalidInput(
            f"{file} must pad with the config's pad_token_id, {padding}, which the tower masks. Got {found}. Take the "
            f"tokenizer of this model."
        )
    return content


def named_length(folder: Path) -> int | None:
    """Return `model_max_length` of the folder's tokenizer_config.json, None if it names none or transformers' 10^30."""
    file = folder / TOKENIZER_CONFIG_FILE
    length = _config(file).get("model_max_length") if file.is_file() else None
    return int(length) if isinstance(length, int | float) and 0 < length < 2**31 else None


def _of_vocabulary(file: Path) -> Any:
    """Return BERT's tokenizer with the words of a vocab.txt."""
    from transformers import BertTokenizer

    try:
        read_tokenizer(file)  # its size and its encoding
        made: Any = BertTokenizer.from_pretrained(str(file.parent), local_files_only=True, trust_remote_code=False)
    except CorruptedArtifact as error:
        raise InvalidInput(str(error)) from error
    except Exception as error:  # of transformers and tokenizers
        raise InvalidInput(f"{file} must be BERT's vocabulary. Got: {one_line(error)}. Fetch it again.") from error
    tokenizer = made.backend_tokenizer
    if made.pad_token_id is not None:
        tokenizer.enable_padding(pad_id=made.pad_token_id, pad_token=made.pad_token)
    return tokenizer


def _padded(file: Path, tokenizer: Any, length: int, rows: int, use: str) -> str:
    """Return a tokenizer that cuts texts and pads them with the token that it, or the config beside it, names."""
    padding = _padding(file.parent, tokenizer)
    highest = max([*tokenizer.get_vocab(with_added_tokens=True).values(), padding or 0], default=-1)
    if highest >= rows:
        raise InvalidInput(
            f"{file} must make at most {rows} different tokens, as the text tower has. Got {highest + 1}. Take the "
            f"tokenizer of this model."
        )
    if padding is None:
        raise InvalidInput(
            f"{file} must name the token that pads, {use}. Got none. Put pad_token into {TOKENIZER_CONFIG_FILE}."
        )
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=padding, pad_token=tokenizer.id_to_token(padding))
    return str(tokenizer.to_str())


def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    if not file.is_file():
        raise InvalidInput(
            f"{file.parent} must hold {TOKENIZER_FILE}. Got none. Write it: "
            f"transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)."
        )
    try:
        return Tokenizer.from_str(read_tokenizer(file))
    except CorruptedArtifact as error:
        raise InvalidInput(str(error)) from error
    except Exception as error:  # tokenizers has no narrower one
        raise InvalidInput(f"{file} must be a tokenizer. Got: {one_line(error)}. Save it again.") from error


def _check(file: Path, tokenizer: Any, rows: int, end: int) -> None:
    """Check that the tower has a row for each token, and reads a text at its end."""
    ids = list(tokenizer.get_vocab(with_added_tokens=True).values())
    found = tokenizer.encode("a red dress").ids
    if not ids or not found or max(ids) >= rows:
        raise InvalidInput(
            f"{file} must make at most {rows} different tokens, as the text tower has. Got {max(ids, default=-1) + 1}. "
            f"Take the tokenizer of this model."
        )
    if found[-1] != max(found) or found[-1] != max(ids) or found.count(found[-1]) != 1:
        raise InvalidInput(
            f"{file} must end each text with its highest token, {max(ids)}: there the tower reads it. Got "
            f"{found[-1]}. Take the tokenizer of this model."
        )
    if end not in (found[-1], LEGACY_END):
        raise InvalidInput(
            f"{file} must end each text with the config's eos_token_id, {end}. Got {found[-1]}. Take the tokenizer of "
            f"this model."
        )


def _padding(folder: Path, tokenizer: Any) -> int | None:
    """Return the id of the padding token, None if none is named."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    file = folder / TOKENIZER_CONFIG_FILE
    if not file.is_file():
        return None
    token = _config(file).get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    number = tokenizer.token_to_id(token) if isinstance(token, str) else None
    return None if number is None else int(number)


def _config(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"{file.stat().st_size} bytes")
        values = json.loads(file.read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__}")
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} must be a tokenizer's config. Got: {one_line(error)}. Save it again.") from error
    return values


def _is_clips_own(tokenizer: Any) -> bool:
    """Return whether CLIP's own tokenizer has the same tokens, and makes them of the same texts."""
    from ..models.text.clip_tokenizer import ClipTokenizer, open_clip_tokenizer

    own = open_clip_tokenizer("ViT-B-32")
    assert isinstance(own, ClipTokenizer)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    names = {own.exact.sot_token_id, own.exact.eot_token_id}  # other libraries name these in another way
    words = {word: number for word, number in own.exact.encoder.items() if number not in names}
    if len(vocabulary) != own.vocab_size or any(vocabulary.get(word) != number for word, number in words.items()):
        return False
    return all(tokenizer.encode(text).ids == [int(n) for n in own([text])[0] if n] for text in PROBES)
