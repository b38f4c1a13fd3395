"""A CLIP from two towers that were trained apart: a vision network of timm and a text model of transformers."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.checks import local_path, whole
from ..exceptions import CorruptedArtifact, InvalidInput, NoSuchModel
from ..models.backbone import IMAGE_TASK
from ..models.backbones import find_backbone
from ..models.clip import Clip
from ..models.clip_files import CONFIG_FILE, MAX_CONTEXT, create_network, load_folder
from ..models.text.text_towers import IMPORTED_TEXT, TEXT_CONFIG_FILE, TOKENIZER_FILE, find_text_files
from ..models.weights import planned_network, read_config, require_same, stored_tensors
from .clip_model import weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.image_model import ImageModel

PLUS = "+"
DIM = 512
CONTEXT = 77  # tokens, if the text model reads that many
SEED = 0  # of the projections
VISION, TEXT = "visual.trunk.", "text.transformer."
HEADS = ("pooler.", "cls.", "lm_head.", "classifier.")  # of a text model; the tower does not have them
POSITION_IDS = "embeddings.position_ids"


def read_parts(parts: str, model_id: str) -> Clip:
    """Return a CLIP of two pretrained towers, each with a new linear projection to DIM numbers, on the CPU.

    The text tower is the mean of the text model's last layer, as sentence-transformers takes it.

    Args:
        parts: 'VISION+TEXT': the name of an image model, such as 'efficientnet_b0' or 'resnet50::FILE', and the folder
            of a text model of transformers that open_clip has (BERT, RoBERTa, XLM-RoBERTa, ...): config.json,
            model.safetensors, tokenizer.json.
        model_id: of the model.

    Raises:
        InvalidInput: another form, a folder without such a model, or a tokenizer that does not fit it.
        NoSuchModel: an unknown image model, or one without weights here.
        KeysMismatchError: the text model's weights do not fit its config.
    """
    vision, _, text = parts.partition(PLUS)
    row = find_backbone(vision.strip())
    if row.task != IMAGE_TASK:
        raise InvalidInput(
            f"model must be VISION+TEXT with an image model as VISION. Got {vision!r}, a CLIP. Name a network of timm."
        )
    folder = local_path("model", text.strip())
    if not folder.is_dir():
        raise InvalidInput(
            f"model must be VISION+TEXT with a folder as TEXT. Got {text!r}, which is none. Check the path."
        )
    text_cfg = _text_cfg(folder)
    try:
        files = find_text_files({"text_cfg": text_cfg}, [folder])
    except NoSuchModel as error:
        raise InvalidInput(f"{folder} must hold a text model of transformers. {error}") from error
    stored = _text_state(stored_tensors(weights_of(folder)))
    from ..models.image_weights import load_image_backbone

    image_model = load_image_backbone(row)
    config, preprocess = _configs(image_model, text_cfg)
    with tempfile.TemporaryDirectory(prefix="finetuner-") as name:
        temporary = Path(name)
        described = {"model_cfg": config, "preprocess_cfg": preprocess}
        (temporary / CONFIG_FILE).write_text(json.dumps(described))
        for file, content in files.items():
            (temporary / file).write_text(content, encoding="utf-8", newline="")
        trunk = {VISION + key: value for key, value in image_model.network.features.state_dict().items()}
        given = {**trunk, **stored}
        model = _built(temporary, config, files, given, model_id, f"{folder} must hold the weights of its config")
    model.network.load_state_dict({**trunk, **_loaded(folder)}, strict=False)
    _check_tokenizer(folder, model)
    return model


def _text_cfg(folder: Path) -> dict[str, Any]:
    file = folder / TEXT_CONFIG_FILE
    try:
        config = read_config(file.read_bytes() if file.is_file() else b"", str(file))
        positions = whole("max_position_embeddings", config.get("max_position_embeddings", CONTEXT), 2, 2**20)
    except (CorruptedArtifact, InvalidInput) as error:
        raise InvalidInput(f"{folder} must hold a text model of transformers. {error}") from error
    reserved = 2 if "roberta" in str(config.get("model_type")) else 0  # its positions begin after the padding's
    length = min(positions - reserved, CONTEXT, MAX_CONTEXT)
    return {
        "hf_model_name": IMPORTED_TEXT,
        "hf_tokenizer_name": IMPORTED_TEXT,
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
        "context_length": max(length, 2),
    }


def _configs(image_model: ImageModel, text_cfg: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return open_clip's `model_cfg` and `preprocess_cfg`."""
    own = image_model.config
    vision_cfg = {
        "timm_model_name": own.architecture,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": own.preprocess.size,
    }
    preprocess = {
        "size": [own.preprocess.size] * 2,
        "mode": "RGB",
        "mean": list(own.preprocess.mean),
        "std": list(own.preprocess.std),
        "interpolation": own.preprocess.interpolation,
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    return {"embed_dim": DIM, "vision_cfg": vision_cfg, "text_cfg": text_cfg}, preprocess


def _built(
    folder: Path,
    config: dict[str, Any],
    files: dict[str, str],
    given: dict[str, Tensor],
    model_id: str,
    expected: str,
) -> Clip:
    """Compare both towers with their weights, then build the network with random projections."""
    import torch

    planned: Any = planned_network(
        partial(create_network, folder, config, files, "meta", load_weights=False), given, expected
    )
    own = {key: value for key, value in planned.state_dict().items() if key.startswith((VISION, TEXT))}
    require_same(own, given, expected)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return load_folder(folder, model_id, load_weights=False)


def _text_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a text model's weights under the names of the tower, without heads."""
    prefixes = {name.partition(".")[0] for name in state}
    prefix = next((f"{one}." for one in ("bert", "roberta", "xlm_roberta", "model") if one in prefixes), "")
    bare = {name.removeprefix(prefix): value for name, value in state.items()}
    return {
        TEXT + name: value
        for name, value in bare.items()
        if not name.startswith(HEADS) and not name.endswith(POSITION_IDS)
    }


def _loaded(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for file in weights_of(folder):
        state |= load_file(file, device="cpu")
    return {name: value.float() for name, value in _text_state(state).items()}


def _check_tokenizer(folder: Path, model: Clip) -> None:
    """Check that the text tower has a row for each token, and masks the token that pads."""
    config = model.network.text.config
    file, tokens = folder / TOKENIZER_FILE, model.tokenizer(["", "a red dress"])
    rows = model.network.text.transformer.get_input_embeddings().num_embeddings
    made = max(int(tokens.max()) + 1, getattr(model.tokenizer, "vocab_size", 0))
    if made > rows:
        raise InvalidInput(
            f"{file} must make at most {rows} different tokens, as the text model has. Got {made}. Take the "
            f"tokenizer of this model."
        )
    if int(tokens[0, -1]) != config.pad_token_id:
        raise InvalidInput(
            f"{file} must pad with the config's pad_token_id, {config.pad_token_id}, which the tower masks. Got "
            f"{int(tokens[0, -1])}. Take the tokenizer of this model."
        )
