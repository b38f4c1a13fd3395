"""Run by alembic, on the connection that `versions.upgrade` gives it, in one transaction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

VERSION_TABLE = "finetuner_version"
LOCK = 0x66696E65  # 'fine': one upgrade at a time

connection = context.config.attributes["connection"]
connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
context.configure(connection=connection, version_table=VERSION_TABLE)
context.run_migrations()
