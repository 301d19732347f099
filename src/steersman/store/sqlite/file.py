"""The store's file: who may have it, how it is opened, whether it is whole.

The lock is an OS lock on `<file>.lock`, which the kernel drops when its holder dies, however it dies. It is
not on the database itself: closing any descriptor of that file would drop SQLite's own locks on it. The lock
file stays when the store closes; deleting it would let two processes lock two different files of that name.
"""

from __future__ import annotations

import fcntl
import os
import select
import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path

from steersman.kernel.bounds import KIB, MIB
from steersman.store.sqlite import failures, schema

FILE_MODE = 0o600
BUSY_TIMEOUT_MS = 2_000
"""How long a write waits for a program that looks into the file by hand."""

CHECKPOINT_PAGES = 2_000
"""Pages (of 4 KiB) in the write-ahead log at which a commit moves them into the database."""

WAL_MAX_BYTES = 32 * MIB
"""The size of the write-ahead log at which the writer waits for the readers and starts it anew."""

WAL_WAIT_MS = 250
"""How long it waits for them."""

LOCK_TRIES = 4
LOCK_WAIT_S = 0.05

CHECK_MAX_BYTES = 128 * MIB
"""Files up to this are checked whole when opened (about 1 s a GiB); larger ones when asked to."""

CACHE_KIB = 16 * KIB


class FileLock:
    """The right to write the file, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take it at once, or raise `StoreLocked` with the holder's pid."""
        real = self._path.resolve()  # one lock, by whatever links the file is reached
        name = real.with_name(real.name + ".lock")
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            taken = _lock(descriptor)
            holder = None if taken else _pid(os.pread(descriptor, 32, 0))
        except OSError:
            os.close(descriptor)
            raise
        if not taken:
            os.close(descriptor)
            raise failures.locked(self._path, holder)
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # on a full disk the lock still holds, only its note is missing

    def drop(self) -> None:
        """Give it back. Repeating it does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def prepare(path: Path) -> None:
    """Make sure that a database file is there that we may write, mode 0600 where we make it."""
    if not path.parent.is_dir():
        raise failures.misplaced(path, f"can't be made: there is no folder {path.parent}; create it first")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        os.close(descriptor)
        _sync_folder(path.parent)
        return
    if stat.S_ISDIR(mode):
        raise failures.misplaced(path, "is a folder: name a file in it")
    if not stat.S_ISREG(mode):
        raise failures.misplaced(path, "is no regular file: name one")
    if not os.access(path, os.R_OK | os.W_OK):
        raise failures.read_only(path)


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes. The caller holds the lock."""
    settings = [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES:d}",
        f"PRAGMA journal_size_limit = {WAL_MAX_BYTES:d}",
    ]
    db = _connect(path, "rw", settings)
    mode = db.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        db.close()
        raise failures.misplaced(path, f"is on a file system without shared memory (journal mode {mode})")
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads. It never moves the write-ahead log, not even when it is the last one."""
    return _connect(path, "ro", ["PRAGMA wal_autocheckpoint = 0"])


def check(db: sqlite3.Connection, path: Path, max_bytes: int | None = CHECK_MAX_BYTES) -> None:
    """Look for damage: the whole file where it is not larger than `max_bytes`. Raises `StoreCorrupt`."""
    pages = int(db.execute("PRAGMA page_count").fetchone()[0])
    page_bytes = int(db.execute("PRAGMA page_size").fetchone()[0])
    if max_bytes is not None and pages * page_bytes > max_bytes:
        return
    found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found != "ok":
        raise failures.corrupt(path, " ".join(found.split())[:200])


def open_checked(path: Path) -> sqlite3.Connection:
    """Prepare, open, check and migrate; the writer's connection. Raises `StoreUnavailable`."""
    try:
        db = open_writer(path)
    except sqlite3.Error as error:
        raise failures.from_sqlite(error, path) from error
    try:
        check(db, path)
        schema.migrate(db, path, schema.migrations())
    except sqlite3.Error as error:
        db.close()
        raise failures.from_sqlite(error, path) from error
    except BaseException:
        db.close()
        raise
    return db


class LogBound:
    """Keeps the write-ahead log from growing for ever under readers that overlap without a pause.

    The usual checkpoint never waits, so it can move the log's content but start it anew only at a moment at
    which nobody reads. Here the writer, which alone may do this, waits for such a moment. A program that
    holds a read open by hand is not waited for long; the next try comes when the log has doubled.
    """

    def __init__(self, path: Path) -> None:
        self._log = path.with_name(path.name + "-wal")
        self._next_bytes = WAL_MAX_BYTES

    def hold(self, db: sqlite3.Connection) -> None:
        """Start the log anew where it is too large. Raises `sqlite3.Error`."""
        try:
            size_bytes = self._log.stat().st_size
        except OSError:
            return  # not there, or not to be looked at: then SQLite's own habits must do
        if size_bytes < self._next_bytes:
            return
        db.execute(f"PRAGMA busy_timeout = {WAL_WAIT_MS:d}")
        try:
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS:d}")
        self._next_bytes = 2 * size_bytes if busy else WAL_MAX_BYTES


def _connect(path: Path, mode: str, settings: Sequence[str]) -> sqlite3.Connection:
    # Each connection stays in one thread, but is closed by whoever ends that thread.
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_MS / 1000,
        check_same_thread=False,
        cached_statements=64,
    )
    try:
        for setting in [f"PRAGMA cache_size = -{CACHE_KIB:d}", *settings]:
            db.execute(setting)
    except BaseException:
        db.close()
        raise
    return db


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable, as its content will be."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock the file. Somebody who only looks at whether it is locked holds it for an instant: look again."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            select.select([], [], [], LOCK_WAIT_S)  # this is the writer's own thread
        else:
            return True
    return False


def _pid(text: bytes) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
