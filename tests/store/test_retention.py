"""Retention: what is kept in time and in number, on a clock that the test moves."""

from __future__ import annotations

import asyncio

import pytest

from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.store.api import Compacted
from steersman.store.memory import MemoryStore
from steersman.store.retention import KeepHistory, Retention
from steersman.testing.store_expect import put, refused


async def test_history_is_kept_for_its_time() -> None:
    clock = ManualClock()
    async with MemoryStore(clock=clock, rng=seeded_rng(0)) as store:
        retention = Retention(store, KeepHistory(keep_s=100), clock=clock)
        assert retention.step_s == 10
        for _ in range(30):
            await put(store, "k")
            await retention.step()
            clock.advance(10)
        # Thirty commits, ten seconds apart; the last look was at 290 s, when the one of 190 s was 100 s old.
        await store.list("", revision=20)
        with refused(Compacted, compacted=20):
            await store.list("", revision=19)


async def test_a_busy_store_keeps_a_number() -> None:
    """However young: a million small commits a minute must not fill the disk."""
    clock = ManualClock()
    async with MemoryStore(clock=clock, rng=seeded_rng(0)) as store:
        retention = Retention(store, KeepHistory(keep_s=3600, keep_revisions=50), clock=clock)
        for _ in range(80):
            await put(store, "k")
        assert await retention.step() == 30


async def test_nothing_is_forgotten_early() -> None:
    """A store at rest: what was written just before the first look is as young as that."""
    clock = ManualClock()
    async with MemoryStore(clock=clock, rng=seeded_rng(0)) as store:
        for _ in range(5):
            await put(store, "k")
        retention = Retention(store, KeepHistory(keep_s=100), clock=clock)
        assert await retention.step() == 0
        clock.advance(99)
        assert await retention.step() == 0
        clock.advance(1)
        assert await retention.step() == 5


@pytest.mark.looptime
async def test_it_runs_until_it_is_stopped() -> None:
    clock = SystemClock()
    async with (
        MemoryStore(clock=clock, rng=seeded_rng(0)) as store,
        Supervisor(clock, seeded_rng(0), name="test") as tasks,
    ):
        await put(store, "a")
        await put(store, "a")
        tasks.start("retention", Retention(store, KeepHistory(keep_s=60), clock=clock).run)
        await asyncio.sleep(59)
        await store.list("", revision=1)
        await asyncio.sleep(2)
        with refused(Compacted):
            await store.list("", revision=1)
        await store.close()
        await asyncio.sleep(7)
        assert [task.state for task in tasks.snapshot()] == ["ended"]


@pytest.mark.parametrize("wrong", [{"keep_s": 0.5}, {"keep_s": float("nan")}, {"keep_revisions": 0}])
def test_senseless_bounds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        KeepHistory(**wrong)  # type: ignore[arg-type]  # the point of the test
