"""The bus over a restart: written to the store as soft state, and read back with true ages (decision 0011).

Entities are dealt to buckets by a hash of their key; only buckets in which something changed are written.
Work is done in slices of a few milliseconds, so that the loop is never held. A damaged or newer bucket is
reported and left out; the others load, and what was in it is observed again.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from datetime import timedelta

from msgspec import Struct, field

from steersman.kernel.bounds import MIB
from steersman.kernel.clock import Clock
from steersman.kernel.errors import SteersmanError
from steersman.kernel.logging import get_logger
from steersman.state.bus import StateBus
from steersman.state.cell import Cell
from steersman.state.revisions import RevisionBlocks
from steersman.state.saved import (
    BucketDamaged,
    SavedCell,
    pack,
    pack_drift,
    restore_cell,
    save_cell,
    saved_lives,
    saved_ties,
    unpack,
    unpack_drift,
)
from steersman.store.api import VALUE_MAX_BYTES, Delete, Put, Store, Write

PREFIX = "soft/bus/entities/"
DRIFT_KEY = "soft/bus/drift"
BUCKETS = 1024
"""110 entities in each at 112,500: about 2 ms to write one."""
INTERVAL_S = 60.0
"""How much of the picture a crash may cost: what a fleet tells again within a minute anyway."""
PART_ENTITIES_MAX = 256
PAGE_RECORDS = 16
_KEY = re.compile(re.escape(PREFIX) + r"([0-9a-f]{4})/[0-9a-f]{4,}")
COMMIT_BYTES_MAX = 2 * MIB
COMMIT_WRITES_BATCH = 64
WARNINGS_MAX = 100
SLICE_CELLS = 5_000
CLOCK_STEP_S = 5.0
"""A wall clock that has moved so far against monotonic time since a bucket was saved was set: what is in the
bucket would come back older or younger by that, so it is written anew."""

_log = get_logger("state.checkpoint")


class SaveReport(Struct, frozen=True):
    """What one save wrote: buckets and bytes, of how many entities, up to which bus revision; `dropped`
    entities were too large for the store."""

    buckets: int
    bytes: int
    entities: int
    revision: int
    dropped: int = 0


class RestoreReport(Struct, frozen=True):
    """What a restore brought back; `warnings` name what was left out and why."""

    entities: int
    tombstones: int
    warnings: tuple[str, ...] = field(default_factory=tuple)


class _Group:
    """A bucket's cells during one save."""

    __slots__ = ("cells", "newest")

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.newest = 0


class Checkpoint:
    """Saves one bus to one store, and restores it.

    `revisions`, where given, holds the bus to what is reserved, and is renewed with each save.
    """

    def __init__(
        self, bus: StateBus, store: Store, clock: Clock, *, revisions: RevisionBlocks | None = None
    ) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._revisions = revisions
        if revisions is not None:
            bus.grant_revisions(revisions.ceiling)
        self._saved: dict[int, tuple[int, int]] = {}  # bucket: newest revision in it, number of cells
        self._keys: dict[int, tuple[str, ...]] = {}  # bucket: the store's keys that hold it
        self._ahead_s = self._wall_ahead_s()
        self._drift_saved = 0
        self.failures = 0
        """Saves in a row that failed."""

    async def restore(self) -> RestoreReport:
        """Bring back what was saved; for the start, before fragments come. Entities that the bus has already
        are left as they are. Raises `StoreUnavailable` and the store's other errors."""
        warnings: list[str] = []
        entities = tombstones = 0
        after: str | None = None
        revision: int | None = None
        while True:
            page = await self._store.list(PREFIX, PAGE_RECORDS, after, revision)
            for record in page.records:
                if not self._remember_key(record.key):
                    _warn(warnings, f"store key {record.key}: no key that this version writes")
                    continue
                lived, dead = self._restore_part(record.key, record.value, warnings)
                entities += lived
                tombstones += dead
                await self._clock.sleep(0)
            after, revision = page.after, page.revision
            if after is None:
                break
        await self._restore_drift(warnings)
        for warning in warnings:
            _log.warning("checkpoint_part_left_out", detail=warning)
        return RestoreReport(entities, tombstones, tuple(warnings))

    async def save(self) -> SaveReport:
        """Write the buckets in which something changed since the last save. Raises the store's errors; what
        was not written then is written by the next save."""
        if self._revisions is not None:
            self._bus.grant_revisions(await self._revisions.renew(self._bus.revision))
        revision = self._bus.revision
        buckets = written = entities = dropped = 0
        writes: list[Write] = []
        done: dict[int, tuple[tuple[int, int], tuple[str, ...]]] = {}
        size = 0
        for bucket, group in sorted((await self._dirty()).items()):
            parts, lost = self._encode(bucket, group.cells)
            await self._clock.sleep(0)
            dropped += lost
            entities += len(group.cells)
            buckets += 1
            done[bucket] = ((group.newest, len(group.cells)), tuple(parts))
            gone = [key for key in self._keys.get(bucket, ()) if key not in parts]
            bucket_size = sum(len(value) for value in parts.values())
            if writes and (
                size + bucket_size > COMMIT_BYTES_MAX
                or len(writes) + len(parts) + len(gone) > COMMIT_WRITES_BATCH
            ):
                await self._commit(writes, done, keep=bucket)
                writes, size = [], 0
            writes += [Put(key, value) for key, value in parts.items()]
            writes += [Delete(key) for key in gone]
            size += bucket_size
            written += bucket_size
        await self._commit(writes, done, keep=None)
        await self._save_drift()
        return SaveReport(buckets, written, entities, revision, dropped)

    async def _save_drift(self) -> None:
        log = self._bus.drift_log
        if log.changes != self._drift_saved:
            changes = log.changes
            await self._store.commit([], [Put(DRIFT_KEY, pack_drift(log.read()))])
            self._drift_saved = changes

    async def _restore_drift(self, warnings: list[str]) -> None:
        record = await self._store.get(DRIFT_KEY)
        if record is None:
            return
        try:
            self._bus.drift_log.restore(unpack_drift(record.value))
        except BucketDamaged as error:
            _warn(warnings, f"store key {DRIFT_KEY}: {error.detail}")

    async def run(self, interval_s: float = INTERVAL_S) -> None:
        """Save at intervals until cancelled. A save that fails is told and tried again the next time: the
        picture is soft, and the bus goes on."""
        while True:
            await self._clock.sleep(interval_s)
            try:
                await self.save()
            except SteersmanError as error:
                self.failures += 1
                _log.warning(
                    "checkpoint_failed", code=error.code, detail=error.detail, failures=self.failures
                )
            else:
                self.failures = 0

    async def _dirty(self) -> dict[int, _Group]:
        """The buckets that must be written, with their cells."""
        ahead_s = self._wall_ahead_s()
        if abs(ahead_s - self._ahead_s) > CLOCK_STEP_S:
            self._ahead_s = ahead_s
            self._saved.clear()
        groups: dict[int, _Group] = {}
        for start, cells in _slices(self._bus.cells()):
            if start:
                await self._clock.sleep(0)
            for cell in cells:
                if cell.revision < 0:
                    continue
                bucket = cell.bucket
                if bucket < 0:
                    bucket = cell.bucket = bucket_of(cell)
                group = groups.get(bucket)
                if group is None:
                    group = groups[bucket] = _Group()
                group.cells.append(cell)
                group.newest = max(group.newest, cell.revision)
        for bucket in (*self._saved, *self._keys):  # those that are empty now
            groups.setdefault(bucket, _Group())
        return {
            bucket: group
            for bucket, group in groups.items()
            if self._saved.get(bucket) != (group.newest, len(group.cells))
        }

    def _wall_ahead_s(self) -> float:
        now = self._bus.moment()
        return now.wall.timestamp() - now.monotonic

    def _encode(self, bucket: int, cells: list[Cell]) -> tuple[dict[str, bytes], int]:
        """A bucket as store records by key, and how many entities had to be left out."""
        now = self._bus.moment()
        parts: dict[str, bytes] = {}
        dropped = 0
        pending = [cells[i : i + PART_ENTITIES_MAX] for i in range(0, len(cells), PART_ENTITIES_MAX)]
        while pending:
            some = pending.pop(0)
            saved = [
                save_cell(
                    c,
                    now,
                    self._bus.tombstone_left_s(c),
                    self._bus.links.ties(c.key),
                    self._bus.links.kept_lives(c),
                )
                for c in some
                if c.revision >= 0
            ]
            if not saved:
                continue
            try:
                value = pack(now.wall, saved)
                problem = "" if len(value) <= VALUE_MAX_BYTES else f"{len(value)} bytes"
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                value, problem = b"", str(error)  # a driver put something into a fragment that is no data
            if not problem:
                parts[f"{PREFIX}{bucket:04x}/{len(parts):04x}"] = value
            elif len(some) > 1:
                half = len(some) // 2
                pending[:0] = [some[:half], some[half:]]
            else:
                dropped += 1
                _log.warning("checkpoint_entity_left_out", entity=str(some[0].key), problem=problem)
        return parts, dropped

    async def _commit(
        self,
        writes: list[Write],
        done: dict[int, tuple[tuple[int, int], tuple[str, ...]]],
        keep: int | None,
    ) -> None:
        """Write, and only then take the buckets as saved; all of `done` but `keep`.

        The keys count as written from the start: a commit that fails may have been made all the same, and
        what it wrote must go with the next one, or it would come back with the next restore.
        """
        for bucket, (_, keys) in done.items():
            if bucket != keep:
                self._keys[bucket] = tuple(dict.fromkeys((*self._keys.get(bucket, ()), *keys)))
        if writes:
            await self._store.commit([], writes)
        for bucket in [bucket for bucket in done if bucket != keep]:
            state, keys = done.pop(bucket)
            if keys:
                self._saved[bucket], self._keys[bucket] = state, keys
            else:
                self._saved.pop(bucket, None)
                self._keys.pop(bucket, None)

    def _restore_part(self, key: str, value: bytes, warnings: list[str]) -> tuple[int, int]:
        try:
            bucket = unpack(value)
        except BucketDamaged as error:
            _warn(warnings, f"store key {key}: {error.detail}")
            return 0, 0
        now = self._bus.moment()
        elapsed_s = max(0.0, (now.wall - bucket.saved_at) / timedelta(seconds=1))
        entities = tombstones = 0
        for saved in bucket.cells:
            try:
                if self._adopt(saved, elapsed_s):
                    entities += bool(saved.layers)
                    tombstones += not saved.layers
            except (SteersmanError, ValueError) as error:  # no room, or what this version does not take
                _warn(warnings, f"store key {key}: {saved.entity_type}/{saved.entity_id}: {error}")
        return entities, tombstones

    def _adopt(self, saved: SavedCell, elapsed_s: float) -> bool:
        now = self._bus.moment()
        left_s = saved.tombstone_left_s - elapsed_s
        if not saved.layers and left_s <= 0:
            return False
        cell = restore_cell(saved, now, elapsed_s, self._bus.source_of, self._bus.revision)
        lives = saved_lives(saved, now, elapsed_s, self._bus.revision)
        return self._bus.adopt(cell, now, left_s, saved_ties(saved), lives)

    def _remember_key(self, key: str) -> bool:
        """A key of a bucket that was saved before: written over or deleted by the first save. False where it
        is none of ours, which is then let be."""
        match = _KEY.fullmatch(key)
        if match is None:
            return False
        bucket = int(match[1], 16)
        self._keys[bucket] = (*self._keys.get(bucket, ()), key)
        return True


def _warn(warnings: list[str], line: str) -> None:
    if len(warnings) < WARNINGS_MAX:
        warnings.append(line)


def bucket_of(cell: Cell) -> int:
    """The bucket of a cell: the same in every process and version."""
    return zlib.crc32(str(cell.key).encode()) % BUCKETS


def _slices(cells: list[Cell]) -> Iterable[tuple[int, list[Cell]]]:
    for start in range(0, len(cells), SLICE_CELLS):
        yield start, cells[start : start + SLICE_CELLS]
