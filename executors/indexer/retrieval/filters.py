"""Parses and checks users' filters. The result is Qdrant's JSON form over payload paths.

A filter comes in one of two forms, as a mapping or as its JSON text:

* DocArray's query: `{"price": {"$lt": 50}, "$or": [{"colour": "red"}, {"colour": {"$in": ["blue", "green"]}}]}`
* Qdrant's filter: `{"must": [{"key": "price", "range": {"lt": 50}}], "must_not": [...], "should": [...]}`

Numbers are compared by ranges, because tags hold floats.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from finetuner.contract.values import exact
from finetuner.exceptions import InvalidInput
from finetuner.executors.indexer.engines.engine import NUMBER, TEXT, Filter, point_id
from finetuner.executors.indexer.storage.fields import BOOLEAN
from finetuner.executors.indexer.storage.known_fields import KnownFields

MAX_DEPTH = 16
MAX_CONDITIONS = 1000
CLAUSES = ("must", "should", "must_not")
QDRANT_CONDITIONS = ("match", "range", "is_empty", "is_null", "has_id")
RANGES = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
OPERATORS = ("$eq", "$ne", *RANGES, "$in", "$nin", "$exists")
GROUPS = ("$and", "$or", "$not")
ID = "id"


def parse_filter(given: object, known: KnownFields) -> Filter | None:
    """Return the filter for an engine, or None if every document passes.

    Args:
        given: a mapping or JSON text in one of the two forms; None and {} mean no filter.
        known: the fields of the documents.

    Raises:
        InvalidInput: not JSON, an unknown operator or field, or a value of another type.
    """
    if given is None:
        return None
    if isinstance(given, str):
        try:
            given = json.loads(given, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"filter must be a mapping or its JSON text. Got {_shown(given)}: {error}. "
                "Write {'price': {'$lt': 50}}, for example."
            ) from None
    form = _mapping("filter", given)
    if not form:
        return None
    reader = _Reader(known)
    if any(name in form for name in (*CLAUSES, "min_should")):
        return reader.qdrant(form, 0)
    return reader.query(form, 0)


class _Reader:
    def __init__(self, known: KnownFields) -> None:
        self._known = known
        self._conditions = 0

    # DocArray's query

    def query(self, form: Mapping[str, Any], depth: int) -> dict[str, Any]:
        self._enter(depth)
        if depth and not form:  # it would pass every document, and a delete would delete them all
            raise InvalidInput("each part of a filter must have a condition. Got {}. Leave that part out.")
        must: list[dict[str, Any]] = []
        for name, value in form.items():
            if name == "$not":
                must.append({"must_not": [self.query(_mapping(name, value), depth + 1)]})
            elif name in GROUPS:
                clause = "must" if name == "$and" else "should"
                must.append({clause: [self.query(_mapping(name, entry), depth + 1) for entry in _list(name, value)]})
            elif name.startswith("$"):
                raise InvalidInput(_unknown("operator", name, GROUPS))
            else:
                must += self._comparisons(name, value)
        return {"must": must}

    def _comparisons(self, name: str, value: object) -> list[dict[str, Any]]:
        comparisons = value if isinstance(value, Mapping) else {"$eq": value}
        if not comparisons:
            raise InvalidInput(
                f"filter on {name!r} must have an operator. Got {{}}. Use one of {', '.join(OPERATORS)}."
            )
        return [self._comparison(name, operator, operand) for operator, operand in comparisons.items()]

    def _comparison(self, name: str, operator: str, operand: object) -> dict[str, Any]:
        if operator not in OPERATORS:
            raise InvalidInput(_unknown("operator", operator, OPERATORS))
        if operator == "$ne":
            return {"must_not": [self._equal(name, operand)]}
        if operator == "$in":
            return self._any(name, _list(operator, operand))
        if operator == "$nin":
            return {"must_not": [self._any(name, _list(operator, operand))]}
        if operator == "$exists":
            if not isinstance(operand, bool):
                raise InvalidInput(f"$exists must be true or false. Got {_shown(operand)}.")
            self._count()
            empty = _every([{"is_empty": {"key": path}} for path in self._known.paths(name)])
            return {"must_not": [empty]} if operand else empty
        if operator == "$eq":
            return self._equal(name, operand)
        return self._range(name, {RANGES[operator]: operand})

    # Qdrant's filter

    def qdrant(self, form: Mapping[str, Any], depth: int) -> dict[str, Any]:
        self._enter(depth)
        read: dict[str, Any] = {}
        for clause, entries in form.items():
            if clause == "min_should":
                least = _mapping(clause, entries)
                count: Any = least.get("min_count")
                if set(least) != {"conditions", "min_count"} or count not in range(1, MAX_CONDITIONS + 1):
                    raise InvalidInput(
                        f"min_should must have conditions and a whole min_count from 1 on. Got {_shown(entries)}."
                    )
                read[clause] = {"conditions": self._entries(least["conditions"], depth), "min_count": int(count)}
            elif clause in CLAUSES:
                read[clause] = self._entries(entries, depth)
            else:
                raise InvalidInput(_unknown("clause", clause, (*CLAUSES, "min_should")))
        return read

    def _entries(self, entries: object, depth: int) -> list[dict[str, Any]]:
        listed = [entries] if isinstance(entries, Mapping) else _list("a clause of the filter", entries)
        return [self._entry(_mapping("condition", entry), depth) for entry in listed]

    def _entry(self, entry: Mapping[str, Any], depth: int) -> dict[str, Any]:
        if any(name in entry for name in (*CLAUSES, "min_should")):
            return self.qdrant(entry, depth + 1)
        kinds = [name for name in entry if name != "key"]
        if len(kinds) != 1 or kinds[0] not in QDRANT_CONDITIONS:
            raise InvalidInput(_unknown("condition", ", ".join(kinds) or "none", QDRANT_CONDITIONS))
        kind, value = kinds[0], entry[kinds[0]]
        if kind == "has_id":
            return self._ids(_list(kind, value))
        if kind in ("is_empty", "is_null"):
            self._count()
            paths = self._known.paths(_name(_mapping(kind, value).get("key")))
            return (_every if kind == "is_empty" else _some)([{kind: {"key": path}} for path in paths])
        name = _name(entry.get("key"))
        if kind == "range":
            return self._range(name, _mapping(kind, value))
        match = _mapping(kind, value)
        if len(match) != 1 or next(iter(match)) not in ("value", "any", "except"):
            raise InvalidInput(_unknown("match", ", ".join(match) or "none", ("value", "any", "except")))
        operand = next(iter(match.values()))
        if "value" in match:
            return self._equal(name, operand)
        if "any" in match:
            return self._any(name, _list("any", operand))
        return self._except(name, _list("except", operand))

    # shared by both forms

    def _equal(self, name: str, value: object) -> dict[str, Any]:
        if name == ID:
            return self._ids([value])
        self._count()
        if isinstance(value, bool):
            return self._having(name, BOOLEAN, value, match={"value": "true" if value else "false"})
        if isinstance(value, str):
            return self._having(name, TEXT, value, match={"value": value})
        bound = self._number(name, value)
        return self._having(name, NUMBER, value, range={"gte": bound, "lte": bound})

    def _any(self, name: str, values: list[Any]) -> dict[str, Any]:
        if name == ID or not all(isinstance(value, str) for value in values):
            return {"should": [self._equal(name, value) for value in values]}
        self._count(len(values))
        return self._having(name, TEXT, values[0], match={"any": values})

    def _except(self, name: str, values: list[Any]) -> dict[str, Any]:
        if not all(isinstance(value, str) for value in values):
            raise InvalidInput(f"match except must list strings. Got {_shown(values)}. Use must_not with match.")
        self._count(len(values))
        return self._having(name, TEXT, values[0], match={"except": values})

    def _range(self, name: str, bounds: Mapping[str, Any]) -> dict[str, Any]:
        self._count()
        for bound in bounds:
            if bound not in RANGES.values():
                raise InvalidInput(_unknown("range", bound, tuple(RANGES.values())))
        if not bounds:
            raise InvalidInput(f"range on {name!r} must have bounds of gt, gte, lt, lte. Got none.")
        numbers = {bound: self._number(name, value) for bound, value in bounds.items()}
        return self._having(name, NUMBER, next(iter(numbers.values())), range=numbers)

    def _ids(self, values: list[object]) -> dict[str, Any]:
        self._count(len(values))
        if not all(isinstance(value, str) for value in values):
            raise InvalidInput(f"ids in a filter must be strings. Got {_shown(values)}.")
        return {"has_id": [point_id(str(value)) for value in values]}

    def _number(self, name: str, value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            exact(value, f"filter on {name!r:.80}")
        else:
            self._known.paths(name)
            raise InvalidInput(
                f"filter on {name!r} must compare with a string, a number or a boolean, and by order with a number. "
                f"Got {_shown(value)}."
            )
        return float(value)

    def _having(self, name: str, kind: str, value: object, **condition: Any) -> dict[str, Any]:
        """Return a condition on the values of a field, in whichever form documents have it."""
        return _some([{"key": path, **condition} for path in self._known.require(name, kind, value)])

    def _enter(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidInput(f"filter must be {MAX_DEPTH} levels deep at most. Got more. Write it flatter.")

    def _count(self, conditions: int = 1) -> None:
        self._conditions += conditions
        if self._conditions > MAX_CONDITIONS:
            raise InvalidInput(f"filter must have {MAX_CONDITIONS} conditions at most. Got more. Split the request.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping of JSON. Of two conditions under one key, Python would silently drop the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key comes twice among {', '.join(key for key, _ in pairs)[:200]}")
    return found


def _some(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return conditions[0] if len(conditions) == 1 else {"should": conditions}


def _every(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return conditions[0] if len(conditions) == 1 else {"must": conditions}


def _mapping(what: str, value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise InvalidInput(f"{what} must be a mapping. Got {_shown(value)}. Write {{'price': {{'$lt': 50}}}}, for example.")


def _list(what: str, value: object) -> list[Any]:
    if isinstance(value, list | tuple) and value:
        return list(value)
    raise InvalidInput(f"{what} must have a list of one or more. Got {_shown(value)}.")


def _name(value: object) -> str:
    if isinstance(value, str):
        return value
    raise InvalidInput(f"a condition must name its field by 'key'. Got {_shown(value)}.")


def _unknown(what: str, got: str, allowed: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(got.lower(), allowed, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"filter's {what} must be one of {', '.join(allowed)}. Got {got!r}.{hint}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
