"""`/metrics`: what this process does, in Prometheus' text format.

One table of names, one private registry. Labels are closed sets (route templates, statuses, verdicts) or as
few as there are configured sources; never an entity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from steersman.observe.judge import STUCK

if TYPE_CHECKING:
    from steersman.api.plane import Plane

disable_created_metrics()  # beside each counter they tell nothing that the start time does not

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


VERDICTS = ("created", "merged", "partial", "stale", "refused")
"""The bus's verdicts on a fragment."""


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
        self._store_up = Gauge(
            "steersman_store_up", "1 where the store answered this scrape", registry=self.registry
        )
        self._store_revision = Gauge(
            "steersman_store_revision",
            "Commits made in the store's life",
            registry=self.registry,
        )
        ProcessCollector(namespace="steersman", registry=self.registry)
        self.registry.register(PlaneCollector(plane))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(route, method, str(status)).inc()
        if not route.endswith(("/watch", "/recording")):
            self._latency.labels(route).observe(seconds)

    def expose(self, *, store_revision: int | None) -> bytes:
        """The exposition text. `store_revision` is None where the store did not answer."""
        self._store_up.set(0 if store_revision is None else 1)
        if store_revision is not None:
            self._store_revision.set(store_revision)
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
        yield from self._intake()
        yield from self._loop()
        yield from self._ledger()
        yield from self._advice()
        yield from self._deliveries()
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
        bus = self._plane.bus
        counters = bus.counters()
        yield GaugeMetricFamily("steersman_bus_revision", "Revision of the bus", value=bus.revision)
        held = GaugeMetricFamily("steersman_bus_entities", "Entities held, by state", labels=["state"])
        held.add_metric(["live"], counters["entities"])
        held.add_metric(["deleted"], counters["tombstones"])
        yield held
        fragments = CounterMetricFamily(
            "steersman_bus_fragments", "Fragments that came in, by verdict", labels=["verdict"]
        )
        for verdict in VERDICTS:
            fragments.add_metric([verdict], counters.get(verdict, 0))
        yield fragments
        yield CounterMetricFamily(
            "steersman_bus_skewed", "Fragments stamped ahead of our clock and moved", value=counters["skewed"]
        )
        yield GaugeMetricFamily(
            "steersman_bus_subscriptions", "Readers of the change feed", value=counters["subscriptions"]
        )
        yield from self._names(counters)
        yield CounterMetricFamily(
            "steersman_bus_resyncs", "Readers that fell off the change log", value=counters["resyncs"]
        )

    def _names(self, counters: dict[str, int]) -> Iterator[Metric]:
        """What sources call things, and what in their words nobody here knows."""
        log = self._plane.bus.drift_log
        yield GaugeMetricFamily(
            "steersman_identity_names", "Names that are an entity of another name", value=counters["names"]
        )
        yield GaugeMetricFamily(
            "steersman_identity_ambiguous", "Entities whose identity is in doubt", value=counters["ambiguous"]
        )
        yield CounterMetricFamily(
            "steersman_identity_unjoined",
            "Names that were not compared because of a bound",
            value=self._plane.inlet.names.unjoined,
        )
        held = GaugeMetricFamily("steersman_drift_signals", "Kinds of drift that were met", labels=["kind"])
        kinds = [one.kind for one in log.read()]
        for kind in sorted(set(kinds)):
            held.add_metric([kind], kinds.count(kind))
        yield held
        yield CounterMetricFamily(
            "steersman_drift_dropped",
            "Drift of further kinds, without room for it",
            value=log.dropped,
        )

    def _sources(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "steersman_source_up",
            "1 where a configured source is alive",
            labels=["source"],
        )
        heard = GaugeMetricFamily(
            "steersman_source_last_success_timestamp_seconds", "When it was last heard", labels=["source"]
        )
        failures = GaugeMetricFamily(
            "steersman_source_failures", "Reads that failed in a row", labels=["source"]
        )
        pushed = 0
        for source in self._plane.bus.sources():
            if not source.declared:
                pushed += 1  # whoever may push chooses these names: they must not become labels
                continue
            up.add_metric([source.name], 1.0 if source.state == "alive" else 0.0)
            failures.add_metric([source.name], source.failures)
            if source.heard_at is not None:
                heard.add_metric([source.name], source.heard_at.timestamp())
        yield up
        yield heard
        yield failures
        yield GaugeMetricFamily(
            "steersman_sources_pushing", "Sources that push without being configured", value=pushed
        )

    def _intake(self) -> Iterator[Metric]:
        """What intake knows of the configured sources."""
        latency = GaugeMetricFamily(
            "steersman_source_latency_seconds",
            "Time of its latest good observations, by quantile",
            labels=["source", "quantile"],
        )
        observations = CounterMetricFamily(
            "steersman_source_observations", "Observations that came to an end", labels=["source"]
        )
        fragments = CounterMetricFamily(
            "steersman_source_fragments", "Fragments that it gave", labels=["source"]
        )
        failing = GaugeMetricFamily(
            "steersman_source_failure_ratio",
            "Share of its latest observations that failed",
            labels=["source"],
        )
        stuck = GaugeMetricFamily(
            "steersman_source_stuck",
            "1 where an observation does not end, so that none is begun",
            labels=["source"],
        )
        blocked = GaugeMetricFamily(
            "steersman_source_longest_block_seconds", "Longest time it held up all others", labels=["source"]
        )
        for one in self._plane.intake_sources():
            quantiles = (
                ("0.5", one.latency_p50_ms),
                ("0.95", one.latency_p95_ms),
                ("0.99", one.latency_p99_ms),
            )
            for quantile, value_ms in quantiles:
                if value_ms is not None:
                    latency.add_metric([one.name, quantile], value_ms / 1000)
            observations.add_metric([one.name], one.observations)
            fragments.add_metric([one.name], one.fragments)
            failing.add_metric([one.name], one.error_rate)
            stuck.add_metric([one.name], 1.0 if one.state == STUCK else 0.0)
            blocked.add_metric([one.name], one.longest_block_s)
        yield from (latency, observations, fragments, failing, stuck, blocked)

    def _loop(self) -> Iterator[Metric]:
        """The reconcile loop: what waits, for how long, and what comes of it."""
        loop = None if self._plane.control is None else self._plane.control.loop
        if loop is None:
            return
        now = loop.snapshot()
        yield GaugeMetricFamily("steersman_loop_queued", "Resources that wait for a turn", value=now.queued)
        yield GaugeMetricFamily(
            "steersman_loop_in_flight", "Resources that are looked at now", value=now.in_flight
        )
        yield GaugeMetricFamily(
            "steersman_loop_delayed", "Resources that are looked at when a time comes", value=now.delayed
        )
        yield GaugeMetricFamily(
            "steersman_loop_oldest_wait_seconds", "Longest wait for a turn now", value=now.oldest_wait_s
        )
        yield GaugeMetricFamily(
            "steersman_loop_longest_turn_seconds", "Longest turn since the start", value=now.longest_turn_s
        )
        troubled = GaugeMetricFamily(
            "steersman_loop_troubled", "Resources that do not come to where they should", labels=["state"]
        )
        troubled.add_metric(["failing"], now.failing)
        troubled.add_metric(["stuck"], now.stuck)
        yield troubled
        looks = CounterMetricFamily("steersman_loop_looks", "Looks, by what came of them", labels=["outcome"])
        for outcome, count in sorted(now.outcomes.items()):
            looks.add_metric([outcome], count)
        yield looks
        yield CounterMetricFamily(
            "steersman_loop_late_timers", "Times that came over a second late", value=now.late_timers
        )
        yield CounterMetricFamily(
            "steersman_loop_overflows", "Keys that the queue had no place for", value=now.overflowed
        )
        yield CounterMetricFamily("steersman_loop_sweeps", "Looks at all resources", value=now.sweeps)
        yield GaugeMetricFamily(
            "steersman_loop_shards", "Shards that this process holds", value=now.shards_held
        )

    def _ledger(self) -> Iterator[Metric]:
        """What requests to the Ledger came to. The codes of errors are a closed set (errors.md)."""
        if self._plane.control is None:
            return
        requests = CounterMetricFamily(
            "steersman_ledger_requests", "Requests for a change, by what came of them", labels=["outcome"]
        )
        for outcome, count in sorted({"written": 0, **self._plane.control.ledger.outcomes}.items()):
            requests.add_metric([outcome], count)
        yield requests
        refused = len(self._plane.control.lifecycles.refused)
        yield GaugeMetricFamily("steersman_lifecycles_refused", "Files that were left out", value=refused)

    def _advice(self) -> Iterator[Metric]:
        """Policies, recommendations, the freeze switch."""
        advice = None if self._plane.control is None else self._plane.control.advice
        if advice is None:
            return
        now = advice.snapshot()
        yield GaugeMetricFamily("steersman_policies", "Policies that are evaluated", value=now.policies)
        yield GaugeMetricFamily(
            "steersman_policy_problems", "Policies or files of them that were left out", value=now.problems
        )
        yield CounterMetricFamily("steersman_policy_looks", "Entities that were looked at", value=now.looked)
        yield GaugeMetricFamily(
            "steersman_recommendations_open", "Recommendations that are not at an end", value=now.open
        )
        yield GaugeMetricFamily(
            "steersman_recommendations_waiting", "Proposals that found no place yet", value=now.waiting
        )
        made = CounterMetricFamily(
            "steersman_recommendations", "What became of recommendations", labels=["event"]
        )
        for event, count in sorted(now.counts.items()):
            made.add_metric([event], count)
        yield made
        yield GaugeMetricFamily(
            "steersman_frozen", "1 where nothing acts by itself: acting is frozen", value=int(now.frozen)
        )

    def _deliveries(self) -> Iterator[Metric]:
        """How each subscription's delivery fares; their number is bounded."""
        deliveries = self._plane.deliveries
        if deliveries is None:
            return
        horizon = 0 if self._plane.tail is None else self._plane.tail.horizon
        yield GaugeMetricFamily("steersman_events_revision", "Newest revision that is told of", value=horizon)
        behind = GaugeMetricFamily(
            "steersman_delivery_behind",
            "Store revisions between the newest and what is done: no fewer than events",
            labels=["subscription"],
        )
        failing = GaugeMetricFamily(
            "steersman_delivery_failing",
            "Resources whose oldest event was tried and not taken",
            labels=["subscription"],
        )
        running = GaugeMetricFamily(
            "steersman_delivery_up", "1 where the subscription is enabled", labels=["subscription"]
        )
        lag = GaugeMetricFamily(
            "steersman_delivery_lag_seconds",
            "Age of the oldest event that is being delivered",
            labels=["subscription"],
        )
        pending = GaugeMetricFamily(
            "steersman_delivery_pending", "Events taken up and not done", labels=["subscription"]
        )
        attempts = CounterMetricFamily(
            "steersman_delivery_attempts", "Attempts, by outcome", labels=["subscription", "outcome"]
        )
        dead = CounterMetricFamily(
            "steersman_delivery_dead", "Events that became dead letters", labels=["subscription"]
        )
        letters = GaugeMetricFamily(
            "steersman_delivery_dead_letters", "Dead letters that are kept", labels=["subscription"]
        )
        lost = CounterMetricFamily(
            "steersman_delivery_lost", "Times that events were gone before delivery", labels=["subscription"]
        )
        for one in deliveries.snapshot():
            running.add_metric([one.id], 1.0 if one.running else 0.0)
            behind.add_metric([one.id], max(0, horizon - one.cursor) if one.running else 0)
            failing.add_metric([one.id], one.failing)
            lag.add_metric([one.id], one.lag_s)
            pending.add_metric([one.id], one.pending)
            attempts.add_metric([one.id, "delivered"], one.delivered)
            attempts.add_metric([one.id, "failed"], one.failed_attempts)
            dead.add_metric([one.id], one.dead)
            letters.add_metric([one.id], one.dead_letters)
            lost.add_metric([one.id], one.lost)
        yield from (running, behind, failing, lag, pending, attempts, dead, letters, lost)

    def _tasks(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily(
            "steersman_task_up", "1 where a task of the process runs, 0 where it does not", labels=["task"]
        )
        restarts = CounterMetricFamily(
            "steersman_task_restarts", "Restarts of a task since the start", labels=["task"]
        )
        loop = None if self._plane.control is None else self._plane.control.loop
        inner = [] if loop is None else loop.tasks()
        named = [(task.name, task) for task in self._plane.supervisor.snapshot()]
        for name, task in (*named, *((f"loop.{task.name}", task) for task in inner)):
            tasks.add_metric([name], 1.0 if task.state == "running" else 0.0)
            restarts.add_metric([name], task.restarts)
        yield tasks
        yield restarts
