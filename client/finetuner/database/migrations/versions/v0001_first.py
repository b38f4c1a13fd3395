"""The first tables: runs, their notes and leases, experiments, marks, tokens, and the workspace's claim."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Of a damaged configuration NULL. PostgreSQL has `IS JSON` since version 16 alone.
FIELD = """
CREATE FUNCTION finetuner_json_field(content text, field text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN content::json ->> field;
EXCEPTION WHEN others THEN
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "experiments",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("artifact_id", sa.String(24), primary_key=True),
        sa.Column("experiment", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("details", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.UniqueConstraint("experiment", "name"),
    )
    op.create_index("ix_runs_status", "runs", ["status"])
    op.create_table(
        "run_notes",
        sa.Column("artifact_id", sa.String(24), primary_key=True),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_table(
        "run_leases",
        sa.Column("artifact_id", sa.String(24), primary_key=True),
        sa.Column("owner", sa.String(128)),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table(
        "marks",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=True),
        sa.Column("id", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("user", sa.LargeBinary, nullable=False),
        sa.Column("artifact", sa.LargeBinary, nullable=False),
        sa.Column("text", sa.LargeBinary, nullable=False),
        sa.Column("image", sa.LargeBinary),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("chosen", sa.Text, nullable=False),
        sa.Column("refused", sa.Text, nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
    )
    op.create_index("marks_by_user", "marks", ["user"])
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("revoked_at", sa.Float),
    )
    op.create_table(
        "workspaces",
        sa.Column("only", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("claimed_at", sa.Float, nullable=False),
    )
    op.execute(FIELD)


def downgrade() -> None:
    """Nothing goes back: restore a backup."""
    raise NotImplementedError("restore a backup")
