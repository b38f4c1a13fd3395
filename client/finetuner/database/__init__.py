"""The database of a Flow: embedded SQLite files of the workspace, or one PostgreSQL server for several machines."""
