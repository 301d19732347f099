"""The client of watched files: their hashes, read whole or not at all. Blocks; content is never kept.

Present, missing and unreadable are three facts. A file that changes while it is read is read again, so that
no hash is of a mixture of two versions.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from msgspec import Struct

from steersman.drivers.watch.options import WatchedFile

READ_ATTEMPTS_MAX = 3
CHUNK_BYTES = 256 * 1024
RACY = timedelta(seconds=2)
"""A file that changed this short before it was read may have changed again without a new time stamp: the
kernel stamps in ticks of some milliseconds, FAT in two seconds. It is hashed when it has settled."""
MATCHES_MAX = 256
"""Files that one pattern may stand for."""
ENTRIES_MAX = 20_000
"""Folder entries that are looked at for one pattern."""

_MAGIC = frozenset("*?[")


class NotRegular(OSError):
    """A pipe, a socket, a device or a folder where a file was expected. It was not opened."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "not a regular file", path)


class FileReading(Struct, kw_only=True):
    """One look at one path. `present` is None where even that can't be told; `problem` says why there is no
    hash of a file that is there. `hash` is `sha256:` and 64 hex digits."""

    path: str
    present: bool | None
    hash: str | None = None
    size_bytes: int | None = None
    modified_at: datetime | None = None
    link_target: str | None = None
    problem: str | None = None


def read_watched(watched: WatchedFile, now: datetime, warnings: list[str]) -> list[FileReading]:
    """The file, or every file that the pattern matches, in order of name."""
    if not _MAGIC & set(watched.path):
        return [read_file(watched.path, watched.max_bytes, watched.follow_symlinks, now)]
    matches = sorted(_expand(watched.path, warnings))
    if len(matches) > MATCHES_MAX:
        warnings.append(f"{watched.path} matches {len(matches)} files; the first {MATCHES_MAX} are watched")
    return [
        read_file(path, watched.max_bytes, watched.follow_symlinks, now) for path in matches[:MATCHES_MAX]
    ]


def read_file(path: str, max_bytes: int, follow_symlinks: bool, now: datetime) -> FileReading:
    """Hash one file, `now` being the time of day."""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) and not follow_symlinks:
            target = os.readlink(path)
            return FileReading(
                path=path, present=True, hash=_hash_of(os.fsencode(target)), link_target=target
            )
        for _ in range(READ_ATTEMPTS_MAX):
            reading = _read_once(path, max_bytes, follow_symlinks)
            if reading is None:
                continue
            racy = reading.modified_at is not None and abs(now - reading.modified_at) < RACY
            if racy and reading.hash is not None:
                reading.hash, reading.problem = None, "changed a moment ago; hashed at the next look"
            return reading
    except FileNotFoundError:
        return FileReading(path=path, present=False)
    except NotRegular as error:
        return FileReading(path=path, present=True, problem=error.strerror)
    except OSError as error:
        known = error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP)
        return FileReading(path=path, present=_is_there(path) if known else None, problem=_reason(error))
    return FileReading(path=path, present=True, problem="changes faster than it can be read")


def open_regular(path: str, *, follow_symlinks: bool = True) -> int:
    """A descriptor of a file that is one, to read. Never waits. Raises `NotRegular`, `OSError`.

    Anything else is not even opened: opening has effects of its own. A program that waits for a reader of
    its pipe would write into nothing and die of it, a watchdog would be armed, a tape would be wound.
    """
    if not stat.S_ISREG(os.stat(path, follow_symlinks=follow_symlinks).st_mode):
        raise NotRegular(path)
    # What was a file a moment ago may be something else now: it is not waited for, and judged again.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags | (0 if follow_symlinks else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(path)
    return descriptor


def time_of(seconds: float) -> datetime | None:
    """A file's time stamp; None for one that no calendar holds (some file systems keep 64 bits of it)."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _read_once(path: str, max_bytes: int, follow_symlinks: bool) -> FileReading | None:
    """One attempt; None where the file changed under our hands."""
    descriptor = open_regular(path, follow_symlinks=follow_symlinks)
    try:
        before = os.fstat(descriptor)
        reading = FileReading(
            path=path,
            present=True,
            size_bytes=before.st_size,
            modified_at=time_of(before.st_mtime),
        )
        digest = hashlib.sha256()
        size = 0
        while chunk := os.read(descriptor, min(CHUNK_BYTES, max_bytes + 1 - size)):
            size += len(chunk)
            if size > max_bytes:
                reading.problem = f"larger than {max_bytes} bytes"
                return reading
            digest.update(chunk)
        reading.size_bytes = size
        reading.hash = "sha256:" + digest.hexdigest()
        unchanged = _version(before) == _version(os.fstat(descriptor)) == _version(os.stat(path))
        return reading if unchanged else None
    finally:
        os.close(descriptor)


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_there(path: str) -> bool | None:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def _expand(pattern: str, warnings: list[str]) -> list[str]:
    """Paths that match, one folder level for each part of the pattern. Names with a leading dot need one."""
    found = ["/"]
    budget = ENTRIES_MAX
    for part in pattern.strip("/").split("/"):
        if not _MAGIC & set(part):
            found = [os.path.join(folder, part) for folder in found]
            continue
        matched: list[str] = []
        for folder in found:
            for name in _names(folder):
                budget -= 1
                if budget < 0:
                    warnings.append(
                        f"{pattern}: more than {ENTRIES_MAX} folder entries to look at; the rest is not"
                    )
                    return matched
                if fnmatchcase(name, part) and (not name.startswith(".") or part.startswith(".")):
                    matched.append(os.path.join(folder, name))
        found = matched
    return [path for path in found if os.path.lexists(path) and not os.path.isdir(path)]


def _names(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries)
    except OSError:
        return  # no such folder, or none of our business: nothing in it matches


def _hash_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
