"""Killed at any commit: the next life comes to the same end, with no event twice."""

from __future__ import annotations

import asyncio

import pytest
from walk_plane import Plane, node

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.testing.dying import Died, die_at_each, touches

LIFE_S = 120


class World:
    """Several lives, one clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lives = 0

    def open_store(self) -> MemoryStore:
        self.clock = ManualClock()
        self.lives = 0
        return MemoryStore(clock=self.clock, rng=seeded_rng(1))

    async def live(self, store: Store, died: asyncio.Event) -> None:
        """A process that wants the node in service by way of maintenance, until it is there or dead."""
        self.lives += 1
        async with Plane(store, self.clock, f"life{self.lives}") as plane:
            for _ in range(LIFE_S):
                if died.is_set():
                    return
                if await self.drive(plane):
                    return
                await plane.pass_time(1)
            if not died.is_set():
                raise AssertionError(f"never there: {await plane.node()}")

    async def drive(self, plane: Plane) -> bool:
        """The person outside, who repeats what was not answered; whether all is done."""
        try:
            state = await plane.ledger.find(node("n1"))
            if state is None:
                await plane.make(status="in_service")
            elif state.desired_status is None:
                await plane.want("maintenance")
            elif state.status == "maintenance" and state.desired_status == "maintenance":
                await plane.want("in_service")
            return state is not None and state.desired_status == "in_service" and state.is_converged()
        except Died:
            return False

    async def check(self, store: Store) -> None:
        """The one end."""
        plane = Plane(store, self.clock, "judge")
        events = [event for event, _ in await plane.events()]
        assert events == ["drain", "drained", "return", "passed"]
        state = await plane.node()
        assert state.status == "in_service"
        assert state.operation is None
        assert state.retry is None


async def test_killed_between_any_two_commits_it_comes_to_the_same_end() -> None:
    world = World()
    deaths = await die_at_each(world.open_store, world.live, world.check, counts=touches("resources/"))
    assert deaths > 20, "each of a dozen commits, before and after it"


@pytest.mark.parametrize("seed", range(12))
async def test_stopped_and_started_at_random_it_comes_to_the_same_end(seed: int) -> None:
    world, chance = World(), seeded_rng(seed)
    async with world.open_store() as store:
        for life in range(200):
            plane = Plane(store, world.clock, f"life{life}")
            async with plane:
                for _ in range(1 + int(chance.random() * 6)):
                    await world.drive(plane)
                    world.clock.advance(chance.random() * 2)
                    for _ in range(int(chance.random() * 60)):  # stopped in the middle of whatever it does
                        await asyncio.sleep(0)
                if await world.drive(plane):
                    break
        else:
            raise AssertionError("never there")
        await world.check(store)
