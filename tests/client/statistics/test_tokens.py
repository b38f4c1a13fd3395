"""Tokens are counted as the model's own tokenizer makes them, before its cut."""

from __future__ import annotations

import pytest

from finetuner.exceptions import InvalidInput, NoSuchModel
from finetuner.models.backbones import find_backbone
from finetuner.models.text.clip_tokenizer import open_clip_tokenizer
from finetuner.statistics.tokens import counter_of, counter_or_reason, token_counter
from tests.client.exports.test_export import with_tokenizer_of_a_file

TEXTS = ["a red dress", "Ein  blaues Hemd &amp; mehr", "", "naïve 日本語 🙂", "x" * 20]


@pytest.mark.parametrize("name", ["clip-mini", "clip-base-en", "ViT-B-16::openai", "coca_ViT-B-32::laion2b_s13b_b90k"])
def test_the_count_is_the_length_of_the_tokens(name: str) -> None:
    from finetuner.models.backbones import find_backbone
    from finetuner.statistics.tokens import _tokenizer

    counter = token_counter(name)
    tokenizer, limit = _tokenizer(find_backbone(name))
    assert counter.limit == limit
    long = tokenizer([*TEXTS])  # none of them fills a row
    assert counter.count(TEXTS) == [int(row.argmax()) + 1 for row in long]
    assert counter.count(["dress " * 100])[0] >= 102 > limit


def test_a_tokenizer_of_a_file_counts_before_it_cuts() -> None:
    model = with_tokenizer_of_a_file()
    counter = counter_of("siglip", model.tokenizer, 16)
    short, long = counter.count(["a", "striped socks, worn by 12 men's feet in the rain"])
    assert short == int((model.tokenizer(["a"]) != 0).sum())
    assert long > 16
    assert model.tokenizer(["a"]).shape == (1, 16)  # it still pads and cuts


def test_open_clips_other_tokenizers_count_too() -> None:
    exact = open_clip_tokenizer("ViT-B-32").exact  # type: ignore[attr-defined]
    assert counter_of("any", exact, 77).count(TEXTS) == token_counter("clip-base-en").count(TEXTS)


def test_what_has_no_tokens_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must be a CLIP to count tokens. Got 'resnet-base'"):
        token_counter("resnet-base")
    with pytest.raises(NoSuchModel, match="nonsense"):
        token_counter("nonsense")
    for model in ("imported-clip", "clip-from-parts", "chinese-clip-base"):
        with pytest.raises(InvalidInput, match=f"tokenizer of {model} must be here. Got a backbone whose artifacts"):
            token_counter(model)
        assert counter_or_reason(find_backbone(model))[0] is None, "fit looks at long captions of such a model, too"
    with pytest.raises(InvalidInput, match="tokenizer of x must count tokens. Got function"):
        counter_of("x", lambda texts: texts, 77)  # type: ignore[arg-type,return-value]
