"""The loop: what wakes it, what it survives, and what it does not do for those who need nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from loop_house import ALICE, EXACT, House, node

from steersman.act.reconcile.api import After, Done, Failed, Stuck
from steersman.act.reconcile.loop import LoopLimits
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.axes import OperationPhase
from steersman.kinds.command import LOOP, Terms
from steersman.kinds.refusal import VersionConflict
from steersman.kinds.state import ResourceState, Retry
from steersman.state.ledger import ResourcePage
from steersman.store.api import Store
from steersman.store.memory import MemoryStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[Store]:
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as opened:
        yield opened


async def test_a_change_wakes_it_and_a_settled_resource_takes_no_turn(
    store: Store, clock: ManualClock
) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        await house.quiet()
        assert house.manager.turns == []
        await house.change("n1")
        assert house.manager.turns == ["n1"]


async def test_what_was_left_undone_is_seen_at_the_start(store: Store, clock: ManualClock) -> None:
    house = House(store, clock)
    await house.make("n1")
    await house.make("n2")
    await house.ledger.set_desired(node("n1"), ALICE, "b", terms=Terms(reason="because"))
    before = await store.revision()
    async with house:
        assert house.manager.turns == ["n1"]
        assert house.loop.snapshot().shards_held == 64
    assert await store.revision() >= before
    page = await house.ledger.history(node("n2"), limit=10)
    assert len(page.entries) == 1, "a converged one is not written to"


async def test_after_looks_again_at_its_time_and_due_at_its_own(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        house.manager.answers["n1"] = After(10, "for paint to dry")
        house.manager.dues["n1"] = clock.now() + timedelta(seconds=25)
        await house.change("n1")
        look = house.loop.explain(node("n1"))
        assert (look.outcome, look.reason) == ("after", "for paint to dry")
        assert look.next_at == clock.now() + timedelta(seconds=10)
        await house.pass_time(9)
        assert len(house.manager.turns) == 1
        await house.pass_time(1)
        assert len(house.manager.turns) == 2
        house.manager.answers["n1"] = Done()
        await house.pass_time(10)
        assert len(house.manager.turns) == 3
        await house.pass_time(5)
        assert len(house.manager.turns) == 4
        await house.pass_time(60)
        assert len(house.manager.turns) == 4


async def test_a_managers_error_is_a_failure_of_its_resource_alone(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        for name in ("bad", "good"):
            await house.make(name)
        house.manager.answers["bad"] = RuntimeError("boom")
        await house.change("bad")
        await house.change("good")
        state = await house.ledger.get(node("bad"))
        assert state.retry is not None
        assert "boom" in state.retry.error
        assert house.manager.turns.count("good") == 1


async def test_failures_back_off_and_end_before_a_person(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        house.manager.answers["n1"] = Failed("no disk")
        await house.change("n1")
        assert len(house.manager.turns) == 1
        await house.pass_time(1)
        assert len(house.manager.turns) == 2
        await house.pass_time(1)
        assert len(house.manager.turns) == 2
        await house.pass_time(1)
        assert len(house.manager.turns) == 3
        await house.pass_time(300)
        assert len(house.manager.turns) == 3
        state = await house.ledger.get(node("n1"))
        assert state.operation is not None
        assert state.operation.phase is OperationPhase.FAILED
        assert "no disk" in state.operation.detail
        look = house.loop.explain(node("n1"))
        assert (look.outcome, look.failures, look.budget) == ("stuck", 3, 3)
        assert look.needs


async def test_stuck_is_not_counted_and_looked_at_now_and_then(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        house.manager.answers["n1"] = Stuck("held", "bob: lift it")
        await house.change("n1")
        before = await store.revision()
        await house.pass_time(130)
        assert len(house.manager.turns) == 3
        assert await store.revision() == before
        assert house.loop.snapshot().stuck == 1


async def test_a_person_goes_before_ten_thousand_others(store: Store, clock: ManualClock) -> None:
    async with House(store, clock, LoopLimits(concurrency_max=1)) as house:
        house.manager.gate = asyncio.Event()
        for number in range(50):
            await house.make(f"n{number}")
            house.manager.answers[f"n{number}"] = Done()
            house.loop.nudge(node(f"n{number}"))
        for _ in range(50):
            await asyncio.sleep(0)
        await house.loop.reconcile(node("n49"), ALICE, "now")
        house.manager.gate.set()
        await house.quiet()
        assert house.manager.turns[1] == "n49"


async def test_children_wake_their_parent(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        await house.make("parent")
        house.manager.answers["parent"] = Done()
        await house.make("child", "Node/parent")
        await house.quiet()
        turns = house.manager.turns.count("parent")
        await house.change("child")
        assert house.manager.turns.count("parent") == turns + 1


async def test_a_compacted_watch_sees_everything_again(store: Store, clock: ManualClock) -> None:
    house = House(store, clock)
    await house.make("n1")
    async with house:
        sweeps = house.loop.snapshot().sweeps
        await house.ledger.set_desired(node("n1"), ALICE, "b", terms=Terms(reason="because"))
        await house.make("n2")
        await store.compact(await store.revision())
        await house.quiet()
        assert house.manager.turns == ["n1"]
        assert house.loop.snapshot().sweeps >= sweeps


async def test_a_full_queue_loses_nothing(store: Store, clock: ManualClock) -> None:
    limits = LoopLimits(concurrency_max=1, queue_keys_max=5, retry=EXACT)
    house = House(store, clock, limits)
    for number in range(40):
        await house.make(f"n{number}")
        await house.ledger.set_desired(node(f"n{number}"), ALICE, "b", terms=Terms(reason="because"))
    async with house:
        await house.pass_time(60)
        assert set(house.manager.turns) == {f"n{number}" for number in range(40)}


async def test_old_pictures_are_looked_at_again_and_not_counted(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        house.manager.answers["n1"] = VersionConflict("it moved", expected=1, current=2)
        await house.change("n1")
        house.manager.answers["n1"] = Done()
        await house.pass_time(1)
        assert len(house.manager.turns) == 2
        assert (await house.ledger.get(node("n1"))).retry is None


async def test_stopped_and_started_it_begins_where_it_was(store: Store, clock: ManualClock) -> None:
    first = House(store, clock)
    await first.make("n1")
    first.manager.answers["n1"] = Failed("no disk")
    async with first:
        await first.change("n1")
        await first.pass_time(2)
    state = await first.ledger.get(node("n1"))
    assert state.retry is not None
    used = state.retry.failures
    assert used == 2
    second = House(store, clock)
    second.manager.answers["n1"] = Failed("no disk")
    async with second:
        await second.pass_time(100)
        state = await second.ledger.get(node("n1"))
        assert state.retry is not None
        assert state.retry.exhausted
        assert len(second.manager.turns) == 1, "the third of three"


async def test_the_budget_of_a_dead_process_is_finished_by_the_next(store: Store, clock: ManualClock) -> None:
    house = House(store, clock)
    await house.make("n1")
    used_up = Retry(failures=3, budget=3, generation=1, next_at=clock.now(), error="no disk")
    await house.ledger.record_retry(node("n1"), LOOP, used_up)
    async with house:
        state = await house.ledger.get(node("n1"))
        assert state.operation is not None
        assert state.operation.phase is OperationPhase.FAILED


async def test_many_idle_resources_cost_no_turn_no_write_and_no_memory(clock: ManualClock) -> None:
    count = 5_000  # bench/reconcile.py does it with 100,000
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
        house = House(store, clock)
        for number in range(count):
            await house.make(f"n{number}")
        before = {record.key: record.revision for record in (await store.list("resources/")).records}
        async with house:
            await house.pass_time(30)
            snapshot = house.loop.snapshot()
            assert house.manager.turns == []
            assert (snapshot.queued, snapshot.delayed, snapshot.in_flight) == (0, 0, 0)
            assert snapshot.sweeps == 1
        after = {record.key: record.revision for record in (await store.list("resources/")).records}
        assert after == before


async def test_a_hint_helps_who_waits_and_costs_the_others_nothing(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        await house.make("n2")
        house.manager.answers["n1"] = Stuck("a guard", "bob")
        await house.change("n1")
        turns = len(house.manager.turns)
        house.loop.hint(node("n1"))
        house.loop.hint(node("n2"))
        await house.quiet()
        assert house.manager.turns[turns:] == ["n1"]


async def test_a_clock_set_back_does_not_stretch_a_wait(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        house.manager.answers["n1"] = Failed("no disk")
        await house.change("n1")
        clock.set_wall(clock.now() - timedelta(days=1))
        house.manager.answers["n1"] = Done()
        await house.pass_time(120)
        assert len(house.manager.turns) >= 2, "it does not wait for a day"
        assert (await house.ledger.get(node("n1"))).retry is None


async def test_managers_that_raise_before_their_turn_end_nothing(store: Store, clock: ManualClock) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        house.manager.broken = True
        await house.change("n1")
        house.manager.broken = False
        await house.make("n2")
        await house.change("n2")
        assert "n2" in house.manager.turns


async def test_a_sweep_that_reads_an_old_page_takes_no_time_away(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with House(store, clock) as house:
        await house.make("n1")
        listed, gate = house.ledger.list, asyncio.Event()

        async def slow_list(*args: Any, **more: Any) -> ResourcePage:
            page = await listed(*args, **more)
            await gate.wait()
            return page

        monkeypatch.setattr(house.ledger, "list", slow_list)
        house.loop._sweep_wanted.set()  # pyright: ignore[reportPrivateUsage] - what new shards do
        await house.quiet()
        house.manager.answers["n1"] = After(10, "for paint to dry")
        await house.change("n1")
        assert house.manager.turns == ["n1"]

        def settled(state: ResourceState, now: datetime) -> bool:
            return state.desired_status is None

        monkeypatch.setattr(house.manager, "settled", settled)
        gate.set()
        await house.quiet()
        await house.pass_time(11)
        assert house.manager.turns == ["n1", "n1"]
