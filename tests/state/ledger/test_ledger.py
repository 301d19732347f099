"""Each request: one commit with one history row and one event, and the resource as the row says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from ledger_house import ALICE, BOB, ENGINE, NODE, node, ref

from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import TooLarge
from steersman.kinds.axes import Condition, Operation, Truth
from steersman.kinds.command import ChangeAction, Terms, Written
from steersman.kinds.lifecycle import UnknownState
from steersman.kinds.refusal import (
    Fenced,
    GuardFailed,
    NotAllowed,
    RequirementMissing,
    ResourceExists,
    ResourceNotFound,
    TerminalState,
    UnknownEvent,
    UnknownLifecycle,
    UnknownResourceKind,
    VersionConflict,
)
from steersman.kinds.state import Held, NodeState, RefInvalid, ResourceRef, Retry
from steersman.state.ledger import Ledger
from steersman.state.ledger.changes import LABELS_MAX, SpecInvalid
from steersman.state.ledger.keys import OUTBOX, history_prefix
from steersman.state.ledger.reading import read_event
from steersman.state.ledger.verify import verify_store
from steersman.store.api import Held as LeaseHeld
from steersman.store.api import LeaseExpired, Store


async def counts(store: Store) -> tuple[int, int]:
    rows = await store.list(history_prefix(NODE))
    events = await store.list(OUTBOX)
    return len(rows.records), len(events.records)


def condition(clock: ManualClock, status: Truth, reason: str = "", kind: str = "health") -> Condition:
    return Condition(type=kind, status=status, source="test", observed_at=clock.now(), reason=reason)


def operation(clock: ManualClock, name: str = "op-1") -> Operation:
    return Operation(id=name, kind="drain", started_at=clock.now())


async def test_every_request_writes_one_row_and_one_event(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    now = clock.now()
    retry = Retry(failures=1, budget=3, generation=1, next_at=now)
    asked: list[tuple[ChangeAction, Any]] = [
        (ChangeAction.CREATED, lambda: ledger.create(node(labels={"rack": "r1"}), ALICE)),
        (ChangeAction.INTENT_SET, lambda: ledger.set_desired(NODE, ALICE, "busy", Terms(reason="work"))),
        (ChangeAction.TRANSITIONED, lambda: ledger.transition(NODE, ENGINE, event="start")),
        (ChangeAction.SPEC_CHANGED, lambda: ledger.change_spec(NODE, ALICE, labels={"rack": "r2"})),
        (ChangeAction.HOLD_PLACED, lambda: ledger.place_hold(NODE, ALICE, "mine")),
        (ChangeAction.HOLD_LIFTED, lambda: ledger.lift_hold(NODE, ALICE, "mine")),
        (
            ChangeAction.CONDITIONS_CHANGED,
            lambda: ledger.report_conditions(NODE, ENGINE, [condition(clock, Truth.TRUE)]),
        ),
        (
            ChangeAction.OPERATION_CHANGED,
            lambda: ledger.set_operation(NODE, ENGINE, operation(clock), begin=True),
        ),
        (ChangeAction.PROGRESS_MADE, lambda: ledger.record_progress(NODE, ENGINE, "drain", {"a": 1})),
        (ChangeAction.RETRY_CHANGED, lambda: ledger.record_retry(NODE, ENGINE, retry)),
        (ChangeAction.CLAIMED, lambda: ledger.claim(NODE, ENGINE)),
        (ChangeAction.INTENT_SET, lambda: ledger.set_desired(NODE, ALICE, "idle")),
        (ChangeAction.INTENT_OBSERVED, lambda: ledger.acknowledge(NODE, ENGINE)),
        (ChangeAction.MIGRATED, lambda: ledger.migrate(NODE, BOB, "box@2", "working")),
        (ChangeAction.DELETED, lambda: ledger.delete(NODE, BOB, force=True)),
    ]
    assert {action for action, _ in asked} == set(ChangeAction)
    for number, (action, ask) in enumerate(asked, 1):
        before = await store.revision()
        written: Written = await ask()
        assert written.entry.action is action
        assert written.entry.seq == written.state.version == number
        assert written.revision == await store.revision() == before + 1, "one commit"
        assert await counts(store) == (number, number)
        if action is not ChangeAction.DELETED:
            assert await ledger.get(NODE) == written.state
    events = [read_event(record) for record in (await store.list(OUTBOX)).records]
    assert [event.sequence for event in events] == list(range(1, len(asked) + 1))
    assert events[2].type == "steersman.resource.transitioned.v1"
    assert events[2].id == "Node/n1/3"
    assert {name: events[2].data[name] for name in ("kind", "id", "from", "to", "status", "actor")} == {
        "kind": "Node",
        "id": "n1",
        "from": "idle",
        "to": "busy",
        "status": "busy",
        "actor": "engine:pipeline",
    }
    assert events[2].data["labels"] == {"rack": "r1"}
    assert (await verify_store(store)).ok


async def test_what_is_meant_to_be_nowhere_owes_no_answer(ledger: Ledger) -> None:
    """Nobody has to look at it and write that there was nothing to do."""
    state = (await ledger.create(node(), ALICE)).state
    assert state.observed_generation == state.generation
    await ledger.set_desired(NODE, ALICE, "busy", Terms(reason="work"))
    state = (await ledger.set_desired(NODE, ALICE, None, Terms(reason="never mind"))).state
    assert (state.observed_generation, state.generation) == (3, 3)
    assert (await ledger.acknowledge(NODE, ENGINE)).unchanged


async def test_the_intent_says_who_and_why_and_is_answered(ledger: Ledger, clock: ManualClock) -> None:
    await ledger.create(node(), ALICE)
    state = (await ledger.set_desired(NODE, ALICE, "BUSY", Terms(reason="work"))).state
    assert (state.desired_status, state.desired_by, state.desired_reason) == ("busy", ALICE.name, "work")
    assert (state.generation, state.observed_generation, state.is_converged()) == (2, 1, False)
    retry = Retry(failures=1, budget=3, generation=2, next_at=clock.now())
    await ledger.record_retry(NODE, ENGINE, retry)
    clock.advance(5)
    state = (
        await ledger.transition(NODE, ENGINE, event="start", terms=Terms(cause="c", operation="o"))
    ).state
    assert state.is_converged()
    assert (state.observed_generation, state.retry, state.status_since) == (2, None, clock.now())
    last = state.state_history[-1]
    assert (last.from_state, last.to_state, last.triggered_by) == ("idle", "busy", ENGINE.name)
    assert last.metadata == {"event": "start", "cause": "c", "operation": "o", "seq": state.version}


async def test_what_is_there_already_is_not_written_again(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    await ledger.create(node(labels={"a": "b"}), ALICE)
    await ledger.set_desired(NODE, ALICE, "busy")
    await ledger.place_hold(NODE, ALICE, "mine", Terms(reason="r"))
    first = condition(clock, Truth.TRUE, "ok")
    await ledger.report_conditions(NODE, ENGINE, [first])
    revision = await store.revision()
    same = [
        await ledger.set_desired(NODE, BOB, "busy"),
        await ledger.place_hold(NODE, ALICE, "mine", Terms(reason="r")),
        await ledger.lift_hold(NODE, ALICE, "other"),
        await ledger.change_spec(NODE, ALICE, labels={"a": "b"}),
        await ledger.set_operation(NODE, ENGINE, None),
        await ledger.record_retry(NODE, ENGINE, None),
        await ledger.record_progress(NODE, ENGINE, "drain", None),
    ]
    clock.advance(60)
    assert await ledger.report_conditions(NODE, ENGINE, [condition(clock, Truth.TRUE, "ok")]) is None
    assert all(written.unchanged and written.entry.seq == 4 for written in same)
    assert await store.revision() == revision
    clock.set_wall(first.observed_at - timedelta(seconds=1))
    late = condition(clock, Truth.FALSE, "old news")
    assert await ledger.report_conditions(NODE, ENGINE, [late]) is None


async def test_a_dry_run_judges_and_writes_nothing(store: Store, ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    revision = await store.revision()
    written = await ledger.transition(NODE, ALICE, event="start", terms=Terms(dry_run=True))
    assert (written.dry_run, written.entry.hash, written.state.status) == (True, "", "busy")
    with pytest.raises(NotAllowed):
        await ledger.transition(NODE, ALICE, event="stop", terms=Terms(dry_run=True))
    assert (await ledger.judge(NODE, ALICE, event="start")).to == "busy"
    assert await store.revision() == revision
    assert (await ledger.get(NODE)).status == "idle"


async def test_every_refusal_changes_nothing(store: Store, ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    await ledger.place_hold(NODE, BOB, "bobs")
    await ledger.create(node("end"), ALICE)
    await ledger.transition(ref("end"), ALICE, event="retire", terms=Terms(reason="old"))
    await ledger.create(node("b"), ALICE)
    await ledger.transition(ref("b"), ALICE, event="start")
    revision = await store.revision()
    refused: list[tuple[type[Exception], Any]] = [
        (ResourceExists, ledger.create(node(), ALICE)),
        (ResourceNotFound, ledger.transition(ref("nn1"), ALICE, event="start")),
        (UnknownResourceKind, ledger.get(ResourceRef("Nod", "n1"))),
        (UnknownLifecycle, ledger.create(NodeState(id="x", lifecycle_table="none"), ALICE)),
        (UnknownState, ledger.create(node("x", status="nowhere"), ALICE)),
        (UnknownState, ledger.set_desired(NODE, ALICE, "nowhere")),
        (UnknownEvent, ledger.transition(NODE, ALICE, event="stort")),
        (NotAllowed, ledger.transition(NODE, ALICE, event="stop")),
        (NotAllowed, ledger.transition(NODE, ENGINE, event="retire", terms=Terms(reason="r"))),
        (RequirementMissing, ledger.transition(NODE, ALICE, event="retire")),
        (GuardFailed, ledger.transition(ref("b"), ALICE, event="heal")),
        (TerminalState, ledger.transition(ref("end"), ALICE, event="start")),
        (TerminalState, ledger.set_desired(ref("end"), ALICE, "idle")),
        (VersionConflict, ledger.transition(NODE, ALICE, event="start", terms=Terms(expected_version=1))),
        (Fenced, ledger.transition(NODE, ALICE, event="start", terms=Terms(fence=7))),
        (Held, ledger.place_hold(NODE, ALICE, "bobs")),
        (Held, ledger.lift_hold(NODE, ALICE, "bobs")),
        (NotAllowed, ledger.lift_hold(NODE, ENGINE, "bobs", Terms(reason="r"), override=True)),
        (RequirementMissing, ledger.lift_hold(NODE, ALICE, "bobs", override=True)),
        (SpecInvalid, ledger.change_spec(NODE, ALICE, fields={"status": "busy"})),
        (SpecInvalid, ledger.change_spec(NODE, ALICE, fields={"scoop": "x"})),
        (SpecInvalid, ledger.change_spec(NODE, ALICE, fields={"host_id": 7})),
        (TooLarge, ledger.change_spec(NODE, ALICE, labels={str(n): "" for n in range(LABELS_MAX + 1)})),
        (TooLarge, ledger.change_spec(NODE, ALICE, metadata={"a": "x" * 70_000})),
        (TooLarge, ledger.transition(NODE, ALICE, event="start", data={"a": "x" * 70_000})),
        (TooLarge, ledger.record_progress(NODE, ALICE, "p", {"a": "x" * 300_000})),
        (RefInvalid, ledger.get(ref(""))),
        (RefInvalid, ledger.get(ref("\ud800"))),
        (RefInvalid, ledger.get(ref("x" * 600))),
        (LeaseExpired, ledger.transition(NODE, ALICE, event="start", held=LeaseHeld("lease-9", 9))),
    ]
    for kind, asked in refused:
        with pytest.raises(kind):
            await asked
    assert await store.revision() == revision
    assert (await verify_store(store)).ok


async def test_a_refusal_says_what_is_near_and_what_is_allowed(ledger: Ledger) -> None:
    await ledger.create(node("node-17"), ALICE)
    with pytest.raises(ResourceNotFound, match="did you mean node-17"):
        await ledger.get(ref("node-71"))
    with pytest.raises(NotAllowed) as refusal:
        await ledger.transition(ref("node-17"), ALICE, event="stop")
    assert refusal.value.facts["current"] == "idle"
    assert "start" in str(refusal.value.facts["allowed"])
    options = await ledger.allowed(ref("node-17"), ALICE.roles)
    assert "start" in [option.event for option in options]


async def test_an_operation_begins_with_an_epoch_of_its_own(ledger: Ledger, clock: ManualClock) -> None:
    await ledger.create(node(), ALICE)
    written = await ledger.transition(
        NODE, ENGINE, event="start", operation=operation(clock), begin=True, fields={"host_id": "h1"}
    )
    state = written.state
    assert isinstance(state, NodeState)
    assert state.operation is not None
    assert (state.epoch, state.operation.epoch, state.fence_holder) == (1, 1, ENGINE.name)
    assert state.host_id == "h1"
    assert written.entry.data["fields"] == {"host_id": "h1"}
    assert written.entry.fence == 1
    ended = await ledger.transition(NODE, ENGINE, event="stop", operation=None, terms=Terms(fence=1))
    assert ended.state.operation is None


async def test_an_old_fence_is_refused_even_where_all_is_as_it_was(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    mine = (await ledger.claim(NODE, ENGINE)).state
    await ledger.claim(NODE, BOB)
    await ledger.transition(NODE, BOB, event="start")
    back = (await ledger.transition(NODE, BOB, event="stop")).state
    assert back.status == mine.status
    with pytest.raises(Fenced) as refusal:
        await ledger.transition(NODE, ENGINE, event="start", terms=Terms(fence=mine.epoch))
    assert refusal.value.facts == {"fence": mine.epoch, "current": 2, "holder": BOB.name}


async def test_numbers_and_chain_go_on_where_an_id_is_made_again(store: Store, ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    old = (await ledger.claim(NODE, ENGINE)).state
    gone = await ledger.delete(NODE, ALICE)
    with pytest.raises(ResourceNotFound):
        await ledger.get(NODE)
    assert [entry.seq for entry in (await ledger.history(NODE)).entries] == [1, 2, 3]
    again = await ledger.create(node(), ALICE)
    assert again.entry.seq == again.state.version == 4
    assert again.entry.previous == gone.entry.hash
    with pytest.raises(Fenced):
        await ledger.transition(NODE, ENGINE, event="start", terms=Terms(fence=old.epoch))
    assert (await verify_store(store)).ok


async def test_the_state_that_is_given_is_not_changed(ledger: Ledger) -> None:
    given = node()
    before = msgspec.json.encode(given)
    written = await ledger.create(given, ALICE)
    written.state.labels["x"] = "y"
    assert msgspec.json.encode(given) == before
    assert (await ledger.get(NODE)).labels == {}


async def test_a_hold_that_is_over_makes_room(ledger: Ledger, clock: ManualClock) -> None:
    await ledger.create(node(), ALICE)
    await ledger.place_hold(NODE, ALICE, "x", expires_at=clock.now() + timedelta(seconds=10))
    clock.advance(10)
    written = await ledger.place_hold(NODE, BOB, "x", Terms(reason="mine now"))
    assert [hold.owner for hold in written.state.holds] == [BOB.name]
    assert written.entry.data["over"] == ["x"]
    lifted = await ledger.lift_hold(NODE, ALICE, "x", Terms(reason="urgent"), override=True)
    assert lifted.entry.data == {"name": "x", "owner": BOB.name, "override": True}


async def test_a_migration_drops_an_intent_that_the_new_table_does_not_know(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    await ledger.set_desired(NODE, ALICE, "busy")
    written = await ledger.migrate(NODE, BOB, "box@2")
    assert (written.state.status, written.state.desired_status) == ("idle", None)
    assert written.entry.data["dropped_intent"] == "busy"
    assert written.entry.lifecycle == "box@2"
