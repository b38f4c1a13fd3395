"""Builds transformers text towers and tokenizers, such as XLM-R's, from two JSON files, without code or network.

config.json     transformers' configuration of the text tower
tokenizer.json  tokenizers' own format, with padding and truncation to the context length
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...exceptions import CorruptedArtifact, NoSuchModel
from ..weights import bounded_download, hub_cache_path, one_line, read_config

if TYPE_CHECKING:
    import torch

TEXT_CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"
CONTEXT_LENGTH = 77  # open_clip's default
IMPORTED_TEXT = "imported"  # in place of a name on the hub: the files are in the artifact
AS_GIVEN = "none"  # in place of a name of open_clip's cleaning of texts: they reach the tokenizer as they are
SEPARATOR = "[SEP]"
# Keys of a transformers config that fetch or run code from outside the library.
FOREIGN = ("auto_map", "attn_implementation", "_attn_implementation", "experts_implementation", "quantization_config")
LABELS = ("num_labels", "id2label", "label2id")  # a name for each class of a classifier, which no tower has
MAX_TOKENIZER_BYTES = 2**26  # Gemma's, with 262,144 tokens, has half of it


class FileTokenizer:
    """A transformers tokenizer, built from its file alone.

    Args:
        content: of a tokenizer.json that pads and truncates.
        text_cfg: open_clip's. Its `tokenizer_kwargs` set the cleaning of texts and tokens.

    Raises:
        CorruptedArtifact: not such a tokenizer.
    """

    def __init__(self, content: str, text_cfg: Mapping[str, Any]) -> None:
        from open_clip.tokenizer import get_clean_fn
        from tokenizers import Tokenizer

        options = text_cfg.get("tokenizer_kwargs") or {}
        length = text_cfg.get("context_length", CONTEXT_LENGTH)
        try:
            self._tokenizer: Any = Tokenizer.from_str(content)
        except Exception as error:  # tokenizers has no narrower one
            raise CorruptedArtifact(
                f"{TOKENIZER_FILE} must be a tokenizer. Got: {one_line(error)}. Fetch it again."
            ) from error
        padding, truncation = self._tokenizer.padding or {}, self._tokenizer.truncation or {}
        if padding.get("length") != length or truncation.get("max_length") != length:
            raise CorruptedArtifact(
                f"{TOKENIZER_FILE} must pad and truncate to {length} tokens. Got another length. Fetch it again."
            )
        ids = self._tokenizer.get_vocab(with_added_tokens=False).values()
        self.vocab_size = max(*ids, *self._tokenizer.encode("").ids, -1) + 1
        cleaning = options.get("clean", "whitespace")
        try:
            self._clean = str if cleaning == AS_GIVEN else get_clean_fn(cleaning)
        except AssertionError as error:
            raise CorruptedArtifact(
                f"cleaning of texts must be one that open_clip has. Got {cleaning!r:.40}. Fetch the model again."
            ) from error
        self._separator = self._tokenizer.token_to_id(SEPARATOR) if options.get("strip_sep_token") else None

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return (texts, context) int64. Longer texts are cut."""
        import torch

        encoded = self._tokenizer.encode_batch([self._clean(text) for text in texts])
        tokens = torch.tensor([row.ids for row in encoded])
        return tokens if self._separator is None else tokens.masked_fill(tokens == self._separator, 0)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, those that the tokenizer adds included, without any cut."""
        from tokenizers import Tokenizer

        whole = Tokenizer.from_str(self._tokenizer.to_str())
        whole.no_truncation()
        whole.no_padding()
        return [len(found.ids) for found in whole.encode_batch([self._clean(text) for text in texts])]


def read_tokenizer(file: Path) -> str:
    """Return the content of a tokenizer.json.

    Raises:
        CorruptedArtifact: more than MAX_TOKENIZER_BYTES, or not UTF-8.
    """
    if (size := file.stat().st_size) > MAX_TOKENIZER_BYTES:
        raise CorruptedArtifact(f"{file.name} must have at most {MAX_TOKENIZER_BYTES} bytes. Got {size}.")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptedArtifact(f"{file.name} must be a tokenizer. Got: {error}. Fetch it again.") from error


def find_text_files(config: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, str]:
    """Return the contents of the text tower's files by name. Empty if open_clip ships them.

    Args:
        config: open_clip's `model_cfg`.
        folders: searched before the hub's cache and the hub.

    Raises:
        NoSuchModel: a file is missing. The message has the paths searched.
    """
    text_cfg, files = config["text_cfg"], {}
    if name := text_cfg.get("hf_model_name"):
        files[TEXT_CONFIG_FILE] = _find(name, TEXT_CONFIG_FILE, folders, _read_config)
    if name := text_cfg.get("hf_tokenizer_name"):
        files[TOKENIZER_FILE] = _find(name, TOKENIZER_FILE, folders, lambda source: _read_tokenizer(source, text_cfg))
    return files


def _find(name: str, file: str, folders: Sequence[Path], read: Callable[[str], str]) -> str:
    """Return the content of a file, read from the first folder that has it, else from the hub."""
    local = next((folder for folder in folders if (folder / file).is_file()), None)
    try:
        if local is not None:
            return read(str(local))
        with bounded_download():
            return read(name)
    except Exception as error:  # from the hub's client, transformers or the file
        if local is not None:
            raise NoSuchModel(f"{local / file} must be that of {name}. Got: {one_line(error)}. Replace it.") from error
        paths = [*(str(folder / file) for folder in folders), f"the hub's cache ({hub_cache_path(f'{name}/{file}')})"]
        raise NoSuchModel(
            f"{file} of {name} must be in {', '.join(paths)} or downloadable. Got: {one_line(error)}. "
            f"Download it once, or copy it there."
        ) from error


def _read_config(source: str) -> str:
    from huggingface_hub import hf_hub_download

    local = Path(source) / TEXT_CONFIG_FILE
    file = local if local.is_file() else Path(hf_hub_download(source, TEXT_CONFIG_FILE))
    return json.dumps(_check_config(file.read_text()), indent=1)


def _read_tokenizer(source: str, text_cfg: Mapping[str, Any]) -> str:
    from transformers import AutoTokenizer

    reference: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    tokenizer, length = reference.backend_tokenizer, text_cfg.get("context_length", CONTEXT_LENGTH)
    tokenizer.enable_truncation(length, direction=reference.truncation_side)
    side, token, number = reference.padding_side, reference.pad_token, reference.pad_token_id
    tokenizer.enable_padding(direction=side, pad_id=number, pad_token=token, length=length)
    return str(tokenizer.to_str())


def _check_config(content: str) -> dict[str, Any]:
    """Return a transformers config without FOREIGN keys and LABELS. open_clip must know its architecture."""
    from open_clip.hf_configs import arch_dict

    config = read_config(content, TEXT_CONFIG_FILE)
    if config.get("model_type") not in list(arch_dict):
        raise ValueError(f"{TEXT_CONFIG_FILE} must have a model_type of {', '.join(arch_dict)}")
    return {key: value for key, value in config.items() if key not in (*FOREIGN, *LABELS)}


@contextmanager
def text_tower_options(config: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the keyword arguments with which `open_clip.create_model` builds a transformers text tower from its file.

    Args:
        config: open_clip's `model_cfg`.
        files: from `find_text_files`.

    Raises:
        CorruptedArtifact: a file is missing, or the configuration is not one.
    """
    text_cfg = config["text_cfg"]
    needed = {"hf_model_name": TEXT_CONFIG_FILE, "hf_tokenizer_name": TOKENIZER_FILE}
    missing = [file for name, file in needed.items() if text_cfg.get(name) and file not in files]
    if missing:
        raise CorruptedArtifact(f"model must hold {', '.join(missing)}. Got no such file. Fetch it again.")
    if TEXT_CONFIG_FILE not in files:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        try:
            (Path(folder) / TEXT_CONFIG_FILE).write_text(json.dumps(_check_config(files[TEXT_CONFIG_FILE])))
        except ValueError as error:
            raise CorruptedArtifact(f"model must hold a text tower's config. Got: {error}. Fetch it again.") from error
        yield {"text_cfg": {**text_cfg, "hf_model_name": folder, "hf_model_pretrained": False}}


def padding_token(network: Any) -> int | None:
    """Return the padding token that a text tower masks, or None if the tower takes one length only."""
    from open_clip.hf_model import HFTextEncoder

    text = getattr(network, "text", None)
    return int(text.config.pad_token_id) if isinstance(text, HFTextEncoder) else None
