"""Tokens in a file and in a database: one contract. A gateway's view of them, also while the database is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from finetuner.database.tokens import TokenTable, WatchedTokens, token_store, tokens_in_use
from finetuner.exceptions import AlreadyExists, DatabaseUnreachable, InvalidInput, NotFound
from finetuner.executors.gateway.access.access import Access
from finetuner.workspace.tokens import TokenFile, digest_of
from tests.postgres import Postgres, Server, opened
from tests.waiting import wait_until


@pytest.fixture(params=["file", pytest.param("database", marks=pytest.mark.seconds)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TokenFile | TokenTable]:
    if request.param == "database":
        request.getfixturevalue("postgres")
    with closing(token_store(tmp_path)) as found:
        assert isinstance(found, TokenTable) == (request.param == "database")
        yield found


def test_tokens_are_created_once_revoked_once_and_named_again(store: TokenFile | TokenTable, tmp_path: Path) -> None:
    assert (store.read(), store.in_use, tokens_in_use(tmp_path)) == ([], False, False)
    secret = store.create("ann", "write", 3)
    (token,) = store.read()
    assert (token.name, str(token.role), token.digest) == ("ann", "write", digest_of(secret.encode()))
    assert token.expires_at is not None
    assert token.expires_at - token.created_at == 3 * 86400
    assert tokens_in_use(tmp_path)
    with pytest.raises(AlreadyExists, match="Got 'ann', which is a token. Revoke it first"):
        store.create("ann", "read")
    for name, role, days in (
        ("../x", "read", None),
        ("rooms", "read", None),
        ("bob", "root", None),
        ("bob", "read", 0),
    ):
        with pytest.raises(InvalidInput):
            store.create(name, role, days)
    store.create("bob", "read")
    store.revoke("ann")
    with pytest.raises(NotFound, match="that is not revoked: bob. Got 'ann'"):
        store.revoke("ann")
    with pytest.raises(NotFound):
        store.revoke("a\0nn")
    assert [each.state(0) for each in store.read()] == ["revoked", "valid"]
    assert store.create("ann", "admin") != secret
    assert store.problems() == []


def test_every_gateway_follows_the_database(postgres: Postgres, postgres_server: Server, tmp_path: Path) -> None:
    with closing(token_store(tmp_path)) as store:
        secret = store.create("ann", "write")
        gateways = [Access(None, tmp_path), Access(None, tmp_path)]
        try:
            assert [each.caller(f"token {secret}").name for each in gateways] == ["ann", "ann"]
            store.revoke("ann")

            def refused() -> bool:
                try:
                    return not [each.caller(f"token {secret}") for each in gateways]
                except Exception as error:
                    return "which is revoked" in str(error)

            wait_until(refused, "the refusal by every gateway")
            name = postgres.url.database
            postgres_server.execute("INSERT INTO tokens VALUES ('bad', 'root', 'x', 0, NULL, NULL)", database=name)
            assert [each.name for each in store.read()] == ["ann"]
            assert "token 'bad'" in store.problems()[0]
        finally:
            for each in gateways:
                each.close()


def test_a_gateway_trusts_what_it_knows_for_a_while_alone(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(postgres) as database:
        table = TokenTable(database)
        table.create("ann", "read")
        watched = WatchedTokens(table, look_seconds=0.01, known_seconds=0.2)
        try:
            watched.require_known()

            def away() -> None:
                raise DatabaseUnreachable("away")

            monkeypatch.setattr(table, "_rows", away)
            assert [token.name for token in watched.read()] == ["ann"]

            def refused() -> bool:
                try:
                    watched.require_known()
                except DatabaseUnreachable as error:
                    return "Send the request again" in str(error)
                return False

            wait_until(refused, "the end of the trust")
            monkeypatch.undo()
            wait_until(lambda: not refused(), "the database's answer")
        finally:
            watched.close()
