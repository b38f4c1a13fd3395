"""How well a CLIP finds pictures by their captions: the numbers of the model card."""

import io
from collections.abc import Callable
from math import comb
from pathlib import Path

import torch
from open_clip import CLIP, create_model_and_transforms
from PIL import Image

from finetuner.catalogue import Picture, fashion, shapes
from finetuner.clip_mini.tokenizer import BytePairTokenizer

BATCH = 256


def recall(similarity: torch.Tensor, wanted: torch.Tensor, k: int) -> float:
    """Share of queries with a right picture among the ``k`` most similar, 0 to 1.

    ``similarity``: (queries, pictures) float; ``wanted``: (queries, pictures) bool, any number right per row.
    """
    best = similarity.topk(min(k, similarity.shape[1]), dim=1).indices
    return float(wanted.gather(1, best).any(dim=1).float().mean())


def chance(pictures: int, right: int, k: int) -> float:
    """The recall of ``k`` pictures drawn at random: 1 - C(pictures - right, k) / C(pictures, k)."""
    return 1.0 - comb(pictures - right, k) / comb(pictures, k)


def load(folder: Path) -> tuple[CLIP, Callable[[Image.Image], torch.Tensor], BytePairTokenizer]:
    """Model in eval mode, evaluation preprocessing, tokenizer, from an open_clip local-dir folder."""
    model, _, preprocess = create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), preprocess, BytePairTokenizer(folder / "tokenizer.json", model.context_length)


@torch.inference_mode()
def text_to_image(folder: Path, pictures: list[Picture], language: str) -> dict[int, float]:
    """R@1 and R@5 of every picture's caption against all pictures; any picture of the item counts."""
    model, preprocess, tokenizer = load(folder)
    images = torch.stack([preprocess(Image.open(io.BytesIO(picture.jpeg))) for picture in pictures])
    tokens = tokenizer([picture.captions[language] for picture in pictures])
    shown = torch.cat([model.encode_image(part, normalize=True) for part in torch.split(images, BATCH)])
    asked = torch.cat([model.encode_text(part, normalize=True) for part in torch.split(tokens, BATCH)])
    items = {item: number for number, item in enumerate(dict.fromkeys(picture.item for picture in pictures))}
    item = torch.tensor([items[picture.item] for picture in pictures])
    return {k: recall(asked @ shown.T, item[:, None] == item[None, :], k) for k in (1, 5)}


def quality(folder: Path, seed: int, held_out: int = 1000) -> dict[str, float]:
    """The card's recalls: ``held_out`` unseen shapes, and the fashion test split without any tuning.

    ``seed`` must not be the one the model was trained on, or the shapes are not unseen.
    """
    unseen, garments = list(shapes(held_out, seed=seed)), list(fashion("test"))
    found = {
        "shapes_chance_r5": chance(len(unseen), 1, 5),
        "fashion_chance_r5": chance(len(garments), 2, 5),
    }
    for language in ("en", "de"):
        for domain, pictures in (("shapes", unseen), ("fashion", garments)):
            for k, value in text_to_image(folder, pictures, language).items():
                found[f"{domain}_{language}_r{k}"] = value
    return {name: round(value, 4) for name, value in sorted(found.items())}
