"""The URL of a database: its parts, its refusals, and its password, which is never shown."""

from __future__ import annotations

import pytest

from finetuner.database.url import DatabaseUrl, database_url
from finetuner.exceptions import InvalidInput

SECRET = "s3cret"


def test_the_parts_of_a_url_and_the_password_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNER_DATABASE", f"postgres://ann%40:{SECRET}%2F%40@[::1]:5433/runs?sslmode=verify-full")
    url = database_url()
    assert url == DatabaseUrl("ann@", f"{SECRET}/@", "::1", 5433, "runs", (("sslmode", "verify-full"),))
    assert str(url) == "postgresql://ann%40:***@[::1]:5433/runs?sslmode=verify-full"
    assert SECRET not in f"{url!r}{url}"
    for unset in ("", "  "):
        monkeypatch.setenv("FINETUNER_DATABASE", unset)
        assert database_url() is None


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (f"mysql://ann:{SECRET}@host/db", "scheme 'mysql'"),
        (f"ann:{SECRET}@host/db", "scheme 'ann'"),
        (f"{SECRET}", "no scheme"),
        (f"postgresql://ann:{SECRET}@host", "no name of a database"),
        (f"postgresql://ann:{SECRET}@host/a/b", "another name of a database"),
        (f"postgresql://ann:{SECRET}/x@host/db", "a password with characters that must be quoted"),
        (f"postgresql://ann:a#{SECRET}@host/db", "a password with characters that must be quoted"),
        (f"postgresql://ann@host/db?password={SECRET}", "option 'password'; the options are host"),
        ("postgresql://ann@host/db?options=-c%20fsync=off", "option 'options'"),
        (f"postgresql://ann:{SECRET}@host:port/db", "another port"),
    ],
)
def test_another_url_is_refused_without_its_password(given: str, got: str) -> None:
    with pytest.raises(InvalidInput, match="FINETUNER_DATABASE must be like postgresql://") as refused:
        DatabaseUrl.read(given)
    assert refused.match(got)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
