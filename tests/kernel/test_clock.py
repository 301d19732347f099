"""Two clocks kept apart, and a manual one that moves as it is told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from steersman.kernel.clock import (
    ManualClock,
    SystemClock,
    TimeOutOfRange,
    as_utc,
    current_now,
    iso_utc,
    using_clock,
)

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_systems_clock_is_aware_utc_and_monotonic_outside_a_loop() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.looptime
async def test_the_systems_clock_follows_the_loops_time() -> None:
    clock = SystemClock()
    began = clock.monotonic()
    await clock.sleep(3600)
    assert clock.monotonic() - began == 3600


async def test_a_manual_clock_wakes_sleepers_in_order_of_their_time() -> None:
    clock = ManualClock(AT)
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    tasks = [asyncio.create_task(sleeper(n, s)) for n, s in (("b", 2), ("a", 1), ("c", 30), ("now", 0))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert woken == ["now"]
    clock.advance(5)
    await asyncio.sleep(0)
    assert woken == ["now", "a", "b"]
    assert clock.now() == AT + timedelta(seconds=5)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    clock.advance(100)
    assert woken == ["now", "a", "b"]


def test_the_wall_clock_may_be_set_back_and_monotonic_time_may_not() -> None:
    clock = ManualClock(AT)
    clock.advance(10)
    clock.set_wall(AT - timedelta(days=1))
    assert clock.now() == AT - timedelta(days=1)
    assert clock.monotonic() == 10
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_naive_is_utc_and_offsets_are_converted() -> None:
    assert as_utc(datetime(2026, 3, 1, 12)) == AT  # noqa: DTZ001
    assert as_utc(datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2)))) == AT
    assert iso_utc(AT) == "2026-03-01T12:00:00Z"
    with pytest.raises(TimeOutOfRange, match="outside the years"):
        as_utc(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))))


async def test_the_current_clock_is_inherited_by_tasks_and_ends_with_its_block() -> None:
    clock = ManualClock(AT)

    async def ask() -> datetime:
        return current_now()

    with using_clock(clock):
        assert await asyncio.create_task(ask()) == AT
    assert current_now() != AT
