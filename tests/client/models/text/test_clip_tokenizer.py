"""The fast tokenizer has the ids of open_clip's, whatever the text."""

from __future__ import annotations

import random
import string

import open_clip
import pytest
import torch

from finetuner.models.text.clip_tokenizer import PLAIN, ClipTokenizer, open_clip_tokenizer

ODD = [
    "",
    " ",
    "don't we'll I'VE 'S ''s it''s",
    "A Photo of 2 DOGS, 1.5 m!",
    "\r\n a\tb  c ",
    "<start_of_text> a <end_of_text>",
    "fish &amp; chips & more",
    "café \U0001f600 ﬁne “quoted”",
    "a" * 500,
    "word " * 200,
    "\x0b\x0c\x1b[31mred\x7f",
]


@pytest.fixture(scope="module")
def fast() -> ClipTokenizer:
    found = open_clip_tokenizer("ViT-B-32")
    assert isinstance(found, ClipTokenizer)
    return found


def test_odd_texts_have_the_ids_of_open_clip(fast: ClipTokenizer) -> None:
    exact = open_clip.get_tokenizer("ViT-B-32")
    assert torch.equal(fast(ODD), exact(ODD))
    for text in ODD:
        assert torch.equal(fast(text), exact(text)), text


@pytest.mark.seconds
def test_random_texts_have_the_ids_of_open_clip(fast: ClipTokenizer) -> None:
    rng = random.Random(0)
    pool = string.printable + " '" * 20 + string.ascii_letters * 3
    texts = ["".join(rng.choices(pool, k=rng.randrange(120))) for _ in range(2000)]
    assert any(PLAIN.fullmatch(text) for text in texts)
    assert not all(PLAIN.fullmatch(text) for text in texts)
    assert torch.equal(fast(texts), open_clip.get_tokenizer("ViT-B-32")(texts))


def test_a_shorter_context_cuts(fast: ClipTokenizer) -> None:
    exact = open_clip.get_tokenizer("ViT-B-32")
    assert torch.equal(fast(ODD, 8), exact(ODD, 8))


@pytest.mark.parametrize("architecture", ["ViT-B-16-SigLIP", "xlm-roberta-base-ViT-B-32"])
def test_another_tokenizer_stays_open_clips(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = object()
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: given)
    assert open_clip_tokenizer(architecture) is given
