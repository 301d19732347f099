"""What a pipeline must stand: each step failing in turn, and dying between any two writes.

`Effects` is a handler whose effects outlive any number of lives of the program, as those of a real one do; it
counts them by key. `PipelineCase` is a pipeline on a node in a real Ledger. `die_between_writes` runs it to
its end once for each write at which a program can die, both ways, and checks that nothing took effect twice
and that each end is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from steersman.act.engines.api import PhaseEngine, PhaseReport, PhaseRun
from steersman.kernel.clock import Clock
from steersman.kinds.axes import Operation
from steersman.kinds.command import LOOP, Actor
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.kinds.step import KeptAttempt, StepCall, StepOutcome, StepResult
from steersman.state.ledger import Ledger
from steersman.store.api import Store
from steersman.testing.dying import Died, die_at_each, touches
from steersman.testing.tables import Tables

LOOKS_MAX = 200
"""How often an engine is asked to go on until it is thought to hang."""
STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)

_TABLE = """
name: draining
version: "1"
initial: draining
states:
  draining: {class: active, phase: drain, deadline: 1h, on_timeout: stop, on_success: stop, on_failure: stop}
  maintenance: {}
transitions:
  - {event: stop, from: draining, to: maintenance, by: [engine, timer, operator]}
"""


def tables() -> Tables:
    """A lifecycle whose one phase is the pipeline."""
    return Tables(Lifecycle.from_yaml(_TABLE))


class Effects:
    """A handler whose effects can be counted. It lives longer than the programs that use it.

    `ends` says by `step` or `step/attempt` how an attempt ends; what it does not name succeeds. `lost` names
    steps whose end is not told to whoever began them, only to whoever looks.
    """

    def __init__(
        self, ends: Mapping[str, StepResult] | None = None, lost: frozenset[str] = frozenset()
    ) -> None:
        self.ends = dict(ends or {})
        self.lost = lost
        self.effects: list[str] = []
        self.cancelled: list[str] = []
        self.settled: list[str] = []
        self.done: dict[str, StepResult] = {}

    def check(self, inputs: dict[str, Any]) -> None:
        """Anything is right."""

    async def run(self, call: StepCall) -> StepResult:
        """Take effect, once for a key."""
        if call.key not in self.done:
            self.effects.append(call.key)
            self.done[call.key] = self._end(call)
        if call.step in self.lost:
            return StepResult(outcome=StepOutcome.UNCERTAIN, detail="the answer was lost")
        return self.done[call.key]

    async def observe(self, call: StepCall) -> StepResult | None:
        """What became of it."""
        return self.done.get(call.key)

    async def cancel(self, call: StepCall) -> None:
        """Note that it was told to end."""
        self.cancelled.append(call.key)

    async def site(self) -> str:
        """Effects can be seen from anywhere."""
        return ""

    async def settle(self, call: StepCall) -> None:
        """Note that its end is on record."""
        self.settled.append(call.key)

    async def kept(self) -> Sequence[KeptAttempt]:
        """None: who comes later finds them by their keys."""
        return ()

    def count(self, step: str) -> int:
        """How often a step took effect, over all attempts."""
        return sum(1 for key in self.effects if key.split("/")[1] == step)

    def _end(self, call: StepCall) -> StepResult:
        named = self.ends.get(f"{call.step}/{call.attempt}", self.ends.get(call.step))
        return named or StepResult(outcome=StepOutcome.SUCCEEDED, outputs={"step": call.step, **call.inputs})


class PipelineCase(Struct, frozen=True):
    """A pipeline on a resource, for one operation."""

    definition: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def ref(self) -> ResourceRef:
        """The resource."""
        return ResourceRef("Node", "n1")

    async def begin(self, ledger: Ledger) -> None:
        """Make the node and begin the operation, where a life before did not."""
        state = await ledger.find(self.ref)
        if state is None:
            node = NodeState(id="n1", lifecycle_table="draining", metadata=self.metadata)
            state = (await ledger.create(node, Actor("importer", ("importer",)))).state
        if state.operation is None:
            operation = Operation(id="op-1", kind="drain", lifecycle_phase="drain", started_at=STARTED_AT)
            await ledger.set_operation(self.ref, LOOP, operation, begin=True)

    def run(self, state: ResourceState) -> PhaseRun:
        """The run as the loop hands it to the engine."""
        if state.operation is None:
            raise AssertionError(f"{self.ref} has no operation")
        phase = LifecyclePhase("drain", pipeline_def=self.definition)
        return PhaseRun(state, phase, state.operation, self.inputs)


async def run_to_end(
    engine: PhaseEngine, ledger: Ledger, case: PipelineCase, clock: Clock, pause_s: float = 0.0
) -> PhaseReport:
    """Advance until the phase is over, as the loop would. Raises AssertionError where it hangs."""
    report = None
    for _ in range(LOOKS_MAX):
        report = await engine.advance(case.run(await ledger.get(case.ref)))
        if report.status in ("completed", "partial", "failed"):
            return report
        await clock.sleep(pause_s)
    raise AssertionError(f"{case.ref} is still not over: {report}")


async def die_between_writes(
    open_store: Callable[[], AbstractAsyncContextManager[Any]],
    case: PipelineCase,
    effects: Callable[[], Effects],
    live: Callable[[Store, Effects], Awaitable[PhaseReport]],
) -> int:
    """Die at each write of the pipeline, both ways, and live again on what is left. `live` runs the program
    on a store to the phase's end. Returns the number of deaths died."""
    reports: set[bytes] = set()
    world: list[Effects] = []

    async def life(store: Store, died: asyncio.Event) -> None:
        if not died.is_set() and (not world or await store.revision() == 0):
            world[:] = [effects()]
        try:
            report = await live(store, world[0])
        except Died:
            return
        reports.add(msgspec.json.encode(replace(report, look_again=None)))

    async def check(store: Store) -> None:
        twice = sorted({key for key in world[0].effects if world[0].effects.count(key) > 1})
        if twice:
            raise AssertionError(f"took effect twice: {twice}")
        if len(reports) != 1:
            raise AssertionError(f"not always the same end: {reports}")

    return await die_at_each(open_store, life, check, counts=touches("resources/"))
