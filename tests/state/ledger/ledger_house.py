"""What the Ledger's tests share: a lifecycle, actors, and nodes."""

from __future__ import annotations

from typing import Any

from steersman.kinds.command import Actor, Draw, Terms
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.machine import Machine
from steersman.kinds.plane_resources import FREEZE_LIFECYCLE, POLICY_LIFECYCLE
from steersman.kinds.policy import RECOMMENDATION_LIFECYCLE
from steersman.kinds.refusal import UnknownLifecycle
from steersman.kinds.state import NodeState, ResourceRef

ALICE = Actor("user:alice", ("operator",))
BOB = Actor("user:bob", ("operator", "admin"))
ENGINE = Actor("engine:pipeline", ("engine",))
NODE = ResourceRef("Node", "n1")

TABLE = Lifecycle.from_yaml(
    """
name: box
version: "1"
initial: idle
states:
  idle: {schedulable: true}
  busy: {class: active, deadline: 1h, on_timeout: idle}
  firmware: {}
  gone: {class: terminal}
budgets:
  flash: {limit: 1}
transitions:
  - {event: start, from: idle, to: busy}
  - {event: stop, from: [busy, firmware], to: idle}
  - {event: flash, from: idle, to: firmware, budget: flash}
  - {event: retire, from: "*", to: gone, by: [operator], require: {reason: true}}
  - {event: heal, from: busy, to: firmware, guard: ['conditions.health == "true"']}
"""
)
NEXT = Lifecycle.from_map({"idle": ["working"], "working": ["idle"]}, name="box", version="2")


class Tables:
    """The tables of these tests."""

    def __init__(self, *lifecycles: Lifecycle) -> None:
        self._machines: dict[str, Machine] = {}
        for lifecycle in lifecycles:
            machine = Machine(lifecycle)
            self._machines.setdefault(lifecycle.name, machine)
            self._machines[f"{lifecycle.name}@{lifecycle.version}"] = machine

    def machine(self, table: str) -> Machine:
        if table not in self._machines:
            raise UnknownLifecycle(f"no lifecycle {table!r}", lifecycle=table)
        return self._machines[table]


def tables() -> Tables:
    return Tables(TABLE, NEXT, FREEZE_LIFECYCLE, POLICY_LIFECYCLE, RECOMMENDATION_LIFECYCLE)


def node(id: str = "n1", **more: Any) -> NodeState:
    return NodeState(id=id, lifecycle_table="box", **more)


def ref(id: str) -> ResourceRef:
    return ResourceRef("Node", id)


def draw(holder: str, limit: int, window_s: float | None = None, budget: str = "blast") -> Terms:
    return Terms(draws=(Draw(budget=budget, holder=holder, limit=limit, window_s=window_s),))
