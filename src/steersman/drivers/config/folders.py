"""The hash of a folder: of the names, kinds, permissions and contents of all that is in it. Blocks.

No link is followed, also where one is put in the place of a folder meanwhile: each folder is opened in the
one above it. What is no file, folder or link counts by its kind alone and is not opened.
"""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from steersman.drivers.config.options import WatchedFolder
from steersman.drivers.watch.files import CHUNK_BYTES, time_of

RACY = timedelta(seconds=2)
"""What changed this short ago may have changed again within one tick of the file system's time stamps."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _Unread(Exception):
    """Why there is no hash."""


class FolderHash:
    """Hashes one folder; what has not changed since the last time is not read again."""

    def __init__(self, folder: WatchedFolder) -> None:
        self._folder = folder
        self._known: dict[bytes, tuple[tuple[int, ...], str]] = {}

    def read(self, now: datetime) -> dict[str, Any]:
        """The fields of a look: a hash, or the problem why there is none."""
        fields: dict[str, Any] = {"present": True}
        try:
            root = os.open(self._folder.path, _FOLDER)
        except FileNotFoundError:
            return {"present": False}
        except OSError as error:
            known = not isinstance(error, PermissionError)
            return {"present": True if known else None, "problem": _reason(error)}
        walk = _Walk(self._folder, self._known, now)
        try:
            walk.enter(root, b"", 1)
            digest = hashlib.sha256()
            for name, record in sorted(walk.records.items()):
                digest.update(
                    name + b"\0" + record + b"\0"
                )  # neither holds a NUL: it can be read one way only
            fields |= {"config_hash": "sha256:" + digest.hexdigest(), "size_bytes": walk.size}
            self._known = walk.read
        except _Unread as problem:
            fields["problem"] = str(problem)
        except OSError as error:
            fields["problem"] = _reason(error)
        finally:
            os.close(root)
        return fields | {"entries": len(walk.records), "modified_at": time_of(walk.newest)}


class _Walk:
    """One way through a folder."""

    def __init__(
        self, folder: WatchedFolder, known: dict[bytes, tuple[tuple[int, ...], str]], now: datetime
    ) -> None:
        self._folder = folder
        self._known = known
        self._now = now
        self.records: dict[bytes, bytes] = {}
        self.read: dict[bytes, tuple[tuple[int, ...], str]] = {}
        self.size = 0
        self.newest = 0.0

    def enter(self, folder: int, prefix: bytes, depth: int) -> None:
        """Take all that is in a folder. Raises `_Unread`, `OSError`."""
        if depth > self._folder.depth_max:
            raise _Unread(f"deeper than {self._folder.depth_max} folders")
        self._note_time(os.fstat(folder))
        with os.scandir(folder) as entries:
            for entry in entries:
                if not any(fnmatchcase(entry.name, pattern) for pattern in self._folder.exclude):
                    if len(self.records) >= self._folder.entries_max:
                        raise _Unread(f"more than {self._folder.entries_max} entries")
                    self._take(folder, entry.name, prefix + os.fsencode(entry.name), depth)

    def _take(self, folder: int, name: str, path: bytes, depth: int) -> None:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            self.records[path] = f"d {mode:o}".encode()
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            try:
                self.enter(below, path + b"/", depth + 1)
            finally:
                os.close(below)
        elif stat.S_ISLNK(status.st_mode):
            self.records[path] = b"l " + os.fsencode(os.readlink(name, dir_fd=folder))
        elif stat.S_ISREG(status.st_mode):
            self.records[path] = f"f {mode:o} {self._content(folder, name, path, status)}".encode()
        else:
            self.records[path] = f"{stat.S_IFMT(status.st_mode):o} {mode:o}".encode()

    def _content(self, folder: int, name: str, path: bytes, status: os.stat_result) -> str:
        self._note_time(status)
        self.size += status.st_size
        if self.size > self._folder.max_bytes:
            raise _Unread(f"larger than {self._folder.max_bytes}")
        version = _version(status)
        known = self._known.get(path)
        if known is None or known[0] != version:
            descriptor = os.open(name, _FILE, dir_fd=folder)
            try:
                digest = hashlib.sha256()
                left = status.st_size
                while chunk := os.read(descriptor, CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        break
                    digest.update(chunk)
                if left or _version(os.fstat(descriptor)) != version:
                    raise _Unread("changes while it is read")
            finally:
                os.close(descriptor)
            known = (version, digest.hexdigest())
        self.read[path] = known
        return known[1]

    def _note_time(self, status: os.stat_result) -> None:
        self.newest = max(self.newest, status.st_mtime)
        changed = time_of(max(status.st_mtime, status.st_ctime))
        if changed is not None and abs(self._now - changed) < RACY:
            raise _Unread("changed a moment ago; hashed at the next look")


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _reason(error: OSError) -> str:
    name = error.filename if isinstance(error.filename, str) else ""
    return f"{name + ': ' if name else ''}{(error.strerror or type(error).__name__).lower()}"
