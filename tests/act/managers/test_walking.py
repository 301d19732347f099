"""A node is walked to its intent, on virtual time, through a real store and the Ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from walk_plane import ALICE, Plane, node

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.axes import OperationPhase, Truth
from steersman.kinds.command import Actor, ChangeAction, Terms
from steersman.kinds.plane_resources import FREEZE_ID, FreezeState
from steersman.kinds.state import NodeState, ResourceRef
from steersman.store.api import Store
from steersman.store.memory import MemoryStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[Store]:
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as opened:
        yield opened


async def test_it_walks_through_a_phase_and_says_who_and_why(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make()
        await plane.want("maintenance")
        state = await plane.until(lambda state: state.status == "maintenance")
        assert await plane.events() == [("drain", "loop"), ("drained", "engine:pipeline")]
        assert [step for _, _, step in plane.engine.done] == [1, 2, 3]
        assert state.is_converged()
        assert state.operation is None
        entries = (await plane.ledger.history(node("n1"), limit=100)).entries
        intent = next(entry for entry in entries if entry.action is ChangeAction.INTENT_SET)
        drain = next(entry for entry in entries if entry.event == "drain")
        assert drain.cause == f"Node/n1/{intent.seq}"
        assert drain.reason == "because"
        assert (drain.actor, drain.carried_out_by) == (intent.actor, "loop"), "it is whose intent it is"
        await plane.quiet()
        assert plane.loop.explain(node("n1")).outcome in ("", "done")


async def test_a_phase_without_on_success_leads_on_to_the_intent(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make(status="maintenance")
        await plane.want("in_service")
        await plane.until(lambda state: state.status == "in_service")
        assert [event for event, _ in await plane.events()] == ["return", "passed"]


async def test_a_phase_in_the_desired_state_runs_once_and_rests(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make(status="maintenance")
        await plane.want("testing")
        await plane.until(lambda state: phase_of(state) is OperationPhase.IDLE)
        before = (await plane.node()).version
        await plane.pass_time(1800, 60)
        assert (await plane.node()).version == before
        assert len(plane.engine.done) == 3


async def test_a_converged_node_is_never_written_to(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make()
        await plane.want("in_service")
        await plane.quiet()
        before = (await plane.node()).version
        for _ in range(5):
            plane.loop.nudge(node("n1"))
            await plane.pass_time(600, 60)
        assert (await plane.node()).version == before


async def test_an_event_by_hand_runs_the_phase_too(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make()
        await plane.ledger.transition(node("n1"), ALICE, event="drain")
        await plane.until(lambda state: state.status == "maintenance")


async def test_a_failed_phase_takes_on_failure(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        plane.engine.failing = {"drain"}
        await plane.make()
        await plane.want("maintenance")
        await plane.until(lambda state: state.status == "broken")
        await plane.quiet()
        look = plane.loop.explain(node("n1"))
        assert look.outcome == "stuck"
        assert "repair" in look.reason
        assert "operator" in look.needs


async def test_without_on_failure_a_person_decides_and_may_ask_again(
    store: Store, clock: ManualClock
) -> None:
    async with Plane(store, clock) as plane:
        plane.engine.failing = {"test"}
        await plane.make(status="maintenance")
        await plane.want("in_service")
        failed = OperationPhase.FAILED
        state = await plane.until(
            lambda state: state.operation is not None and state.operation.phase is failed
        )
        assert state.operation is not None
        assert "step two broke" in state.operation.detail
        before = (await plane.node()).version
        await plane.pass_time(1200, 60)
        assert (await plane.node()).version == before, "it is not tried again"
        look = plane.loop.explain(node("n1"))
        assert look.outcome == "stuck"
        assert "step two broke" in look.reason
        assert "a person" in look.needs
        plane.engine.failing = set()
        await plane.loop.reconcile(node("n1"), ALICE, "the cable is in")
        await plane.until(lambda state: state.status == "in_service")
        assert (await plane.node()).retry is None


async def test_a_new_intent_begins_anew(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        plane.engine.failing = {"test"}
        await plane.make(status="maintenance")
        await plane.want("in_service")
        await plane.until(lambda state: phase_of(state) is OperationPhase.FAILED)
        plane.engine.failing = set()
        await plane.want("testing")
        state = await plane.until(lambda state: phase_of(state) is OperationPhase.IDLE)
        assert state.retry is None


@pytest.mark.parametrize("deaths", [0, 1, 3, 8])
async def test_a_deadline_fires_once_over_restarts(store: Store, clock: ManualClock, deaths: int) -> None:
    first = Plane(store, clock)
    async with first:
        first.engine.stalled = {"drain"}
        await first.make()
        await first.want("maintenance")
        await first.pass_time(10)
    for number in range(deaths):
        clock.advance(3500 / deaths)
        life = Plane(store, clock, f"life{number}")
        life.engine.stalled = {"drain"}
        async with life:
            await life.pass_time(20, 10)
    clock.advance(4000)
    last = Plane(store, clock, "last")
    last.engine.stalled = {"drain"}
    async with last as plane:
        await plane.until(lambda state: state.status == "broken")
        await plane.pass_time(4000, 500)
        assert (await plane.events()).count(("drain_timeout", "timer")) == 1


async def test_a_deadline_fires_at_its_time_not_before(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        plane.engine.stalled = {"drain"}
        await plane.make()
        await plane.want("maintenance")
        state = await plane.node()
        await plane.pass_time(3590, 10)
        assert (await plane.node()).status == "draining"
        clock.set_wall(clock.now() - timedelta(hours=1))
        await plane.pass_time(600, 10)
        assert (await plane.node()).status == "draining", "the wall clock was set back: it waits"
        await plane.pass_time(3100, 10)
        assert (await plane.node()).status == "broken"
        assert (await plane.events()).count(("drain_timeout", "timer")) == 1
        assert state.status in ("in_service", "draining")


async def test_a_deadline_without_a_way_out_only_says_overdue(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make(status="maintenance")
        await plane.pass_time(8 * 3600 + 10, 600)
        state = await plane.node()
        condition = state.condition("overdue")
        assert condition is not None
        assert condition.status is Truth.TRUE
        before = (await plane.node()).version
        await plane.pass_time(7200, 600)
        assert (await plane.node()).version == before, "said once"
        await plane.want("in_service")
        await plane.until(lambda state: state.status == "in_service")
        condition = (await plane.node()).condition("overdue")
        assert condition is not None
        assert condition.status is Truth.FALSE


async def test_a_hold_stops_everything_and_says_whose_it_is(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make()
        await plane.ledger.place_hold(node("n1"), ALICE, "audit", terms=Terms(reason="evidence inside"))
        await plane.want("maintenance")
        await plane.pass_time(120, 10)
        assert (await plane.node()).status == "in_service"
        look = plane.loop.explain(node("n1"))
        assert look.outcome == "stuck"
        assert "audit" in look.reason
        assert "user:alice" in look.needs
        await plane.ledger.lift_hold(node("n1"), ALICE, "audit")
        await plane.until(lambda state: state.status == "maintenance")


async def test_a_hold_that_expires_is_noticed(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make()
        until = clock.now() + timedelta(minutes=30)
        await plane.ledger.place_hold(node("n1"), ALICE, "audit", expires_at=until)
        await plane.want("maintenance")
        await plane.pass_time(1700, 100)
        assert (await plane.node()).status == "in_service"
        await plane.pass_time(110, 1)
        assert (await plane.node()).status != "in_service"


async def test_what_needs_others_is_said(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make(status="maintenance")
        await plane.want("retired")
        await plane.quiet()
        look = plane.loop.explain(node("n1"))
        assert look.outcome == "stuck"
        assert "approvals" in look.needs
        assert (await plane.node()).retry is None, "nobody's failure"


async def test_a_verdict_that_is_others_is_not_pronounced(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make(status="burn_in")
        await plane.want("in_service")
        await plane.pass_time(120, 10)
        assert (await plane.node()).status == "burn_in"
        look = plane.loop.explain(node("n1"))
        assert look.outcome == "stuck"
        assert "qualified" in look.needs
        await plane.ledger.transition(node("n1"), ALICE, event="qualified")
        await plane.until(lambda state: state.status == "in_service")


async def test_no_way_is_said(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await plane.make(status="broken")
        await plane.want("burn_in")
        await plane.quiet()
        look = plane.loop.explain(node("n1"))
        assert look.outcome == "stuck"
        assert "no events lead from broken to burn_in" in look.reason


async def test_an_intent_changed_in_a_phase_goes_straight_back_where_the_table_allows(
    store: Store, clock: ManualClock
) -> None:
    async with Plane(store, clock) as plane:
        plane.engine.stalled = {"drain"}
        await plane.make()
        await plane.want("maintenance")
        await plane.until(lambda state: state.status == "draining")
        await plane.quiet()
        await plane.want("in_service")
        await plane.until(lambda state: state.status == "in_service")
        assert [event for event, _ in await plane.events()] == ["drain", "cancel_drain"]
        assert len(plane.engine.cancelled) == 1


async def test_else_the_phase_ends_first(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        plane.engine.stalled = {"test"}
        await plane.make(status="maintenance")
        await plane.want("in_service")
        await plane.until(lambda state: state.status == "testing")
        await plane.want("maintenance")
        plane.engine.stalled = set()
        await plane.until(lambda state: state.status == "maintenance")
        assert [event for event, _ in await plane.events()] == ["return", "passed", "drain", "drained"]


async def test_a_claim_ends_the_operation_and_keeps_the_node_until_a_newer_intent(
    store: Store, clock: ManualClock
) -> None:
    async with Plane(store, clock) as plane:
        plane.engine.stalled = {"drain"}
        await plane.make()
        await plane.want("maintenance")
        await plane.until(lambda state: state.status == "draining")
        await plane.quiet()
        await plane.ledger.claim(node("n1"), ALICE, terms=Terms(reason="hands off"))
        await plane.pass_time(120, 10)
        state = await plane.node()
        assert plane.engine.cancelled
        assert state.status == "draining"
        assert state.operation is None
        assert "user:alice" in plane.loop.explain(node("n1")).reason
        plane.engine.stalled = set()
        await plane.want("in_service")
        await plane.until(lambda state: state.status == "in_service")


async def test_a_freeze_stops_starts(store: Store, clock: ManualClock) -> None:
    async with Plane(store, clock) as plane:
        await freeze(plane, "freeze")
        await plane.make()
        await plane.want("maintenance")
        await plane.pass_time(30, 5)
        assert (await plane.node()).status == "in_service"
        look = plane.loop.explain(node("n1"))
        assert look.outcome == "stuck"
        assert look.frozen
        assert (await plane.node()).retry is None
        await freeze(plane, "thaw")
        await plane.quiet()
        assert (await plane.node()).status != "in_service", "at once, not at the next recheck"


def phase_of(state: NodeState) -> OperationPhase | None:
    return None if state.operation is None else state.operation.phase


async def freeze(plane: Plane, event: str) -> None:
    ref = ResourceRef("Freeze", FREEZE_ID)
    admin = Actor("user:root", ("admin", "operator"))
    if await plane.ledger.find(ref) is None:
        await plane.ledger.create(FreezeState(id=FREEZE_ID, lifecycle_table="freeze"), admin)
    await plane.ledger.transition(ref, admin, event=event, terms=Terms(reason="change window"))
