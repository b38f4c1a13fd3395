"""Turns a filter in Qdrant's JSON form into the embedded engine's objects; checks paths by the engine's own parser."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import qdrant_edge as qdrant

from finetuner.executors.indexer.engines.engine import Filter


@lru_cache(4096)
def is_path(path: object) -> bool:
    """Return whether both engines can read a payload path, such as 'tags.size'."""
    try:
        qdrant.UpdateOperation.create_field_index(path, qdrant.PayloadSchemaType.Keyword)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    return True


def edge_filter(form: Filter) -> qdrant.Filter:
    """Return the engine's filter. `parse_filter` has checked `form`."""
    least = form.get("min_should")
    return qdrant.Filter(
        must=_conditions(form, "must"),
        should=_conditions(form, "should"),
        must_not=_conditions(form, "must_not"),
        min_should=least and qdrant.MinShould(_conditions(least, "conditions") or [], least["min_count"]),
    )


def _conditions(form: Filter, clause: str) -> list[Any] | None:
    return [_condition(entry) for entry in form[clause]] if form.get(clause) else None


def _condition(entry: Mapping[str, Any]) -> Any:
    if "is_empty" in entry:
        return qdrant.IsEmptyCondition(entry["is_empty"]["key"])
    if "is_null" in entry:
        return qdrant.IsNullCondition(entry["is_null"]["key"])
    if "has_id" in entry:
        return qdrant.HasIdCondition(set(entry["has_id"]))
    if "range" in entry:
        bounds = {name: float(bound) for name, bound in entry["range"].items()}
        return qdrant.FieldCondition(entry["key"], range=qdrant.RangeFloat(**bounds))
    if "match" in entry:
        return qdrant.FieldCondition(entry["key"], match=_match(entry["match"]))
    return edge_filter(entry)


def _match(match: Mapping[str, Any]) -> Any:
    if "any" in match:
        return qdrant.MatchAny(match["any"])
    if "except" in match:
        return qdrant.MatchExcept(match["except"])
    return qdrant.MatchValue(match["value"])
