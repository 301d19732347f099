"""A look at a store's file from outside, for `steersman doctor`: whether it is whole, private and in use.

Nothing is written. It may be done while another process has the store open.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from steersman.store.sqlite import failures, file


class FileFacts(Struct, frozen=True):
    """What was found. `size_bytes` counts the write-ahead log too. `written_at` is the last write to either.
    `holder` is the process that has the store open, None where none has it; 0 where it left no note."""

    size_bytes: int
    mode: int
    written_at: datetime
    holder: int | None


def inspect_file(path: Path) -> FileFacts:
    """Look at the file. Raises `StoreUnavailable` where it is damaged, unreadable or no store."""
    parts = [part for part in (path, path.with_name(path.name + "-wal")) if part.exists()]
    try:
        found = [part.stat() for part in parts]
        db = file.open_reader(path)
        try:
            file.check(db, path)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise failures.from_sqlite(error, path) from error
    except OSError as error:
        raise failures.from_os(error, path) from error
    return FileFacts(
        size_bytes=sum(one.st_size for one in found),
        mode=max(stat.S_IMODE(one.st_mode) for one in found),
        written_at=datetime.fromtimestamp(max(one.st_mtime for one in found), UTC),
        holder=_holder(path),
    )


def _holder(path: Path) -> int | None:
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None  # no lock file: nobody has opened the store yet
    try:
        # A shared lock: it is refused while the holder's exclusive one stands, and gone with the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None
