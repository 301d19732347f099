"""A plane for walks: store, Ledger, a small lifecycle, an engine of countable steps, a loop, time by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from steersman.act.engines.api import PhaseReport, PhaseRun
from steersman.act.managers.node import NodeManager
from steersman.act.reconcile.loop import LoopLimits, ReconcileLoop
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import CountedIds, SortableIds, seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.command import Actor, Terms
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.state import NodeState, ResourceRef
from steersman.kinds.step import StepResult
from steersman.state.ledger import Ledger
from steersman.store.api import Store
from steersman.testing.tables import Tables

ALICE = Actor("user:alice", ("operator",))
PRESSURE = Actor("policy:node-pressure", ("policy",))

TABLE = """
name: small
version: "1"
initial: in_service
states:
  in_service: {schedulable: true}
  draining:
    {class: active, phase: drain, deadline: 1h, on_timeout: drain_timeout,
     on_success: drained, on_failure: drain_failed}
  maintenance: {deadline: 8h}
  testing: {class: active, phase: test, deadline: 1h, on_timeout: test_timeout}
  broken: {}
  burn_in: {class: active, deadline: 96h, on_timeout: broken}
  retired: {class: terminal}
transitions:
  - {event: drain, from: in_service, to: draining, by: [operator, engine]}
  - {event: drained, from: draining, to: maintenance, by: [engine]}
  - {event: drain_failed, from: draining, to: broken, by: [engine]}
  - {event: drain_timeout, from: draining, to: broken, by: [timer]}
  - {event: cancel_drain, from: draining, to: in_service, by: [operator, engine]}
  - {event: return, from: maintenance, to: testing, by: [operator, engine]}
  - {event: qualified, from: burn_in, to: in_service, by: [operator, engine]}
  - {event: passed, from: testing, to: in_service, by: [engine]}
  - {event: test_timeout, from: testing, to: broken, by: [timer]}
  - {event: repair, from: broken, to: maintenance, by: [operator]}
  - {event: retire, from: maintenance, to: retired, by: [admin, engine], require: {approvals: 2}}
phases:
  drain: {steps: [{name: one, uses: count}]}
  test: {steps: [{name: one, uses: count}]}
"""


class CountingEngine:
    """An engine whose phases have three steps, one an advance, kept in the resource's progress.

    `done` lists the steps' effects, one entry each time that one takes place. `failing` phases fail at their
    second step, `stalled` ones never end.
    """

    name: ClassVar[str] = "pipeline"

    def __init__(self, ledger: Ledger, clock: ManualClock) -> None:
        self._ledger = ledger
        self._clock = clock
        self.done: list[tuple[str, str, int]] = []
        self.cancelled: list[tuple[str, str]] = []
        self.failing: set[str] = set()
        self.stalled: set[str] = set()
        self.frozen = False

    def check(self, phase: LifecyclePhase) -> None:
        """Every phase will do."""

    async def advance(self, run: PhaseRun) -> PhaseReport:
        name, operation = run.phase.name, run.operation
        progress: dict[str, Any] = (run.state.pipeline_progress or {}).get(name) or {}
        count = int(progress.get("count", 0)) if progress.get("operation") == operation.id else 0
        if count == 3:
            return PhaseReport("completed")
        if name in self.failing and count == 1:
            return PhaseReport("failed", "step two broke", step="two")
        soon = self._clock.now() + timedelta(seconds=1)
        if self.frozen:
            return PhaseReport("held", "frozen between two steps")
        if name in self.stalled:
            return PhaseReport("waiting", "for the vendor", step="one", look_again=soon)
        self.done.append((name, operation.id, count + 1))
        kept: dict[str, Any] = {"operation": operation.id, "count": count + 1}
        terms = Terms(fence=operation.epoch, operation=operation.id)
        actor = Actor("engine:pipeline", ("engine",))
        ref = ResourceRef("Node", run.state.id)
        await self._ledger.record_progress(ref, actor, name, kept, terms=terms, held=run.held)
        return PhaseReport("running", step=str(count + 1), look_again=soon)

    async def answer(self, run: PhaseRun, step: str, attempt: int, result: StepResult) -> PhaseReport:
        return PhaseReport("running", step=step)

    async def cancel(self, run: PhaseRun, reason: str) -> PhaseReport:
        self.cancelled.append((run.operation.id, reason))
        return PhaseReport("failed", "cancelled")


def machines() -> Tables:
    """The one table."""
    return Tables(Lifecycle.from_yaml(TABLE))


class Plane:
    """One process: a ledger, a manager and a loop on the store. `async with` runs the loop."""

    def __init__(
        self, store: Store, clock: ManualClock, name: str = "one", limits: LoopLimits | None = None
    ) -> None:
        self.store = store
        self.clock = clock
        self.ledger = Ledger(store, clock, machines())
        self.engine = CountingEngine(self.ledger, clock)
        ids = SortableIds(clock, seeded_rng(hash(name) & 0xFFFF)) if name != "one" else CountedIds()
        self.manager = NodeManager(self.ledger, machines(), {"pipeline": self.engine}, clock=clock, ids=ids)
        self.loop = ReconcileLoop(
            store,
            self.ledger,
            [self.manager],
            clock=clock,
            rng=seeded_rng(7),
            ids=ids,
            name=name,
            limits=limits,
        )
        self._tasks = Supervisor(clock, seeded_rng(7), name=name)

    async def __aenter__(self) -> Plane:
        await self._tasks.__aenter__()
        self._tasks.start("loop", self.loop.run)
        await self.quiet()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.__aexit__(None, None, None)

    async def quiet(self) -> None:
        """Return once nothing is to be done without time passing."""
        calm = 0
        for _ in range(100_000):
            await asyncio.sleep(0)
            snapshot = self.loop.snapshot()
            calm = 0 if snapshot.queued or snapshot.in_flight else calm + 1
            if calm > 40:
                return
        raise AssertionError("it is never quiet")

    async def pass_time(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass, a step at a time."""
        left = seconds
        while left > 0:
            self.clock.advance(min(step_s, left))
            left -= step_s
            await self.quiet()

    async def until(
        self, reached: Callable[[NodeState], bool], name: str = "n1", limit_s: int = 600
    ) -> NodeState:
        """Let time pass until the node is so."""
        for _ in range(limit_s):
            state = await self.node(name)
            if reached(state):
                return state
            await self.pass_time(1)
        raise AssertionError(f"not in {limit_s} s: {await self.node(name)} {self.loop.explain(node(name))}")

    async def node(self, name: str = "n1") -> NodeState:
        """The node as it is."""
        state = await self.ledger.get(node(name))
        assert isinstance(state, NodeState)
        return state

    async def make(self, name: str = "n1", status: str = "in_service") -> None:
        """A node."""
        await self.ledger.create(NodeState(id=name, status=status, lifecycle_table="small"), ALICE)

    async def want(self, status: str | None, name: str = "n1") -> None:
        """Set the intent."""
        await self.ledger.set_desired(node(name), ALICE, status, terms=Terms(reason="because"))

    async def events(self, name: str = "n1") -> list[tuple[str, str]]:
        """The events that moved it, with who carried them out, oldest first."""
        page = await self.ledger.history(node(name), limit=1000)
        return [(entry.event, entry.carried_out_by or entry.actor) for entry in page.entries if entry.event]


def node(name: str) -> ResourceRef:
    """The node of that name."""
    return ResourceRef("Node", name)
