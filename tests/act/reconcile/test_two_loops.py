"""Two loops on one store: they share the work, never do it together, and one takes over from the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from loop_house import ALICE, House, node

from steersman.act.reconcile.shards import LEASE_TTL_S
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.command import Terms
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore

NODES = [f"n{number}" for number in range(40)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Store]:
    make: Callable[[], MemoryStore | SqliteStore] = {
        "memory": lambda: MemoryStore(clock=clock, rng=seeded_rng(1)),
        "sqlite": lambda: SqliteStore(tmp_path / "s.db", clock=clock, rng=seeded_rng(1)),
    }[str(request.param)]
    async with make() as opened:
        yield opened


async def breathe(clock: ManualClock, seconds: int) -> None:
    """Let time pass with room for a store's threads."""
    for _ in range(seconds):
        clock.advance(1)
        for _ in range(20):
            await asyncio.sleep(0.001)


async def test_they_share_and_never_work_on_one_key_together(store: Store, clock: ManualClock) -> None:
    one, two = House(store, clock, name="one"), House(store, clock, name="two")
    two.manager.now_in = one.manager.now_in  # who is worked on, by either: the manager asserts that it is one
    for name in NODES:
        await one.make(name)
    async with one, two:
        await breathe(clock, 20)
        assert one.loop.snapshot().shards_held == two.loop.snapshot().shards_held == 32
        one.manager.turns.clear()
        two.manager.turns.clear()
        for name in NODES:
            await one.ledger.set_desired(node(name), ALICE, "b", terms=Terms(reason="because"))
        await breathe(clock, 3)
        assert set(one.manager.turns) | set(two.manager.turns) == set(NODES)
        assert not set(one.manager.turns) & set(two.manager.turns)
        assert one.manager.turns
        assert two.manager.turns
        assert all(one.loop.owns(node(name)) != two.loop.owns(node(name)) for name in NODES)


async def test_one_that_stops_is_replaced_at_once_and_its_work_goes_on(
    store: Store, clock: ManualClock
) -> None:
    one, two = House(store, clock, name="one"), House(store, clock, name="two")
    for name in NODES:
        await one.make(name)
    async with two:
        async with one:
            await breathe(clock, 20)
        for name in NODES:
            await two.ledger.set_desired(node(name), ALICE, "b", terms=Terms(reason="because"))
        two.manager.turns.clear()
        await breathe(clock, int(LEASE_TTL_S))
        assert set(two.manager.turns) == set(NODES)
        assert two.loop.snapshot().shards_held == 64
