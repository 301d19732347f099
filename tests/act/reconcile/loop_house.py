"""A house for the loop: a store, the Ledger, a manager that does what the test says, time by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from steersman.act.reconcile.api import Done, Outcome, Turn
from steersman.act.reconcile.budget import RetryPolicy
from steersman.act.reconcile.loop import LoopLimits, ReconcileLoop
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import CountedIds, seeded_rng
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import Supervisor
from steersman.kinds.command import Actor, Terms
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.state.ledger import Ledger
from steersman.store.api import Store
from steersman.testing.tables import Tables

TABLE = Lifecycle.from_map({"a": ["b"], "b": ["a"]}, name="two")
ALICE = Actor("user:alice", ("operator",))
EXACT = RetryPolicy(failures_max=3, backoff=Backoff(first_s=1, factor=2, max_s=60, jitter=0))


class Scripted:
    """A manager that does what the test says and remembers when it was asked."""

    kind: ClassVar[str] = "Node"

    def __init__(self, ledger: Ledger, clock: ManualClock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.turns: list[str] = []
        self.answers: dict[str, Outcome | Exception] = {}
        self.dues: dict[str, datetime] = {}
        self.now_in: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.broken = False

    async def reconcile(self, turn: Turn) -> Outcome:
        name = turn.state.id
        assert name not in self.now_in, "two at a time"
        if turn.pause is not None:
            return turn.pause
        self.turns.append(name)
        self.now_in.add(name)
        try:
            if self.gate is not None:
                await self.gate.wait()
            answer = self.answers.get(name, Done())
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.now_in.discard(name)

    def settled(self, state: ResourceState, now: datetime) -> bool:
        if self.broken:
            raise RuntimeError("settled broke")
        return state.is_converged() and state.retry is None and state.id not in self.answers

    def due(self, state: ResourceState, now: datetime) -> datetime | None:
        if self.broken:
            raise RuntimeError("due broke")
        when = self.dues.get(state.id)
        return when if when is not None and when > now else None

    def relatives(self, state: ResourceState) -> Sequence[ResourceRef]:
        if self.broken:
            raise RuntimeError("relatives broke")
        parent = state.parent()
        return [parent] if parent is not None else []


class House:
    def __init__(
        self, store: Store, clock: ManualClock, limits: LoopLimits | None = None, name: str = "one"
    ) -> None:
        self.clock = clock
        self.store = store
        self.ledger = Ledger(store, clock, Tables(TABLE))
        self.manager = Scripted(self.ledger, clock)
        self.loop = ReconcileLoop(
            store,
            self.ledger,
            [self.manager],
            clock=clock,
            rng=seeded_rng(3),
            ids=CountedIds(),
            name=name,
            limits=limits or LoopLimits(retry=EXACT),
        )
        self._tasks = Supervisor(clock, seeded_rng(3))

    async def __aenter__(self) -> House:
        self._tasks.start("loop", self.loop.run)
        await self.quiet()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.stop()

    async def quiet(self) -> None:
        calm = 0
        while calm < 40:
            await asyncio.sleep(0)
            snapshot = self.loop.snapshot()
            calm = 0 if snapshot.queued else calm + 1

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            await self.quiet()

    async def make(self, name: str, parent: str | None = None) -> None:
        state = NodeState(id=name, lifecycle_table="two", parent_ref=parent)
        await self.ledger.create(state, ALICE)

    async def change(self, name: str) -> None:
        await self.ledger.set_desired(node(name), ALICE, "b", terms=Terms(reason="because"))
        await self.quiet()


def node(name: str) -> ResourceRef:
    return ResourceRef("Node", name)
