"""Endpoints over time: a bounded window of probes for each, and what it says of the service.

A slow endpoint must not delay the others, nor the node. So `collect` waits a moment only; a probe that takes
longer goes on by itself, under its own time-out, and is reported by the call after it ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from steersman.drivers.host.options import Endpoint
from steersman.drivers.web.url import public_url
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng
from steersman.kernel.tasks import Supervisor

WINDOW_PROBES = 120
"""Probes that percentiles and the error rate are taken over, at most."""
WINDOW_S = 1800.0
"""Probes older than this count no more."""
PROBES_MIN = 10
"""Fewer have no error rate: one failed of two is a half, and `up` tells of the last one."""
PATIENCE_S = 1.0
"""How long one call waits for probes; what comes later is told by the next call."""
STOP_TIMEOUT_S = 2.0


class Answer(Protocol):
    """What a probe found; see `client.ProbeAnswer`."""

    @property
    def latency_s(self) -> float | None:
        """Seconds to the answer's end, None without an answer."""
        ...

    @property
    def status(self) -> int | None:
        """The HTTP status, None without an answer."""
        ...

    @property
    def error(self) -> str:
        """What was wrong in one word, "" where all is well."""
        ...

    @property
    def tls_expires_at(self) -> datetime | None:
        """When the certificate expires, None without TLS."""
        ...


class Prober(Protocol):
    """Sends one probe; see `client.ProbeClient`."""

    async def probe(self, endpoint: Endpoint) -> Answer:
        """The answer; a failure is an answer too."""
        ...

    async def close(self) -> None:
        """Close what is open. Repeating it does nothing."""
        ...


class EndpointFacts(Struct):
    """What is to be told of one endpoint: when its last probe ended, and its fields."""

    endpoint: Endpoint
    observed_at: datetime
    fields: dict[str, Any]


class _Probe(Struct):
    at_s: float
    latency_s: float | None
    failed: bool


class Window:
    """The last probes of one endpoint. Percentiles are of the probes that got an answer, whatever it was;
    one without an answer has no latency, and counts in the error rate."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._probes: deque[_Probe] = deque(maxlen=WINDOW_PROBES)
        self._last: Answer | None = None
        self._last_at: datetime | None = None
        self._last_success_at: datetime | None = None
        self._last_error: str | None = None
        self.news = False

    def add(self, answer: Answer, at_s: float, at: datetime) -> None:
        """Take in a probe that ended at `at`."""
        self._probes.append(_Probe(at_s, answer.latency_s, bool(answer.error)))
        self._last, self._last_at, self.news = answer, at, True
        if answer.error:
            self._last_error = answer.error
        else:
            self._last_success_at = at

    def facts(self, now_s: float) -> EndpointFacts | None:
        """What the window says; None before the first probe ended."""
        self.news = False
        if self._last is None or self._last_at is None:
            return None
        while self._probes and now_s - self._probes[0].at_s > WINDOW_S:
            self._probes.popleft()
        latencies = sorted(p.latency_s * 1000 for p in self._probes if p.latency_s is not None)
        fields: dict[str, Any] = {
            "up": not self._last.error,
            "service_state": "active" if not self._last.error else "degraded",
            "url": public_url(self.endpoint.url),
            "latency_p50_ms": percentile(latencies, 0.50),
            "latency_p95_ms": percentile(latencies, 0.95),
            "latency_p99_ms": percentile(latencies, 0.99),
            "error_rate": self._error_rate(),
            "probe_count": len(self._probes),
            "last_status": self._last.status,
            "last_success_at": self._last_success_at,
            "last_error": self._last_error,
            "tls_expires_at": self._last.tls_expires_at,
        }
        return EndpointFacts(self.endpoint, self._last_at, fields)

    def _error_rate(self) -> float | None:
        if len(self._probes) < PROBES_MIN:
            return None
        return sum(probe.failed for probe in self._probes) / len(self._probes)


class Probes:
    """Probes all endpoints side by side."""

    def __init__(
        self, endpoints: Sequence[Endpoint], prober: Prober, clock: Clock, rng: Rng, name: str
    ) -> None:
        self._windows = [Window(endpoint) for endpoint in endpoints]
        self._prober = prober
        self._clock = clock
        self._tasks = Supervisor(clock, rng, name=name)
        self._running: dict[str, asyncio.Task[None]] = {}

    async def collect(self, patience_s: float = PATIENCE_S) -> list[EndpointFacts]:
        """Start a probe of each endpoint that has none under way, wait a moment, tell what is new.

        A caller that is cancelled takes the probes with it.
        """
        for window in self._windows:
            name = window.endpoint.name
            if name not in self._running:
                task = self._tasks.spawn(f"probe {name}", self._probe(window))
                self._running[name] = task
                task.add_done_callback(lambda _, name=name: self._running.pop(name, None))
        try:
            if self._running:
                await asyncio.wait(self._running.values(), timeout=patience_s)
        except asyncio.CancelledError:
            for task in list(self._running.values()):
                task.cancel()
            raise
        now_s = self._clock.monotonic()
        told = [window.facts(now_s) for window in self._windows if window.news]
        return [facts for facts in told if facts is not None]

    async def close(self) -> None:
        """End running probes and close the client. Repeating it does nothing."""
        try:
            await self._tasks.stop(STOP_TIMEOUT_S)
        finally:
            await self._prober.close()

    async def _probe(self, window: Window) -> None:
        answer = await self._prober.probe(window.endpoint)
        window.add(answer, self._clock.monotonic(), self._clock.now())


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed (nearest rank); None of none."""
    if not ordered:
        return None
    rank = -(-share * len(ordered) // 1)  # rounded up
    return ordered[max(0, min(len(ordered) - 1, int(rank) - 1))]
