"""What the Ledger's tests share: a lifecycle, actors, and nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from steersman.kinds.command import Actor, Draw, Terms
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.machine import Machine
from steersman.kinds.plane_resources import FREEZE_LIFECYCLE, POLICY_LIFECYCLE
from steersman.kinds.policy import RECOMMENDATION_LIFECYCLE
from steersman.kinds.refusal import UnknownLifecycle
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.ledger.guard import GuardedStore
from steersman.store.api import Condition, Store, StoreUnavailable, Write

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


class MeddledStore(GuardedStore):
    """A real store at whose commits something happens: `before_commit` is awaited once, after whoever commits
    has read and judged; `waits` lets commits come at the same moment; `loses` takes the answer away."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._inner = store
        self.before_commit: Callable[[], Awaitable[object]] | None = None
        self.waits: asyncio.Barrier | None = None
        self.loses = False

    async def commit(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        first, self.before_commit = self.before_commit, None
        if first is not None:
            await first()
        barrier = self.waits
        if barrier is not None:
            await barrier.wait()
            self.waits = None
        revision = await self._inner.commit(conditions, writes)
        if self.loses:
            self.loses = False
            raise StoreUnavailable("the answer was lost")
        return revision


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
