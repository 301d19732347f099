"""`/metrics`: what this process does, in Prometheus' text format.

One table of names, one private registry. Labels are closed sets (route templates, statuses, verdicts) or as
few as there are configured sources; never an entity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from steersman.api.plane import Plane

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ApiMetrics:
    """The API's own counters, and the registry that everything is read from."""

    def __init__(self, plane: Plane) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "steersman_http_requests",
            "HTTP requests answered, by route template, method and status; 499 is a caller that went away",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "steersman_http_request_duration_seconds",
            "Time from request to the end of its answer, streams left out",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.streams = Gauge("steersman_watch_streams", "Event streams that are open", registry=self.registry)
        self.resyncs = Counter(
            "steersman_watch_resyncs",
            "Times a stream was told to read again",
            registry=self.registry,
        )
        self.drops = Counter(
            "steersman_watch_drops",
            "Streams that were cut because their reader stalled",
            registry=self.registry,
        )
        self.events = Counter(
            "steersman_watch_events", "Events encoded; each goes to every stream", registry=self.registry
        )
        ProcessCollector(namespace="steersman", registry=self.registry)
        self.registry.register(PlaneCollector(plane))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(route, method, str(status)).inc()
        if not route.endswith(("/watch", "/recording")):
            self._latency.labels(route).observe(seconds)

    def expose(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)


class PlaneCollector(Collector):
    """Reads bus, sources and tasks at the moment of the scrape; nothing is kept twice."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def describe(self) -> Iterator[Metric]:
        """Nothing: these families are made at each scrape, and their names are ours alone."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All families of the plane."""
        yield from self._about()
        yield from self._bus()
        yield from self._sources()
        yield from self._tasks()

    def _about(self) -> Iterator[Metric]:
        plane = self._plane
        info = GaugeMetricFamily(
            "steersman_build_info", "Always 1; the version is a label", labels=["version"]
        )
        info.add_metric([plane.version], 1)
        yield info
        uptime_s = (plane.clock.now() - plane.started_at).total_seconds()
        yield GaugeMetricFamily("steersman_uptime_seconds", "Time since the start", value=max(0.0, uptime_s))
        yield GaugeMetricFamily("steersman_tokens", "Tokens that exist", value=len(plane.tokens))

    def _bus(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "steersman_bus_revision", "Revision of the bus", value=self._plane.bus.revision
        )

    def _sources(self) -> Iterator[Metric]:
        return iter(())

    def _tasks(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily(
            "steersman_task_up", "1 where a task of the process runs, 0 where it does not", labels=["task"]
        )
        restarts = CounterMetricFamily(
            "steersman_task_restarts", "Restarts of a task since the start", labels=["task"]
        )
        for task in self._plane.supervisor.snapshot():
            tasks.add_metric([task.name], 1.0 if task.state == "running" else 0.0)
            restarts.add_metric([task.name], task.restarts)
        yield tasks
        yield restarts
