"""May a thing take work? Derived from its four axes, and explained; never stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from steersman.kinds.axes import OperationPhase, Truth
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.state import ResourceState


class WorkVerdict(Struct, frozen=True):
    """Whether a thing may take work, and every reason against it. UNKNOWN is not a yes."""

    allowed: Truth
    reasons: tuple[str, ...] = ()


def may_take_work(
    state: ResourceState, lifecycle: Lifecycle, now: datetime, required: Sequence[str] = ()
) -> WorkVerdict:
    """Judge a resource: its lifecycle state must be schedulable, nothing may be going on with it, nobody may
    hold it, and each condition in `required` must be true. A condition that nobody has reported, or that is
    not known, makes the answer UNKNOWN, unless something else already says no.

    Raises `UnknownState` where its status is no state of this lifecycle.
    """
    against: list[str] = []
    unclear: list[str] = []
    place = lifecycle.state(state.status)
    if not place.schedulable:
        against.append(f"lifecycle state {place.name} takes no work")
    operation = state.operation
    if operation is not None and operation.phase is not OperationPhase.IDLE:
        against.append(f"operation {operation.kind} is {operation.phase.value}")
    against += [f"held by {hold.owner}: {hold.name}" for hold in state.holds if hold.is_alive(now)]
    for kind in required:
        condition = state.condition(kind)
        if condition is None or condition.status is Truth.UNKNOWN:
            unclear.append(f"condition {kind} is not known")
        elif condition.status is Truth.FALSE:
            against.append(
                f"condition {kind} is false ({condition.source}: {condition.reason or 'no reason'})"
            )
    if against:
        return WorkVerdict(Truth.FALSE, (*against, *unclear))
    return WorkVerdict(Truth.UNKNOWN if unclear else Truth.TRUE, tuple(unclear))
