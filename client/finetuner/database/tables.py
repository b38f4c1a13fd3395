"""The tables, for SQLite and PostgreSQL.

SQLite has those of runs in `runs.sqlite` and `marks` in `feedback/marks.sqlite`; tokens are in `tokens.json` there.
PostgreSQL has all of them. A change of a table needs a migration beside it, see `migrations`.
"""

from __future__ import annotations

import sqlalchemy as sa

from .dialects import AnyText, Words

METADATA = sa.MetaData()

EXPERIMENTS = sa.Table(
    "experiments",
    METADATA,
    sa.Column("name", Words(128), primary_key=True),
    sa.Column("created_at", sa.Float, nullable=False),
)
RUNS = sa.Table(
    "runs",
    METADATA,
    sa.Column("artifact_id", Words(24), primary_key=True),
    sa.Column("experiment", Words(128), nullable=False),
    sa.Column("name", Words(128), nullable=False),
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("status", Words(16), nullable=False, index=True),
    sa.Column("details", Words, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.UniqueConstraint("experiment", "name"),
)
# The next two are tables of their own: databases of earlier versions have the table of runs as it is.
NOTES = sa.Table(
    "run_notes",
    METADATA,
    sa.Column("artifact_id", Words(24), primary_key=True),
    sa.Column("note", Words, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)
LEASES = sa.Table(
    "run_leases",
    METADATA,
    sa.Column("artifact_id", Words(24), primary_key=True),
    sa.Column("owner", Words(128)),  # NULL: nobody
    sa.Column("number", sa.Integer, nullable=False),  # one more each time that the run is taken
    sa.Column("until", sa.Float, nullable=False),  # by the database's clock
)
MARKS = sa.Table(
    "marks",
    METADATA,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", AnyText, unique=True, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("user", AnyText, nullable=False),
    sa.Column("artifact", AnyText, nullable=False),
    sa.Column("text", AnyText, nullable=False),
    sa.Column("image", sa.LargeBinary),
    sa.Column("shown", sa.Text, nullable=False),
    sa.Column("chosen", sa.Text, nullable=False),
    sa.Column("refused", sa.Text, nullable=False),
    sa.Column("first", sa.Integer, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Index("marks_by_user", "user"),
    sqlite_autoincrement=True,
)
TOKENS = sa.Table(
    "tokens",
    METADATA,
    sa.Column("name", Words(128), primary_key=True),
    sa.Column("role", Words(16), nullable=False),
    sa.Column("digest", Words(64), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
)
WORKSPACES = sa.Table(
    "workspaces",
    METADATA,
    sa.Column("only", sa.Integer, primary_key=True, autoincrement=False),  # 1: a database has one workspace
    sa.Column("id", Words(64), nullable=False),
    sa.Column("claimed_at", sa.Float, nullable=False),
)
OF_RUNS = (EXPERIMENTS, RUNS, NOTES, LEASES)
