"""Reading: the newest record, a page of a snapshot, the events behind a revision.

Each function runs in one reader's connection and sees one state of the file. Nothing in here waits for the
writer, nor holds it up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from steersman.kernel.bounds import MIB
from steersman.store import rules
from steersman.store.api import PAGE_MAX_BYTES, Event, Page, Record
from steersman.store.hub import Changes
from steersman.store.sqlite.batch import ROWS_PER_REVISION

CHANGES_EVENTS = 512
"""Events of history that a watcher reads at once."""

CHANGES_BYTES = MIB
"""And about how many bytes of values."""


def get(db: sqlite3.Connection, key: str) -> Record | None:
    """The key's record now."""
    row = db.execute(_NEWEST, (key,)).fetchone()
    return None if row is None or row[2] == 0 else _record(row)


def list_page(
    db: sqlite3.Connection, prefix: str, limit: int, after: str | None, revision: int | None
) -> Page:
    """A page of the snapshot at `revision`, or of the newest."""
    with _snapshot(db) as (newest, compacted):
        at = newest if revision is None else revision
        if at > newest:
            raise rules.future_revision(at, newest)
        if at < compacted:
            raise rules.compacted(at, compacted)
        records: list[Record] = []
        size_bytes = 0
        for row in _live(db, prefix, after, at, limit + 1):
            size_bytes += len(row[3])
            if len(records) == limit or (records and size_bytes > PAGE_MAX_BYTES):
                return Page(records=tuple(records), revision=at, after=records[-1].key)
            records.append(_record(row))
    return Page(records=tuple(records), revision=at, after=None)


def changes(db: sqlite3.Connection, prefix: str, after_revision: int, place: int | None) -> Changes:
    """Events under `prefix` behind a revision, or behind the place where the last call ended."""
    with _snapshot(db) as (newest, compacted):
        if after_revision > newest:
            raise rules.future_revision(after_revision, newest)
        start = (after_revision + 1) * ROWS_PER_REVISION - 1 if place is None else place
        # The first event that may be missing is the one right behind the place.
        if (start + 1) // ROWS_PER_REVISION < compacted:
            raise rules.compacted(after_revision, compacted)
        end = rules.prefix_end(prefix)
        query = _CHANGES if end is None else _CHANGES_UP_TO
        events: list[Event] = []
        size_bytes = 0
        rows = db.execute(query, {"start": start, "prefix": prefix, "end": end})
        for row in rows:
            events.append(_event(row))
            size_bytes += len(row[3] or b"")
            if len(events) == CHANGES_EVENTS or size_bytes >= CHANGES_BYTES:
                rows.close()
                return Changes(events=events, seen=after_revision, place=row[0], more=True)
    return Changes(events=events, seen=newest, place=0, more=False)


def revision(db: sqlite3.Connection) -> int:
    """The newest revision."""
    return (db.execute(_NEWEST_ID).fetchone()[0] or 0) // ROWS_PER_REVISION


@contextmanager
def _snapshot(db: sqlite3.Connection) -> Generator[tuple[int, int], None, None]:
    """One state of the file for several statements; its newest and its oldest readable revision."""
    db.execute("BEGIN")
    try:
        compacted = db.execute("SELECT value FROM numbers WHERE name = 'compacted'").fetchone()[0]
        yield revision(db), compacted
    finally:
        if db.in_transaction:  # an I/O error may have ended it
            db.execute("COMMIT")


def _live(db: sqlite3.Connection, prefix: str, after: str | None, at: int, limit: int) -> sqlite3.Cursor:
    """Rows of the keys that exist at a revision, in key order.

    It goes from key to key by seeks in the index, so neither old versions nor old deletions are walked
    through: a page costs the same whatever history lies below it.
    """
    bounds: dict[str, Any] = {
        "prefix": prefix,
        "after": after,
        "end": rules.prefix_end(prefix),
        "bound": (at + 1) * ROWS_PER_REVISION,
        "limit": limit,
    }
    first = "key >= :prefix" if after is None or after < prefix else "key > :after"
    last = "TRUE" if bounds["end"] is None else "key < :end"
    return db.execute(_LIVE.format(first=first, last=last), bounds)


def _record(row: tuple[int, str, int, bytes, str | None]) -> Record:
    row_id, key, version, value, lease = row
    return Record(key, value, version, row_id // ROWS_PER_REVISION, lease)


def _event(row: tuple[int, str, int, bytes | None, str | None]) -> Event:
    row_id, key, version, value, lease = row
    at = row_id // ROWS_PER_REVISION
    return Event(key, at, None if value is None else Record(key, value, version, at, lease))


_NEWEST_ID = "SELECT max(id) FROM log"
_NEWEST = "SELECT id, key, version, value, lease FROM log WHERE key = ? ORDER BY id DESC LIMIT 1"

# The plus signs keep SQLite on the table's own order: by id, that is by revision.
_CHANGES = """
SELECT id, key, version, value, lease FROM log WHERE id > :start AND +key >= :prefix ORDER BY id
"""
_CHANGES_UP_TO = """
SELECT id, key, version, value, lease FROM log
WHERE id > :start AND +key >= :prefix AND +key < :end ORDER BY id
"""

_LIVE = """
WITH RECURSIVE found (key) AS (
    SELECT min(key) FROM log WHERE {first} AND {last}
    UNION ALL
    SELECT (SELECT min(key) FROM log WHERE key > found.key AND {last}) FROM found WHERE found.key IS NOT NULL
)
SELECT log.id, log.key, log.version, log.value, log.lease
FROM found JOIN log ON log.id = (SELECT max(id) FROM log WHERE key = found.key AND id < :bound)
WHERE log.version > 0 LIMIT :limit
"""
