"""The embedded store: one SQLite file, one thread that writes, a few that read.

This is the part on the event loop. It hands operations to the writer thread in bounded numbers, settles the
callers' futures from the writer's reports, and feeds the watch hub. See docs/decisions/0007.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

from steersman.kernel.bounds import MIB
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import ALWAYS, OwnedThread, Supervisor
from steersman.store import rules
from steersman.store.alarm import LeaseAlarm
from steersman.store.api import PAGE_MAX, Condition, Event, Lease, Page, Record, StoreUnavailable, Write
from steersman.store.hub import Changes, WatchHub
from steersman.store.sqlite import file, history
from steersman.store.sqlite.operations import (
    CommitOperation,
    CompactOperation,
    GrantOperation,
    Operation,
    RenewOperation,
    Report,
    RevokeOperation,
    TickOperation,
)
from steersman.store.sqlite.readers import Readers, join
from steersman.store.sqlite.writer import Writer

_log = get_logger("store.sqlite")

QUEUE_OPERATIONS_MAX = 4096
"""Operations handed over and not yet answered; further callers wait their turn."""

QUEUE_MAX_BYTES = 64 * MIB

AGE_MARK_S = 5.0
"""While leases are alive and nothing is written, the store's age is written down this often."""

FIRST_AGE_MARK_S = 1.0
"""The first time after opening: a program that keeps crashing early still brings its leases to an end."""


class SqliteStore:
    """`Store` in the file `path`. Use it with `async with`; opening raises `StoreUnavailable`."""

    def __init__(self, path: Path, *, clock: Clock, rng: Rng) -> None:
        self.path = path
        self._clock = clock
        self._rng = rng
        self._open = False
        self._exits = AsyncExitStack()
        self._opened_s = 0.0
        self._opened_age_us = 0
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._handed: list[Operation] = []
        self._waiting: set[Operation] = set()
        self._turns: deque[tuple[asyncio.Future[None], int]] = deque()
        self._writer_alive = True
        self._next_due_us: int | None = None
        self._hub = WatchHub(self._changes)

    async def __aenter__(self) -> SqliteStore:
        try:
            await self._start()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        if not self._open:
            return
        self._open = False  # from here on nobody gets in
        for turn, _ in self._turns:
            if not turn.done():
                turn.set_exception(rules.closed(str(self.path)))
        self._hub.close()
        await self._exits.aclose()

    @property
    def in_flight(self) -> int:
        """Operations handed over and not yet answered; never more than `QUEUE_OPERATIONS_MAX`."""
        return self._in_flight

    async def get(self, key: str) -> Record | None:
        rules.check_key(key)
        await self._before_reading()
        return await self._readers.read(lambda db: history.get(db, key))

    async def list(
        self, prefix: str, limit: int = PAGE_MAX, after: str | None = None, revision: int | None = None
    ) -> Page:
        rules.check_page(prefix, limit, after, revision)
        await self._before_reading()
        return await self._readers.read(lambda db: history.list_page(db, prefix, limit, after, revision))

    async def commit(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        size_bytes = rules.check_commit(conditions, writes)
        if self._turns or not self._open or not self._writer_alive or not self._has_room():
            await self._admission(size_bytes)
        else:
            self._enter(size_bytes)  # as `_admission` would: this is the hot path
        operation = CommitOperation(
            self._loop.create_future(), size_bytes, conditions=tuple(conditions), writes=tuple(writes)
        )
        return await self._hand_over(operation)

    def watch(self, prefix: str, after_revision: int) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        rules.check_text("prefix", prefix)
        rules.check_revision(after_revision)
        return self._hub.watch(prefix, after_revision)

    async def lease(self, ttl_s: float) -> Lease:
        ttl_us = rules.check_ttl_us(ttl_s)
        await self._admission(0)
        return await self._hand_over(GrantOperation(self._loop.create_future(), ttl_us=ttl_us))

    async def renew(self, lease: Lease) -> None:
        await self._admission(0)
        await self._hand_over(RenewOperation(self._loop.create_future(), lease=lease))

    async def revoke(self, lease: Lease) -> None:
        await self._admission(0)
        await self._hand_over(RevokeOperation(self._loop.create_future(), lease=lease))

    async def compact(self, before_revision: int) -> None:
        rules.check_revision(before_revision)
        await self._admission(0)
        await self._hand_over(CompactOperation(self._loop.create_future(), before_revision=before_revision))

    async def revision(self) -> int:
        await self._before_reading()
        return self._hub.revision

    async def check(self) -> None:
        """Look through the whole file for damage, while the store works. Raises `StoreCorrupt`."""
        await self._before_reading()
        await self._readers.read(lambda db: file.check(db, self.path, max_bytes=None))

    async def _start(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[Report] = loop.create_future()
        ended: asyncio.Future[None] = loop.create_future()
        self._writer = Writer(
            self.path,
            opened=lambda outcome: _call(loop, _tell, opened, outcome),
            report=lambda report: _call(loop, self._settle, report),
            ended=lambda: _call(loop, self._writer_ended, ended),
        )
        thread = OwnedThread("store-writer", self._writer.run, self._writer.end).start()
        self._exits.push_async_callback(self._end_writer, thread, ended)
        report = await asyncio.shield(opened)
        self._opened_s = self._clock.monotonic()
        self._opened_age_us = report.age_us
        self._hub = WatchHub(self._changes, report.revision)
        self._hub.compacted = report.compacted
        self._readers = Readers(self.path, self._clock)
        self._exits.push_async_callback(self._readers.close)
        tasks = await self._exits.enter_async_context(Supervisor(self._clock, self._rng, name="store"))
        self._alarm = LeaseAlarm(self._clock, tasks, self._age_us, self._tick)
        self._set_due(report.next_due_us, FIRST_AGE_MARK_S)
        tasks.start("leases", self._alarm.run, ALWAYS)
        self._open = True

    async def _end_writer(self, thread: OwnedThread, ended: asyncio.Future[None]) -> None:
        last: asyncio.Future[Any] | None = None
        if self._next_due_us is not None:
            # Leave the store's true age, so that the leases go on from here at the next start.
            self._enter(0)
            last = self._hand_over(TickOperation(self._loop.create_future()))
        self._flush()
        self._writer.end()
        await ended
        if last is not None and (error := last.exception()) is not None:
            _log.warning("lease_time_not_written", file=str(self.path), error=str(error))
        await join(thread, self._clock)

    def _writer_ended(self, ended: asyncio.Future[None]) -> None:
        """The thread is over. Callers that still wait (it died of a fault) must not wait for ever."""
        for operation in self._waiting:
            if not operation.future.done():
                operation.future.set_exception(
                    StoreUnavailable(f"{self.path}: the writer has ended, see the log", file=str(self.path))
                )
        self._waiting.clear()
        self._writer_alive = False
        if not ended.done():
            ended.set_result(None)

    async def _changes(self, prefix: str, after_revision: int, place: int | None) -> Changes:
        await self._before_reading()
        return await self._readers.read(lambda db: history.changes(db, prefix, after_revision, place))

    async def _before_reading(self) -> None:
        """End the leases whose time is over; where that can't be written, what is there is still read."""
        self._check_open()
        due_us = self._next_due_us
        if due_us is not None and self._age_us() >= due_us:
            try:
                await self._tick()
            except StoreUnavailable:
                self._check_open()

    async def _tick(self) -> None:
        await self._admission(0)
        await self._hand_over(TickOperation(self._loop.create_future()))

    def _check_open(self) -> None:
        if not self._open:
            raise rules.closed(str(self.path))

    async def _admission(self, size_bytes: int) -> None:
        """Take a place among the operations in flight, in turn."""
        self._check_open()
        if not self._writer_alive:
            raise StoreUnavailable(
                f"{self.path}: the writer has ended after a fault (see the log): restart",
                file=str(self.path),
                outcome="not_done",
            )
        if not self._turns and self._has_room():
            self._enter(size_bytes)
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._turns.append((turn, size_bytes))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(size_bytes)  # it was given a place and will not use it
                self._admit()
            raise

    def _has_room(self) -> bool:
        return self._in_flight < QUEUE_OPERATIONS_MAX and self._in_flight_bytes < QUEUE_MAX_BYTES

    def _enter(self, size_bytes: int) -> None:
        self._in_flight += 1
        self._in_flight_bytes += size_bytes

    def _leave(self, size_bytes: int) -> None:
        self._in_flight -= 1
        self._in_flight_bytes -= size_bytes

    def _admit(self) -> None:
        while self._turns and self._has_room():
            turn, size_bytes = self._turns.popleft()
            if not turn.done():
                self._enter(size_bytes)
                turn.set_result(None)

    def _hand_over(self, operation: Operation) -> asyncio.Future[Any]:
        """Give it to the writer: together with all others of this step of the loop, as one batch."""
        self._waiting.add(operation)
        self._handed.append(operation)
        if len(self._handed) == 1:
            self._loop.call_soon(self._flush)
        return operation.future

    def _flush(self) -> None:
        if self._handed:
            now_us = self._age_us()
            for operation in self._handed:
                operation.at_us = now_us
            self._writer.put(self._handed)
            self._handed = []

    def _settle(self, report: Report) -> None:
        """Answer a batch's callers, and tell the watchers."""
        self._hub.compacted = report.compacted
        if report.lost_to is not None:
            self._hub.lose_to(report.lost_to)
        settled = report.settled
        self._waiting.difference_update(settled)
        self._in_flight -= len(settled)
        for operation in settled:
            self._in_flight_bytes -= operation.size_bytes
            future = operation.future
            if future.done():
                continue  # its caller was cancelled; the commit stands
            if operation.error is None:
                future.set_result(operation.result)
            else:
                future.set_exception(operation.error)
        self._hub.publish(report.commits)
        self._set_due(report.next_due_us, AGE_MARK_S)
        if self._turns:
            self._admit()

    def _set_due(self, next_due_us: int | None, mark_s: float) -> None:
        if next_due_us is None and self._next_due_us is None:
            return
        self._next_due_us = next_due_us
        if next_due_us is not None:
            next_due_us = min(next_due_us, self._age_us() + round(mark_s * rules.US_PER_S))
        self._alarm.set(next_due_us)

    def _age_us(self) -> int:
        """The store's own time: how long it was open in all (decision 0009)."""
        return self._opened_age_us + round((self._clock.monotonic() - self._opened_s) * rules.US_PER_S)


def _tell(opened: asyncio.Future[Report], outcome: Report | StoreUnavailable) -> None:
    opened.add_done_callback(lambda future: future.exception())  # nobody may be waiting any more
    if isinstance(outcome, Report):
        opened.set_result(outcome)
    else:
        opened.set_exception(outcome)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: Any) -> None:
    """Call on the loop's thread; a loop that is gone has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        pass
