"""Loads and saves a CLIP: the checkpoint of a row, an open_clip folder, the two towers of an artifact.

Layout of an artifact:

models/open_clip_config.json             architecture and preprocessing
models/tokenizer.json, config.json       if the model needs them
models/clip-text/weights.safetensors     the text tower
models/clip-vision/weights.safetensors   the vision tower
models/open_clip_model.safetensors       no weights: open_clip, which would take random ones, refuses the folder
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.checks import whole
from ..exceptions import CorruptedArtifact, InvalidInput, NoSuchModel
from .acceleration import without_initial_weights
from .backbone import Backbone
from .clip import TOWERS, VISION, Clip, Tokenizer, with_activation
from .lean_open_clip import complete
from .text.text_towers import (
    CONTEXT_LENGTH,
    TEXT_CONFIG_FILE,
    TOKENIZER_FILE,
    FileTokenizer,
    find_text_files,
    read_tokenizer,
    text_tower_options,
)
from .weights import (
    architecture_folder,
    bounded_download,
    checkpoint_file,
    load_into,
    missing_weights,
    one_line,
    planned_network,
    quiet,
    read_checkpoint,
    read_config,
    require_same,
    stored_tensors,
    tag_file,
    write_weights,
)

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "weights.safetensors"
OPEN_CLIP_WEIGHTS_FILE = "open_clip_model.safetensors"
# the only tensor's name, which open_clip's error shows
NOT_HERE = "an artifact's weights are elsewhere: finetuner artifact export ID --to open_clip FOLDER"
MAX_SIDE = 1024  # of the input image in pixels; the work grows faster than the weights
MAX_PATCHES = 4096  # of an image
MAX_CONTEXT = 1024  # tokens of a text
MAX_EMBEDDING = 65_536


def load_backbone(row: Backbone, device: str = "cpu", weights_folder: Path | None = None) -> Clip:
    """Load a row's pretrained model.

    Args:
        row: from `find_backbone`.
        device: torch's name of a device.
        weights_folder: the only folder whose checkpoint files a server may read. None allows any path, on the
            user's own machine.

    Raises:
        NoSuchModel: no weights in the package, the weights folder, the hub's cache, a file or by download. The same
            for the config or tokenizer of a text tower.
        KeysMismatchError: the checkpoint belongs to another architecture.
    """
    import open_clip

    from .text.clip_tokenizer import open_clip_tokenizer

    if row.folder is not None:
        return load_folder(row.folder, row.name, device)
    if row.in_artifacts:
        check_weights(row)
    config = open_clip.get_model_config(row.architecture)
    if config is None:
        raise NoSuchModel(
            f"architecture must be one that open_clip lists. Got {row.architecture!r}. See open_clip.list_models()."
        )
    tag = open_clip.get_pretrained_cfg(row.architecture, row.pretrained)
    if tag.get("quick_gelu"):
        config["quick_gelu"] = True  # the tag was trained with it. Without it every layer is slightly wrong
    file = tag_file(row, weights_folder) if tag else _checkpoint(row, weights_folder)
    beside = [None if file is None else file.parent, architecture_folder(row, weights_folder)]
    files = find_text_files(config, list(dict.fromkeys(filter(None, beside))))
    file = file or _download(row, tag, weights_folder)
    expected = f"{file} must hold weights of {row.architecture}"
    complete(config)
    with quiet(), text_tower_options(config, files) as options:
        create = partial(
            open_clip.create_model,
            row.architecture,
            pretrained_text=False,
            force_quick_gelu=bool(config.get("quick_gelu")),
            force_preprocess_cfg=tag,
            **options,
        )
        planned_network(partial(create, device="meta"), read_checkpoint(file, "meta"), expected)
        with without_initial_weights():
            network = create(device=device)
    load_into(network, file, expected)
    tokenizer: Tokenizer = (
        FileTokenizer(files[TOKENIZER_FILE], config["text_cfg"])
        if TOKENIZER_FILE in files
        else open_clip_tokenizer(row.architecture)
    )
    return Clip(network.eval(), tokenizer, config, row.name, files)


def _download(row: Backbone, tag: dict[str, Any], weights_folder: Path | None) -> Path:
    import open_clip

    try:
        with bounded_download():
            return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # from the hub's client or its HTTP library
        repository, _, name = tag["hf_hub"].rpartition("/")
        hub_file = f"{repository}/{name or 'open_clip_model.safetensors'}"
        raise missing_weights(row, weights_folder, hub_file, error) from error


def check_weights(row: Backbone, weights_folder: Path | None = None) -> None:
    """Check that a row's weights are packaged, a tag of open_clip or a file.

    Raises:
        NoSuchModel: none of them. The message has the tags and the paths searched.
    """
    if row.folder is not None:
        return
    if row.in_artifacts:
        source = f"hf-hub:{row.source}" if row.source else "FOLDER"
        raise NoSuchModel(
            f"{row.name} has weights in artifacts alone. Got no artifact. Import its folder: fit(model=FOLDER), or "
            f"finetuner artifact import {source}, and pass the artifact's id."
        )
    import open_clip

    if not open_clip.get_pretrained_cfg(row.architecture, row.pretrained):
        _checkpoint(row, weights_folder)


def _checkpoint(row: Backbone, weights_folder: Path | None) -> Path:
    import open_clip

    return checkpoint_file(row, weights_folder, open_clip.list_pretrained_tags_by_model(row.architecture))


def load_folder(folder: Path, model_id: str, device: str = "cpu", *, load_weights: bool = True) -> Clip:
    """Load a folder in open_clip's `local-dir` layout, with or without weights in it.

    Args:
        folder: holds open_clip_config.json and weights, tokenizer.json if the tokenizer is not open_clip's own, and
            config.json if the text tower comes from transformers.
        model_id: artifact id or backbone name, stored beside each vector.
        device: torch's name of a device.
        load_weights: False builds the network alone, with random weights.

    Raises:
        CorruptedArtifact: a file that the model needs is missing or damaged.
    """
    config, files = _read_folder(folder)
    with without_initial_weights() if load_weights else nullcontext():
        network = create_network(folder, config, files, device, load_weights=load_weights)
    return Clip(network.eval(), load_tokenizer(folder, config), config, model_id, files)


def create_network(
    folder: Path, config: dict[str, Any], files: Mapping[str, str], device: str, *, load_weights: bool
) -> Any:
    """Return the network of a folder in open_clip's layout; see `load_folder`."""
    import open_clip

    complete(config)
    with quiet(), text_tower_options(config, files) as options:
        create = partial(open_clip.create_model, device=device, load_weights=load_weights, pretrained_text=False)
        return with_activation(create(f"local-dir:{folder}", **options), config)


def read_clip_config(folder: Path) -> dict[str, Any]:
    """Return the object in open_clip_config.json, with `model_cfg` and `preprocess_cfg`.

    Raises:
        CorruptedArtifact: not open_clip's config, a path in it, or inputs above MAX_SIDE, MAX_PATCHES or MAX_CONTEXT.
    """
    try:
        values = read_config((folder / CONFIG_FILE).read_bytes(), CONFIG_FILE)
        config, preprocess = values["model_cfg"], values.setdefault("preprocess_cfg", {})
        text, vision = config["text_cfg"], config["vision_cfg"]
        if ":" in str(vision.get("timm_model_name", "")):
            raise InvalidInput("timm_model_name must name an architecture. Got a path")
        whole("embed_dim", config["embed_dim"], 1, MAX_EMBEDDING)
        whole("context_length", text.get("context_length", CONTEXT_LENGTH), 2, MAX_CONTEXT)
        _sides("size", preprocess.get("size", 224))
        height, width = _sides("image_size", vision.get("image_size", 224))
        if "timm_model_name" not in vision and isinstance(vision.get("layers"), int):
            patch = whole("patch_size", vision.get("patch_size", 16), 1, MAX_SIDE)
            whole("number of patches", (height // patch) * (width // patch), 1, MAX_PATCHES)
    except (OSError, KeyError, TypeError, AttributeError, InvalidInput) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise CorruptedArtifact(f"{CONFIG_FILE} must describe a CLIP. Got: {reason}. Fetch it again.") from error
    return values


def _sides(name: str, value: Any) -> tuple[int, int]:
    """Return the height and width in pixels of an image size, one number or two."""
    height, width = value if isinstance(value, list | tuple) else (value, value)
    return whole(name, height, 1, MAX_SIDE), whole(name, width, 1, MAX_SIDE)


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return open_clip's `model_cfg` and the contents of the text tower's files by name."""
    files = {}
    if (folder / TOKENIZER_FILE).is_file():
        files[TOKENIZER_FILE] = read_tokenizer(folder / TOKENIZER_FILE)
    if (folder / TEXT_CONFIG_FILE).is_file():
        files[TEXT_CONFIG_FILE] = (folder / TEXT_CONFIG_FILE).read_text(encoding="utf-8")
    return read_clip_config(folder)["model_cfg"], files


def check_towers(folder: Path) -> int:
    """Compare a CLIP's config and tokenizer with the headers of its weights. Nothing is loaded.

    Returns:
        The embedding size.

    Raises:
        KeysMismatchError, CorruptedArtifact: see `check_stored`.
    """
    stored = stored_tensors(folder / tower / WEIGHTS_FILE for tower in TOWERS)
    return check_stored(folder, stored, f"weights in {folder} must fit its config")


def check_stored(folder: Path, stored: Mapping[str, Tensor], expected: str) -> int:
    """Compare the config and tokenizer in a folder with weights, of which only names and shapes are read.

    Args:
        folder: as for `load_folder`.
        stored: on the meta device.
        expected: beginning of the message.

    Returns:
        The embedding size.

    Raises:
        KeysMismatchError: the weights have other names or shapes.
        CorruptedArtifact: a file is missing or damaged, or the tokenizer makes tokens that the text tower lacks.
    """
    config, files = _read_folder(folder)
    planned: Any = planned_network(
        partial(create_network, folder, config, files, "meta", load_weights=False), stored, expected
    )
    require_same(planned.state_dict(), stored, expected)
    tokens = getattr(load_tokenizer(folder, config), "vocab_size", 0)
    text = getattr(planned, "text", planned)
    rows = text.transformer.get_input_embeddings() if hasattr(text, "config") else text.token_embedding
    if tokens > rows.num_embeddings:
        raise CorruptedArtifact(
            f"{TOKENIZER_FILE} must make at most {rows.num_embeddings} different tokens, as the text tower has. "
            f"Got {tokens}. Fetch it again."
        )
    return int(config["embed_dim"])


def load_tokenizer(folder: Path, config: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer of a model in `folder`.

    Args:
        folder: holds tokenizer.json, or a config that names a tokenizer of open_clip.
        config: open_clip's `model_cfg`.

    Raises:
        CorruptedArtifact: the tokenizer of a transformers text tower is missing or damaged.
    """
    file, text_cfg = folder / TOKENIZER_FILE, config["text_cfg"]
    if text_cfg.get("hf_tokenizer_name"):
        return FileTokenizer(read_tokenizer(file) if file.is_file() else "", text_cfg)
    if file.is_file():
        from .text.byte_pair_tokenizer import BytePairTokenizer

        try:
            return BytePairTokenizer(file, text_cfg["context_length"])
        except Exception as error:  # tokenizers has no narrower one
            raise CorruptedArtifact(
                f"{TOKENIZER_FILE} must be a tokenizer. Got: {one_line(error)}. Fetch it again."
            ) from error
    from .text.clip_tokenizer import open_clip_tokenizer

    return open_clip_tokenizer(f"local-dir:{folder}")


def save_towers(model: Clip, folder: Path) -> None:
    """Write a model into `folder`, an artifact's `models/`, in the layout above."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    described = {"model_cfg": model.config, "preprocess_cfg": asdict(model.preprocess_config)}
    (folder / CONFIG_FILE).write_text(json.dumps(described, indent=1))
    for name, content in model.files.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
    save_file({NOT_HERE: torch.zeros(1)}, folder / OPEN_CLIP_WEIGHTS_FILE)
    for tower in TOWERS:
        (folder / tower).mkdir()
        write_weights(model.network, folder / tower / WEIGHTS_FILE, partial(_is_of, tower))


def load_towers(folder: Path, model_id: str, device: str = "cpu", towers: Sequence[str] = TOWERS) -> Clip:
    """Load the model that `save_towers` wrote. A tower outside `towers` keeps no weights in memory.

    Raises:
        KeysMismatchError: the weights do not fit the config. Nothing is loaded then.
        CorruptedArtifact: see `check_towers`.
        InvalidInput: unknown tower.
    """
    from safetensors.torch import load_file

    if unknown := sorted(set(towers) - set(TOWERS)):
        raise InvalidInput(f"select_model must be one of {', '.join(TOWERS)}. Got {', '.join(unknown)}.")
    check_towers(folder)
    with without_initial_weights():
        model = load_folder(folder, model_id, device, load_weights=False)
    state: dict[str, Any] = {}
    for tower in towers:
        state |= load_file(folder / tower / WEIGHTS_FILE, device="cpu")
    model.network.load_state_dict(state, strict=False)
    model.towers = tuple(towers)
    for name, child in list(model.network.named_children()):
        if not any(_is_of(tower, f"{name}.") for tower in towers):
            setattr(model.network, name, None)
            del child
    return model


def _is_of(tower: str, key: str) -> bool:
    return (tower == VISION) == key.startswith("visual.")
