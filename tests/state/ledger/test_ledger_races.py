"""Many at once: one winner where one may win, budgets that are never overdrawn, a freeze that is exact."""

from __future__ import annotations

import asyncio

import pytest
from ledger_house import ALICE, BOB, ENGINE, NODE, MeddledStore, draw, node, ref, tables

from steersman.kernel.clock import ManualClock
from steersman.kinds.axes import Hold
from steersman.kinds.command import Draw, Terms, Written
from steersman.kinds.plane_resources import FreezeState
from steersman.kinds.refusal import BudgetExhausted, Fenced, Frozen, VersionConflict
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.ledger import Ledger
from steersman.state.ledger.budgets import read_account
from steersman.state.ledger.keys import BUDGETS, OUTBOX, budget_key, history_prefix, resource_key
from steersman.state.ledger.verify import verify_store
from steersman.store.api import Store

FREEZE = ResourceRef("Freeze", "plane")
WHY = Terms(reason="trouble")


async def test_one_of_a_hundred_writers_wins(store: Store, ledger: Ledger, clock: ManualClock) -> None:
    await ledger.create(node(), ALICE)
    ledgers = [ledger, *(Ledger(store, clock, tables()) for _ in range(4))]
    answers = await asyncio.gather(
        *(
            ledgers[number % 5].transition(NODE, ALICE, event="start", terms=Terms(expected_version=1))
            for number in range(100)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Written) for answer in answers) == 1
    assert sum(isinstance(answer, VersionConflict) for answer in answers) == 99
    assert len((await store.list(history_prefix(NODE))).records) == 2
    assert len((await store.list(OUTBOX)).records) == 2


async def test_writers_that_expect_nothing_all_get_their_turn(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    """Through several Ledgers on one store, as several processes would."""
    await ledger.create(node(), ALICE)
    ledgers = [Ledger(store, clock, tables()) for _ in range(4)]
    await asyncio.gather(*(ledgers[number % 4].place_hold(NODE, ALICE, f"h{number}") for number in range(40)))
    state = await ledger.get(NODE)
    assert (state.version, len(state.holds)) == (41, 40)
    assert (await verify_store(store)).ok


async def test_a_thousand_draws_never_overdraw(store: Store, ledger: Ledger, clock: ManualClock) -> None:
    await asyncio.gather(*(ledger.create(node(f"n{number}"), ALICE) for number in range(1000)))
    ledgers = [ledger, Ledger(store, clock, tables())]

    refusals: list[BudgetExhausted] = []

    async def act(number: int) -> None:
        try:
            terms = draw(f"n{number}", 7, window_s=600)
            await ledgers[number % 2].set_desired(ref(f"n{number}"), ENGINE, "busy", terms)
        except BudgetExhausted as refusal:
            refusals.append(refusal)

    await asyncio.gather(*(act(number) for number in range(1000)))
    assert len(refusals) == 993
    for refusal in refusals:
        assert refusal.facts["limit"] == refusal.facts["used"] == 7
        assert 0 < refusal.facts["retry_after_s"] <= 600
    nodes = await ledger.list("Node", limit=1000)
    assert sum(state.desired_status == "busy" for state in nodes.items) == 7
    clock.advance(600)
    free = next(state.id for state in nodes.items if state.desired_status is None)
    await ledger.set_desired(ref(free), ENGINE, "busy", draw(free, 7, window_s=600))


async def test_a_holder_takes_one_place_and_a_window_starts_anew(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    for name in ("n1", "n2"):
        await ledger.create(node(name), ALICE)
    await ledger.set_desired(NODE, ENGINE, "busy", draw("n1", 1, 100))
    clock.advance(60)
    await ledger.set_desired(NODE, ENGINE, "idle", draw("n1", 1, 100))
    clock.advance(60)
    with pytest.raises(BudgetExhausted) as refusal:
        await ledger.set_desired(ref("n2"), ENGINE, "busy", draw("n2", 1, 100))
    assert refusal.value.facts["retry_after_s"] == 40
    assert refusal.value.facts["holders"] == ["n1"]
    clock.advance(40)
    await ledger.set_desired(ref("n2"), ENGINE, "busy", draw("n2", 1, 100))


async def test_a_lasting_place_is_given_back_at_rest(store: Store, ledger: Ledger) -> None:
    """The lifecycle's own budget: one node under firmware update."""
    for name in ("n1", "n2", "n3"):
        await ledger.create(node(name), ALICE)
    await ledger.transition(NODE, ALICE, event="flash")
    with pytest.raises(BudgetExhausted) as refusal:
        await ledger.transition(ref("n2"), ALICE, event="flash")
    assert "retry_after_s" not in refusal.value.facts
    await ledger.transition(NODE, ALICE, event="stop")
    await ledger.transition(ref("n2"), ALICE, event="flash")
    await ledger.delete(ref("n2"), ALICE)
    await ledger.transition(ref("n3"), ALICE, event="flash")
    await ledger.transition(ref("n3"), ALICE, event="retire", terms=WHY)
    assert (await store.list(BUDGETS)).records == ()


async def test_a_refusal_takes_no_place_anywhere(store: Store, ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    both = (Draw(budget="a", holder="x", limit=5), Draw(budget="b", holder="x", limit=0))
    with pytest.raises(BudgetExhausted) as refusal:
        await ledger.set_desired(NODE, ENGINE, "busy", Terms(draws=both))
    assert refusal.value.facts["budget"] == "b"
    assert await store.get(budget_key("a")) is None
    await ledger.set_desired(NODE, ENGINE, "busy", draw("x", 1))
    record = await store.get(budget_key("blast"))
    assert record is not None
    assert [place.holder for place in read_account(record).places] == ["x"]


async def test_a_freeze_stops_acting_and_nothing_else(ledger: Ledger) -> None:
    await ledger.create(FreezeState(id="plane", lifecycle_table="freeze"), BOB)
    await ledger.create(node(), ALICE)
    acting = Terms(acting=True)
    await ledger.set_desired(NODE, ENGINE, "busy", acting)
    await ledger.transition(FREEZE, BOB, event="freeze", terms=WHY)
    with pytest.raises(Frozen) as refusal:
        await ledger.set_desired(NODE, ENGINE, "idle", acting)
    assert (refusal.value.facts["by"], refusal.value.facts["reason"]) == (BOB.name, "trouble")
    await ledger.set_desired(NODE, ALICE, "idle")
    await ledger.transition(FREEZE, BOB, event="thaw", terms=WHY)
    await ledger.set_desired(NODE, ENGINE, "busy", acting)


async def test_no_action_is_committed_behind_a_freeze(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    """Actions race with the switch: none of them has a later revision than the freeze."""
    await ledger.create(FreezeState(id="plane", lifecycle_table="freeze"), BOB)
    for number in range(50):
        await ledger.create(node(f"n{number}"), ALICE)
    other = Ledger(store, clock, tables())

    async def act(number: int) -> int:
        try:
            written = await ledger.set_desired(ref(f"n{number}"), ENGINE, "busy", Terms(acting=True))
        except Frozen:
            return 0
        return written.revision

    async def freeze() -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return (await other.transition(FREEZE, BOB, event="freeze", terms=WHY)).revision

    frozen, *acted = await asyncio.gather(freeze(), *(act(number) for number in range(50)))
    assert max(acted) < frozen


async def test_a_freeze_between_judging_and_writing_stops_the_action(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    meddled = MeddledStore(store)
    acting = Ledger(meddled, clock, tables())
    await ledger.create(FreezeState(id="plane", lifecycle_table="freeze"), BOB)
    await ledger.create(node(), ALICE)
    meddled.before_commit = lambda: ledger.transition(FREEZE, BOB, event="freeze", terms=WHY)
    with pytest.raises(Frozen):
        await acting.set_desired(NODE, ENGINE, "busy", Terms(acting=True))
    assert (await ledger.get(NODE)).version == 1


async def test_the_switch_itself_that_comes_to_be_between_judging_and_writing_counts(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    """A plane without a switch yet: that there is none is read, and held to, too."""
    meddled = MeddledStore(store)
    acting = Ledger(meddled, clock, tables())
    await ledger.create(node(), ALICE)

    async def frozen_from_the_first() -> None:
        await ledger.create(FreezeState(id="plane", lifecycle_table="freeze"), BOB)
        await ledger.transition(FREEZE, BOB, event="freeze", terms=WHY)

    meddled.before_commit = frozen_from_the_first
    with pytest.raises(Frozen):
        await acting.set_desired(NODE, ENGINE, "busy", Terms(acting=True))


async def test_a_stale_fence_is_refused_in_a_resource_made_anew(ledger: Ledger) -> None:
    """Also where all looks as it did in its former life: epochs go on over a deletion."""
    await ledger.create(node(), ALICE)
    epoch = (await ledger.claim(NODE, ENGINE)).state.epoch
    await ledger.delete(NODE, BOB)
    await ledger.create(node(), ALICE)
    for fence in range(epoch + 1):
        with pytest.raises(Fenced):
            await ledger.transition(NODE, ENGINE, event="start", terms=Terms(fence=fence))
    assert (await ledger.get(NODE)).status == "idle"


async def test_a_picture_that_is_old_is_never_written_on(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    """Each of two Ledgers remembers what it wrote last, while the other goes on; also over a deletion, after
    which the key's version in the store is, by chance, the remembered one."""
    other = Ledger(store, clock, tables())
    await ledger.create(node(), ALICE)
    await ledger.claim(NODE, ALICE)
    await other.place_hold(NODE, BOB, "theirs")
    state = (await ledger.claim(NODE, ALICE)).state
    assert (state.version, [hold.name for hold in state.holds]) == (4, ["theirs"])
    await other.delete(NODE, BOB)
    await other.create(node(), BOB)
    for _ in range(3):
        await other.claim(NODE, BOB)
    record = await store.get(resource_key(NODE))
    assert record is not None
    assert record.version == 4
    state = (await ledger.claim(NODE, ALICE)).state
    assert (state.version, state.holds) == (10, [])
    await other.set_desired(NODE, BOB, "busy")
    assert (await ledger.set_desired(NODE, ALICE, "busy")).unchanged
    await other.transition(NODE, BOB, event="start")
    await ledger.transition(NODE, ALICE, event="stop")
    assert (await verify_store(store)).ok


async def test_what_is_remembered_is_shared_with_nobody(ledger: Ledger) -> None:
    written = await ledger.create(node(metadata={"a": {"b": [1]}}), ALICE)
    assert isinstance(written.state, NodeState)
    written.state.metadata["a"]["b"].append(2)
    written.state.holds.append(Hold(name="x", owner="y", placed_at=written.entry.at))
    state = (await ledger.claim(NODE, ALICE)).state
    assert isinstance(state, NodeState)
    assert (state.metadata, state.holds) == ({"a": {"b": [1]}}, [])
