"""The tokenizer of clip-mini: every text has tokens, and the end token has the highest id."""

import random
from pathlib import Path

import pytest
import torch
from open_clip.tokenizer import get_clean_fn
from tokenizers import Tokenizer

from finetuner.catalogue import fashion, shapes
from finetuner.models import clip_mini
from finetuner.models.text.byte_pair_tokenizer import PAD, START, BytePairTokenizer, train_tokenizer

FILE = Path(clip_mini.__file__).parent / "tokenizer.json"
CONTEXT = 48


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer(FILE, CONTEXT)


def test_rows_are_start_pairs_end_padding(tokenizer: BytePairTokenizer) -> None:
    rows = tokenizer(["a red circle", "ein rotes Quadrat"])
    assert rows.shape == (2, CONTEXT)
    assert rows.dtype == torch.int64
    for row in rows:
        end = int(row.argmax())
        assert row[0] == START
        assert row[end] == tokenizer.end == tokenizer.vocab_size - 1
        assert (row[end + 1 :] == PAD).all()
        assert (row[1:end] > START).all()


def test_the_empty_text_is_start_and_end(tokenizer: BytePairTokenizer) -> None:
    assert tokenizer("")[0, :3].tolist() == [START, tokenizer.end, PAD]


def test_no_texts_give_no_rows(tokenizer: BytePairTokenizer) -> None:
    assert tokenizer([]).shape == (0, CONTEXT)


@pytest.mark.parametrize("text", ["x" * 10_000, "rot " * 2_500, "日本" * 5_000])
def test_a_long_text_is_cut_and_keeps_its_end(tokenizer: BytePairTokenizer, text: str) -> None:
    row = tokenizer(text)[0]
    assert row[-1] == tokenizer.end
    assert int((row == tokenizer.end).sum()) == 1


@pytest.mark.parametrize(
    "text", ["ärmelloses kleid in weiß", "größe: 38/40, 25 €", "日本 🙂", "it's 100% cotton: 2 < 3"]
)
def test_any_text_comes_back_lower_cased(tokenizer: BytePairTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, context_length=128)[0].tolist()) == text
    assert tokenizer(text.upper().replace("SS", "ß")).equal(tokenizer(text))


def test_texts_are_cleaned_as_by_clips_tokenizer(tokenizer: BytePairTokenizer) -> None:
    """Also those that are not looked through for something to mend."""
    draw, clean, pairs = random.Random(0), get_clean_fn("lower"), Tokenizer.from_file(str(FILE))
    letters = [chr(code) for code in range(128)] * 2 + [" "] * 60 + ["&lt;", "\u2019", "\u00c3\u00a9", "\ufb01", "\x85"]
    texts = ["".join(draw.choices(letters, k=draw.randrange(12))) for _ in range(400)]
    texts += ["".join(draw.choices(letters[32:127], k=12)) for _ in range(400)]
    assert sum(text.isascii() and text.isprintable() and "&" not in text for text in texts) > 300
    for text, row in zip(texts, tokenizer(texts), strict=True):
        expected = pairs.encode(clean(text)).ids
        assert [number - 2 for number in row.tolist() if 2 <= number < tokenizer.end] == expected[: CONTEXT - 2], text


@pytest.mark.parametrize(
    "text", ["red dress\n", "\tred  dress ", "red\u00a0dress", "Red\r\n dress", "red&nbsp;dress", "red&amp;nbsp;dress"]
)
def test_white_space_and_entities_change_no_token(tokenizer: BytePairTokenizer, text: str) -> None:
    assert tokenizer(text).equal(tokenizer("red dress"))


@pytest.mark.seconds
def test_clean_texts_have_the_tokens_of_the_file(tokenizer: BytePairTokenizer) -> None:
    """Cleaning changes none of the captions that the model was trained on, nor others like them."""
    captions = [caption for image in fashion("train", items=60) for caption in image.captions.values()]
    captions += [caption for image in shapes(60) for caption in image.captions.values()]
    for row, caption in zip(tokenizer(captions), captions, strict=True):
        pairs = tokenizer._pairs.encode(caption).ids[: CONTEXT - 2]
        assert (row[1 : 1 + len(pairs)] - 2).tolist() == pairs
        assert row[1 + len(pairs)] == tokenizer.end


def test_composed_and_decomposed_umlauts_are_the_same(tokenizer: BytePairTokenizer) -> None:
    assert tokenizer("gru\u0308n").equal(tokenizer("grün"))


def test_no_text_can_write_the_reserved_tokens(tokenizer: BytePairTokenizer) -> None:
    for text in ("<end>", "<|endoftext|>", "[PAD]", "\0"):
        row = tokenizer(text)[0]
        assert int((row == tokenizer.end).sum()) == 1
        assert (row[1 : int(row.argmax())] > START).all()


def test_the_context_length_is_an_argument(tokenizer: BytePairTokenizer) -> None:
    assert tokenizer("a red circle", context_length=4).shape == (1, 4)
    assert tokenizer("a red circle", context_length=4)[0, -1] == tokenizer.end


def test_words_of_the_shapes_domain_are_short(tokenizer: BytePairTokenizer) -> None:
    assert int(tokenizer("red")[0].argmax()) <= 2
    assert int(tokenizer("ein dunkelblaues Quadrat mit weißen Punkten")[0].argmax()) <= 14


def test_bad_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="context_length must be at least 2"):
        BytePairTokenizer(FILE, 1)
    with pytest.raises(FileNotFoundError, match=r"Got no file at .*tokenizer\.json"):
        BytePairTokenizer(tmp_path / "tokenizer.json", CONTEXT)


def test_training_is_repeatable(tmp_path: Path) -> None:
    captions = ["ein rotes Quadrat", "a red square", "zwei blaue Kreise"] * 5
    for name in ("first", "second"):
        train_tokenizer(captions, 280, tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
