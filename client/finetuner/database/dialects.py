"""Types and functions that SQLite and PostgreSQL spell differently."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

POSTGRESQL = "postgresql"


class Words(sa.types.TypeDecorator[str]):
    """Text. PostgreSQL stores no NUL: it becomes U+FFFD, also where it is looked for."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return what is stored."""
        return value.replace("\0", "\ufffd") if value and dialect.name == POSTGRESQL else value


class AnyText(sa.types.TypeDecorator[str]):
    """Text of any characters, as others' ids and queries: UTF-8 bytes in PostgreSQL, which stores no NUL in a text."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Return the type of a dialect."""
        return dialect.type_descriptor(sa.LargeBinary() if dialect.name == POSTGRESQL else sa.Text())

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | bytes | None:
        """Return what is stored."""
        return value.encode() if value is not None and dialect.name == POSTGRESQL else value

    def process_result_value(self, value: str | bytes | None, dialect: sa.Dialect) -> str | None:
        """Return the text."""
        return value if value is None or isinstance(value, str) else bytes(value).decode()


class json_field(FunctionElement[str]):  # noqa: N801  # named like a function of SQL
    """json_field(column, name): a field of a column's JSON object as text; NULL for a damaged one."""

    type = sa.String()
    inherit_cache = True


class position(FunctionElement[int]):  # noqa: N801
    """position(column, text): where a text begins in a column, from 1; 0 if the column does not have it."""

    type = sa.Integer()
    inherit_cache = True


class server_time(FunctionElement[float]):  # noqa: N801
    """server_time(): the database's clock, in seconds since the epoch. Leases go by it, and by no client's clock."""

    type = sa.Float()
    inherit_cache = True


@compiles(json_field, "sqlite")
def _sqlite_field(element: Any, compiler: Any, **options: Any) -> str:
    column, name = element.clauses
    text, path = compiler.process(column, **options), compiler.process(sa.literal("$.") + name, **options)
    return f"CASE WHEN json_valid({text}) THEN json_extract({text}, {path}) END"


@compiles(json_field, POSTGRESQL)
def _postgresql_field(element: Any, compiler: Any, **options: Any) -> str:
    # A function of ours, see the migrations: PostgreSQL before 16 cannot ask whether a text is JSON.
    return f"finetuner_json_field({compiler.process(element.clauses, **options)})"


@compiles(position, "sqlite")
def _sqlite_position(element: Any, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(position, POSTGRESQL)
def _postgresql_position(element: Any, compiler: Any, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


@compiles(server_time, "sqlite")
def _sqlite_time(element: Any, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(server_time, POSTGRESQL)
def _postgresql_time(element: Any, compiler: Any, **options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


def insert_new(connection: sa.Connection, table: sa.Table, **values: Any) -> bool:
    """Insert a row unless one with its key exists. Return whether it was inserted."""
    kind: Any = postgresql if connection.dialect.name == POSTGRESQL else sqlite
    insert = kind.insert(table).values(**values).on_conflict_do_nothing()
    return bool(connection.execute(insert, execution_options={"preserve_rowcount": True}).rowcount == 1)
