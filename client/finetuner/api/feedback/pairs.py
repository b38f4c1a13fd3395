"""Makes training pairs of marks: graded positives, negative captions, and held-out queries.

**Scores.** A query q and a document d have the score

    (sum of w over the marks that choose d for q, + a) / (number of marks that show d for q, + a + b)

where w = min(1 / p, 10), and p = rank ** -position_bias is the assumed probability that somebody looks at that rank:
inverse propensity scoring, Joachims et al., arXiv:1608.04468, clipped. With position_bias 0, the default, each w is 1.
Two pseudo-marks with the rate of choices over all marks, a = 2 * rate and b = 2 * (1 - rate), temper rare documents.

**Positives.** d is a positive of q if more marks choose it for q than refuse it. With as many of both it is left out.

**Negatives.** Refused are the documents with more refusals than choices. With `skipped`, so are those that are never
chosen for q and were above a choice once, never those below it. A positive pair of q and d gets as negative captions
those of documents that are refused for q, and the queries that d is refused for.

**Held-out queries.** A hash of the query decides, so a query stays on its side from round to round. Its text is on that
side alone, also as a negative. Its images may be on both. Beside the chosen images, the held-out pairs have others that
were shown for these queries, with the score 0: among its chosen images alone, every query would find its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...contract import wire
from ...contract.checks import flag, number
from ...contract.several import several
from ...documents.pairs import make_pair, png
from ...documents.tags import MAX_NEGATIVES
from ...exceptions import InvalidInput
from ...progress import waiting
from ..session import connection
from .marks import all_feedback

if TYPE_CHECKING:
    from docarray import Document, DocumentArray

    from ...transport.connection import Connection

MOST_WEIGHT = 10.0
PSEUDO_MARKS = 2.0
DOCUMENTS = 64  # of a request for contents
MOST_BESIDE = 1000
"""Images beside the chosen ones of held-out queries."""


@dataclass(frozen=True)
class FeedbackData:
    """Training data made of marks."""

    train: DocumentArray
    """Pairs with scores and negative captions."""
    held_out: DocumentArray
    """Pairs with scores, of the held-out queries; and with the score 0 up to 1,000 other images shown for them."""
    report: dict[str, int]
    """Counts: marks, queries, pairs, held_out_pairs (without those of score 0), negatives, disputed (as often chosen as
    refused), deleted (chosen documents that left the index), and without_content (positives without an image, or a
    caption for an image)."""


@dataclass
class Tally:
    """The marks of one query and one document."""

    shown: int = 0
    chosen: int = 0
    refused: int = 0
    skipped: int = 0
    weight: float = 0.0
    """Sum of the weights of the choices."""


@dataclass(frozen=True)
class Query:
    """The query of marks: a text, or an image's file."""

    text: str
    image: bytes = b""

    @property
    def key(self) -> str:
        """The same for texts that differ in case or white space alone."""
        return f"image {hashlib.sha256(self.image).hexdigest()}" if self.image else f"text {same_text(self.text)}"


def feedback_data(
    *,
    since: float | None = None,
    users: str | Iterable[str] | None = None,
    held_out: float = 0.2,
    position_bias: float = 0.0,
    skipped: bool = False,
) -> FeedbackData:
    """Make training data of the Flow's marks and of the indexed documents that they name.

        data = finetuner.feedback_data()
        finetuner.fit("clip-mini", data.train, eval_data=data.held_out)

    Args:
        since: seconds since the epoch; only marks of that time or later.
        users: names of the tokens whose marks count; None takes all marks.
        held_out: share of the queries that are held out, in [0, 0.9].
        position_bias: eta in [0, 2]: how fast people stop looking, rank ** -eta. 0 corrects nothing.
        skipped: whether documents above a choice, neither chosen nor refused, count as refused.

    Returns:
        The pairs. Queries that are images make pairs with the captions of chosen documents: their text, text part, or
        tag `caption`.

    Raises:
        InvalidInput: a value is not allowed, or no mark makes a training pair.
    """
    number("held_out", held_out, 0, 0.9)
    number("position_bias", position_bias, 0, 2)
    flag("skipped", skipped)
    names = None if users is None else set(several("users", users, str, "names of tokens"))
    flow = connection()
    with waiting("Reading marks"):
        marks = [mark for mark in all_feedback(flow, since) if names is None or mark["user"] in names]
        tallies, queries = tallied(marks, position_bias, skipped)
        named = {name for of in tallies.values() for name, tally in of.items() if _matters(tally)}
        named |= {*_beside(tallies, held_out)}
        documents = _contents(flow, sorted(named))
    return pairs_of(tallies, queries, documents, held_out, len(marks))


def tallied(
    marks: Iterable[Mapping[str, Any]], position_bias: float, skipped: bool
) -> tuple[dict[str, dict[str, Tally]], dict[str, Query]]:
    """Return the tallies by query and document, and the queries, both by the query's key.

    Args:
        marks: as `list_feedback` returns them, with images.
        position_bias: see `feedback_data`.
        skipped: see `feedback_data`.
    """
    tallies: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
    queries: dict[str, Query] = {}
    for mark in marks:
        query = Query(mark["text"].strip(), base64.b64decode(mark["image"] or ""))
        queries.setdefault(query.key, query)
        chosen, refused = set(mark["chosen"]), set(mark["refused"])
        last = max((at for at, each in enumerate(mark["shown"]) if each in chosen), default=-1)
        for at, document in enumerate(mark["shown"]):
            tally, rank = tallies[query.key][document], mark["offset"] + at + 1
            tally.shown += 1
            if document in chosen:
                tally.chosen += 1
                tally.weight += min(float(rank) ** position_bias, MOST_WEIGHT)
            elif document in refused:
                tally.refused += 1
            elif skipped and at < last:
                tally.skipped += 1
    return {key: dict(by_document) for key, by_document in tallies.items()}, queries


def scores_of(tallies: Mapping[str, Mapping[str, Tally]]) -> dict[tuple[str, str], float]:
    """Return the score of each query and document, above 0 where anything was chosen; see the module."""
    every = [tally for by_document in tallies.values() for tally in by_document.values()]
    shown = sum(tally.shown for tally in every)
    rate = min(sum(tally.weight for tally in every) / shown, 1.0) if shown else 0.0
    return {
        (query, document): (tally.weight + PSEUDO_MARKS * rate) / (tally.shown + PSEUDO_MARKS)
        for query, by_document in tallies.items()
        for document, tally in by_document.items()
    }


def is_held_out(query: str, share: float) -> bool:
    """Return whether the query of a key is held out."""
    return int.from_bytes(hashlib.sha256(query.encode()).digest()[:8], "big") < share * 2**64


def pairs_of(
    tallies: Mapping[str, Mapping[str, Tally]],
    queries: Mapping[str, Query],
    documents: Mapping[str, Document],
    held_out: float,
    marks: int,
) -> FeedbackData:
    """Return the pairs of tallies.

    Args:
        tallies: by query and document.
        queries: by their keys.
        documents: by id, with contents; deleted ones are missing.
        held_out: share of the queries.
        marks: their number, for the report.

    Raises:
        InvalidInput: there is no training pair.
    """
    from docarray import DocumentArray

    scores = scores_of(tallies)
    images = {key: image_of(document) for key, document in documents.items()}
    captions = {key: caption_of(document) for key, document in documents.items()}
    rejected = {key: [name for name, tally in of.items() if _refused(tally)] for key, of in tallies.items()}
    refusing: dict[str, list[str]] = defaultdict(list)  # document -> keys of the texts that it is refused for
    fitting: dict[bytes, set[str]] = defaultdict(set)  # image -> its captions and the texts that it is chosen for
    positives: list[tuple[str, str, str, bytes]] = []
    missing, without = set[str](), 0
    for key, by_document in tallies.items():
        for name in rejected[key]:
            if not queries[key].image:
                refusing[name].append(key)
        for name, tally in by_document.items():
            if tally.chosen <= tally.refused:
                continue
            if name not in documents:
                missing.add(name)
                continue
            words, image = (
                (captions[name], queries[key].image) if queries[key].image else (queries[key].text, images[name])
            )
            if not words or not image:
                without += 1
                continue
            positives.append((key, name, words, image))
            fitting[image] |= {same_text(words), same_text(captions[name])}
    kept = {same_text(queries[key].text) for key in queries if is_held_out(key, held_out)}
    sides: dict[bool, list[Document]] = {True: [], False: []}
    negatives = 0
    for key, name, words, image in positives:
        aside = is_held_out(key, held_out)
        texts = [captions[other] for other in rejected[key] if other in captions]
        if not queries[key].image:
            texts += [queries[other].text for other in refusing[name]]
        wrong = [] if aside else _negatives(texts, fitting[image] | kept)
        negatives += len(wrong)
        tags: dict[str, Any] = {wire.SCORE_TAG: scores[key, name]} | ({wire.NEGATIVES_TAG: wrong} if wrong else {})
        sides[aside].append(make_pair(words, image, tags))
    held_out_pairs = len(sides[True])
    with_pairs = {key for key, *_ in positives}
    compared = {image for key, _, _, image in positives if is_held_out(key, held_out)}
    for name, key in _beside(tallies, held_out).items():
        image = images.get(name, b"")
        if key in with_pairs and not queries[key].image and image and image not in compared:
            compared.add(image)
            sides[True].append(make_pair(queries[key].text, image, {wire.SCORE_TAG: 0.0}))
    report = {
        "marks": marks, "queries": len(queries), "pairs": len(sides[False]), "held_out_pairs": held_out_pairs,
        "negatives": negatives, "disputed": sum(_disputed(tally) for of in tallies.values() for tally in of.values()),
        "deleted": len(missing), "without_content": without,
    }  # fmt: skip
    if not sides[False]:
        raise InvalidInput(
            f"marks must make at least one training pair: a text and a chosen image. Got none of {marks} marks "
            f"({report}). Mark more results, or lower held_out."
        )
    return FeedbackData(DocumentArray(sides[False]), DocumentArray(sides[True]), report)


def _beside(tallies: Mapping[str, Mapping[str, Tally]], held_out: float) -> dict[str, str]:
    """Return some of the documents that were shown for held-out queries with a choice: id -> key of such a query.

    The same ids come first from round to round.
    """
    shown = {
        name: key
        for key, by_document in tallies.items()
        if is_held_out(key, held_out) and any(tally.chosen > tally.refused for tally in by_document.values())
        for name in by_document
    }
    return dict(sorted(shown.items(), key=lambda entry: hashlib.sha256(entry[0].encode()).digest())[:MOST_BESIDE])


def image_of(document: Document) -> bytes:
    """Return the file of a document's image, or of its image part; b'' for none."""
    for part in (document, *document.chunks):
        if part.blob:
            return bytes(part.blob)
        if part.tensor is not None:
            return png(part.tensor)
    return b""


def caption_of(document: Document) -> str:
    """Return a document's text, its text part's, or its tag `caption`; '' for none."""
    for part in (document, *document.chunks):
        if part.text.strip():
            return str(part.text.strip())
    caption = document.tags.get("caption")
    return caption.strip() if isinstance(caption, str) else ""


def same_text(text: str) -> str:
    """Return what is equal for texts that differ in case or white space alone."""
    return " ".join(text.split()).casefold()


def _negatives(texts: Sequence[str], without: set[str]) -> list[str]:
    once = {same_text(text): text for text in reversed(texts) if text and same_text(text) not in without}
    return [*reversed(once.values())][:MAX_NEGATIVES]


def _refused(tally: Tally) -> bool:
    return tally.refused > tally.chosen or (tally.skipped > 0 and not tally.chosen)


def _disputed(tally: Tally) -> bool:
    return 0 < tally.chosen == tally.refused


def _matters(tally: Tally) -> bool:
    """Return whether the content of the document is needed: it was chosen or refused."""
    return bool(tally.chosen or tally.refused or tally.skipped)


def _contents(flow: Connection, ids: Sequence[str]) -> dict[str, Document]:
    """Return the indexed documents of these ids, by id."""
    found: dict[str, Document] = {}
    for start in range(0, len(ids), DOCUMENTS):
        found |= _some(flow, list(ids[start : start + DOCUMENTS]))
    return found


def _some(flow: Connection, ids: list[str]) -> dict[str, Document]:
    answer = flow.post(wire.FEEDBACK_DOCUMENTS, parameters={"ids": ids})
    errors = [error for document in answer if (error := wire.error_of(document)) is not None]
    if errors and isinstance(errors[0], InvalidInput) and len(ids) > 1:  # too large for one message
        half = len(ids) // 2
        return _some(flow, ids[:half]) | _some(flow, ids[half:])
    if errors:
        raise errors[0]
    return {document.id: document for document in answer}
