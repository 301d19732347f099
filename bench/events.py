"""Events of resources: from a commit to a reader of the tail, and to the bytes of a watch stream.

The baseline is the store's own watch in the same run: what the tail and the stream add is the difference.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from bench.figure import Figure
from steersman.api.watch import write_batch
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import system_rng
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.command import ResourceEvent
from steersman.state.tail import Tail
from steersman.store.api import Put
from steersman.store.sqlite import SqliteStore

READERS = 100
COMMITS = 200


def row(seq: int) -> Put:
    """An outbox row of the usual size."""
    data = {
        "kind": "Node",
        "id": "n1",
        "action": "transitioned",
        "labels": {"rack": "r1"},
        "reason": "x" * 80,
    }
    event = ResourceEvent(
        id=f"Node/n1/{seq}",
        type="steersman.resource.transitioned.v1",
        subject="Node/n1",
        sequence=seq,
        time=SystemClock().now(),
        data=data,
    )
    return Put(f"outbox/Node/n1/{seq:012d}", msgspec.json.encode(event))


class Heard:
    """How long each listener took to hear of the commit that was made last."""

    def __init__(self) -> None:
        self.began = 0.0
        self.delays_ms: list[float] = []
        self.count = 0
        self.all = asyncio.Event()

    def note(self) -> None:
        """One has heard."""
        self.delays_ms.append((time.perf_counter() - self.began) * 1000)
        self.count += 1
        if self.count == READERS:
            self.all.set()


async def measured(start: Callable[[SqliteStore, Supervisor, Heard], Awaitable[None]]) -> list[float]:
    """Milliseconds from a commit's return to each of `READERS` listeners that `start` begins."""
    heard = Heard()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        clock, rng = SystemClock(), system_rng()
        store = SqliteStore(Path(folder) / "s.db", clock=clock, rng=rng)
        await stack.enter_async_context(store)
        tasks = await stack.enter_async_context(Supervisor(clock, rng))
        await start(store, tasks, heard)
        await asyncio.sleep(0.2)
        for seq in range(1, COMMITS + 1):
            heard.count = 0
            heard.all.clear()
            await store.commit([], [row(seq)])
            heard.began = time.perf_counter()
            async with asyncio.timeout(10):
                await heard.all.wait()
    return heard.delays_ms


async def by_watch(store: SqliteStore, tasks: Supervisor, heard: Heard) -> None:
    """Listeners at the store itself."""

    async def listen() -> None:
        async with store.watch("outbox", 0) as events:
            async for _ in events:
                heard.note()

    for number in range(READERS):
        tasks.start(f"watch.{number}", listen)


async def by_tail(store: SqliteStore, tasks: Supervisor, heard: Heard) -> None:
    """Readers of the tail, each of which writes the events as a stream would."""
    tail = Tail(store, SystemClock())
    tasks.start("tail", tail.run, ALWAYS)
    await tail.ready()

    async def read() -> None:
        reader = tail.open()
        while True:
            batch = await reader.next()
            if write_batch(batch, 1):
                heard.note()

    for number in range(READERS):
        tasks.start(f"reader.{number}", read)


def p99(delays_ms: list[float]) -> float:
    """The 99th percentile."""
    return sorted(delays_ms)[int(len(delays_ms) * 0.99)]


async def measure() -> list[Figure]:
    """All figures of this module."""
    watch = await measured(by_watch)
    tail = await measured(by_tail)
    said = f"{READERS} listeners, {COMMITS} commits, one at a time; from the commit's return"
    return [
        Figure("events: commit to the bytes of a stream, p99", p99(tail), "ms", "<= 50", said),
        Figure("events: the store's own watch, p99", p99(watch), "ms", "", said),
        Figure("events: stream to store watch, p99", p99(tail) / p99(watch), "x", "<= 5", "the same run"),
    ]
