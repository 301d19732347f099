"""What can go wrong with the file, each as a typed error that names it and says what to do."""

from __future__ import annotations

import errno
import glob
import os
import resource
import sqlite3
from pathlib import Path

from steersman.kernel.bounds import MIB
from steersman.store.api import StoreUnavailable

NOT_DONE = "not_done"
UNKNOWN = "unknown"

_NEARLY_FULL_BYTES = MIB  # an I/O error with less than this left is the disk being full


class StoreLocked(StoreUnavailable):
    """Another program has the file. `facts`: `file` and, where known, `pid`."""

    code = "store_locked"
    title = "Store file in use"


class StoreFull(StoreUnavailable):
    """The disk, quota or file size limit is reached. Reading goes on; writing does when there is space."""

    code = "store_full"
    title = "No space for the store"


class StoreCorrupt(StoreUnavailable):
    """The file is not what SQLite wrote. Nothing was changed or deleted. `facts`: `file`."""

    code = "store_corrupt"
    title = "Store file damaged"


class StoreReadOnly(StoreUnavailable):
    """The file, its folder or its disk can't be written. `facts`: `file`."""

    code = "store_read_only"
    title = "Store file can't be written"


class StoreMisplaced(StoreUnavailable):
    """The path can't be a store file: no such folder, a folder itself, another program's database."""

    code = "store_misplaced"
    title = "No store can be there"


class StoreTooNew(StoreUnavailable):
    """The file was written by a newer Steersman, whose layout this one doesn't know."""

    code = "store_too_new"
    title = "Store file from a newer version"


def locked(path: Path, pid: int | None = None, outcome: str = NOT_DONE) -> StoreLocked:
    """Another holder of the file."""
    whose = f"process {pid}" if pid is not None else "another program"
    facts = {"pid": pid} if pid is not None else {}
    return StoreLocked(
        f"{path} is in use by {whose}: stop it, or give this one a store of its own",
        file=str(path),
        outcome=outcome,
        **facts,
    )


def full(path: Path, outcome: str = NOT_DONE) -> StoreFull:
    """No space left."""
    return StoreFull(
        f"{path} can't grow: the disk (or a quota or file size limit) is full; make space, no restart is "
        "needed; reading goes on meanwhile",
        file=str(path),
        outcome=outcome,
    )


def corrupt(path: Path, found: str, outcome: str = NOT_DONE) -> StoreCorrupt:
    """Damage, with what was found first."""
    return StoreCorrupt(
        f"{path} is damaged ({found}): nothing was changed; move it away together with its -wal file and "
        f"restore a copy, or rescue what is readable with: sqlite3 {path.name} .recover",
        file=str(path),
        outcome=outcome,
    )


def read_only(path: Path, outcome: str = NOT_DONE) -> StoreReadOnly:
    """No permission, or a read-only disk."""
    return StoreReadOnly(
        f"{path} can't be written: check the owner and mode of the file and its folder, and that the disk is "
        "not mounted read-only",
        file=str(path),
        outcome=outcome,
    )


def misplaced(path: Path, what: str) -> StoreMisplaced:
    """A path that names no possible store file."""
    return StoreMisplaced(f"{path} {what}", file=str(path), outcome=NOT_DONE)


def too_new(path: Path, schema: int, known: int) -> StoreTooNew:
    """A schema from the future."""
    return StoreTooNew(
        f"{path} has schema {schema}, this version knows up to {known}: start the newer Steersman that wrote "
        "it, or restore a copy from before the upgrade; nothing was changed",
        file=str(path),
        schema=schema,
        known=known,
        outcome=NOT_DONE,
    )


def from_sqlite(error: sqlite3.Error, path: Path, outcome: str = NOT_DONE) -> StoreUnavailable:
    """SQLite's error as ours. `outcome` says whether the writes it broke off may have been made."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _is_full(path)):
        return full(path, outcome)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return locked(path, outcome=outcome)
    # SQLITE_ERROR: our statements are fixed, so one that makes no sense has met tables that are not ours.
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return corrupt(path, str(error), outcome)
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return read_only(path, outcome)
    return StoreUnavailable(
        f"{path}: {error} ({getattr(error, 'sqlite_errorname', type(error).__name__)}): look at the system "
        "log for disk errors; what was acknowledged before is on the disk",
        file=str(path),
        outcome=outcome,
    )


def from_os(error: OSError, path: Path) -> StoreUnavailable:
    """The operating system's error, before SQLite had the file."""
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return read_only(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full(path)
    return StoreUnavailable(f"{path}: {error.strerror or error}", file=str(path), outcome=NOT_DONE)


def _is_full(path: Path) -> bool:
    """Whether an I/O error comes from there being no space: SQLite tells only ENOSPC apart."""
    limit_bytes = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    try:
        disk = os.statvfs(path.parent)
        sizes_bytes = [file.stat().st_size for file in path.parent.glob(f"{glob.escape(path.name)}*")]
    except OSError:
        return False
    if (
        limit_bytes != resource.RLIM_INFINITY
        and max(sizes_bytes, default=0) + _NEARLY_FULL_BYTES > limit_bytes
    ):
        return True
    return disk.f_bavail * disk.f_frsize < _NEARLY_FULL_BYTES
