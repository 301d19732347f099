"""The whole way in all three modes, and everything that may stop it between a finding and an action."""

from __future__ import annotations

from datetime import timedelta

import pytest
from advice_house import ALICE, BOB, SAID, House, policy

from steersman.act.advice.freeze import freeze, thaw
from steersman.act.advice.people import ApprovedAlready, PolicyObserves, SnoozeInvalid
from steersman.act.reconcile.api import After, Done, Stuck, Turn
from steersman.kernel.clock import ManualClock
from steersman.kinds.command import Terms
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.policy import Guardrail, Verdict
from steersman.kinds.refusal import NotAllowed, TerminalState
from steersman.kinds.state import ResourceRef
from steersman.store.api import Store
from steersman.testing.dying import Died, DyingStore, touches


async def house(store: Store, clock: ManualClock, text: str = "", nodes: tuple[str, ...] = ("n1",)) -> House:
    """A plane with nodes that do well."""
    made = await House(store, clock, {"p.yaml": text or policy()}).open()
    await made.add_nodes(*nodes)
    await made.pass_time(20)
    return made


async def proposed(made: House, name: str = "n1") -> str:
    """Fill a node's disks until it is told of; the recommendation's id."""
    made.disks[name] = 0.99
    await made.pass_time(40)
    return next(s.id for s in await made.recommendations("proposed") if s.labels["entity"] == f"node/{name}")


def stops(state: RecommendationState) -> set[Guardrail]:
    """What stands against it."""
    return {v.guardrail for v in state.guardrails if v.verdict is not Verdict.PASSED}


async def test_a_person_approves_and_the_node_goes_to_maintenance(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    await made.settle()
    assert (await made.node("n1")).desired_status is None, "nobody has agreed yet"
    await made.advice.desk.approve(name, ALICE, Terms(reason="yes"))
    await made.settle()
    node = await made.node("n1")
    assert (node.desired_status, node.desired_by) == ("maintenance", "policy:full-disks")
    assert (await made.the_one()).status == "applying", "it is written down, and not yet so"
    await made.walk("n1")
    await made.settle()
    state = await made.the_one()
    assert (state.status, state.approved_by) == ("applied", ["user:alice"])
    (intent,) = await made.intents("n1")
    assert intent.cause == name
    assert intent.approvals == ("user:alice",)
    assert [fact.field for fact in intent.facts] == ["entity.disk_utilization"]
    assert [e.event for e in await made.history("Recommendation", name) if e.event] == [
        "approve",
        "apply",
        "succeed",
    ]


async def test_by_itself_it_approves_in_the_policys_name(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock, policy("controlled_auto_act"))
    made.disks["n1"] = 0.99
    await made.pass_time(40)
    await made.walk("n1")
    await made.settle()
    state = await made.the_one("applied")
    assert state.approved_by == ["policy:full-disks"]
    assert len(await made.intents("n1")) == 1


async def test_what_only_observes_is_recorded_and_never_carried_out(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock, policy("observe_only"))
    name = await proposed(made)
    with pytest.raises(PolicyObserves) as refused:
        await made.advice.desk.approve(name, ALICE, SAID)
    assert refused.value.facts["mode"] == "observe_only"
    await made.pass_time(3600)
    assert await made.intents("n1") == []
    first, *later = await made.recommendations()
    assert first.status == "expired"
    assert later, "it still holds, so it is said again"


async def test_critical_risk_needs_two_people_in_every_mode(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock, policy("controlled_auto_act", risk="critical"))
    name = await proposed(made)
    await made.advice.desk.approve(name, ALICE, SAID)
    with pytest.raises(ApprovedAlready):
        await made.advice.desk.approve(name, ALICE, SAID)
    await made.settle()
    assert (await made.the_one()).status == "proposed"
    await made.advice.desk.approve(name, BOB, SAID)
    await made.settle()
    state = await made.the_one()
    assert (state.status, state.approved_by) == ("applying", ["user:alice", "user:bob"])


async def test_an_approval_asked_for_twice_with_one_key_counts_once(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    terms = Terms(reason="yes", idempotency_key="k1")
    first = await made.advice.desk.approve(name, ALICE, terms)
    again = await made.advice.desk.approve(name, ALICE, terms)
    assert again.replayed
    assert again.entry.seq == first.entry.seq


async def test_no_is_no_for_a_while(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    await made.advice.desk.reject(name, ALICE, Terms(reason="it is being cleaned"))
    await made.pass_time(3000, 60)
    assert (await made.the_one()).status == "rejected"
    with pytest.raises((NotAllowed, TerminalState)):
        await made.advice.desk.approve(name, ALICE, SAID)
    await made.pass_time(900, 30)
    assert [s.status for s in await made.recommendations()] == ["rejected", "proposed"]


async def test_a_snooze_neither_acts_nor_expires_and_ends(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    with pytest.raises(SnoozeInvalid):
        await made.advice.desk.snooze(name, ALICE, clock.now() - timedelta(seconds=1), SAID)
    await made.advice.desk.snooze(name, ALICE, clock.now() + timedelta(hours=2), SAID)
    await made.set_mode("controlled_auto_act")
    await made.pass_time(5400, 30)
    assert (await made.the_one()).status == "proposed", "past its expiry, and asleep"
    assert await made.intents("n1") == []
    entry = (await made.history("Recommendation", name))[-1]
    assert (entry.actor, entry.action) == ("user:alice", "spec_changed")
    await made.pass_time(1860, 30)
    assert (await made.recommendations())[0].status == "expired"


async def test_nobody_acted_in_time(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    due = made.advice.manager.due(await made.the_one(), made.clock.now())
    assert due is not None
    assert due - clock.now() <= timedelta(minutes=30)
    await made.pass_time(1800, 30)
    first, *_ = await made.recommendations()
    assert (first.id, first.status) == (name, "expired")
    assert (await made.history("Recommendation", name))[-1].actor == "timer"


async def test_facts_that_changed_between_yes_and_acting_stop_it(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    await freeze(made.ledger, BOB, "wait")
    made.advice.book.note(await made.ledger.get(ResourceRef("Freeze", "plane")))
    await made.advice.desk.approve(name, ALICE, SAID)
    await made.settle()
    assert (await made.the_one()).status == "approved"
    made.disks["n1"] = 0.2
    made.speak()  # the picture has changed, and nothing has been evaluated since
    await thaw(made.ledger, BOB, "go on")
    made.advice.book.note(await made.ledger.get(ResourceRef("Freeze", "plane")))
    outcome = await made.reconcile(name)
    assert isinstance(outcome, Done)
    assert (await made.the_one()).status == "superseded"
    assert await made.intents("n1") == []


async def test_a_source_that_fell_silent_after_the_yes_stops_it(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    clock.advance(300)
    await made.advice.desk.approve(name, ALICE, SAID)
    await made.pass_time(300, 10, speaking=False)
    state = await made.the_one()
    assert state.status == "approved"
    assert Guardrail.MAX_STALENESS in stops(state)
    assert await made.intents("n1") == []
    written = [e for e in await made.history("Recommendation", name) if e.reason.startswith("stopped by")]
    assert 1 <= len(written) <= 3, "a stop is put on record when it changes, not on each look"


async def test_frozen_nothing_acts_and_thawed_it_goes_on(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock, policy("controlled_auto_act"))
    await freeze(made.ledger, ALICE, "the storage is being moved")
    made.disks["n1"] = 0.99
    await made.pass_time(120)
    state = await made.the_one()
    assert state.status == "proposed"
    assert Guardrail.FREEZE_WINDOW in stops(state)
    assert await made.intents("n1") == []
    assert await freeze(made.ledger, ALICE, "again") is None
    await thaw(made.ledger, ALICE, "done")
    made.advice.book.note(await made.ledger.get(ResourceRef("Freeze", "plane")))
    await made.pass_time(20)
    assert len(await made.intents("n1")) == 1


async def test_a_freeze_that_the_index_has_not_seen_is_exact(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    await made.advice.desk.approve(name, ALICE, SAID)
    await freeze(made.ledger, BOB, "now")  # the book is not told
    assert made.advice.book.frozen() is None
    outcome = await made.reconcile(name)
    assert isinstance(outcome, After)
    assert outcome.seconds > 0
    assert await made.intents("n1") == []
    assert Guardrail.FREEZE_WINDOW in stops(await made.the_one("approved"))


async def test_a_freeze_between_the_places_taken_and_the_action_stops_the_action(
    store: Store, clock: ManualClock
) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    await made.advice.desk.approve(name, ALICE, SAID)
    ref = ResourceRef("Recommendation", name)
    await made.advice.manager.reconcile(Turn(await made.ledger.get(ref), None, clock.now()))
    assert (await made.the_one()).status == "applying"
    await freeze(made.ledger, BOB, "now")
    outcome = await made.reconcile(name)
    assert isinstance(outcome, After)
    assert "frozen" in outcome.reason
    assert await made.intents("n1") == []
    await thaw(made.ledger, BOB, "go on")
    await made.reconcile(name)
    assert len(await made.intents("n1")) == 1


async def test_killed_before_it_was_written_that_it_began_it_does_not_undo_a_newer_intent(
    store: Store, clock: ManualClock
) -> None:
    """The next life can't know that the action was taken: its key tells."""
    made = await house(store, clock)
    name = await proposed(made)
    await made.advice.desk.approve(name, ALICE, SAID)
    dying = DyingStore(store, 1, made=True, counts=touches("resources/Node/"))
    first = await House(dying, clock, {"p.yaml": policy()}, bus=made.bus).open()
    with pytest.raises(Died):
        await first.reconcile(name)
    assert len(await made.intents("n1")) == 1
    await made.set_desired("n1", "in_service", BOB)
    second = await House(store, clock, {"p.yaml": policy()}, bus=made.bus).open()
    await second.reconcile(name)
    assert (await made.node("n1")).desired_status == "in_service"
    assert len(await made.intents("n1")) == 1
    assert (await made.the_one()).status == "superseded"


async def test_somebody_elses_newer_intent_overtakes_it_and_is_no_failure(
    store: Store, clock: ManualClock
) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    await made.advice.desk.approve(name, ALICE, SAID)
    await made.settle()
    await made.set_desired("n1", "in_service", BOB)
    await made.settle()
    state = await made.the_one()
    assert state.status == "superseded"
    assert "user:bob" in (state.state_history[-1].reason or "")
    assert (await made.node("n1")).desired_status == "in_service"
    assert made.advice.book.failures_in_a_row("full-disks") == 0


async def test_one_that_does_not_get_there_fails_at_its_deadline(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    await made.advice.desk.approve(name, ALICE, SAID)
    await made.pass_time(3500, 50)
    assert (await made.recommendations("applying"))[0].id == name
    await made.pass_time(150, 50)
    first, *_ = await made.recommendations()
    assert (first.id, first.status) == (name, "failed")
    assert made.advice.book.failures_in_a_row("full-disks") == 1


async def test_failures_in_a_row_open_the_circuit_over_a_restart_and_a_person_closes_it(
    store: Store, clock: ManualClock
) -> None:
    text = policy(
        "controlled_auto_act", limits="{window: 1m, max_count: 1, breaker_failures: 2, cooldown: 1s}"
    )
    made = await house(store, clock, text)
    made.disks["n1"] = 0.99
    await made.pass_time(9000, 60)
    assert [s.status for s in await made.recommendations()][:2] == ["failed", "failed"]
    assert len(await made.intents("n1")) == 1, "the same intent again changes nothing"
    made = await House(store, clock, {"p.yaml": text}, bus=made.bus).open()
    made.disks["n1"] = 0.99
    await made.pass_time(600, 30)
    state = (await made.recommendations("proposed"))[-1]
    assert Guardrail.CIRCUIT_BREAKER in stops(state)
    assert not await made.recommendations("applying")
    await made.set_mode("observe_only")
    clock.advance(1)
    await made.set_mode("controlled_auto_act")
    await made.pass_time(600, 30)
    assert await made.recommendations("applying"), "a person has looked at it"


async def test_the_cooldown_holds_over_a_restart(store: Store, clock: ManualClock) -> None:
    text = policy("controlled_auto_act", limits="{cooldown: 1h, window: 1m, max_count: 5}")
    made = await house(store, clock, text)
    made.disks["n1"] = 0.99
    await made.pass_time(60)
    await made.walk("n1")
    await made.settle()
    await made.set_desired("n1", "in_service")
    await made.walk("n1")
    made = await House(store, clock, {"p.yaml": text}, bus=made.bus).open()
    made.disks["n1"] = 0.99
    await made.pass_time(3300, 30)
    assert len(await made.intents("n1")) == 1
    await made.pass_time(600, 30)
    assert len(await made.intents("n1")) == 2


async def test_without_a_resource_it_is_stuck_and_says_who_helps(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock, {"p.yaml": policy()}).open()
    made.disks["n9"] = 0.99
    await made.pass_time(60)
    state = await made.the_one("proposed")
    await made.advice.desk.approve(state.id, ALICE, SAID)
    outcome = await made.reconcile(state.id)
    assert isinstance(outcome, Stuck)
    assert "inventory" in outcome.needs


async def test_a_policy_that_is_disabled_takes_back_what_it_said(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock)
    name = await proposed(made)
    await made.set_mode("disabled")
    await made.look()
    state = await made.the_one()
    assert (state.id, state.status) == (name, "superseded")
    assert "disabled" in (state.state_history[-1].reason or "")


async def test_a_policy_that_only_says_it_is_done_with_the_saying(store: Store, clock: ManualClock) -> None:
    made = await house(store, clock, policy(action="{name: recommend_no_action}"))
    name = await proposed(made)
    await made.advice.desk.approve(name, ALICE, SAID)
    await made.settle()
    assert (await made.the_one()).status == "applied"
    assert await made.intents("n1") == []


async def test_a_hold_is_placed_once(store: Store, clock: ManualClock) -> None:
    action = "{name: place_hold, parameters: {name: disks, expires_after: 2h}}"
    made = await house(store, clock, policy("controlled_auto_act", action=action))
    made.disks["n1"] = 0.99
    await made.pass_time(60)
    (hold,) = (await made.node("n1")).holds
    assert (hold.name, hold.owner) == ("disks", "policy:full-disks")
    state = await made.the_one("applied")
    assert state.recommendation is not None
    assert hold.expires_at == state.recommendation.created_at + timedelta(hours=2)
