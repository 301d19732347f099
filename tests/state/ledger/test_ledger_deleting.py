"""A resource that something is being done to is not deleted: only the resource knows what was begun."""

from __future__ import annotations

import pytest
from ledger_house import ALICE, BOB, NODE
from msgspec.structs import replace

from steersman.kernel.clock import ManualClock
from steersman.kinds.axes import Operation, OperationPhase
from steersman.kinds.command import LOOP
from steersman.kinds.refusal import OperationUnderWay, ResourceNotFound
from steersman.kinds.state import NodeState
from steersman.state.ledger import Ledger

RUNNING = (OperationPhase.RUNNING, OperationPhase.WAITING, OperationPhase.HELD)


async def begin(ledger: Ledger, clock: ManualClock, phase: OperationPhase) -> None:
    await ledger.create(NodeState(id="n1", lifecycle_table="box"), ALICE)
    operation = Operation(id="op-1", kind="drain", phase=phase, started_at=clock.now())
    await ledger.set_operation(NODE, LOOP, operation, begin=True)


@pytest.mark.parametrize("phase", RUNNING)
async def test_it_is_refused_naming_the_operation(
    ledger: Ledger, clock: ManualClock, phase: OperationPhase
) -> None:
    await begin(ledger, clock, phase)
    for actor, force in ((ALICE, False), (ALICE, True), (BOB, False)):
        with pytest.raises(OperationUnderWay, match="op-1") as refused:
            await ledger.delete(NODE, actor, force=force)
        assert refused.value.facts["operation"] == "op-1"
    assert (await ledger.get(NODE)).version == 2, "a refusal writes nothing"


async def test_what_has_ended_or_failed_is_in_nobodys_way(ledger: Ledger, clock: ManualClock) -> None:
    for phase in (OperationPhase.IDLE, OperationPhase.FAILED):
        await begin(ledger, clock, phase)
        await ledger.delete(NODE, ALICE)
        assert await ledger.find(NODE) is None


async def test_an_admin_may_force_it_and_the_row_says_what_was_cut_off(
    ledger: Ledger, clock: ManualClock
) -> None:
    await begin(ledger, clock, OperationPhase.RUNNING)
    written = await ledger.delete(NODE, BOB, force=True)
    assert written.entry.data["cut_off"] == "op-1"
    with pytest.raises(ResourceNotFound):
        await ledger.get(NODE)


async def test_an_operation_that_begins_meanwhile_is_seen(ledger: Ledger, clock: ManualClock) -> None:
    """The rule is judged in the commit: no operation slips in between the question and the deletion."""
    await begin(ledger, clock, OperationPhase.IDLE)
    state = await ledger.get(NODE)
    assert state.operation is not None
    await ledger.set_operation(NODE, LOOP, replace(state.operation, phase=OperationPhase.RUNNING))
    with pytest.raises(OperationUnderWay):
        await ledger.delete(NODE, ALICE)
