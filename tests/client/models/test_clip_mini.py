"""The shipped clip-mini: its size, its class, and the recalls of its model card."""

import json
from pathlib import Path

import open_clip
import pytest
import torch

from finetuner.catalogue import CatalogueImage, fashion, shapes
from finetuner.demo.figures import text_to_image_recall
from finetuner.metrics import hit_by_chance
from finetuner.models import clip_mini
from finetuner.models.text.byte_pair_tokenizer import BytePairTokenizer

FOLDER = Path(clip_mini.__file__).parent
FILES = ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json")
FIGURES = json.loads((FOLDER / "figures.json").read_text())


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return open_clip.create_model(f"local-dir:{FOLDER}").eval()


@pytest.fixture(scope="module")
def unseen_shapes() -> list[CatalogueImage]:
    """Return the first held-out shapes of the card, drawn with another seed than the training's."""
    return list(shapes(400, seed=FIGURES["seed"] + 1))


@pytest.fixture(scope="module")
def garments() -> list[CatalogueImage]:
    return list(fashion("test"))


def test_it_loads_as_open_clips_own_class(model: open_clip.CLIP) -> None:
    assert type(model) is open_clip.CLIP
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_it_has_at_most_four_million_parameters_and_ten_megabytes(model: open_clip.CLIP) -> None:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = sum((FOLDER / name).stat().st_size for name in FILES)
    assert parameters == FIGURES["parameters"] <= 4_000_000
    assert size == FIGURES["bytes"] <= 10_000_000


def test_the_embedding_of_a_text_does_not_depend_on_its_neighbours(model: open_clip.CLIP) -> None:
    tokenizer = BytePairTokenizer(FOLDER / "tokenizer.json", model.context_length)
    texts = ["a red circle", "ein blaues Quadrat mit weißen Punkten", ""]
    with torch.inference_mode():
        together = model.encode_text(tokenizer(texts), normalize=True)
        alone = torch.cat([model.encode_text(tokenizer(text), normalize=True) for text in texts])
    assert together.shape == (3, model.visual.output_dim)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.seconds
def test_recall_on_unseen_shapes_is_that_of_the_card(unseen_shapes: list[CatalogueImage]) -> None:
    found = text_to_image_recall(FOLDER, unseen_shapes)
    for language in ("en", "de"):
        # The card has the recall among 1,000 images. Among fewer, the recall is higher.
        assert FIGURES[f"shapes_{language}_r5"] - 0.02 <= found[language, 5] <= 1.0


@pytest.mark.slow
def test_untuned_recall_on_garments_is_five_times_chance(garments: list[CatalogueImage]) -> None:
    found = text_to_image_recall(FOLDER, garments)
    for language in ("en", "de"):
        assert found[language, 5] == pytest.approx(FIGURES[f"fashion_{language}_r5"], abs=0.02)
        assert 5 * hit_by_chance(len(garments), 2, 5) <= found[language, 5] < 0.4
