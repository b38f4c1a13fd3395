"""Migrations of a server's tables, run by alembic. A released one is never changed; a change is a new one."""
