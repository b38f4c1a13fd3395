"""Options of downloads."""

from __future__ import annotations

from typing import Any

import pytest

from finetuner.exceptions import InvalidInput
from finetuner.sources.links.options import LinkOptions
from finetuner.sources.tables.csv_file import CSVOptions


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"concurrency": 0}, "LinkOptions.concurrency must be a whole number from 1 to 256. Got 0"),
        ({"concurrency": 2.0}, "must be a whole number"),
        ({"per_host": True}, "LinkOptions.per_host must be a whole number"),
        ({"retries": 11}, "LinkOptions.retries must be a whole number from 0 to 10. Got 11"),
        ({"timeout": 0}, "LinkOptions.timeout must be a number from 0.1 to 600. Got 0"),
        ({"timeout": float("nan")}, "LinkOptions.timeout must be a number"),
        ({"private": 1}, "LinkOptions.private must be True or False. Got 1"),
        ({"opt_out": None}, "LinkOptions.opt_out must be True or False"),
        ({"cache": ""}, "LinkOptions.cache must be a folder, 'auto' or None. Got ''"),
        ({"cache": 3}, "LinkOptions.cache must be a folder"),
        ({"headers": "x"}, "LinkOptions.headers must be a dict of texts. Got 'x'"),
        ({"headers": {"Host": "x"}}, "must be headers of one line in ASCII, without host, .*Got 'Host'"),
        ({"headers": {"X": "a\r\nY: b"}}, "Got 'X'"),
        ({"headers": {"X Y": "a"}}, "Got 'X Y'"),
        ({"headers": {"X": 3}}, "Got 'X'"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        LinkOptions(**options)


def test_they_are_options_of_tables() -> None:
    links = LinkOptions(timeout=1, headers={"User-Agent": "shop"})
    assert CSVOptions(links=links).links is links
    with pytest.raises(InvalidInput, match="CSVOptions.links must be finetuner LinkOptions. Got {}"):
        CSVOptions(links={})  # type: ignore[arg-type]
