"""Checks of single values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetuner.contract.checks import local_path
from finetuner.exceptions import InvalidInput


def test_a_path_may_begin_at_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("~/x", Path("~/x"), str(tmp_path / "x")):
        assert local_path("directory", given) == tmp_path / "x"
    assert local_path("directory", "a~/x") == Path("a~/x")
    assert local_path("directory", "~no-such-user/x") == Path("~no-such-user/x")


@pytest.mark.parametrize("value", [None, 3, b"x", "", ["x"]])
def test_another_value_is_no_path(value: Any) -> None:
    with pytest.raises(InvalidInput, match="directory must be a path. Got"):
        local_path("directory", value)
