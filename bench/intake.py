"""Intake: what a push costs, over HTTP and without it.

The same fragments of six fields, body by body in turn, in the same run. In process: `msgspec` decodes the
whole list at once and the bus merges it, with nothing between; that is the rate that the others are held to.
Push: the same bytes through `observe.push` (each item judged alone, fields held to their types, a verdict for
each). HTTP: the same bytes posted to a `steersman up` of its own over a kept-alive connection, until each
answer has been read; so it includes the client's share of the machine.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.figure import Figure
from steersman.kernel.clock import SystemClock
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.observe.inlet import Inlet
from steersman.observe.push import Push
from steersman.state.bus import StateBus

FRAGMENTS = 10_000
BODIES = 12
CHUNK_BYTES = 65_536
UP_TIMEOUT_S = 30.0
PROBE_INTERVAL_S = 0.02

Call = Callable[[bytes], Awaitable[object]]


async def measure() -> list[Figure]:
    """All figures of intake."""
    arrays = [_body(number) for number in range(BODIES)]
    lines = [_as_lines(body) for body in arrays]
    decode = msgspec.json.Decoder(list[StateFragment]).decode
    bare_bus, _ = _plane()
    _, push = _plane()

    async def bare(body: bytes) -> object:
        return bare_bus.put_many(decode(body))

    with _server() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        costs_us = await _in_turn(
            {
                "bare": (bare, arrays),
                "push array": (push.take_array, arrays),
                "push lines": (lambda body: push.take_lines(_chunks(body)), lines),
                "POST array": (_poster(connection, "application/json"), arrays),
                "POST lines": (_poster(connection, "application/x-ndjson"), lines),
            }
        )
        connection.close()
    bare_us = costs_us["bare"]
    context = f"of {bare_us:.2f} us a fragment for decoding a list and merging it in process"
    return [
        Figure("push of an array, in process", bare_us / costs_us["push array"], "x", "", context),
        Figure("push of lines, in process", bare_us / costs_us["push lines"], "x", "", context),
        Figure("POST of an array", bare_us / costs_us["POST array"], "x", ">=0.5", f"{context}; answer read"),
        Figure("POST of lines", bare_us / costs_us["POST lines"], "x", ">=0.5", f"{context}; answer read"),
        Figure("POST of an array, fragments a second", 1e6 / costs_us["POST array"], "1/s", "", "one caller"),
    ]


def _plane() -> tuple[StateBus, Push]:
    clock = SystemClock()
    bus = StateBus(clock)
    return bus, Push(Inlet(bus, clock), clock)


def _body(number: int) -> bytes:
    """A fleet's GPUs as one source would tell of them, each body a moment later."""
    at = datetime.now(UTC)
    return msgspec.json.encode(
        [
            StateFragment(
                "dcgm",
                EntityType.GPU,
                f"GPU-{gpu:08d}-6a1f-4c2e",
                at,
                {
                    "gpu_utilization": (gpu + number) % 100 / 100,
                    "gpu_memory_used": 40_000_000_000 + gpu,
                    "temperature_celsius": 40.0 + gpu % 30,
                    "power_draw_watts": 300.5 + number,
                    "sm_clock_mhz": 1410.0,
                    "ecc_errors": 0,
                },
                {"cluster": "hpc-1"},
            )
            for gpu in range(FRAGMENTS)
        ]
    )


def _as_lines(body: bytes) -> bytes:
    return b"\n".join(bytes(item) for item in msgspec.json.decode(body, type=list[msgspec.Raw])) + b"\n"


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]


async def _in_turn(calls: dict[str, tuple[Call, list[bytes]]]) -> dict[str, float]:
    """Microseconds a fragment of each call: the median over the bodies, each body given to all calls in turn,
    so that a busy moment of the machine hits them alike. The first body creates the entities and is left out.
    """
    costs: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(BODIES):
        for name, (call, bodies) in calls.items():
            began = time.perf_counter()
            await call(bodies[number])
            costs[name].append((time.perf_counter() - began) / FRAGMENTS * 1e6)
    return {name: statistics.median(found[1:]) for name, found in costs.items()}


def _poster(connection: http.client.HTTPConnection, media_type: str) -> Call:
    async def post(body: bytes) -> object:
        connection.request("POST", "/api/v1/fragments", body, {"content-type": media_type})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the server answered {answer.status}: {content[:500]!r}")
        return content

    return post


@contextlib.contextmanager
def _server() -> Generator[int]:
    """A `steersman up` without sources, in memory, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "steersman.yaml"
        config.write_text(f"server: {{port: {port}}}\nstore: memory\nsources: []\nlog: {{level: error}}\n")
        env = {**os.environ, "STEERSMAN_HOME": folder}
        devnull = os.open(os.devnull, os.O_WRONLY)
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "steersman", "up", "-c", str(config)],
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, devnull, 1)],
        )
        try:
            _wait_healthy(port)
            yield port
        finally:
            os.kill(child, signal.SIGINT)
            os.waitpid(child, 0)
            os.close(devnull)


def _wait_healthy(port: int) -> None:
    deadline = time.monotonic() + UP_TIMEOUT_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
        finally:
            connection.close()
        time.sleep(PROBE_INTERVAL_S)
