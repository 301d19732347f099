"""What a walk finds in the way, in words: holds, deadlines that passed, edges that others must take."""

from __future__ import annotations

from datetime import datetime, timedelta

from steersman.act.reconcile.budget import PLANE_ACTORS
from steersman.kinds.axes import Condition, Hold, Truth
from steersman.kinds.lifecycle import Lifecycle, LifecycleState
from steersman.kinds.state import ResourceState

OVERDUE_CONDITION = "overdue"
"""True while a resource is in a state beyond that state's deadline and nothing ends it by itself."""


def foreign_holds(state: ResourceState, now: datetime) -> list[Hold]:
    """Holds that count now and are not the plane's own."""
    return [
        hold
        for hold in state.holds
        if hold.is_alive(now) and hold.owner not in PLANE_ACTORS and not hold.owner.startswith("engine:")
    ]


def overdue(state: ResourceState) -> bool:
    """Whether the resource is said to be overdue."""
    condition = state.condition(OVERDUE_CONDITION)
    return condition is not None and condition.status is Truth.TRUE


def not_before(state: ResourceState, kind: str, now: datetime) -> datetime:
    """When a finding was made, as its one reporter says it: never before its last one. The Ledger drops what
    is older than it has, and where the wall clock was set back all would seem so."""
    before = state.condition(kind)
    return now if before is None else max(now, before.observed_at)


def overdue_condition(late: bool, place: LifecycleState, now: datetime, state: ResourceState) -> Condition:
    """The condition, as it is to be reported."""
    limit = timedelta(seconds=place.deadline_s or 0)
    return Condition(
        type=OVERDUE_CONDITION,
        status=Truth.TRUE if late else Truth.FALSE,
        source="loop",
        observed_at=not_before(state, OVERDUE_CONDITION, now),
        reason="DeadlinePassed" if late else "InTime",
        message=f"in {place.name} for longer than {limit}" if late else f"in {place.name}",
        generation=state.generation,
    )


def way_words(lifecycle: Lifecycle, status: str, desired: str, role: str) -> tuple[str, str]:
    """Why an engine can't go there although a way exists, and who must send which event."""
    here = status
    for event in lifecycle.path(status, desired):
        edges = lifecycle.find(here, event)
        if all(edge.by and role not in edge.by for edge in edges):
            who = " or ".join(dict.fromkeys(name for edge in edges for name in edge.by))
            return (
                f"the way to {desired} needs {event} in {here}, which only {who} may send",
                f"{who}: send {event}" + ("" if here == status else f" once it is {here}"),
            )
        here = edges[0].to
    return f"no way to {desired} for {role}", "a person: move it by hand"
