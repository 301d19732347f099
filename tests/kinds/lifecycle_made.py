"""Lifecycle tables made at random, for tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from steersman.kinds.lifecycle import (
    Lifecycle,
    LifecycleInvalid,
    LifecycleState,
    LifecycleTransition,
    StateClass,
)

ROLES = ("operator", "admin", "engine", "timer")
STATES = tuple(f"state{number}" for number in range(6))
EVENTS = tuple(f"event{number}" for number in range(4))


@st.composite
def lifecycles(draw: Any, guarded: bool = True, roles: bool = True) -> Lifecycle:
    """A table that means something: the contradictions that hypothesis finds are left out."""
    names = STATES[: draw(st.integers(1, len(STATES)))]
    states = tuple(LifecycleState(name=name, state_class=draw(st.sampled_from(StateClass))) for name in names)
    lines: list[LifecycleTransition] = []
    for _ in range(draw(st.integers(0, 12))):
        line = LifecycleTransition(
            event=draw(st.sampled_from(EVENTS)),
            sources=tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))),
            to=draw(st.sampled_from(names)),
            by=tuple(draw(st.lists(st.sampled_from(ROLES), max_size=2, unique=True))) if roles else (),
            guard=draw(st.sampled_from(((), ("true",), ("false",), ("health == 'ok'",)))) if guarded else (),
        )
        try:
            Lifecycle(states=states, transitions=(*lines, line))
        except LifecycleInvalid:
            continue
        lines.append(line)
    return Lifecycle(states=states, transitions=tuple(lines), override=draw(st.booleans()))
