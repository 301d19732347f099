"""The store in memory: the model of the contract, and the store of tests.

The simplest code that is right, in one thread and without an await inside an operation. Nothing survives the
process. Every other backend is compared with it, so clarity comes before speed here.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from msgspec import Struct, field

from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.store import rules
from steersman.store.alarm import LeaseAlarm
from steersman.store.api import (
    LEASE_KEYS_MAX,
    LEASES_MAX,
    PAGE_MAX,
    PAGE_MAX_BYTES,
    Condition,
    Delete,
    Event,
    Held,
    Lease,
    Page,
    Put,
    Record,
    Write,
)


class _Entry(Struct, frozen=True):
    """What a key was from a revision on: a record, or None for absent."""

    revision: int
    record: Record | None


class _Live(Struct):
    """A lease that is alive, its end in the store's time, and the keys that hang on it."""

    lease: Lease
    ends_at_us: int
    keys: set[str] = field(default_factory=set[str])


class MemoryStore:
    """`Store` without a disk. Use it with `async with`."""

    def __init__(self, *, clock: Clock, rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._revision = 0
        self._compacted = 0
        self._epoch = 0
        self._history: dict[str, list[_Entry]] = {}
        self._keys: list[str] = []  # of _history, sorted
        self._log: list[tuple[int, tuple[Event, ...]]] = []  # commits not compacted away, by revision
        self._leases: dict[str, _Live] = {}
        self.watchers: set[asyncio.Event] = set()  # each set when there is news
        self._opened_s = 0.0
        self._open = False
        self._alarm: LeaseAlarm | None = None
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> MemoryStore:
        self._opened_s = self._clock.monotonic()
        tasks = await self._exits.enter_async_context(Supervisor(self._clock, self._rng, name="memory-store"))
        self._alarm = LeaseAlarm(self._clock, tasks, self._age_us, self._ring)
        tasks.start("leases", self._alarm.run, ALWAYS)
        self._open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._wake()
        await self._exits.aclose()

    @property
    def is_open(self) -> bool:
        """Whether it is inside its `async with`."""
        return self._open

    async def get(self, key: str) -> Record | None:
        rules.check_key(key)
        self._begin()
        return self._at(key, self._revision)

    async def list(
        self, prefix: str, limit: int = PAGE_MAX, after: str | None = None, revision: int | None = None
    ) -> Page:
        rules.check_page(prefix, limit, after, revision)
        self._begin()
        at = self._revision if revision is None else revision
        if at > self._revision:
            raise rules.future_revision(at, self._revision)
        if at < self._compacted:
            raise rules.compacted(at, self._compacted)
        records: list[Record] = []
        size_bytes = 0
        start = bisect_left(self._keys, prefix) if after is None else bisect_right(self._keys, after)
        for key in self._keys[max(start, bisect_left(self._keys, prefix)) :]:
            if not key.startswith(prefix):
                break
            record = self._at(key, at)
            if record is None:
                continue
            if len(records) == limit or (records and size_bytes + len(record.value) > PAGE_MAX_BYTES):
                return Page(records=tuple(records), revision=at, after=records[-1].key)
            records.append(record)
            size_bytes += len(record.value)
        return Page(records=tuple(records), revision=at, after=None)

    async def commit(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        rules.check_commit(conditions, writes)
        self._begin()
        for condition in conditions:
            if isinstance(condition, Held):
                live = self._leases.get(condition.lease)
                if live is None or live.lease.epoch != condition.epoch:
                    raise rules.lease_expired(condition.lease)
            elif (current := self._version(condition.key)) != condition.version:
                raise rules.conflict(condition.key, condition.version, current)
        hung: dict[str, set[str]] = {}
        for write in writes:
            if isinstance(write, Put) and write.lease is not None:
                if write.lease not in self._leases:
                    raise rules.lease_expired(write.lease)
                keys = hung.setdefault(write.lease, set(self._leases[write.lease].keys))
                keys.add(write.key)
                if len(keys) > LEASE_KEYS_MAX:
                    raise rules.lease_keys_full(write.lease)
        return self._write(writes)

    def watch(self, prefix: str, after_revision: int) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        rules.check_text("prefix", prefix)
        rules.check_revision(after_revision)
        return _Watch(self, prefix, after_revision)

    async def lease(self, ttl_s: float) -> Lease:
        ttl_us = rules.check_ttl_us(ttl_s)
        self._begin()
        if len(self._leases) >= LEASES_MAX:
            raise rules.leases_full()
        self._epoch += 1
        lease = Lease(id=f"lease-{self._epoch}", epoch=self._epoch, ttl_s=ttl_us / rules.US_PER_S)
        self._leases[lease.id] = _Live(lease=lease, ends_at_us=self._age_us() + ttl_us)
        self._set_alarm()
        return lease

    async def renew(self, lease: Lease) -> None:
        self._begin()
        live = self._leases.get(lease.id)
        if live is None or live.lease.epoch != lease.epoch:
            raise rules.lease_expired(lease.id)
        live.ends_at_us = self._age_us() + round(live.lease.ttl_s * rules.US_PER_S)
        self._set_alarm()

    async def revoke(self, lease: Lease) -> None:
        self._begin()
        live = self._leases.get(lease.id)
        if live is not None and live.lease.epoch == lease.epoch:
            self._end(live)
            self._set_alarm()

    async def compact(self, before_revision: int) -> None:
        rules.check_revision(before_revision)
        self._begin()
        if before_revision > self._revision:
            raise rules.future_revision(before_revision, self._revision)
        if before_revision <= self._compacted:
            return
        self._compacted = before_revision
        self._log = [commit for commit in self._log if commit[0] >= before_revision]
        for key, entries in list(self._history.items()):
            newest = bisect_right(entries, before_revision, key=lambda entry: entry.revision) - 1
            del entries[: max(newest, 0)]
            if entries[0].revision < before_revision and entries[0].record is None:
                del entries[0]
            if not entries:
                del self._history[key]
        self._keys = sorted(self._history)

    async def revision(self) -> int:
        self._begin()
        return self._revision

    def commits_after(self, revision: int) -> Sequence[tuple[int, tuple[Event, ...]]] | None:
        """For watchers: the commits behind a revision, oldest first; None once the store is closed."""
        if not self._open:
            return None
        if revision > self._revision:
            raise rules.future_revision(revision, self._revision)
        if revision < self._compacted - 1:
            raise rules.compacted(revision, self._compacted)
        return self._log[bisect_right(self._log, revision, key=lambda commit: commit[0]) :]

    def _begin(self) -> None:
        """What each operation does first: refuse where closed, end the leases whose time is over."""
        if not self._open:
            raise rules.closed("the memory store")
        now_us = self._age_us()
        due = [live for live in self._leases.values() if live.ends_at_us <= now_us]
        for live in sorted(due, key=lambda live: (live.ends_at_us, live.lease.epoch)):
            self._end(live)
        if due:
            self._set_alarm()

    def _end(self, live: _Live) -> None:
        del self._leases[live.lease.id]
        self._write([Delete(key) for key in live.keys])

    def _write(self, writes: Sequence[Write]) -> int:
        """Make one commit of the writes that change something; the revision after it."""
        events: list[Event] = []
        revision = self._revision + 1
        for write in sorted(writes, key=lambda write: write.key):
            before = self._at(write.key, self._revision)
            if isinstance(write, Put):
                version = before.version + 1 if before is not None else 1
                record = Record(write.key, write.value, version, revision, write.lease)
            elif before is None:
                continue
            else:
                record = None
            self._hang(write.key, before, record)
            if write.key not in self._history:
                self._history[write.key] = []
                insort(self._keys, write.key)
            self._history[write.key].append(_Entry(revision, record))
            events.append(Event(key=write.key, revision=revision, record=record))
        if events:
            self._revision = revision
            self._log.append((revision, tuple(events)))
            self._wake()
        return self._revision

    def _hang(self, key: str, before: Record | None, after: Record | None) -> None:
        """Move a key from its lease to the one it hangs on now."""
        if before is not None and before.lease in self._leases:
            self._leases[before.lease].keys.discard(key)
        if after is not None and after.lease is not None:
            self._leases[after.lease].keys.add(key)

    def _at(self, key: str, revision: int) -> Record | None:
        entries = self._history.get(key, [])
        newest = bisect_right(entries, revision, key=lambda entry: entry.revision) - 1
        return entries[newest].record if newest >= 0 else None

    def _version(self, key: str) -> int:
        record = self._at(key, self._revision)
        return record.version if record is not None else 0

    def _age_us(self) -> int:
        return round((self._clock.monotonic() - self._opened_s) * rules.US_PER_S)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.set(min((live.ends_at_us for live in self._leases.values()), default=None))

    async def _ring(self) -> None:
        self._begin()

    def _wake(self) -> None:
        for watcher in self.watchers:
            watcher.set()


class _Watch:
    """One watcher: reads the log behind what it has seen, and waits for more."""

    def __init__(self, store: MemoryStore, prefix: str, after_revision: int) -> None:
        self._store = store
        self._prefix = prefix
        self._seen = after_revision
        self._wake = asyncio.Event()
        self._left = False
        self._ready: list[Event] = []  # reversed: the next one is the last

    async def __aenter__(self) -> AsyncIterator[Event]:
        if not self._store.is_open:
            raise rules.closed("the memory store")
        self._store.watchers.add(self._wake)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._left = True
        self._store.watchers.discard(self._wake)
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._left and not self._ready:
            self._wake.clear()
            commits = self._store.commits_after(self._seen)
            if commits is None:
                raise StopAsyncIteration
            for revision, events in commits:
                self._seen = revision
                self._ready += [event for event in events if event.key.startswith(self._prefix)]
            self._ready.reverse()
            if not self._ready:
                await self._wake.wait()
        if self._left:
            raise StopAsyncIteration
        return self._ready.pop()
