"""What a turn read may be old when it writes: then it writes nothing, and the next turn looks anew."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from walk_plane import ALICE, PRESSURE, Plane, node

from steersman.act.managers import walking
from steersman.act.reconcile.api import Turn
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.axes import Condition, Truth
from steersman.kinds.command import Evidence, Terms
from steersman.kinds.refusal import VersionConflict
from steersman.store.api import Store
from steersman.store.memory import MemoryStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[Store]:
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as opened:
        yield opened


@pytest.mark.parametrize("meanwhile", ["a hold", "another intent"])
async def test_what_came_between_reading_and_writing_is_honoured(
    store: Store, clock: ManualClock, meanwhile: str
) -> None:
    plane = Plane(store, clock)  # its loop does not run: the turn is made by hand
    await plane.make()
    await plane.want("maintenance")
    turn = Turn(state=await plane.node(), held=None, now=clock.now())
    if meanwhile == "a hold":
        await plane.ledger.place_hold(node("n1"), ALICE, "mine", Terms(reason="hands off"))
    else:
        await plane.want("in_service")
    with pytest.raises(VersionConflict):
        await plane.manager.reconcile(turn)
    assert (await plane.node()).status == "in_service"


async def test_the_intents_evidence_is_found_behind_any_number_of_rows(
    store: Store, clock: ManualClock
) -> None:
    plane = Plane(store, clock)
    await plane.make()
    seen = Evidence(kind="recommendation", ref="rec-1", detail="full", observed_at=clock.now())
    terms = Terms(reason="full", evidence=(seen,))
    intent = (await plane.ledger.set_desired(node("n1"), PRESSURE, "maintenance", terms)).entry
    for number in range(walking.INTENT_PAGE + 5):
        truth = Truth.TRUE if number % 2 else Truth.FALSE
        told = Condition(type="fan", status=truth, reason=f"r{number}", source="bmc", observed_at=clock.now())
        await plane.ledger.report_conditions(node("n1"), ALICE, [told])
    await plane.manager.reconcile(Turn(state=await plane.node(), held=None, now=clock.now()))
    last = (await plane.ledger.history(node("n1"), limit=1, newest_first=True)).entries[0]
    assert (last.event, last.actor, last.evidence) == ("drain", PRESSURE.name, (seen,))
    assert last.cause == f"Node/n1/{intent.seq}"
