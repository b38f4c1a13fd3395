"""The same architecture in other people's code, where it is installed: open_clip alone, transformers, infinity."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch

from tests.benchmarks.train_speed import vit_b_32
from tests.gpu.part import Part


def figures(part: Part) -> Iterator[tuple[str, Any]]:
    """Yield images and texts a second of each peer; tensors lie on the device."""
    size = min(256, part.sizes.batch)
    images = torch.randn(size, 3, 224, 224, device=part.device)
    tokens = torch.randint(1, 1000, (size, 16), device=part.device)
    network: Any = vit_b_32(1, 1, part.sizes.layers, part.device).model.network
    with torch.inference_mode(), torch.autocast(part.device, torch.bfloat16, enabled=part.on_gpu):
        yield "open_clip_images_per_second", round(part.rate(lambda: len(network.encode_image(images))), 1)
        whole = torch.nn.functional.pad(tokens, (0, 77 - 16))
        yield "open_clip_texts_per_second", round(part.rate(lambda: len(network.encode_text(whole))), 1)
    yield from _transformers(part, images, tokens)
    yield "infinity", "installed" if find_spec("infinity_emb") else "not carried: its own pins forbid this torch"


def _transformers(part: Part, images: torch.Tensor, tokens: torch.Tensor) -> Iterator[tuple[str, Any]]:
    from transformers import CLIPConfig, CLIPModel

    layers = {} if part.sizes.layers is None else {"num_hidden_layers": part.sizes.layers}
    config = CLIPConfig(text_config=layers, vision_config=layers, projection_dim=512)
    model: Any = CLIPModel(config).to(part.device).eval()
    if part.on_gpu:
        model, images = model.to(torch.bfloat16), images.to(torch.bfloat16)
    with torch.inference_mode():
        for name, rows, encode in (
            ("images", images, lambda: model.get_image_features(pixel_values=images)),
            ("texts", tokens, lambda: model.get_text_features(input_ids=tokens)),
        ):
            batches = part.rate(lambda: len([encode()]))  # noqa: B023
            yield f"transformers_{name}_per_second", round(batches * len(rows), 1)
