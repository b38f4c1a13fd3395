"""Captions, labels and scores: the checks that documents and every kind of file share."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

from ..contract.wire import LABEL_TAG, LANGUAGE_TAG, NEGATIVES_TAG, SCORE_TAG
from ..exceptions import InvalidDocument

MAX_CAPTION_BYTES = 2**16
MAX_NEGATIVES = 16
# Texts that Python and pandas write for a missing value.
MISSING = frozenset({"", "nan", "NaN", "<NA>"})
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


def read_label(value: object, name: str = "label") -> str:
    """Return a label as text, '' for a missing one.

    3, 3.0 and '3' are the same label, because protobuf and data frames turn whole numbers into floats. None, NaN and
    empty text are missing.

    Args:
        value: a text, a number or a boolean.
        name: of the value, for messages.

    Raises:
        InvalidDocument: another value.
    """
    value = value.item() if hasattr(value, "item") else value  # of numpy
    if isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool):
        if math.isinf(value):
            raise InvalidDocument(f"{name} must be a text or a finite number. Got {value}. Correct it.")
        if not math.isnan(value) and value == math.trunc(value):
            value = math.trunc(value)
    if value is None or str(value).strip() in MISSING:
        return ""
    if not isinstance(value, str | bool | numbers.Real | Decimal):
        raise InvalidDocument(f"{name} must be a text or a number. Got {value!r:.60}. Correct it.")
    return checked_unicode(str(value).strip(), name)


def read_score(value: object) -> float:
    """Return a score. A text may have a decimal comma.

    Raises:
        InvalidDocument: not a finite number.
    """
    text = value.strip() if isinstance(value, str) else ""
    number = text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else value
    score = math.nan
    if isinstance(number, str | numbers.Real | Decimal) and not isinstance(number, bool):
        with suppress(ValueError, OverflowError):
            score = float(number)
    if not math.isfinite(score):
        raise InvalidDocument(f"score must be a finite number such as 0.8. Got {value!r:.40}. Correct it.")
    return score


def read_caption(value: object) -> str:
    """Return a caption, without the white space around it.

    Raises:
        InvalidDocument: not a text, an empty one, or one of more than MAX_CAPTION_BYTES in UTF-8.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidDocument(f"caption must be a nonempty text. Got {value!r:.60}. Add it.")
    caption = checked_unicode(value.strip(), "caption")
    if (size := len(caption.encode())) > MAX_CAPTION_BYTES:
        raise InvalidDocument(f"caption must have 1 to {MAX_CAPTION_BYTES} bytes. Got {size}. Shorten it.")
    return caption


def read_negatives(value: object) -> list[str]:
    """Return captions that do not fit a pair's image, each once; none for a missing value.

    Args:
        value: a caption, or a list of at most MAX_NEGATIVES.

    Raises:
        InvalidDocument: something else, such as an image, named by its position from 0.
    """
    if value is None or value != value or (isinstance(value, str) and value.strip() in MISSING):
        return []
    given = value if isinstance(value, list | tuple) else [value]
    if len(given) > MAX_NEGATIVES:
        raise InvalidDocument(f"negatives must be at most {MAX_NEGATIVES} captions. Got {len(given)}. Leave some out.")
    found = []
    for position, negative in enumerate(given):
        if not isinstance(negative, str):
            raise InvalidDocument(
                f"negative {position} must be a caption: images are no negatives yet. Got {negative!r:.60}. "
                f"Leave it out, or write its caption."
            )
        try:
            found.append(read_caption(negative))
        except InvalidDocument as error:
            raise InvalidDocument(f"negative {position}: {error}") from error
    return list(dict.fromkeys(found))


def check_negatives(negatives: Iterable[str], captions: Iterable[str]) -> None:
    """Check that no negative is a caption of the same image.

    Raises:
        InvalidDocument: one is, named by its position from 0.
    """
    own = {caption.strip() for caption in captions}
    for position, negative in enumerate(negatives):
        if negative.strip() in own:
            raise InvalidDocument(
                f"negative {position} must differ from the captions of its image. Got {negative!r:.60}, which is one. "
                f"Remove it."
            )


def make_tags(
    label: object = None, score: object = None, language: object = None, negatives: object = None
) -> dict[str, Any]:
    """Return the tags of a label, a score, a language and negatives; a missing one has no tag.

    Raises:
        InvalidDocument: see `read_label`, `read_score` and `read_negatives`.
    """
    tags: dict[str, Any] = {LABEL_TAG: read_label(label), LANGUAGE_TAG: read_label(language, "language")}
    if texts := read_negatives(negatives):
        tags[NEGATIVES_TAG] = texts
    if score is not None:
        tags[SCORE_TAG] = read_score(score)
    return {tag: value for tag, value in tags.items() if value != ""}


def check_tags(tags: Mapping[str, Any]) -> None:
    """Check the label, the score, the language and the negatives in a document's tags.

    Raises:
        InvalidDocument: see `read_label`, `read_score` and `read_negatives`.
    """
    make_tags(tags.get(LABEL_TAG), None, tags.get(LANGUAGE_TAG), tags.get(NEGATIVES_TAG))
    if SCORE_TAG in tags:
        read_score(tags[SCORE_TAG])


def checked_unicode(text: str, name: str) -> str:
    """Return a text that is Unicode. Half a surrogate pair, which JSON can hold, is not.

    Raises:
        InvalidDocument: it is not.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocument(f"{name} must be Unicode text. Got {text!r:.60} ({error.reason}). Correct it.") from error
    return text
