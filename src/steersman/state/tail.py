"""The ordered tail of the outbox: what happened to resources, in the order of the store's revisions.

A reader's cursor is a store revision, and nothing is queued for it. The newest events are in one ring in
memory, fed by one watch of the store and shared by all readers; a reader that is behind the ring reads the
outbox itself, which holds every event until it is retired. So a slow reader holds up nobody and misses
nothing; one that comes back after its events were retired is told so (`lost`).

Rows are written once and never changed, so a row's revision is its place. Whoever retires rows says how far
in the same commit (`RETIRED_KEY`): a reader behind that mark has lost something, every other one has not.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from steersman.kernel.bounds import MIB
from steersman.kernel.clock import Clock
from steersman.kernel.logging import get_logger
from steersman.kinds.command import ResourceEvent
from steersman.kinds.subscription import EVERY_EVENT, EventFilter
from steersman.store.api import Compacted, Event, FutureRevision, Record, Store

OUTBOX = "outbox/"
"""Keys: `outbox/<Kind>/<id>/<seq:012d>`."""
RETIRED_KEY = "outbox-retired"
"""How far rows were deleted: `write_retired`. It sorts before the rows, and is read in their snapshot."""
_WATCHED = "outbox"

RING_EVENTS_MAX = 16_384
RING_MAX_BYTES = 32 * MIB
WINDOW_EVENTS_MAX = 8_192
"""Events that one look into the outbox keeps for readers behind the ring."""
BATCH_EVENTS_MAX = 250
"""Events after which a batch ends, at the next end of a revision."""
SCAN_PAGE = 2_000

_log = get_logger("state.tail")
_event = msgspec.json.Decoder(ResourceEvent)


class Told(Struct, frozen=True, gc=False):
    """One event: the store revision it was written at, the kind of its resource, and its JSON as stored."""

    revision: int
    kind: str
    event: ResourceEvent
    value: bytes


class Batch(Struct, frozen=True):
    """The events that a reader wants between two revisions: behind `after`, up to and with `revision`.

    With `lost`, events behind `after` were retired before this reader came: read the resources again.
    """

    after: int
    revision: int
    events: tuple[Told, ...] = ()
    lost: bool = False


class _Retired(Struct, frozen=True):
    revision: int


class _Run:
    """Events in order; everything behind `base` up to `end` is in here."""

    def __init__(self, base: int, end: int, events: list[Told]) -> None:
        self.base = base
        self.end = end
        self.events = events
        self.revisions = [one.revision for one in events]

    def append(self, told: Told) -> None:
        """Add a newer event."""
        self.events.append(told)
        self.revisions.append(told.revision)

    def behind(self, after: int, limit: int) -> tuple[list[Told], int]:
        """At most `limit` events behind `after` (whole revisions, so perhaps some more), and how far."""
        start = bisect_right(self.revisions, after)
        stop = start + limit
        if stop >= len(self.events):
            return self.events[start:], max(after, self.end)
        reached = self.revisions[stop - 1]
        return self.events[start : bisect_right(self.revisions, reached)], reached


def write_retired(revision: int) -> bytes:
    """The value of `RETIRED_KEY`: rows up to this store revision may have been deleted."""
    return msgspec.json.encode(_Retired(revision))


class Tail:
    """The tail of one store's outbox. Give `run` to a supervisor; readers may be opened before it runs.

    A commit writes one row (the Ledger's rule), so a revision that was reached is told whole.
    """

    def __init__(self, store: Store, clock: Clock, *, ring_events_max: int = RING_EVENTS_MAX) -> None:
        self._store = store
        self._clock = clock
        self._ring_events_max = ring_events_max
        self._ring = _Run(0, 0, [])
        self._ring_bytes = 0
        self._window = _Run(0, 0, [])
        self._window_lock = asyncio.Lock()
        self._retired = 0
        self._listeners: dict[int, Callable[[], None]] = {}
        self._listened = 0
        self._waiting: asyncio.Event | None = None
        self.loaded = False
        """Whether the outbox was read once; before that no reader is told anything."""

    @property
    def horizon(self) -> int:
        """The newest revision that readers may be told of."""
        return self._ring.end

    async def run(self) -> None:
        """Follow the outbox, until cancelled or the store is closed."""
        while True:
            try:
                await self._load()
                async with self._store.watch(_WATCHED, self.horizon) as changes:
                    async for change in changes:
                        self._take(change)
                return
            except (Compacted, FutureRevision):
                continue  # slower than compaction: what was not retired is still in the outbox

    def open(self, after: int | None = None, wanted: EventFilter = EVERY_EVENT) -> TailReader:
        """A place behind the revision `after`; without it, behind everything there is by now."""
        return TailReader(self, wanted, after)

    def listen(self, ring: Callable[[], None]) -> Callable[[], None]:
        """Call `ring` whenever there may be news, for those who wait for several things at once. Returns
        what ends it."""
        self._listened += 1
        number = self._listened
        self._listeners[number] = ring

        def end() -> None:
            self._listeners.pop(number, None)

        return end

    async def wait(self) -> None:
        """Return at the next news."""
        if self._waiting is None:
            self._waiting = asyncio.Event()
        await self._waiting.wait()

    async def ready(self) -> None:
        """Return once the outbox was read, so that readers have a place."""
        while not self.loaded:
            await self.wait()

    async def behind(self, after: int, limit: int) -> tuple[list[Told], int, int]:
        """Events behind `after`, how far that goes, and the revision up to which rows were retired. Waits for
        the disk where memory does not reach so far back, and until the outbox was read once.

        A cursor that the store has not reached is of another store: all of that one's past is lost.
        """
        await self.ready()
        if after > self.horizon:
            newest = await self._store.revision()
            if after > newest:
                return [], self.horizon, after + 1
            return [], after, 0
        if after >= self._ring.base:
            return *self._ring.behind(after, limit), 0
        window = await self._window_behind(after)
        return *window.behind(after, limit), self._retired

    async def place_before(self, when: datetime) -> int:
        """The revision behind which all events of `when` and later are; the newest where there are none."""
        first: list[int] = []

        def visit(record: Record) -> None:
            told = _told(record.revision, record.key, record.value)
            if told is not None and told.event.time >= when and (not first or told.revision < first[0]):
                first[:] = [told.revision]

        snapshot = await self._scan(visit)
        return first[0] - 1 if first else snapshot

    async def _load(self) -> None:
        """Fill the ring with the newest of what the outbox holds."""
        newest: list[tuple[int, str, bytes]] = []
        dropped = 0

        def visit(record: Record) -> None:
            nonlocal dropped
            entry = (record.revision, record.key, record.value)
            if len(newest) < self._ring_events_max:
                heapq.heappush(newest, entry)
            else:
                dropped = max(dropped, heapq.heappushpop(newest, entry)[0])

        snapshot = await self._scan(visit)
        events = [told for entry in sorted(newest) if (told := _told(*entry)) and told.revision > dropped]
        self._ring = _Run(max(dropped, self._retired), snapshot, events)
        self._ring_bytes = sum(len(one.value) for one in events)
        self._trim()
        self.loaded = True
        self._wake()

    def _take(self, change: Event) -> None:
        """One change of the outbox: a new row, a row that was retired, or the mark."""
        if change.record is not None:
            if change.key == RETIRED_KEY:
                self._retired = max(self._retired, read_retired(change.record.value))
            elif change.key.startswith(OUTBOX):
                told = _told(change.revision, change.key, change.record.value)
                if told is not None:
                    self._ring.append(told)
                    self._ring_bytes += len(told.value)
                    self._trim()
        self._ring.end = max(self._ring.end, change.revision)
        self._wake()

    def _trim(self) -> None:
        """Hold the ring's bounds. An eighth goes at a time, so that moving the rest costs little."""
        ring = self._ring
        while len(ring.events) > self._ring_events_max or self._ring_bytes > RING_MAX_BYTES:
            base = ring.revisions[max(1, len(ring.events) // 8) - 1]
            drop = bisect_right(ring.revisions, base)
            self._ring_bytes -= sum(len(one.value) for one in ring.events[:drop])
            ring = self._ring = _Run(base, ring.end, ring.events[drop:])

    async def _window_behind(self, after: int) -> _Run:
        """A piece of the outbox that begins at `after` or before. Readers that ask together share one look:
        after a restart a thousand may come back at once."""
        async with self._window_lock:
            if not self._window.base <= after < self._window.end:
                self._window = await self._read_window(after)
            return self._window

    async def _read_window(self, after: int) -> _Run:
        """The lowest events behind `after`."""
        lowest: list[tuple[int, str, bytes]] = []  # negated revisions, so that the highest is on top
        cut: list[int] = []

        def visit(record: Record) -> None:
            if record.revision <= after:
                return
            entry = (-record.revision, record.key, record.value)
            if len(lowest) < WINDOW_EVENTS_MAX:
                heapq.heappush(lowest, entry)
            else:
                above = -heapq.heappushpop(lowest, entry)[0]
                cut[:] = [min(above, *cut)]

        snapshot = await self._scan(visit)
        kept = sorted((-negated, key, value) for negated, key, value in lowest)
        end = cut[0] - 1 if cut else snapshot
        return _Run(after, end, [told for one in kept if one[0] <= end and (told := _told(*one))])

    async def _scan(self, visit: Callable[[Record], None]) -> int:
        """Show `visit` every row of one snapshot, and note the mark in it; the snapshot's revision. `visit`
        may be shown a row twice, never a row of another snapshot's past."""
        after: str | None = None
        revision: int | None = None
        while True:
            page = await self._store.list(_WATCHED, SCAN_PAGE, after, revision)
            for record in page.records:
                if record.key.startswith(OUTBOX):
                    visit(record)
                elif record.key == RETIRED_KEY:
                    self._retired = max(self._retired, read_retired(record.value))
            if page.after is None:
                return page.revision
            after, revision = page.after, page.revision
            await self._clock.sleep(0)  # others first

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.set()
        for ring in tuple(self._listeners.values()):
            ring()


class TailReader:
    """One reader's place. Use it from one task."""

    def __init__(self, tail: Tail, wanted: EventFilter, after: int | None) -> None:
        self._tail = tail
        self._wanted = wanted
        self._after = tail.horizon if after is None and tail.loaded else after
        self._lost_to = 0
        self._checked = False  # whether a cursor that is ahead of the tail is one of this store

    @property
    def revision(self) -> int:
        """What it has reached."""
        return self._tail.horizon if self._after is None else self._after

    @property
    def behind(self) -> bool:
        """Whether `step` may have something to tell."""
        if self._after is None or not self._tail.loaded:
            return self._tail.loaded
        return self._after < self._tail.horizon or (self._after > self._tail.horizon and not self._checked)

    async def step(self, limit: int = BATCH_EVENTS_MAX) -> Batch | None:
        """Go on by one step of at most `limit` events; None where what was passed has nothing for this
        reader. Cancelled, it has not moved."""
        if self._after is None:  # from now on: now is when the tail was first seen whole
            await self._tail.ready()
            self._after = self._tail.horizon
            return None
        after = self._after
        events, reached, retired = await self._tail.behind(after, min(limit, BATCH_EVENTS_MAX))
        lost = after < retired and retired > self._lost_to
        if lost:
            self._lost_to = min(retired, self._tail.horizon)  # told once, also where catching up takes steps
        self._after = reached
        self._checked = True
        wanted = tuple(one for one in events if self._wanted.takes(one.kind, one.event))
        return Batch(after, reached, wanted, lost) if wanted or lost else None

    async def next(self) -> Batch:
        """The next events that this reader wants; waits for them."""
        while True:
            if self.behind:
                batch = await self.step()
                if batch is not None:
                    return batch
            else:
                await self._tail.wait()


def _told(revision: int, key: str, value: bytes) -> Told | None:
    """A row as it is told; None for one that can't be read, which is logged."""
    try:
        event = _event.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        _log.error("outbox_row_unreadable", key=key)
        return None
    if b"\n" in value:
        value = msgspec.json.encode(event)  # an event stream takes it as one line
    return Told(revision, unquote(key.removeprefix(OUTBOX).partition("/")[0]), event, value)


def read_retired(value: bytes) -> int:
    """What `write_retired` wrote; 0 where it can't be read."""
    try:
        return msgspec.json.decode(value, type=_Retired).revision
    except msgspec.MsgspecError:
        _log.error("outbox_mark_unreadable")
        return 0
