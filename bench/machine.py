"""Judging events by a lifecycle table, against three Python libraries for state machines.

The same table (three states, four events in a ring), the same walk; each library does what it does for one
event: look up, change its state, run its (empty) hooks. Ours also answers in a typed value and leaves the
state to its owner.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from automaton import machines
from statemachine import State, StateMachine
from transitions import Machine as TransitionsMachine

from bench.figure import Figure
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.machine import Machine

EVENTS = 30_000
ROUNDS = 3
RING = (("a", "leave", "b"), ("b", "update", "c"), ("c", "back", "a"))


def ours() -> Callable[[int], None]:
    """This project's machine."""
    machine = Machine(
        Lifecycle.from_dict(
            {
                "states": ["a", "b", "c"],
                "transitions": [{"event": event, "from": here, "to": to} for here, event, to in RING],
            }
        )
    )

    def walk(count: int) -> None:
        state = "a"
        for number in range(count):
            state = machine.judge(state, event=RING[number % 3][1]).to

    return walk


def automaton() -> Callable[[int], None]:
    """automaton's finite machine."""
    machine: Any = machines.FiniteMachine()
    for name in "abc":
        machine.add_state(name)
    for here, event, to in RING:
        machine.add_transition(here, to, event)
    machine.initialize("a")

    def walk(count: int) -> None:
        for number in range(count):
            machine.process_event(RING[number % 3][1])

    return walk


def transitions() -> Callable[[int], None]:
    """transitions' machine."""
    machine: Any = TransitionsMachine(states=["a", "b", "c"], initial="a", auto_transitions=False)
    for here, event, to in RING:
        machine.add_transition(event, here, to)

    def walk(count: int) -> None:
        for number in range(count):
            machine.trigger(RING[number % 3][1])

    return walk


def statemachine() -> Callable[[int], None]:
    """python-statemachine's."""
    nodes = {name: State(initial=name == "a") for name in "abc"}
    body: dict[str, Any] = {**nodes, **{event: nodes[here].to(nodes[to]) for here, event, to in RING}}
    machine: Any = type("Ring", (StateMachine,), body)()

    def walk(count: int) -> None:
        for number in range(count):
            machine.send(RING[number % 3][1])

    return walk


def rate(walk: Callable[[int], None], count: int) -> float:
    """Events a second; the best of some rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        walk(count)
        best = max(best, count / (time.perf_counter() - began))
    return best


async def measure() -> list[Figure]:
    """Ratios to each library, in this run."""
    mine = rate(ours(), EVENTS)
    others = {
        "automaton": rate(automaton(), EVENTS),
        "transitions": rate(transitions(), EVENTS),
        "python-statemachine": rate(statemachine(), EVENTS // 10),
    }
    figures = [
        Figure(
            name=f"judge against {name}",
            value=mine / theirs,
            unit="x",
            detail=f"{mine:,.0f} against {theirs:,.0f} events a second, one table of three states",
        )
        for name, theirs in others.items()
    ]
    return [*figures, Figure(name="judge", value=1e6 / mine, unit="us", detail="one event, no guards")]
