"""Reads queries and the documents that were judged for them.

form    queries                                     judgements
BEIR    queries.jsonl: {"_id": "q1", "text": "..."} qrels/test.tsv: query-id, corpus-id and score, with a header
TREC    topics: q1, a tab, the text                 qrels: q1 0 document grade
CSV     one file with the columns query, document and, if wanted, relevance
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...contract.checks import local_path
from ...exceptions import InvalidInput

MAX_BYTES = 2**28  # of a file
MAX_QUERIES = 10_000
MAX_JUDGED = 10_000  # documents of a query
MAX_TEXT = 10_000  # characters of a query
MAX_ID = 512
MAX_GRADE = 1e6
QUERIES, QRELS = "queries.jsonl", "qrels/test.tsv"  # of a folder in BEIR's form
BEIR_HEADER = ("query-id", "corpus-id", "score")


@dataclass(frozen=True)
class JudgedQuery:
    """A query, and the grades of documents."""

    id: str
    """Its id in the file; in CSV, its text."""
    text: str
    grades: Mapping[str, float]
    """By id of a document: 0 for one that does not fit, higher for a better one."""

    @property
    def relevant(self) -> list[str]:
        """Ids of the documents with a grade above 0."""
        return [document for document, grade in self.grades.items() if grade > 0]


def read_judged(queries: Any, qrels: Any = None) -> list[JudgedQuery]:
    """Return the queries that have judgements, in the order of their file.

    Args:
        queries: path of a file, or of a folder in BEIR's form; or {text: {document id: grade}}.
        qrels: path of the judgements. None for CSV, and for BEIR's, which lie beside the queries.

    Raises:
        InvalidInput: a file that is missing, too large or of another form; the message names the line.
    """
    if isinstance(queries, Mapping):
        if qrels is not None:
            raise InvalidInput("qrels must be left out where queries have their documents. Got both. Drop one.")
        return _checked(queries)
    path = local_path("queries", queries)
    if path.is_dir():
        path, qrels = path / QUERIES, path / QRELS if qrels is None else qrels
    if qrels is None and path.suffix.lower() == ".csv":
        return _read_csv(path)
    if qrels is None and path.suffix.lower() == ".jsonl" and (path.parent / QRELS).is_file():
        qrels = path.parent / QRELS
    if qrels is None:
        raise InvalidInput(
            f"queries must come with qrels, unless they are a CSV or a folder with {QUERIES} and {QRELS}. "
            f"Got {str(path)!r:.200} alone. Name the file of judgements."
        )
    texts = dict(_beir_queries(path) if path.suffix.lower() == ".jsonl" else _topics(path))
    grades: dict[str, dict[str, float]] = {}
    for where, query, document, grade in _qrels(local_path("qrels", qrels)):
        if query not in texts:
            raise InvalidInput(
                f"{where}: query {query!r:.80} must be in {path.name}. It is not. Add it, or remove the line."
            )
        _put(grades, where, query, document, grade)
    return [JudgedQuery(query, text, grades[query]) for query, text in texts.items() if query in grades]


def _checked(given: Mapping[Any, Any]) -> list[JudgedQuery]:
    found: dict[str, dict[str, float]] = {}
    for text, grades in given.items():
        where = f"query {text!r:.80}"
        if not isinstance(grades, Mapping):
            raise InvalidInput(f"{where} must have grades by document id. Got {grades!r:.80}. Write {{'id': 1}}.")
        for document, grade in grades.items():
            _put(found, where, _text(where, text), document, _grade(where, grade))
    return [JudgedQuery(text, text, grades) for text, grades in found.items()]


def _read_csv(path: Path) -> list[JudgedQuery]:
    content = io.StringIO("".join(line for _, line in _lines(path)))
    rows = csv.DictReader(content, strict=True)
    found: dict[str, dict[str, float]] = {}
    try:
        names = rows.fieldnames or []
        if not {"query", "document"} <= set(names) <= {"query", "document", "relevance"}:
            raise InvalidInput(
                f"{path.name} line 1: columns must be query, document and, if wanted, relevance. Got "
                f"{', '.join(map(str, names))!r:.200}. Name them so."
            )
        for row in rows:
            where = f"{path.name} line {rows.line_num}"
            if None in row or None in row.values():
                raise InvalidInput(f"{where}: row must have {len(names)} values. It has not. Quote commas.")
            grade = _grade(where, row.get("relevance") or "1")
            _put(found, where, _text(where, row["query"]), row["document"].strip(), grade)
    except csv.Error as error:
        raise InvalidInput(
            f"{path.name} line {rows.line_num}: must be CSV. It is not: {error}. Check quotes."
        ) from None
    return [JudgedQuery(text, text, grades) for text, grades in found.items()]


def _beir_queries(path: Path) -> Iterator[tuple[str, str]]:
    known: set[str] = set()
    for where, line in _lines(path):
        try:
            query = json.loads(line)
            name, text = query["_id"], query["text"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput(
                f'{where}: must be an object such as {{"_id": "q1", "text": "a red dress"}}. Got {error!r:.100}.'
            ) from None
        yield _new(where, name, known), _text(where, text)


def _topics(path: Path) -> Iterator[tuple[str, str]]:
    known: set[str] = set()
    for where, line in _lines(path):
        name, tab, text = line.strip("\r\n").partition("\t")
        if not tab:
            raise InvalidInput(f"{where}: must be an id, a tab and a text. Got {line.strip()!r:.80}. Insert a tab.")
        yield _new(where, name.strip(), known), _text(where, text)


def _qrels(path: Path) -> Iterator[tuple[str, str, str, float]]:
    """Yield place, query, document and grade of each judgement, in either form."""
    beir = False
    for number, (where, line) in enumerate(_lines(path)):
        values = line.strip().split("\t")
        if number == 0 and tuple(values) == BEIR_HEADER:
            beir = True
            continue
        values = values if beir else line.split()
        if len(values) != (3 if beir else 4):
            form = ", ".join(BEIR_HEADER) if beir else "query, 0, document and grade"
            raise InvalidInput(f"{where}: must be {form}. Got {line.strip()!r:.80}. See the form of the other lines.")
        yield where, values[0].strip(), values[-2].strip(), _grade(where, values[-1])


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file that are not empty, with their places."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path.name} must have at most {MAX_BYTES} bytes. Got more. Split it.")
        with open(path, encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path.name} line {number}", line
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} must be UTF-8. It is not: {error}. Save it as UTF-8.") from None
    except OSError as error:
        raise InvalidInput(f"{str(path)!r:.300} must be a file. Got none ({error.strerror}). Check the path.") from None


def _new(where: str, name: object, known: set[str]) -> str:
    query = _id(where, name)
    if query in known:
        raise InvalidInput(f"{where}: query {query!r:.80} must come once. It came before. Remove one.")
    if len(known) >= MAX_QUERIES:
        raise InvalidInput(f"{where}: queries must be {MAX_QUERIES} at most. Got more. Take a sample.")
    known.add(query)
    return query


def _put(grades: dict[str, dict[str, float]], where: str, query: str, document: object, grade: float) -> None:
    judged = grades.setdefault(query, {})
    name = _id(where, document)
    if name in judged:
        raise InvalidInput(
            f"{where}: document {name!r:.80} must be judged once for a query. It was before. Remove one."
        )
    if len(grades) > MAX_QUERIES or len(judged) >= MAX_JUDGED:
        raise InvalidInput(
            f"{where}: queries must be {MAX_QUERIES}, and documents of one {MAX_JUDGED}, at most. Got more."
        )
    judged[name] = grade


def _id(where: str, value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_ID:
        return value
    raise InvalidInput(f"{where}: id must be a string of 1 to {MAX_ID} characters. Got {value!r:.80}. Change it.")


def _text(where: str, value: object) -> str:
    if isinstance(value, str) and value.strip() and len(value) <= MAX_TEXT:
        return value.strip()
    raise InvalidInput(f"{where}: query must be a text of 1 to {MAX_TEXT} characters. Got {value!r:.80}. Change it.")


def _grade(where: str, value: Any) -> float:
    """Return a grade; one below 0, as TREC has for spam, is 0."""
    try:
        grade = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        grade = math.nan
    if not abs(grade) <= MAX_GRADE:
        raise InvalidInput(f"{where}: grade must be a number up to {MAX_GRADE:g}. Got {value!r:.40}. Change it.")
    return max(grade, 0.0)
