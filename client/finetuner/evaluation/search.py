"""Scores a model on a search: one tower encodes the queries, one the index, both read from documents."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.callbacks import EvaluationCallback
from ..config.run_callbacks import search_towers
from ..contract.wire import LABEL_TAG
from ..documents.images import decode, is_text, read_data_uri
from ..documents.pairs import png, read_pair
from ..documents.tags import read_label
from ..documents.thumbnails import thumbnail_uri
from ..exceptions import InvalidDocument, InvalidInput
from ..metrics import nearest, retrieval_metrics
from ..models.clip import TEXT, TOWERS, VISION

if TYPE_CHECKING:
    from docarray import Document

    from ..models.model_kinds import Model

THUMBNAIL = 96
MAX_MATCHES = 20

Examples = dict[str, list[dict[str, Any]]]
"""Query -> matches, best first: {'match': text or name, 'relevant': bool, 'image': data URI or ''}."""


@dataclass(frozen=True)
class Entry:
    """One query, or one entry of an index."""

    content: str | bytes
    """A text, or the bytes of an image file."""
    key: str
    """Relevance key: an entry with the key of a query is relevant to it."""
    document_id: str
    """Id of the source document."""
    name: str
    """Name in examples: the text, or the image's label or document id."""


@dataclass(frozen=True)
class SearchData:
    """Queries and the index that they search: read once, scored any number of times."""

    queries: Sequence[Entry]
    index: Sequence[Entry]
    towers: tuple[str, str]
    """Names of the tower that encodes the queries and of the tower that encodes the index."""
    options: EvaluationCallback
    """The options of the evaluation, such as limit and exclude_self."""


def read_search_data(
    options: EvaluationCallback,
    towers: Sequence[str],
    queries: Iterable[Document],
    index: Iterable[Document] | None,
) -> SearchData:
    """Read documents as queries and index, and draw the sample of the queries.

    Args:
        options: names the towers and the size of the sample.
        towers: names of the model's towers.
        queries: texts, images or pairs, with images as blob, tensor or data URI.
        index: documents of the same forms; None searches `queries`.

    Raises:
        InvalidDocument: a tower cannot read a document, or a text has no label.
        InvalidInput: there is no document, or no image can be decoded.
    """
    query_tower, index_tower = search_towers(options, towers)
    documents = list(queries)
    query_entries = _entries("query_data", documents, query_tower, options.num_workers)
    index_entries = _entries("index_data", documents if index is None else index, index_tower, options.num_workers)
    if options.query_sample_size is not None and options.query_sample_size < len(query_entries):
        rows = sorted(random.Random(0).sample(range(len(query_entries)), options.query_sample_size))
        query_entries = [query_entries[row] for row in rows]
    return SearchData(query_entries, index_entries, (query_tower, index_tower), options)


def _entries(side: str, documents: Iterable[Document], tower: str, threads: int) -> list[Entry]:
    entries: list[Entry] = []
    images: set[str] = set()
    for position, document in enumerate(documents):
        try:
            entry = _entry(document, tower)
        except InvalidDocument as error:
            raise InvalidDocument(f"{side}: document {position} ({document.id}): {error}") from error
        if tower != TEXT and document.chunks:  # the same image under several captions is one image
            assert isinstance(entry.content, bytes)
            digest = hashlib.sha256(entry.content).hexdigest()
            if digest in images:
                continue
            images.add(digest)
        entries.append(entry)
    if tower != TEXT:
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            good = list(pool.map(_is_image, entries))
        entries = [entry for entry, is_good in zip(entries, good, strict=True) if is_good]
    if not entries:
        raise InvalidInput(f"{side} must hold at least one document that {tower} can encode. Got none.")
    return entries


def _entry(document: Document, tower: str) -> Entry:
    if document.chunks:
        pair = read_pair(document)
        if tower == TEXT:
            return Entry(pair.text, pair.relevance_key, document.id, pair.text)
        return Entry(pair.image, pair.relevance_key, document.id, pair.label or document.id)
    if is_text(document) != (tower == TEXT):
        found, other = ("a text", TEXT) if is_text(document) else ("an image", VISION)
        hint = f"Set the callback's model or index_model to {other!r}." if tower in TOWERS else "Choose other data."
        raise InvalidDocument(
            f"document must be {'a text' if tower == TEXT else 'an image'} for {tower}. Got {found}. {hint}"
        )
    label = read_label(document.tags.get(LABEL_TAG))
    if tower == TEXT:
        if not label:
            raise InvalidDocument(f"text must have the tag {LABEL_TAG!r}, which decides relevance. Got none. Add it.")
        return Entry(document.text, f"label {label}", document.id, document.text)
    blob = document.blob
    if not blob and document.tensor is not None:
        blob = png(document.tensor)
    elif not blob and document.uri.startswith("data:"):
        blob = read_data_uri(document.uri)
    if not blob:
        raise InvalidDocument("image must be carried as blob, tensor or data URI. Got none. Push it with push_data.")
    key = f"label {label}" if label else f"image {hashlib.sha256(blob).hexdigest()}"
    return Entry(blob, key, document.id, label or document.id)


def _is_image(entry: Entry) -> bool:
    assert isinstance(entry.content, bytes)
    try:
        decode(entry.content)
    except InvalidDocument:
        return False
    return True


def evaluate_search(model: Model, data: SearchData, *, gather: bool = True) -> tuple[dict[str, float], Examples]:
    """Search the index with every query.

    Args:
        model: a model with the towers in `data`.
        data: queries and index from `read_search_data`.
        gather: False returns no examples, even if `data.options` has `gather_examples`.

    Returns:
        Finetuner's nine metrics and the textbook metrics, by their plain names; and the matches of the first queries if
        `gather` and `gather_examples` are set.
    """
    options = data.options
    queries = _encode(model, data.queries, data.towers[0], options)
    index = _encode(model, data.index, data.towers[1], options)
    rows_of: dict[str, list[int]] = {}  # rows of the index that a query must not find
    if options.exclude_self and len(set(data.towers)) == 1:
        for row, entry in enumerate(data.index):
            rows_of.setdefault(entry.document_id, []).append(row)
    extra = max(map(len, rows_of.values()), default=0)
    counts = Counter(entry.key for entry in data.index)
    found: list[list[int]] = []
    max_rel: list[int] = []
    for query, rows in zip(data.queries, nearest(queries, index, options.limit + extra).tolist(), strict=True):
        own = rows_of.get(query.document_id, [])
        found.append([row for row in rows if row not in own][: options.limit])
        max_rel.append(counts[query.key] - sum(data.index[row].key == query.key for row in own))
    relevance = [
        [data.index[row].key == query.key for row in rows] for query, rows in zip(data.queries, found, strict=True)
    ]
    shown = range(min(options.num_example_queries, len(data.queries)) if gather and options.gather_examples else 0)
    return retrieval_metrics(relevance, max_rel), _examples(data, {row: found[row] for row in shown})


def _encode(model: Model, entries: Sequence[Entry], tower: str, options: EvaluationCallback) -> Any:
    import numpy as np

    if tower == TEXT:
        return model.encode_texts([str(entry.content) for entry in entries], options.batch_size)
    vectors = []
    with ThreadPoolExecutor(max(options.num_workers, 1)) as pool:
        for start in range(0, len(entries), options.batch_size):
            batch = entries[start : start + options.batch_size]
            pixels = list(pool.map(lambda entry: model.preprocess(decode(entry.content)), batch))
            vectors.append(model.encode_pixels(pixels, options.batch_size))
    return np.concatenate(vectors)


def _examples(data: SearchData, found: Mapping[int, Sequence[int]]) -> Examples:
    examples: Examples = {}
    for query_row, rows in found.items():
        query = data.queries[query_row]
        name = query.name if query.name not in examples else f"{query.name} ({query.document_id})"
        examples[name] = [
            {
                "match": data.index[row].name,
                "relevant": data.index[row].key == query.key,
                "image": _thumbnail(data.index[row].content),
            }
            for row in rows[:MAX_MATCHES]
        ]
    return examples


def _thumbnail(content: str | bytes) -> str:
    return "" if isinstance(content, str) else thumbnail_uri(content, THUMBNAIL)
