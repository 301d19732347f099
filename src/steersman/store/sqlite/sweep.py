"""Deleting what compaction has made unreachable, a little at a time.

Compaction is one number, durable at once: from then on nobody may read behind it. The rows go afterwards, in
pieces that ride in the writer's transactions, so that forgetting a day of history never holds up a commit
for long. The work grows with what changed since the last compaction, not with what is kept.
"""

from __future__ import annotations

import sqlite3

from steersman.store.sqlite.batch import ROWS_PER_REVISION

SWEEP_ROWS = 256
"""Rows looked at in one transaction."""


def is_due(compacted: int, swept_id: int) -> bool:
    """Whether rows are left to look at."""
    return swept_id < compacted * ROWS_PER_REVISION


def sweep(db: sqlite3.Connection, compacted: int, swept_id: int, limit: int = SWEEP_ROWS) -> int:
    """Look at the next rows inside the open transaction; where to go on.

    Each row up to the compacted revision makes its key's older rows unreachable; a deletion before that
    revision is unreachable itself. The rows of that revision itself are looked at again by the next
    compaction, which may take its deletions.
    """
    end_id = compacted * ROWS_PER_REVISION
    rows = db.execute(_ROWS, (swept_id, end_id, limit)).fetchall()
    superseded = [(key, row_id + (version == 0)) for row_id, key, version in rows]
    if len(rows) < limit:
        last = db.execute(_ROWS, (end_id, end_id + ROWS_PER_REVISION, ROWS_PER_REVISION))
        superseded += [(key, row_id) for row_id, key, _ in last]
        next_id = end_id
    else:
        next_id = rows[-1][0] + 1
    db.executemany("DELETE FROM log WHERE key = ? AND id < ?", superseded)
    return next_id


_ROWS = "SELECT id, key, version FROM log WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
