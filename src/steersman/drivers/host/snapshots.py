"""From readings of watched files to `config_snapshot` facts: what is held to be right, and what differs.

The baseline is the configured hash. Without one it is the first content that was seen, and then the fragment
says so (`baseline_from: first_seen`), because "unchanged since we looked" is less than "right". First-seen
hashes live as long as the process, or longer in the file that `baselines` names.
"""

from __future__ import annotations

import os
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Struct, field

from steersman.drivers.host.files import FileReading, open_regular, read_watched
from steersman.drivers.host.options import WatchedFile

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


class Snapshots:
    """Watches files from one reading to the next. Blocks: it runs in a lane."""

    def __init__(self, files: list[WatchedFile], baselines: str | None) -> None:
        self._files = files
        self._kept_in = baselines
        self._first: dict[str, Baseline] | None = None
        self._writable = True

    def read(self, now: datetime) -> FilesPicture:
        """Every watched file now. One that can't be read costs only itself."""
        seen = FilesPicture()
        first = self._first
        if first is None:
            first = self._first = self._load(seen.warnings)
        before = len(first)
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
                    seen.files.append(_facts(watched, reading, first, now))
        if len(first) != before:
            self._save(first, seen.warnings)
        return seen

    def _missing(self, watched: WatchedFile, read: set[str], first: dict[str, Baseline]) -> list[FileReading]:
        gone = [path for path in first if path not in read and _stands_for(watched.path, path)]
        return [FileReading(path=path, present=False) for path in gone if not os.path.lexists(path)]

    def _load(self, warnings: list[str]) -> dict[str, Baseline]:
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

    def _save(self, first: dict[str, Baseline], warnings: list[str]) -> None:
        if self._kept_in is None or not self._writable:
            return
        temporary = f"{self._kept_in}.new"
        try:
            with open(temporary, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(first)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._kept_in)
        except OSError as error:
            warnings.append(f"baselines {self._kept_in} can't be written: {error.strerror}")


def _stands_for(pattern: str, path: str) -> bool:
    """Whether a pattern stands for a path: part by part, as when it was expanded."""
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(map(fnmatchcase, names, parts))


def _facts(
    watched: WatchedFile, reading: FileReading, first: dict[str, Baseline], now: datetime
) -> FileFacts:
    fields: dict[str, Any] = {
        "present": reading.present,
        "config_hash": reading.hash,
        "size_bytes": reading.size_bytes,
        "modified_at": reading.modified_at,
        "link_target": reading.link_target,
        "problem": reading.problem,
    }
    unseen = reading.path not in first and len(first) < BASELINES_MAX
    if watched.baseline is None and reading.hash is not None and unseen:
        first[reading.path] = Baseline(reading.hash, now)
    kept = first.get(reading.path)
    baseline = watched.baseline or (kept.hash if kept else None)
    if baseline is not None:
        fields["baseline_hash"] = baseline
        fields["baseline_from"] = "configured" if watched.baseline else "first_seen"
        if watched.baseline is None and kept is not None:
            fields["baseline_at"] = kept.at
        if reading.hash is not None:
            fields["drift"] = reading.hash != baseline
        elif reading.present is False:
            fields["drift"] = True  # there should be something, and there is nothing
    gone = () if reading.hash is not None or reading.present is not False else ("config_hash", "size_bytes")
    cleared = ("problem",) if reading.problem is None else ()
    return FileFacts(reading.path, watched.name, fields, gone + cleared)
