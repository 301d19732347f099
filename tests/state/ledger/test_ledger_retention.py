"""Events go when they are old and everybody has read them, recommendations when they are long over."""

from __future__ import annotations

from ledger_house import ALICE, BOB, ENGINE, NODE, node

from steersman.kernel.clock import ManualClock
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.state import ResourceRef
from steersman.state.ledger import Ledger, keys
from steersman.state.ledger.retention import KeepLedger, LedgerRetention
from steersman.state.ledger.verify import verify_store
from steersman.state.tail import RETIRED_KEY, read_retired
from steersman.store.api import Put, Store

KEEP = KeepLedger(events_s=100, recommendations_s=1000)


async def outbox(store: Store) -> list[str]:
    return [record.key for record in (await store.list(keys.OUTBOX)).records]


async def test_an_event_goes_when_it_is_old_and_was_passed(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    passed = 0
    retention = LedgerRetention(store, ledger, clock, passed=lambda: passed, keep=KEEP)
    await ledger.create(node(), ALICE)
    second = await ledger.claim(NODE, ALICE)
    third = await ledger.claim(NODE, ALICE)
    clock.advance(60)
    fourth = await ledger.claim(NODE, ALICE)
    clock.advance(41)
    assert (await retention.step()).events == 0, "nobody has read them"
    passed = second.revision
    assert (await retention.step()).events == 2
    assert await outbox(store) == [keys.outbox_key(NODE, 3), keys.outbox_key(NODE, 4)]
    mark = await store.get(RETIRED_KEY)
    assert mark is not None
    assert read_retired(mark.value) == second.revision
    passed = fourth.revision
    assert (await retention.step()).events == 1, "the fourth is young"
    mark = await store.get(RETIRED_KEY)
    assert mark is not None
    assert read_retired(mark.value) == third.revision
    assert len((await ledger.history(NODE)).entries) == 4, "history stays"
    assert (await verify_store(store)).ok


async def test_a_damaged_event_goes_once_it_was_passed(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    revision = await store.commit([], [Put(keys.outbox_key(NODE, 1), b"?")])
    retention = LedgerRetention(store, ledger, clock, passed=lambda: revision, keep=KEEP)
    assert (await retention.step()).events == 1


async def test_recommendations_that_are_long_over_go(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    retention = LedgerRetention(store, ledger, clock, passed=lambda: 0, keep=KEEP)
    for name in ("open", "over", "young"):
        state = RecommendationState(id=name, lifecycle_table="recommendation")
        await ledger.create(state, ENGINE)
    await ledger.transition(ResourceRef("Recommendation", "over"), BOB, event="reject")
    clock.advance(900)
    await ledger.transition(ResourceRef("Recommendation", "young"), BOB, event="reject")
    clock.advance(101)
    assert (await retention.step()).recommendations == 1
    left = await ledger.list("Recommendation")
    assert [state.id for state in left.items] == ["open", "young"]
    rows = (await ledger.history(ResourceRef("Recommendation", "over"))).entries
    assert [row.action.value for row in rows] == ["created", "transitioned", "deleted"]
    assert (await verify_store(store)).ok
