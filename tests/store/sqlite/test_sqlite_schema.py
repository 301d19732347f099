"""Migrations: in order, all or nothing, never backwards; and what the connections are set to."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from steersman.store.sqlite import file
from steersman.store.sqlite.failures import StoreTooNew
from steersman.store.sqlite.schema import APPLICATION_ID, Migration, migrate, migrations

FIRST = Migration(1, "CREATE TABLE one (a);\nINSERT INTO one VALUES ('kept');\n")
SECOND = Migration(
    2,
    "ALTER TABLE one ADD COLUMN b DEFAULT 'new';\n"
    "-- a comment; with a semicolon\n"
    "CREATE TRIGGER two AFTER INSERT ON one\nBEGIN\n  UPDATE one SET b = 'x;y';\nEND;\n",
)
BROKEN = Migration(3, "CREATE TABLE three (a);\nINSERT INTO nowhere VALUES (1);\n")


@pytest.fixture
def db(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "some.db", isolation_level=None)


def version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def test_the_files_are_numbered_without_a_gap() -> None:
    assert [step.number for step in migrations()] == list(range(1, len(migrations()) + 1))


def test_from_nothing_and_step_by_step(db: sqlite3.Connection, tmp_path: Path) -> None:
    migrate(db, tmp_path, [FIRST])
    assert version(db) == 1
    assert db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    migrate(db, tmp_path, [FIRST, SECOND])
    migrate(db, tmp_path, [FIRST, SECOND])
    assert version(db) == 2
    assert db.execute("SELECT * FROM one").fetchall() == [("kept", "new")]
    db.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(db: sqlite3.Connection, tmp_path: Path) -> None:
    migrate(db, tmp_path, [FIRST])
    with pytest.raises(sqlite3.Error):
        migrate(db, tmp_path, [FIRST, SECOND, BROKEN])
    assert version(db) == 1
    assert db.execute("SELECT * FROM one").fetchall() == [("kept",)]
    migrate(db, tmp_path, [FIRST, SECOND])
    assert version(db) == 2
    db.close()


def test_a_file_from_the_future_is_not_touched(db: sqlite3.Connection, tmp_path: Path) -> None:
    migrate(db, tmp_path, [FIRST, SECOND])
    with pytest.raises(StoreTooNew):
        migrate(db, tmp_path, [FIRST])
    assert version(db) == 2
    db.close()


def test_how_connections_are_set(tmp_path: Path) -> None:
    """Durability rests on these, so they are read back and not believed."""
    path = tmp_path / "store.db"
    file.prepare(path)
    writer = file.open_checked(path)
    reader = file.open_reader(path)

    def setting(db: sqlite3.Connection, name: str) -> object:
        return db.execute(f"PRAGMA {name}").fetchone()[0]

    full = 2
    assert setting(writer, "journal_mode") == "wal"
    assert setting(writer, "synchronous") == full
    assert setting(writer, "busy_timeout") == file.BUSY_TIMEOUT_MS
    assert setting(reader, "wal_autocheckpoint") == 0, "only the writer moves the log (decision 0007)"
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM log")
    reader.close()
    writer.close()
