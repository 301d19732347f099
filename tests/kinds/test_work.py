"""May it take work: derived from the four axes, explained, three-valued."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from steersman.kinds.axes import Condition, Hold, Operation, OperationPhase, Truth
from steersman.kinds.lifecycle import Lifecycle, LifecycleState, UnknownState
from steersman.kinds.state import NodeState
from steersman.kinds.work import WorkVerdict, may_take_work

T0 = datetime(2026, 6, 1, tzinfo=UTC)
MACHINE = Lifecycle(
    states=(LifecycleState(name="in_service", schedulable=True), LifecycleState(name="maintenance"))
)


def node(status: str = "in_service") -> NodeState:
    return NodeState(id="n", status=status, created_at=T0)


def health(status: Truth) -> Condition:
    return Condition(type="health", status=status, source="bus", observed_at=T0, reason="ecc")


def test_a_node_in_service_may():
    assert may_take_work(node(), MACHINE, T0) == WorkVerdict(Truth.TRUE)


def test_every_axis_can_say_no_and_all_reasons_are_told():
    state = node("maintenance")
    state.operation = Operation(id="op", kind="flash", phase=OperationPhase.WAITING, started_at=T0)
    state.place_hold(Hold(name="rma", owner="ann", placed_at=T0))
    state.set_condition(health(Truth.FALSE))
    verdict = may_take_work(state, MACHINE, T0, ["health"])
    assert verdict.allowed is Truth.FALSE
    assert verdict.reasons == (
        "lifecycle state maintenance takes no work",
        "operation flash is waiting",
        "held by ann: rma",
        "condition health is false (bus: ecc)",
    )


def test_an_idle_operation_and_an_ended_hold_do_not_stand_against_it():
    state = node()
    state.operation = Operation(id="op", kind="flash", phase=OperationPhase.IDLE, started_at=T0)
    state.place_hold(Hold(name="rma", owner="ann", placed_at=T0, expires_at=T0 + timedelta(hours=1)))
    assert may_take_work(state, MACHINE, T0).allowed is Truth.FALSE
    assert may_take_work(state, MACHINE, T0 + timedelta(hours=1)).allowed is Truth.TRUE


@pytest.mark.parametrize("reported", [None, Truth.UNKNOWN])
def test_what_is_not_known_is_neither_yes_nor_no(reported: Truth | None):
    state = node()
    if reported is not None:
        state.set_condition(health(reported))
    assert may_take_work(state, MACHINE, T0, ["health"]) == WorkVerdict(
        Truth.UNKNOWN, ("condition health is not known",)
    )


def test_a_no_outweighs_what_is_not_known():
    verdict = may_take_work(node("maintenance"), MACHINE, T0, ["health"])
    assert verdict.allowed is Truth.FALSE
    assert verdict.reasons[-1] == "condition health is not known"


def test_a_status_that_the_lifecycle_does_not_know_is_refused():
    with pytest.raises(UnknownState):
        may_take_work(node("lunch"), MACHINE, T0)
