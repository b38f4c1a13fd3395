"""Looks at a bounded part of the data of `fit` while it is read, and warns of what predicts trouble."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ...models.backbone import Backbone
from ...statistics.captions import Tokens
from ...statistics.describe import Collector
from ...statistics.report import report_of
from ...statistics.spread import Spread
from ...statistics.tokens import counter_or_reason
from ...statistics.trouble import of_tokens

if TYPE_CHECKING:
    from docarray import Document

MOST_DOCUMENTS = 20_000
MOST_IMAGES = 1000
"""Image files that are decoded."""
MOST_LONG = 2000
"""Captions whose tokens are counted."""
SHORT = 120
"""Bytes of a caption that is rarely cut. For longer ones the tokenizer is loaded, which imports torch; the log of a run
counts them all."""
SHOWN = 40  # characters of a caption

log = logging.getLogger("finetuner")


class Foresight:
    """Collects the first documents of training and evaluation data."""

    def __init__(self) -> None:
        self._found: dict[str, Collector] = {}
        self._seen: dict[str, int] = {}
        self._long: list[str] = []
        self._captions = 0

    def add(self, argument: str, document: Document) -> None:
        """Add a document of an argument of `fit`; up to MOST_DOCUMENTS of each count."""
        self._seen[argument] = self._seen.get(argument, 0) + 1
        if self._seen[argument] > MOST_DOCUMENTS:
            return
        self._found.setdefault(argument, Collector(most=MOST_IMAGES)).add(document)
        if argument == "train_data":
            for part in (document, *document.chunks):
                self._captions += bool(part.text)
                if len(part.text.encode(errors="replace")) > SHORT and len(self._long) < MOST_LONG:
                    self._long.append(part.text)

    def warn(self, row: Backbone, batch_size: int) -> None:
        """Log a warning for each trouble of the training data, with its overlap with the evaluation data."""
        train = self._found.get("train_data")
        if train is None:
            return
        lines = [*self._cuts(row), *report_of(train, self._found.get("eval_data"), batch_size).troubles]
        whole = self._seen["train_data"]
        looked = f"the first {MOST_DOCUMENTS} of {whole} documents" if whole > MOST_DOCUMENTS else "train_data"
        for line in lines:
            log.warning("%s: %s", looked, line)

    def _cuts(self, row: Backbone) -> list[str]:
        counter, _ = counter_or_reason(row, here=True) if self._long else (None, "")
        if counter is None:
            return []
        lengths = counter.count(self._long)
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        cut = sum(length > counter.limit for length in lengths)
        tokens = Tokens(counter.model, counter.limit, Spread.of(lengths), cut, longest)
        return list(of_tokens(tokens, self._captions, repr(f"{self._long[longest][:SHOWN]} ...")))
