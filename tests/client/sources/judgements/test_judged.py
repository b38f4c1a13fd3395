"""Queries with judged documents: every form, and every wrong line by its number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetuner.exceptions import InvalidInput
from finetuner.sources.judgements import judged
from finetuner.sources.judgements.judged import JudgedQuery, read_judged

JSONL = '{"_id": "q1", "text": "a red dress", "metadata": {}}\n\n{"_id": "q2", "text": " Hemd "}\n'
TOPICS = "q1\ta red dress\r\nq2\tHemd\r\n"
BEIR = "query-id\tcorpus-id\tscore\nq1\tdoc 1\t2\nq1\td2\t0\nq2\td1\t1\n"
TREC = "q1 0 d1 2\nq1 0 d2 -2\nq2\t0\td1\t1\n"
CSV = 'query,document,relevance\n"a red dress, long",d1,2\n"a red dress, long",d2,0\nHemd,d1,\n'


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode())
    return folder


def test_beir_trec_csv_and_a_mapping(tmp_path: Path) -> None:
    folder = write(tmp_path, queries_jsonl="\ufeff" + JSONL, qrels__test_tsv=BEIR, topics_txt=TOPICS, qrels_txt=TREC)
    write(tmp_path, own_csv=CSV)
    beir = [JudgedQuery("q1", "a red dress", {"doc 1": 2.0, "d2": 0.0}), JudgedQuery("q2", "Hemd", {"d1": 1.0})]
    assert read_judged(folder) == read_judged(str(folder / "queries.jsonl")) == beir
    trec = read_judged(folder / "topics.txt", folder / "qrels.txt")
    assert trec == read_judged(folder / "queries.jsonl", folder / "qrels.txt")
    assert [query.grades for query in trec] == [{"d1": 2.0, "d2": 0.0}, {"d1": 1.0}]
    assert trec[0].relevant == ["d1"]
    in_csv = read_judged(folder / "own.csv")
    assert [(query.text, dict(query.grades)) for query in in_csv] == [
        ("a red dress, long", {"d1": 2.0, "d2": 0.0}), ("Hemd", {"d1": 1.0}),
    ]  # fmt: skip
    assert read_judged({query.text: query.grades for query in in_csv}) == in_csv


def test_queries_without_judgements_are_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, queries_jsonl=JSONL, qrels_txt="q2 0 d1 1\n")
    assert [query.id for query in read_judged(folder / "queries.jsonl", folder / "qrels.txt")] == ["q2"]


@pytest.mark.parametrize(
    ("queries", "qrels", "expected"),
    [
        ("[1]\n", BEIR, r"queries.jsonl line 1: must be an object"),
        (JSONL + "{\n", BEIR, r"queries.jsonl line 4: must be an object"),
        (JSONL + '{"_id": 3, "text": "a"}', BEIR, r"line 4: id must be a string"),
        (JSONL + '{"_id": "q3", "text": "  "}', BEIR, r"line 4: query must be a text"),
        (JSONL + '{"_id": "q1", "text": "a"}', BEIR, r"line 4: query 'q1' must come once"),
        (JSONL, BEIR + "q9\td1\t1\n", r"test.tsv line 5: query 'q9' must be in queries.jsonl"),
        (JSONL, BEIR + "q1\td2\t1\n", r"line 5: document 'd2' must be judged once"),
        (JSONL, BEIR + "q1\td3\tnan\n", r"line 5: grade must be a number"),
        (JSONL, BEIR + "q1\td3\n", r"line 5: must be query-id, corpus-id, score"),
        (JSONL, TREC + "q1 d3 1\n", r"line 4: must be query, 0, document and grade"),
        (JSONL, "q1 0 d1 inf\n", r"line 1: grade must be a number"),
        (JSONL, f"q1 0 {'x' * 600} 1\n", r"line 1: id must be a string of 1 to 512"),
    ],
    ids=range(12),
)
def test_a_wrong_line_is_named(tmp_path: Path, queries: str, qrels: str, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        read_judged(write(tmp_path, queries_jsonl=queries, qrels__test_tsv=qrels))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,doc\na,b\n", "own.csv line 1: columns must be query, document"),
        ("query,document\na,b,c\n", "own.csv line 2: row must have 2 values"),
        ("query,document,relevance\na,b,best\n", "own.csv line 2: grade"),
        ("query,document\n,b\n", "own.csv line 2: query must be a text"),
        ('query,document\na,"b\n', "own.csv line .*: must be CSV"),
        ("query,document\na,b\na,b\n", "own.csv line 3: document 'b' must be judged once"),
    ],
    ids=range(6),
)
def test_a_wrong_line_of_a_csv_is_named(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        read_judged(write(tmp_path, own_csv=content) / "own.csv")


def test_other_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, topics_txt=TOPICS, broken_txt="q1 a red dress\n", qrels_txt=TREC)
    (tmp_path / "latin.txt").write_bytes(b"q1\tKl\xe4\n")
    given: list[tuple[Any, Any, str]] = [
        (tmp_path / "topics.txt", None, "must come with qrels"),
        (tmp_path / "no.csv", None, "must be a file. Got none"),
        (tmp_path, None, "must be a file. Got none"),
        (tmp_path / "broken.txt", tmp_path / "qrels.txt", "line 1: must be an id, a tab and a text"),
        (tmp_path / "latin.txt", tmp_path / "qrels.txt", "must be UTF-8"),
        (7, None, "queries must be a path"),
        ({"a": ["d"]}, None, "must have grades by document id"),
        ({"a": {"d": True}}, None, "grade must be a number"),
        ({"a": {7: 1}}, None, "id must be a string"),
        ({"a": {"d": 1}}, "x", "qrels must be left out"),
    ]
    for queries, qrels, expected in given:
        with pytest.raises(InvalidInput, match=expected):
            read_judged(queries, qrels)
    for name, expected in (("MAX_QUERIES", "queries must be 1 at most"), ("MAX_BYTES", "must have at most 1 bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(judged, name, 1)
            with pytest.raises(InvalidInput, match=expected):
                read_judged(tmp_path / "topics.txt", tmp_path / "qrels.txt")
    monkeypatch.setattr(judged, "MAX_JUDGED", 1)
    with pytest.raises(InvalidInput, match="documents of one 1, at most"):
        read_judged({"a": {"d": 1, "e": 1}})
