"""Event streams: one change, a thousand watchers.

A server in a process of its own serves a plane; this process holds a thousand streams over raw sockets. The
server changes an entity at an even pace and writes the system-wide monotonic time of the change into it, so
each watcher can tell how long the change took to reach it. CPU is the server's own.
"""

from __future__ import annotations

import asyncio
import re
import resource
import statistics
import sys
import time
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.figure import Figure
from steersman.kinds.fragment import StateFragment
from steersman.state.feed import FLUSH_GAP_S
from steersman.testing.plane import make_fragment, make_world, serve

WATCHERS = 1_000
FEW = 10
CHANGES = 60
GAP_S = 0.2
OPEN_AT_ONCE = 50
"""Connections opened side by side: fewer than any backlog."""

_SENT = re.compile(rb'"sent_s":([0-9.]+)')


async def measure() -> list[Figure]:
    """All figures of the event streams."""
    _raise_open_files()
    few_ms, few_cpu_s = await _fan_out(FEW)
    many_ms, many_cpu_s = await _fan_out(WATCHERS)
    each_us = (many_cpu_s - few_cpu_s) / (CHANGES * (WATCHERS - FEW)) * 1e6
    pace = f"{CHANGES} changes, one each {GAP_S:g} s; the feed flushes each {FLUSH_GAP_S * 1000:g} ms"
    return [
        Figure("change to watcher, median of 1,000 watchers", statistics.median(many_ms), "ms", detail=pace),
        Figure(
            "change to watcher, p99 of 1,000 watchers",
            _p99(many_ms),
            "ms",
            detail=f"with {FEW} watchers {_p99(few_ms):.1f} ms: what is below that is the feed's own pace",
        ),
        Figure("server CPU for one event to one more watcher", each_us, "us", detail="encoded once for all"),
        Figure(
            "share of a core for 1,000 watchers, 5 changes/s",
            many_cpu_s / (CHANGES * GAP_S),
            "core",
            detail="all of the server: bus, feed, encoding, sockets",
        ),
    ]


async def _fan_out(watchers: int) -> tuple[list[float], float]:
    """Latencies in ms of all changes at all watchers, and the server's CPU seconds meanwhile."""
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from bench.http import run_server; run_server()",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    try:
        address = (await server.stdout.readline()).decode().strip()
        streams = [Watcher() for _ in range(watchers)]
        for start in range(0, watchers, OPEN_AT_ONCE):
            await asyncio.gather(*(one.open(address) for one in streams[start : start + OPEN_AT_ONCE]))
        server.stdin.write(b"go\n")
        cpu_s = float(await server.stdout.readline())
        await asyncio.wait_for(asyncio.gather(*(one.complete.wait() for one in streams)), 60)
        for one in streams:
            one.close()
        return [latency for one in streams for latency in one.latencies_ms], cpu_s
    finally:
        server.stdin.close()
        await server.wait()


class Watcher(asyncio.Protocol):
    """One stream: notes how old each change is when its bytes arrive."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.complete = asyncio.Event()
        self._greeted = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    async def open(self, address: str) -> None:
        """Connect, and return once the stream has begun."""
        parts = urlsplit(address)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self, parts.hostname or "", parts.port or 0)
        self._transport = transport
        transport.write(b"GET /api/v1/watch HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await self._greeted.wait()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Bytes of the stream; an event of this size is never cut on loopback."""
        now_s = time.monotonic()
        if b"event: hello" in data:
            self._greeted.set()
        for sent in _SENT.findall(data):
            self.latencies_ms.append((now_s - float(sent)) * 1000)
        if len(self.latencies_ms) >= CHANGES:
            self.complete.set()


def run_server() -> None:
    """The process that is watched: prints its address, waits, makes the changes, prints its CPU."""
    _raise_open_files()
    uvloop.run(_serve())  # as `steersman up` does


async def _serve() -> None:
    async with make_world() as world, serve(world) as address:
        print(address, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        cpu_s = time.process_time()
        for _ in range(CHANGES):
            await asyncio.sleep(GAP_S)
            raw = make_fragment("watched", sent_s=time.monotonic())
            world.plane.inlet.take([msgspec.convert(raw, StateFragment)])
        await asyncio.sleep(GAP_S)
        print(time.process_time() - cpu_s, flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # until the other side has closed its end


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * WATCHERS
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
