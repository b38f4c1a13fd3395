"""A CLIP that is ready to encode: network, tokenizer and preprocessing together, from a row or a folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .backbones import Backbone
from .exceptions import InvalidInput, KeysMismatchError, NoSuchModel

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

TEXT, VISION = "clip-text", "clip-vision"
TOWERS = (TEXT, VISION)
CONFIG_FILE, TOKENIZER_FILE = "open_clip_config.json", "tokenizer.json"
HUB_SECONDS = 5.0

Tokenizer = Callable[[list[str]], "torch.Tensor"]


class Clip:
    """A CLIP model.

    Args:
        network: open_clip's CLIP or CustomTextCLIP, in eval mode on its device.
        tokenizer: texts -> (texts, context) int64.
        config: open_clip's `model_cfg`, enough to build the network again.
        model_id: what is written beside each vector: an artifact id or a backbone's name.
        tokenizer_file: where the tokenizer is not open_clip's own.
        towers: the ones that hold weights.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Tokenizer,
        config: dict[str, Any],
        model_id: str,
        tokenizer_file: Path | None = None,
        towers: Sequence[str] = TOWERS,
    ) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.network = network
        self.towers = tuple(towers)
        self.tokenizer = tokenizer
        self.config = config
        self.model_id = model_id
        self.tokenizer_file = tokenizer_file
        self.preprocess_config = PreprocessCfg(**network.visual.preprocess_cfg)
        self.preprocess: Callable[[Image], torch.Tensor] = image_transform_v2(self.preprocess_config, is_train=False)
        self.dim = int(config["embed_dim"])

    def __repr__(self) -> str:
        return f"Clip({self.model_id!r}, dim={self.dim})"

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        device: torch.device = self.network.logit_scale.device
        return device

    def encode_texts(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Return (texts, dim) float32, L2-normalised."""
        self._require(TEXT)
        return self._batched(
            lambda batch: text_features(self.network, self.tokenizer(list(batch)).to(self.device)), texts, batch_size
        )

    def encode_images(self, images: Sequence[Image], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised."""
        return self.encode_pixels([self.preprocess(image) for image in images], batch_size)

    def encode_pixels(self, pixels: Sequence[torch.Tensor], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised, for preprocessed pictures, each (3, size, size) float32."""
        import torch

        self._require(VISION)
        return self._batched(
            lambda batch: self.network.encode_image(torch.stack([*batch]).to(self.device)), pixels, batch_size
        )

    def _require(self, tower: str) -> None:
        if tower not in self.towers:
            raise InvalidInput(f"this model holds {self.towers[0]} only. Got input for {tower}. Load that one too.")

    def _batched(self, encode: Callable[[Sequence[Any]], Any], items: Sequence[Any], batch_size: int) -> np.ndarray:
        import numpy as np
        import torch

        if not items:
            return np.empty((0, self.dim), dtype=np.float32)
        with torch.inference_mode():
            batches = [
                torch.nn.functional.normalize(encode(items[start : start + batch_size]).float(), dim=-1)
                for start in range(0, len(items), batch_size)
            ]
            return torch.cat(batches).cpu().numpy()


def text_features(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return the text tower's output, (batch, dim), not normalised.

    A causal tower that reads the end token never looks behind it, so the batch is cut to its longest text:
    the same numbers for a fraction of the work. Any other tower gets the tokens as they are.
    """
    import open_clip
    from open_clip.transformer import text_global_pool

    if type(network) is not open_clip.CLIP or network.text_pool_type != "argmax" or network.attn_mask is None:
        features: torch.Tensor = network.encode_text(tokens)
        return features
    length = int(tokens.argmax(dim=-1).max()) + 1
    tokens = tokens[:, :length]
    dtype = network.transformer.get_cast_dtype()
    x = network.token_embedding(tokens).to(dtype) + network.positional_embedding[:length].to(dtype)
    x = network.transformer(x, attn_mask=network.attn_mask[:length, :length])  # (batch, length, width)
    x = text_global_pool(network.ln_final(x), tokens, "argmax")  # (batch, width)
    projection = network.text_projection
    if projection is not None:
        x = projection(x) if callable(projection) else x @ projection
    pooled: torch.Tensor = x
    return pooled


def load_backbone(row: Backbone, device: str = "cpu", weights_folder: Path | None = None) -> Clip:
    """Load a row's pretrained model.

    Args:
        row: from `find_backbone`.
        device: torch's name of a device.
        weights_folder: on a server, the only folder from which checkpoint files may come; None on the user's
            own machine, where any path may be read.

    Raises:
        NoSuchModel: the weights are neither packaged, nor in the hub's cache, nor a file, nor to be downloaded.
        KeysMismatchError: a checkpoint of another architecture.
    """
    import open_clip

    if row.folder is not None:
        return load_folder(row.folder, row.name, device)
    pretrained = row.pretrained
    config = open_clip.get_model_config(row.architecture)
    if config is None:
        raise NoSuchModel(f"architecture must be one that open_clip lists. Got {row.architecture!r}.")
    tag = open_clip.get_pretrained_cfg(row.architecture, pretrained)
    if not tag:
        pretrained = str(_checkpoint(row, weights_folder))
    elif tag.get("quick_gelu"):
        config["quick_gelu"] = True  # the tag was trained with it; without it every layer is a little wrong
    try:
        with _quiet(), bounded_download(download=bool(tag)):
            network = open_clip.create_model(
                row.architecture, pretrained=pretrained, device=device, force_quick_gelu=bool(config.get("quick_gelu"))
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:400].rstrip(". ")
        if not tag:
            raise KeysMismatchError(
                f"{pretrained} must hold weights of {row.architecture}. It does not: {reason}. Check the architecture."
            ) from error
        raise NoSuchModel(
            f"weights of {row.name} must be in the hub's cache or downloadable. Got: {reason}. "
            f"Download them once, or give a file: {row.architecture}::path/to/weights.safetensors."
        ) from error
    return Clip(network.eval(), open_clip.get_tokenizer(row.architecture), config, row.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the terminal what open_clip remarks on the root logger, such as weights that we load afterwards."""
    root = logging.getLogger()

    def refuse(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    root.addFilter(refuse)
    try:
        yield
    finally:
        root.removeFilter(refuse)


@contextmanager
def bounded_download(*, download: bool) -> Iterator[None]:
    """Where the hub does not answer within HUB_SECONDS, look into its cache only: its own retries take a minute."""
    from huggingface_hub import constants, get_session

    offline = constants.HF_HUB_OFFLINE
    if download and not offline:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
        except Exception:  # of whichever HTTP library the hub's client uses in this version
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def check_weights(row: Backbone, weights_folder: Path | None = None) -> None:
    """Refuse a row whose weights are neither packaged, nor a tag of open_clip's, nor a file.

    Raises:
        NoSuchModel: with the tags and the folder that were looked at.
    """
    if row.folder is not None:
        return
    import open_clip

    if not open_clip.get_pretrained_cfg(row.architecture, row.pretrained):
        _checkpoint(row, weights_folder)


def _checkpoint(row: Backbone, weights_folder: Path | None) -> Path:
    import open_clip

    path = Path(row.pretrained).expanduser() if weights_folder is None else (weights_folder / row.pretrained)
    path = path.resolve()
    inside = weights_folder is None or path.is_relative_to(weights_folder.resolve())
    if not inside or path.suffix not in (".safetensors", ".pt", ".pth", ".bin") or not path.is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(row.architecture)) or "none"
        where = "a checkpoint file" if weights_folder is None else f"a checkpoint file in {weights_folder}"
        raise NoSuchModel(
            f"{row.architecture}::... must name a tag ({tags}) or {where} (.safetensors, .pt). Got {row.pretrained!r}."
        )
    return path


def load_folder(folder: Path, model_id: str, device: str = "cpu", *, load_weights: bool = True) -> Clip:
    """Load a folder in open_clip's `local-dir` layout, with or without weights in it.

    Args:
        folder: open_clip_config.json, weights, and tokenizer.json where the tokenizer is not open_clip's own.
        model_id: what is written beside the model's vectors.
        device: torch's name of a device.
        load_weights: False builds the network alone, with random weights.
    """
    import open_clip

    config = json.loads((folder / CONFIG_FILE).read_text())["model_cfg"]
    with _quiet():
        network = open_clip.create_model(f"local-dir:{folder}", device=device, load_weights=load_weights).eval()
    tokenizer_file = folder / TOKENIZER_FILE
    if not tokenizer_file.is_file():
        return Clip(network, open_clip.get_tokenizer(f"local-dir:{folder}"), config, model_id)
    from .clip_mini.tokenizer import BytePairTokenizer

    tokenizer = BytePairTokenizer(tokenizer_file, config["text_cfg"]["context_length"])
    return Clip(network, tokenizer, config, model_id, tokenizer_file)


def save_towers(model: Clip, folder: Path) -> None:
    """Write a model below `folder`: open_clip's config, the tokenizer if it is not open_clip's own, two towers.

    `<folder>/open_clip_config.json`, `<folder>/clip-text/weights.safetensors`, `<folder>/clip-vision/...`
    """
    from safetensors.torch import save_file

    preprocess = asdict(model.preprocess_config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": model.config, "preprocess_cfg": preprocess}, indent=1))
    if model.tokenizer_file is not None:
        (folder / TOKENIZER_FILE).write_bytes(model.tokenizer_file.read_bytes())
    state = {key: value.detach().cpu().contiguous() for key, value in model.network.state_dict().items()}
    for tower in TOWERS:
        (folder / tower).mkdir()
        part = {key: value for key, value in state.items() if _tower_of(key) == tower}
        save_file(part, folder / tower / "weights.safetensors")


def load_towers(folder: Path, model_id: str, device: str = "cpu", towers: Sequence[str] = TOWERS) -> Clip:
    """Load what `save_towers` wrote; a tower that is not asked for keeps no weights in memory.

    Raises:
        KeysMismatchError: weights that do not fit the config.
        InvalidInput: a tower that does not exist.
    """
    from safetensors.torch import load_file

    unknown = sorted(set(towers) - set(TOWERS))
    if unknown:
        raise InvalidInput(f"select_model must be one of {', '.join(TOWERS)}. Got {', '.join(unknown)}.")
    model = load_folder(folder, model_id, device, load_weights=False)
    state: dict[str, Any] = {}
    for tower in towers:
        state |= load_file(folder / tower / "weights.safetensors", device="cpu")
    own = model.network.state_dict()
    missing = [key for key in own if _tower_of(key) in towers and key not in state]
    wrong = missing + [key for key, value in state.items() if key not in own or own[key].shape != value.shape]
    if wrong:
        raise KeysMismatchError(f"weights in {folder} must fit its config. First keys that do not: {wrong[:3]}.")
    model.network.load_state_dict(state, strict=False)
    model.towers = tuple(towers)
    for name, child in list(model.network.named_children()):
        if _tower_of(f"{name}.") not in towers:
            setattr(model.network, name, None)
            del child
    return model


def _tower_of(key: str) -> str:
    return VISION if key.startswith("visual.") else TEXT
