"""How well a CLIP finds images by their captions: the numbers of the model card."""

from collections.abc import Sequence
from pathlib import Path

from finetuner.catalogue import CatalogueImage, fashion, shapes
from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import evaluate_pairs, text_to_image
from finetuner.metrics import hit_by_chance
from finetuner.models.clip_files import load_folder


def text_to_image_recall(folder: Path, images: Sequence[CatalogueImage]) -> dict[tuple[str, int], float]:
    """R@1 and R@5, by language, of every caption against all images; any image of the item counts."""
    pairs = [
        Pair(caption, image.jpeg, image.item, language)
        for image in images
        for language, caption in image.captions.items()
    ]
    scores = evaluate_pairs(load_folder(folder, "clip-mini"), pairs)
    languages = {pair.language for pair in pairs}
    return {(language, k): scores[text_to_image(k, language)] for language in languages for k in (1, 5)}


def quality(folder: Path, seed: int, held_out: int = 1000) -> dict[str, float]:
    """The card's recalls: ``held_out`` unseen shapes, and the fashion test split without any tuning.

    ``seed`` must not be the one the model was trained on, or the shapes are not unseen.
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
