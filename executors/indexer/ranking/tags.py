"""Values of tags: of candidates, for groups and order, and counts of a whole collection, for facets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetuner.contract.search_parameters import Facet
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.executors.indexer.engines.engine import NUMBER, TEXT, Collection, Filter
from finetuner.executors.indexer.storage.documents import Documents
from finetuner.executors.indexer.storage.fields import BOOLEAN
from finetuner.executors.indexer.storage.known_fields import KnownFields
from finetuner.executors.indexer.storage.packing import unpack

# SQLite binds at least this many values in one statement.
READ_AT_ONCE = 900


def tags_of(documents: Documents, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return the tags of the documents that can be read."""
    found: dict[str, Mapping[str, Any]] = {}
    for start in range(0, len(ids), READ_AT_ONCE):
        for document_id, packed in documents.get(ids[start : start + READ_AT_ONCE], content=False).items():
            try:
                found[document_id] = dict(unpack(packed, document_id).tags)
            except InvalidDocument:
                documents.note_damage(document_id)
    return found


def value_of(tags: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field such as 'size.eu', in either form that documents have it, or None."""
    if name in tags:
        return tags[name]
    head, _, rest = name.partition(".")
    while rest:
        if isinstance(inner := tags.get(head), Mapping) and (found := value_of(inner, rest)) is not None:
            return found
        more, _, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None


def key_of(value: Any) -> tuple[str, Any] | None:
    """Return a value of `group_by` as a key; None for a missing one. Of a list, the first element counts."""
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if isinstance(value, bool):
        return BOOLEAN, value
    if isinstance(value, str):
        return TEXT, value
    if isinstance(value, int | float):
        return NUMBER, float(value)
    return None


def grouped(ids: Sequence[str], keys: Sequence[Any], groups: int, size: int) -> list[str]:
    """Return the ids of the best groups, group by group, in the order of each group's best member.

    Args:
        ids: best first.
        keys: of each id; an id without a key is a group of its own.
        groups: maximum number of groups.
        size: maximum number of ids in a group.
    """
    found: dict[Any, list[str]] = {}
    for document_id, key in zip(ids, keys, strict=True):
        group = ("", document_id) if key is None else key
        if group not in found and len(found) >= groups:
            continue
        members = found.setdefault(group, [])
        if len(members) < size:
            members.append(document_id)
    return [document_id for members in found.values() for document_id in members]


def sorted_by(ids: Sequence[str], values: Sequence[Any], descending: bool) -> list[str]:
    """Return ids in the order of their values: numbers, then texts, then those without a value, in their order.

    Args:
        ids: best first; equal values keep this order.
        values: of each id. Of a list, the first element counts.
        descending: from the highest value; ids without a value are last nevertheless.
    """
    keys = dict(zip(ids, map(key_of, values), strict=True))
    kinds: list[list[str]] = [[], [], []]
    for document_id in ids:
        key = keys[document_id]
        kinds[2 if key is None else 1 if key[0] == TEXT else 0].append(document_id)
    for kind in kinds[:2]:
        kind.sort(key=lambda document_id: keys[document_id][1], reverse=descending)  # type: ignore[index]
    return [document_id for kind in kinds for document_id in kind]


def require_tag(known: KnownFields, parameter: str, name: str) -> str:
    """Return the plain name of a tag that documents have.

    Raises:
        InvalidInput: no document has it; the message lists the tags.
    """
    try:
        return known.name(name)
    except InvalidInput as error:
        raise InvalidInput(f"{parameter} must name a tag of the documents. {error}") from None


def count_facet(collection: Collection, known: KnownFields, facet: Facet, condition: Filter | None) -> dict[str, Any]:
    """Return the counts of one facet among the documents that pass the filter.

    Returns:
        {'values': [{'value', 'count'}, ...]}, most frequent first, or {'ranges': [{'gte', 'lt', 'count'}, ...]}. A list
        counts for each of its values, and once for a range.

    Raises:
        InvalidInput: no document has the tag, or not with values of this kind.
    """
    require_tag(known, "facets", facet.tag)
    if facet.edges:
        paths = known.require(facet.tag, NUMBER, facet.edges[0])
        bounds = [
            {**({} if low is None else {"gte": low}), **({} if high is None else {"lt": high})}
            for low, high in zip((None, *facet.edges), (*facet.edges, None), strict=True)
        ]
        return {"ranges": [bound | {"count": collection.count(_within(paths, bound, condition))} for bound in bounds]}
    kinds = known.kinds(facet.tag)
    if not {TEXT, BOOLEAN} & kinds:
        raise InvalidInput(
            f"a facet that counts values must be a tag with texts or booleans. Got {facet.tag!r}, whose values are "
            "numbers. Give borders of ranges: [10, 50], for example."
        )
    indexed, paths = known.indexed(), known.paths(facet.tag)
    if missing := [path for path in paths if path not in indexed]:
        raise InvalidInput(
            f"a facet must be one of the first {len(indexed)} tags, which have an index. Got {facet.tag!r:.80} "
            f"({missing[0]}). Count ranges of a number instead, or filter by each value."
        )
    counts: dict[str, int] = {}
    for path in paths:
        for value, count in collection.facet(path, facet.values, condition):
            counts[value] = counts.get(value, 0) + count
    best = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[: facet.values]
    boolean = TEXT not in kinds
    return {"values": [{"value": v == "true" if boolean else v, "count": count} for v, count in best]}


def _within(paths: Sequence[str], bound: Mapping[str, float], condition: Filter | None) -> Filter:
    inside = {"should": [{"key": path, "range": dict(bound)} for path in paths]}
    return {"must": [inside, *([] if condition is None else [condition])]}
