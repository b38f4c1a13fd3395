"""Measures the recalls of clip-mini's model card: retrieval of images by their captions."""

from collections.abc import Sequence
from pathlib import Path

from finetuner.catalogue import CatalogueImage, fashion, shapes
from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import evaluate_pairs, text_to_image
from finetuner.metrics import hit_by_chance
from finetuner.models.clip_files import load_folder


def text_to_image_recall(folder: Path, images: Sequence[CatalogueImage]) -> dict[tuple[str, int], float]:
    """Return R@1 and R@5 of all captions over all images, by language and k; any image of the caption's item counts."""
    pairs = [
        Pair(caption, image.jpeg, image.item, language)
        for image in images
        for language, caption in image.captions.items()
    ]
    scores = evaluate_pairs(load_folder(folder, "clip-mini"), pairs)
    languages = {pair.language for pair in pairs}
    return {(language, k): scores[text_to_image(k, language)] for language in languages for k in (1, 5)}


def quality(folder: Path, seed: int, held_out: int = 1000) -> dict[str, float]:
    """Return the recalls of the model card, on unseen shapes and on the fashion test split without fine-tuning.

    Args:
        folder: the model's folder, as open_clip reads it.
        seed: seed of the shapes. It must differ from the seed of the training, or the model has seen the shapes.
        held_out: number of shapes.
    """
    unseen, garments = list(shapes(held_out, seed=seed)), list(fashion("test"))
    found = {
        "shapes_chance_r5": hit_by_chance(len(unseen), 1, 5),
        "fashion_chance_r5": hit_by_chance(len(garments), 2, 5),
    }
    for domain, images in (("shapes", unseen), ("fashion", garments)):
        for (language, k), value in text_to_image_recall(folder, images).items():
            found[f"{domain}_{language}_r{k}"] = value
    return {name: round(value, 4) for name, value in sorted(found.items())}
