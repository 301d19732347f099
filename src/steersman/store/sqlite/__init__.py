"""The embedded store over SQLite. Start reading at store.py; docs/decisions/0007 says why it is so."""

from steersman.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
