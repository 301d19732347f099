"""The file's layout and how an older file is brought to it.

Each step is a numbered file in migrations/. A file holds the number of its last step in SQLite's
`user_version`; opening it applies the steps behind that, all in one transaction, so a crash or a full disk
leaves either the old layout or the new one. A number that we don't know is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from msgspec import Struct

from steersman.store.sqlite import failures

APPLICATION_ID = 0x53545253
"""Stands in the file's header ("STRS"), so that `file` and we know whose database it is."""


class Migration(Struct, frozen=True):
    """One step: `number`, and the statements that lead from the step before it."""

    number: int
    sql: str


def migrations() -> list[Migration]:
    """The steps that this version knows, in order."""
    folder = resources.files("steersman.store.sqlite") / "migrations"
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(number=int(item.name[:4]), sql=item.read_text(encoding="utf-8")) for item in files]


def migrate(db: sqlite3.Connection, path: Path, steps: Sequence[Migration]) -> None:
    """Bring the file to the newest layout. Raises `StoreTooNew`, `StoreMisplaced`, `sqlite3.Error`."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    known = steps[-1].number
    owner = int(db.execute("PRAGMA application_id").fetchone()[0])
    tables = int(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if owner != APPLICATION_ID and (tables or version):
        raise failures.misplaced(
            path, "is another program's SQLite database: give the store a file of its own"
        )
    if version > known:
        raise failures.too_new(path, version, known)
    if version == known:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            for statement in _statements(step.sql):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        db.execute(f"PRAGMA user_version = {known:d}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(sql: str) -> list[str]:
    """A script's statements. `executescript` would commit before each one."""
    statements: list[str] = []
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
