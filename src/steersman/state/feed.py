"""Telling subscribers what changed (decision 0011).

A subscription is a filter and the revision it has reached; nothing is queued for it. What it has not seen is
read from the bus's change log when it asks, each entity once, as it is then. So a thousand subscribers hold
no memory, a slow one blocks nobody, and one that has fallen off the log is told to read again.

Work is shared: between two flushes, subscribers that ask with the same filter from the same revision get the
same Delta object, and an entity is built once for all filters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import TracebackType

from msgspec import Struct

from steersman.kernel.clock import Clock
from steersman.kernel.errors import TooMany
from steersman.kinds.entity import CanonicalEntity, EntityKey, EntityType
from steersman.state.cell import Cell
from steersman.state.changes import ChangeLog
from steersman.state.layer import merged_labels

DELTA_ENTITIES_MAX = 250
"""Entities of one delta: about 5 ms to build. What is left over comes with the next one, at once."""
SCAN_MAX = 20_000
"""Changes looked through for one delta: about 2 ms."""
DELTAS_KEPT_MAX = 256
"""Deltas kept for others who ask the same between two flushes."""
FLUSH_GAP_S = 0.05
"""Flushes are at least so far apart: an entity that changes more often is told of once in that time."""


class EntityFilter(Struct, frozen=True):
    """Which entities a subscriber wants; None for all. `labels` are pairs that must all be there."""

    types: frozenset[EntityType] | None = None
    scope: str | None = None
    labels: frozenset[tuple[str, str]] = frozenset()
    entity_id: str | None = None

    def takes(self, cell: Cell) -> bool:
        """Whether the entity is wanted. A tombstone is judged by what was last known."""
        key = cell.key
        if self.types is not None and key.entity_type not in self.types:
            return False
        if self.scope is not None and key.scope != self.scope:
            return False
        if self.entity_id is not None and key.entity_id != self.entity_id:
            return False
        return not self.labels or self.labels <= merged_labels(cell.layers or cell.ghost).items()


EVERYTHING = EntityFilter()


class Delta(Struct, frozen=True):
    """What changed between two revisions: `after` (not included) and `revision`.

    Entities come once each, as they are now, oldest change first; a deleted one has `deleted_at`. With
    `resync` the changes are not known: read everything, then go on from `revision`. One Delta object may be
    handed to many subscribers, so whoever encodes it may keep the bytes beside it.
    """

    after: int
    revision: int
    entities: tuple[CanonicalEntity, ...] = ()
    resync: bool = False


class Subscription:
    """One subscriber's place in the changes. Use it in `with`, or close it."""

    def __init__(self, feed: Feed, wanted: EntityFilter, revision: int, *, lost: bool) -> None:
        self._feed = feed
        self._wanted = wanted
        self.revision = revision
        """What it has reached."""
        self._lost = lost

    def poll(self) -> Delta | None:
        """The next delta if there is one now; never waits. Without an event loop, `feed.flush` makes the
        changes so far visible."""
        while self.behind:
            delta = self.step()
            if delta is not None:
                return delta
        return None

    @property
    def behind(self) -> bool:
        """Whether `step` may have something to tell."""
        return self._lost or self.revision < self._feed.horizon

    def step(self) -> Delta | None:
        """Go on by one step, within the bounds of one delta; None where what was passed has nothing for this
        subscriber."""
        delta = self._step()
        return delta if delta.entities or delta.resync else None

    async def next(self) -> Delta:
        """The next delta that has something for this subscriber; waits for it."""
        while True:
            if self.behind:
                delta = self.step()
                if delta is not None:
                    return delta
                await self._feed.breathe()
            else:
                await self._feed.wait()

    def _step(self) -> Delta:
        if self._lost:
            self._lost = False
            delta = Delta(self.revision, self._feed.horizon, resync=True)
        else:
            delta = self._feed.collect(self._wanted, self.revision)
        self.revision = delta.revision
        return delta

    def close(self) -> None:
        """Give up the place; repeating it does nothing."""
        self._feed.leave(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Feed:
    """All subscriptions of one bus.

    `horizon` is the revision that subscribers may see; `flush` moves it to the newest. `view` builds an
    entity, `revision` gives the bus's newest.
    """

    def __init__(
        self,
        log: ChangeLog,
        clock: Clock,
        revision: Callable[[], int],
        view: Callable[[Cell], CanonicalEntity],
        subscriptions_max: int,
    ) -> None:
        self._log = log
        self._clock = clock
        self._newest = revision
        self._view = view
        self._subscriptions_max = subscriptions_max
        self.horizon = revision()
        self._subscriptions: set[Subscription] = set()
        self._waiting: asyncio.Event | None = None
        self._deltas: dict[tuple[EntityFilter, int], Delta] = {}
        self._views: dict[EntityKey, CanonicalEntity] = {}
        self._listeners: dict[int, Callable[[], None]] = {}
        self._listened = 0
        self.resyncs = 0

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, wanted: EntityFilter | None = None, after: int | None = None) -> Subscription:
        """A place in the changes: from now on, or from the revision `after` that a subscriber had reached
        before. If that is not (or no longer) known here, its first delta says resync. Raises `TooMany`."""
        limit = self._subscriptions_max
        if len(self._subscriptions) >= limit:
            raise TooMany(f"{limit} subscriptions are open; close some first", limit=limit)
        start = self.horizon if after is None else after
        lost = not self._log.base <= start <= self._newest()
        subscription = Subscription(self, wanted or EVERYTHING, start, lost=lost)
        self.resyncs += lost
        self._subscriptions.add(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions.discard(subscription)

    def flush(self) -> bool:
        """Make all changes so far visible and wake those who wait; whether there were any."""
        newest = self._newest()
        if newest == self.horizon:
            return False
        self.horizon = newest
        self._deltas.clear()
        self._views.clear()
        if self._waiting is not None:
            self._waiting.set()
            self._waiting = None  # who comes from now on waits for the next flush
        for ring in tuple(self._listeners.values()):
            ring()
        return True

    def listen(self, ring: Callable[[], None]) -> Callable[[], None]:
        """Call `ring` at each flush, for those who wait for several things at once. Returns what ends it."""
        self._listened += 1
        number = self._listened
        self._listeners[number] = ring

        def end() -> None:
            self._listeners.pop(number, None)

        return end

    async def wait(self) -> None:
        """Return at the next flush."""
        if self._waiting is None:
            self._waiting = asyncio.Event()
        await self._waiting.wait()

    async def breathe(self) -> None:
        """Let others run between two steps of a long read."""
        await self._clock.sleep(0)

    def collect(self, wanted: EntityFilter, after: int) -> Delta:
        """What the filter takes of the changes behind `after`, up to the bounds of one delta."""
        key = (wanted, after)
        delta = self._deltas.get(key)
        if delta is None:
            if len(self._deltas) >= DELTAS_KEPT_MAX:
                self._deltas.clear()
            delta = self._deltas[key] = self._collect(wanted, after)
        return delta

    def _collect(self, wanted: EntityFilter, after: int) -> Delta:
        if not self._log.holds(after):
            self.resyncs += 1
            return Delta(after, self.horizon, resync=True)
        found: list[CanonicalEntity] = []
        reached = after
        for cell in self._changes(after):
            if cell is not None and wanted.takes(cell):
                found.append(self._built(cell))
            reached += 1
            if len(found) >= DELTA_ENTITIES_MAX or reached - after >= SCAN_MAX:
                break
        return Delta(after, reached, tuple(found))

    def _changes(self, after: int) -> Iterator[Cell | None]:
        """Each change behind `after` up to the horizon: the cell, or None where a later one stands for it.
        One that stands beyond the horizon is given too (as it is now), and again after the next flush."""
        base, cells, horizon = self._log.base, self._log.cells, self.horizon
        beyond: set[EntityKey] = set()
        for position in range(after - base, horizon - base):
            cell = cells[position]
            if cell.revision == base + position + 1:
                yield cell
            elif cell.revision > horizon and cell.key not in beyond:
                beyond.add(cell.key)
                yield cell
            else:
                yield None

    def _built(self, cell: Cell) -> CanonicalEntity:
        entity = self._views.get(cell.key)
        if entity is None or entity.revision != cell.revision:
            entity = self._views[cell.key] = self._view(cell)
        return entity


class Pump:
    """Keeps a bus turning on an event loop: ages what is due, and flushes after changes."""

    def __init__(
        self,
        feed: Feed,
        clock: Clock,
        sweep: Callable[[], bool],
        flush_gap_s: float = FLUSH_GAP_S,
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._sweep = sweep
        self._flush_gap_s = flush_gap_s

    async def run(self) -> None:
        """Until cancelled. Between two rounds at least `flush_gap_s` passes, so what changes meanwhile is
        told of together; a round that has more to age goes on after letting others run."""
        while True:
            more = self._sweep()
            self._feed.flush()
            await self._clock.sleep(0 if more else self._flush_gap_s)
