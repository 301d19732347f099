"""From readings of watched files to `config_snapshot` facts: what is held to be right, and what differs.

The baseline is the configured hash. Without one it is the first content that was seen, and then the fragment
says so (`baseline_from: first_seen`), because "unchanged since we looked" is less than "right". First-seen
hashes live as long as the process, or longer in the file that `baselines` names.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Struct, field

from steersman.drivers.watch.files import FileReading, open_regular, read_watched
from steersman.drivers.watch.options import WatchedFile

BASELINES_MAX = 4096
BASELINES_MAX_BYTES = 4 * 1024 * 1024


class Baseline(Struct, frozen=True):
    """A hash that was first seen at a time."""

    hash: str
    at: datetime


class FileFacts(Struct):
    """What is to be told of one watched file."""

    path: str
    name: str | None
    fields: dict[str, Any]
    clear: tuple[str, ...] = ()


class FilesPicture(Struct):
    """All watched files, and what could not be done."""

    files: list[FileFacts] = field(default_factory=list[FileFacts])
    warnings: list[str] = field(default_factory=list[str])


class Baselines:
    """What is held to be right where the configuration does not say: what was seen first.

    `kept_in` is a file in which that outlives this process. With a `seal_key` each hash that is told or kept
    is one that nobody can guess at without it (see `seal`). Blocks.
    """

    def __init__(self, kept_in: str | None, seal_key: bytes | None = None) -> None:
        self._kept_in = kept_in
        self._seal_key = seal_key
        self._first: dict[str, Baseline] | None = None
        self._changed = False
        self._writable = True
        self._lock = threading.Lock()  # the lanes of a driver share it

    def load(self, warnings: list[str]) -> dict[str, Baseline]:
        """What was seen first, by key; read from its file once."""
        with self._lock:
            if self._first is None:
                self._first = self._read(warnings)
            return self._first

    def judge(
        self, fields: dict[str, Any], key: str, configured: str | None, warnings: list[str], now: datetime
    ) -> dict[str, Any]:
        """The fields of a look with what is held to be right and whether they differ from it."""
        first = self.load(warnings)
        read: str | None = fields.get("config_hash")
        sealed = self._seal_key is not None
        found = seal(read, self._seal_key)
        told = {**fields, "config_hash": found}
        if sealed:
            told.pop("size_bytes", None)  # the length of a short secret is half of the guess
        if configured is None and found is not None and key not in first and len(first) < BASELINES_MAX:
            first[key] = Baseline(found, now)
            self._changed = True
        kept = first.get(key)
        baseline = seal(configured, self._seal_key) or (kept.hash if kept else None)
        if baseline is not None:
            told["baseline_hash"] = baseline
            told["baseline_from"] = "configured" if configured else "first_seen"
            if configured is None and kept is not None:
                told["baseline_at"] = kept.at
            if found is not None:
                told["drift"] = found != baseline
            elif fields.get("present") is False:
                told["drift"] = True  # there should be something, and there is nothing
        return told

    def save(self, warnings: list[str]) -> None:
        """Keep what was seen first, where that changed."""
        with self._lock:
            self._save(warnings)

    def _save(self, warnings: list[str]) -> None:
        if not self._changed or self._first is None:
            return
        self._changed = False
        if self._kept_in is None or not self._writable:
            return
        temporary = f"{self._kept_in}.new"
        try:
            with open(temporary, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self._first)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._kept_in)
        except OSError as error:
            warnings.append(f"baselines {self._kept_in} can't be written: {error.strerror}")

    def _read(self, warnings: list[str]) -> dict[str, Baseline]:
        if self._kept_in is None:
            return {}
        try:
            with os.fdopen(open_regular(self._kept_in), "rb") as file:
                return msgspec.json.decode(file.read(BASELINES_MAX_BYTES), type=dict[str, Baseline])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            # Never overwritten: a person may want to mend it, and what it held is the only memory there is.
            self._writable = False
            reason = error.strerror if isinstance(error, OSError) else "it is not a file of baselines"
            warnings.append(
                f"baselines {self._kept_in} can't be read ({reason}): first-seen hashes are of this run only"
            )
            return {}


def seal(plain: str | None, key: bytes | None) -> str | None:
    """The hash, or its HMAC: whoever may read the hash of a short secret could try all short secrets."""
    if plain is None or key is None:
        return plain
    return "hmac-sha256:" + hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()


class Snapshots:
    """Watches files from one reading to the next. Blocks: it runs in a lane."""

    def __init__(self, files: list[WatchedFile], baselines: Baselines) -> None:
        self._files = files
        self._baselines = baselines

    def read(self, now: datetime) -> FilesPicture:
        """Every watched file now. One that can't be read costs only itself."""
        seen = FilesPicture()
        first = self._baselines.load(seen.warnings)
        told: set[str] = set()
        for watched in self._files:
            readings = read_watched(watched, now, seen.warnings)
            read = {reading.path for reading in readings}
            if len(readings) != 1 or readings[0].path != watched.path:
                # A file that a pattern once matched and that is no longer there is missing, not forgotten.
                readings += self._missing(watched, read, first)
            for reading in readings:
                if reading.path not in told:
                    told.add(reading.path)
                    seen.files.append(_facts(watched, reading, self._baselines, seen.warnings, now))
        self._baselines.save(seen.warnings)
        return seen

    def _missing(self, watched: WatchedFile, read: set[str], first: dict[str, Baseline]) -> list[FileReading]:
        gone = [path for path in first if path not in read and _stands_for(watched.path, path)]
        return [FileReading(path=path, present=False) for path in gone if not os.path.lexists(path)]


def _stands_for(pattern: str, path: str) -> bool:
    """Whether a pattern stands for a path: part by part, as when it was expanded."""
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(map(fnmatchcase, names, parts))


def _facts(
    watched: WatchedFile, reading: FileReading, baselines: Baselines, warnings: list[str], now: datetime
) -> FileFacts:
    fields: dict[str, Any] = {
        "present": reading.present,
        "config_hash": reading.hash,
        "size_bytes": reading.size_bytes,
        "modified_at": reading.modified_at,
        "link_target": reading.link_target,
        "problem": reading.problem,
    }
    told = baselines.judge(fields, reading.path, watched.baseline, warnings, now)
    return FileFacts(reading.path, watched.name, told, cleared(told))


def cleared(fields: dict[str, Any]) -> tuple[str, ...]:
    """The fields that are no more, by what this look says."""
    gone = (
        ()
        if fields.get("config_hash") or fields.get("present") is not False
        else ("config_hash", "size_bytes")
    )
    return gone + (("problem",) if fields.get("problem") is None else ())
