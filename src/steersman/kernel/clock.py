"""The one source of time.

Two questions are kept apart. `now` is the wall clock (aware UTC): it may be set back by an operator or
by NTP, so it is for stamps that people and other programs read. `monotonic` never goes back: it is for
ages, time-outs and intervals inside this process. Nothing compares one with the other.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Protocol

from steersman.kernel.errors import InvalidInput


class Clock(Protocol):
    """Time as the rest of the program sees it."""

    def now(self) -> datetime:
        """The wall clock: timezone-aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` of monotonic time have passed; zero or less only yields."""
        ...


class SystemClock:
    """The machine's clock. Its monotonic time is the event loop's where one runs, so that a loop on
    virtual time (tests, simulation) makes the whole program virtual."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class ManualClock:
    """A clock that stands still until it is told: for replay, simulation and tests.

    `advance` moves both times and wakes the sleepers whose moment has come, in order of due time.
    `set_wall` moves the wall clock alone, in either direction, as an operator or NTP would.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._wall = as_utc(start) if start is not None else datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        await future

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Negative amounts are refused: monotonic time does not go back."""
        if seconds < 0:
            raise ValueError("monotonic time does not go back; use set_wall to move the wall clock")
        self._monotonic += seconds
        self._wall += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    def set_wall(self, when: datetime) -> None:
        """Set the wall clock without any time passing."""
        self._wall = as_utc(when)


class TimeOutOfRange(InvalidInput, ValueError):
    """A time whose UTC form would lie outside the years 1 to 9999, or whose offset is none.

    Also a ValueError, so that a decoder that meets one adds the place in the document to it.
    """

    code = "time_out_of_range"
    title = "Time out of range"


def as_utc(when: datetime) -> datetime:
    """The same instant in UTC; a naive datetime is read as UTC, here and everywhere.

    Raises `TimeOutOfRange`.
    """
    if when.tzinfo is UTC:
        return when
    if when.tzinfo is None:
        return when.replace(tzinfo=UTC)
    try:
        return when.astimezone(UTC)
    except (OverflowError, ValueError):
        raise TimeOutOfRange(f"{when.isoformat()} lies outside the years 1 to 9999 in UTC") from None


def iso_utc(when: datetime) -> str:
    """The instant as ISO 8601 in UTC, with Z: how times are written everywhere."""
    return as_utc(when).isoformat().replace("+00:00", "Z")


_current: ContextVar[Clock | None] = ContextVar("steersman_clock", default=None)
_machine = SystemClock()


@contextmanager
def using_clock(clock: Clock) -> Generator[None]:
    """Make `clock` the current one in this block and in every task and thread context born in it.

    The composition root, replay, simulation and tests enter this once with the clock that they inject.
    """
    token = _current.set(clock)
    try:
        yield
    finally:
        _current.reset(token)


def current_now() -> datetime:
    """The current clock's wall time; the machine's where no clock was put in use.

    Only for value methods whose `now` is optional (decision 0005). Program code takes a `Clock` and passes
    `now` on, so that what it does is visible in its arguments.
    """
    return (_current.get() or _machine).now()
