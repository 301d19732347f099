"""Killed at each commit, made and not made: the next life comes to the same end, and no action is taken
twice."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from advice_house import ALICE, SAID, House, policy

from steersman.act.advice.people import ApprovedAlready
from steersman.kernel.clock import ManualClock, using_clock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.refusal import NotAllowed, ResourceExists, TerminalState
from steersman.state.bus import StateBus
from steersman.store.api import Store, StoreUnavailable
from steersman.store.memory import MemoryStore
from steersman.testing.dying import die_at_each


async def live(store: Store, clock: ManualClock, bus: StateBus, mode: str) -> House:
    """A whole life: a node's disks fill, it is told, approved, carried out, and the node gets there."""
    made = House(store, clock, {"p.yaml": policy(mode)}, bus=bus)
    await made.open()
    with suppress(ResourceExists):
        await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    for _ in range(6):
        await made.pass_time(10)
        if mode == "recommend_with_approval":
            for state in await made.recommendations("proposed"):
                with suppress(ApprovedAlready, NotAllowed, TerminalState):
                    await made.advice.desk.approve(state.id, ALICE, SAID)
        await made.settle()
        await made.walk("n1")
    await made.settle()
    return made


async def check_end(store: Store, clock: ManualClock, bus: StateBus, mode: str) -> None:
    made = House(store, clock, {"p.yaml": policy(mode)}, bus=bus)
    (state,) = await made.recommendations()
    assert state.status == "applied"
    assert len(await made.intents("n1")) == 1
    node = await made.node("n1")
    assert (node.status, node.desired_status) == ("maintenance", "maintenance")
    events = [entry.event for entry in await made.history("Recommendation", state.id) if entry.event]
    assert events == ["approve", "apply", "succeed"]


async def deaths(mode: str) -> int:
    """Die at each commit of a life, both ways; the picture and the time go on over a death."""
    worlds: list[tuple[ManualClock, StateBus]] = []

    def open_store() -> MemoryStore:
        clock = ManualClock()
        worlds.append((clock, StateBus(clock)))
        return MemoryStore(clock=clock, rng=seeded_rng(1))

    async def life(store: Store, died: asyncio.Event) -> None:
        clock, bus = worlds[-1]
        with using_clock(clock):
            try:
                await live(store, clock, bus, mode)
            except StoreUnavailable:
                assert died.is_set()

    async def check(store: Store) -> None:
        clock, bus = worlds[-1]
        with using_clock(clock):
            await check_end(store, clock, bus, mode)

    return await die_at_each(open_store, life, check)


async def test_with_a_person() -> None:
    assert await deaths("recommend_with_approval") >= 8


async def test_by_itself() -> None:
    assert await deaths("controlled_auto_act") >= 8
