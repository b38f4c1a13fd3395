"""The model card of an exported artifact: what it is, how it was made, how it is loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..artifacts.manifest import Manifest

OPEN_CLIP = """\
import open_clip
import torch
from PIL import Image

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:.")
tokenizer = open_clip.get_tokenizer("local-dir:.")
model.eval()
with torch.inference_mode():
    texts = model.encode_text(tokenizer(["a red dress"]), normalize=True)
    images = model.encode_image(preprocess(Image.open("image.jpg").convert("RGB"))[None], normalize=True)
"""
TRANSFORMERS = """\
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained(".").eval()
tokenizer = AutoTokenizer.from_pretrained(".")
processor = AutoImageProcessor.from_pretrained(".", backend="pil")
with torch.inference_mode():
    tokens = tokenizer(["a red dress"], padding=True, truncation=True, return_tensors="pt")
    pixels = processor(Image.open("image.jpg").convert("RGB"), return_tensors="pt")
    output = model(**tokens, **pixels)
texts, images = output.text_embeds, output.image_embeds
"""
CHINESE_CLIP = TRANSFORMERS.replace("CLIPModel", "ChineseCLIPModel").replace("a red dress", "红色连衣裙")
SIGLIP = TRANSFORMERS.replace("CLIPModel", "SiglipModel").replace("padding=True", 'padding="max_length"')
SENTENCE_TRANSFORMERS = """\
from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")
texts = model.encode(["a red dress"])
images = model.encode([Image.open("image.jpg").convert("RGB")])
"""
IMAGE_SENTENCE_TRANSFORMERS = """\
from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")
images = model.encode([Image.open("image.jpg").convert("RGB")])
"""
TIMM = """\
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

model = timm.create_model("local-dir:.", pretrained=True).eval()
preprocess = create_transform(**resolve_model_data_config(model))
with torch.inference_mode():
    features = model(preprocess(Image.open("image.jpg").convert("RGB"))[None])
    images = torch.nn.functional.normalize(features, dim=-1)
"""
ONNX = """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{tower}/model.onnx")
pixels = np.zeros((1, 3, {size}, {size}), np.float32)  # resized, cropped, less {mean}, over {std}
(images,) = session.run(["embeddings"], {{"pixels": pixels}})
"""
OWN = """\
import finetuner

finetuner.login()
model = finetuner.get_model("{artifact}")
texts = finetuner.encode(model, ["a red dress"])
"""
_OF_TRANSFORMERS = (
    'backend="pil" resizes images as open_clip does. Without it, transformers takes torchvision: vectors of images '
    "then differ by about 1e-4. It leaves HTML entities in texts, whose vectors differ by more."
)
SNIPPETS = {
    "open_clip": OPEN_CLIP,
    "transformers": TRANSFORMERS,
    "sentence-transformers": SENTENCE_TRANSFORMERS,
    "timm": TIMM,
    "onnx": ONNX,
}
NOTES = {
    "open_clip": "",
    "transformers": _OF_TRANSFORMERS,
    "sentence-transformers": "sentence-transformers 5.4 or later, which leaves HTML entities in texts.",
    "timm": "",
    "onnx": "A CLIP's texts are (batch, length) int64 `tokens`, its images (batch, 3, size, size) float32 `pixels`. "
    "`model-int8.onnx`, where it is, has int8 weights: smaller, and a little less exact.",
}


def model_card(manifest: Manifest, model: Any, to: str) -> str:
    """Return a README.md.

    Args:
        manifest: the artifact's.
        model: loaded from it.
        to: format of the folder.
    """
    size = model.preprocess_config.size
    snippet = _snippet(model, to)
    if to == "onnx":
        snippet = snippet.format(
            tower=model.towers[-1],
            size=size if isinstance(size, int) else size[0],
            mean=tuple(model.preprocess_config.mean),
            std=tuple(model.preprocess_config.std),
        )
    return _card(manifest, f"## Load it\n\n```python\n{snippet}```", NOTES[to])


def own_card(manifest: Manifest) -> str:
    """Return a README.md of an artifact as it is stored, which this library loads."""
    return _card(manifest, f"## Load it\n\n```python\n{OWN.format(artifact=manifest.artifact_id)}```", "")


def _card(manifest: Manifest, loading: str, note: str) -> str:
    parts = [
        f"# {manifest.run_name or manifest.artifact_id}",
        f"`{manifest.backbone}`, tuned by Open Finetuner {manifest.code_version}: embeddings of {manifest.output_dim} "
        f"numbers. Artifact `{manifest.artifact_id}`, made {manifest.created_at}.",
        _short_vectors(manifest),
        "Its weights keep the licence of those that it was tuned from"
        + (f" (`{manifest.parent}`)." if manifest.parent else "."),
        loading,
        note,
        _metrics(manifest),
        _object("Training", manifest.training),
        _object("Data, by content", manifest.data),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _snippet(model: Any, to: str) -> str:
    from .chinese_clip import is_chinese_clip
    from .siglip_model import is_siglip

    if to == "transformers" and is_siglip(model):
        return SIGLIP
    if to == "transformers" and is_chinese_clip(model):
        return CHINESE_CLIP
    images_alone = to == "sentence-transformers" and "clip-text" not in model.towers
    return IMAGE_SENTENCE_TRANSFORMERS if images_alone else SNIPPETS[to]


def _short_vectors(manifest: Manifest) -> str:
    sizes = " or ".join(map(str, manifest.short_dims))
    return f"The first {sizes} numbers of an embedding, normalised again, are an embedding too." if sizes else ""


def _metrics(manifest: Manifest) -> str:
    before, after = (manifest.metrics.get(stage, {}) for stage in ("before", "after"))
    rows = [
        f"| {name.replace('|', ' ')} | {f'{before[name]:.4f}' if name in before else ''} | {value:.4f} |"
        for name, value in sorted(after.items())
    ]
    return "\n".join(["## Metrics", "", "| | before | after |", "|---|---|---|", *rows]) if rows else ""


def _object(title: str, values: Any) -> str:
    return f"## {title}\n\n```json\n{json.dumps(values, indent=1, default=str)}\n```" if values else ""
