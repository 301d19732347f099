"""The reconcile loop: what a hundred thousand idle resources cost, and how soon a change is worked on.

Idle cost is compared with an event loop of the same process that only sleeps; memory is counted by resource.
A wake's latency is compared with the commit that causes it, on the same store: what the loop adds between
"it is durable" and "a manager looks at it".
"""

from __future__ import annotations

import asyncio
import gc
import resource
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import ClassVar

from bench.figure import Figure
from steersman.act.reconcile.api import Done, Outcome, Turn
from steersman.act.reconcile.loop import ReconcileLoop
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import CountedIds, seeded_rng, system_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.command import Actor, Terms
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.state.ledger import Ledger
from steersman.store.sqlite import SqliteStore
from steersman.testing.tables import Tables

RESOURCES = 100_000
WRITERS = 64
IDLE_S = 12.0
"""Covers two renewals of the lease."""
WAKES = 200

_TABLE = Lifecycle.from_map({"a": ["b"], "b": ["a"]}, name="bench")
_ME = Actor("user:bench", ("operator",))


class _Watching:
    """A manager that notes when it is asked."""

    kind: ClassVar[str] = "Node"

    def __init__(self) -> None:
        self.turns = 0
        self.asked = asyncio.Event()

    async def reconcile(self, turn: Turn) -> Outcome:
        self.turns += 1
        self.asked.set()
        return Done()

    def settled(self, state: ResourceState, now: datetime) -> bool:
        return state.is_converged()

    def due(self, state: ResourceState, now: datetime) -> datetime | None:
        return None

    def relatives(self, state: ResourceState) -> Sequence[ResourceRef]:
        return ()


async def fill(ledger: Ledger, count: int) -> None:
    """Make so many resources, many writers at once."""

    async def write(writer: int) -> None:
        for number in range(writer, count, WRITERS):
            await ledger.create(NodeState(id=f"n{number}", lifecycle_table="bench"), _ME)

    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))


def used_mib() -> float:
    """The process's greatest memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def cpu_share(seconds: float) -> float:
    """The share of a core that this process uses while nothing is asked of it."""
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


async def measure(count: int = RESOURCES, idle_s: float = IDLE_S, wakes: int = WAKES) -> list[Figure]:
    """Figures of one run."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteStore(Path(folder) / "s.db", clock=clock, rng=system_rng()) as store:
            ledger = Ledger(store, clock, Tables(_TABLE))
            await fill(ledger, count)
            gc.collect()
            bare = await cpu_share(idle_s / 2)
            before_mib = used_mib()
            manager = _Watching()
            loop = ReconcileLoop(
                store, ledger, [manager], clock=clock, rng=seeded_rng(1), ids=CountedIds(), name="bench"
            )
            async with Supervisor(clock, seeded_rng(1)) as tasks:
                began = time.perf_counter()
                tasks.start("loop", loop.run)
                while loop.snapshot().sweeps == 0:
                    await asyncio.sleep(0.02)
                swept_s = time.perf_counter() - began
                after_mib = used_mib()
                revision = await store.revision()
                idle = await cpu_share(idle_s)
                written = await store.revision() - revision
                turns = manager.turns
                commit_s, wake_s = await wake(ledger, manager, wakes)
    return [
        Figure(
            "reconcile: CPU of 100,000 idle resources",
            idle - bare,
            "of a core",
            "<= 0.02",
            f"loop {idle:.4f}, bare event loop with the store open {bare:.4f};"
            f" {count} resources, {turns} turns, {written} commits",
        ),
        Figure(
            "reconcile: memory of an idle resource",
            max(0.0, after_mib - before_mib) * 1024 * 1024 / count,
            "B",
            "<= 500",
            "peak memory that the loop's first sweep added, by resource",
        ),
        Figure(
            "reconcile: first sweep",
            count / swept_s,
            "resources/s",
            "",
            f"{swept_s:.2f} s until all {count} were seen, none written",
        ),
        Figure(
            "reconcile: commit to a manager's look",
            wake_s / commit_s,
            "x",
            "<= 2",
            f"median {wake_s * 1000:.2f} ms from request to look, {commit_s * 1000:.2f} ms of it the commit",
        ),
    ]


async def wake(ledger: Ledger, manager: _Watching, wakes: int) -> tuple[float, float]:
    """Median seconds of a request until it is durable, and until a manager looks."""
    commits: list[float] = []
    looks: list[float] = []
    for number in range(wakes):
        manager.asked.clear()
        began = time.perf_counter()
        ref = ResourceRef("Node", f"n{number}")
        await ledger.set_desired(ref, _ME, "b", terms=Terms(reason="bench"))
        commits.append(time.perf_counter() - began)
        await manager.asked.wait()
        looks.append(time.perf_counter() - began)
    return median(commits), median(looks)
