"""Each stack's documented shapes through its table: names old and new, units, kinds, copies, no traffic."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.exposition.plan import Plan
from steersman.drivers.exposition.series import SeriesCache
from steersman.drivers.serving.activity import state_of, with_states, with_traffic
from steersman.drivers.serving.fake import (
    MODEL,
    PAGES,
    Load,
    knative_page,
    ray_serve_page,
    sglang_page,
    tgi_page,
    triton_page,
    vllm_page,
)
from steersman.drivers.serving.options import TABLES
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import check_fields
from steersman.kinds.fragment import StateFragment

AT = datetime(2026, 1, 1, tzinfo=UTC)
STEP_S = 10.0
LATENCIES = {"latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "latency_mean_ms"}


class Server:
    """A stack's pages, ten seconds apart."""

    def __init__(self, flavor: str, page: Callable[..., str] | None = None, **shape: Any) -> None:
        self.load = Load()
        self._page = page or PAGES[flavor]
        self._shape = shape
        tables = [open_mapping(name) for name in TABLES[flavor]]
        self._plan = Plan(tables, "source", {"cluster": "lab"})
        self._cache = SeriesCache(self._plan.want, self._plan.forget)
        self._at_s = 0.0
        self.variables = {"@instance": "n1:8000"}
        self.warnings: list[str] = []
        self.drift: list[str] = []

    def read(self) -> list[StateFragment]:
        self._at_s += STEP_S
        page = self._cache.read(self._page(self.load, **self._shape))
        assert page.problems == []
        read = self._plan.build(page, AT, self._at_s, self.variables)
        self.warnings, self.drift = read.warnings, read.drift
        for fragment in read.fragments:
            assert check_fields(fragment.entity_type, fragment.fields) == []
        keys = [fragment.key for fragment in read.fragments]
        assert len(keys) == len(set(keys)), "two fragments of one entity"
        return read.fragments

    def one(self, entity_type: EntityType, entity_id: str) -> dict[str, Any]:
        """The fields of one entity on the next page."""
        found = {(f.entity_type, f.entity_id): f.fields for f in self.read()}
        assert (entity_type, entity_id) in found, sorted(found)
        return found[entity_type, entity_id]

    def service(self, entity_id: str) -> dict[str, Any]:
        return self.one(EntityType.SERVICE, entity_id)


SERVICES = {
    "vllm": MODEL,
    "sglang": MODEL,
    "tgi": "n1:8000",
    "triton": MODEL,
    "ray-serve": "chat/Model",
    "knative": "prod/chat",
    "kserve": "prod/chat",
    "torchserve": MODEL,
}
SILENT_ON_ERRORS = {"torchserve", "sglang"}
"""Stacks that don't tell of each service how many of its requests failed."""
MEANS = {"triton", "torchserve"}
"""Stacks that tell no distribution of latencies."""


def test_each_flavor_with_metrics_has_tables_and_a_page() -> None:
    assert {flavor for flavor, tables in TABLES.items() if tables} == set(PAGES) == set(SERVICES)


@pytest.mark.parametrize("flavor", sorted(SERVICES))
def test_the_first_page_tells_the_service_though_no_rate_is_known(flavor: str) -> None:
    fields = Server(flavor).service(SERVICES[flavor])
    assert fields["up"] is True
    assert not {"throughput", "error_rate", *LATENCIES} & fields.keys()


@pytest.mark.parametrize("flavor", sorted(SERVICES))
def test_latency_is_in_milliseconds_whatever_the_stack_counts_in(flavor: str) -> None:
    server = Server(flavor)
    server.load.serve(40, latency_s=4.0)
    server.read()
    server.load.serve(100, latency_s=0.2)
    fields = server.service(SERVICES[flavor])
    assert server.warnings == []
    if flavor in MEANS:
        assert fields["latency_mean_ms"] == pytest.approx(200.0)
        assert fields["queue_time_mean_ms"] == pytest.approx(100.0)
    else:
        assert fields["latency_p50_ms"] == pytest.approx(175.0)  # interpolated between 100 and 250 ms
        assert fields["latency_p95_ms"] == pytest.approx(242.5)
    assert fields["throughput"] == pytest.approx(100 / STEP_S)


@pytest.mark.parametrize("flavor", sorted(SERVICES))
def test_no_traffic_leaves_latency_and_errors_absent_and_not_zero(flavor: str) -> None:
    server = Server(flavor)
    server.load.serve(40, failed=2)
    server.read()
    fields = server.service(SERVICES[flavor])
    assert not LATENCIES & fields.keys()
    assert "error_rate" not in fields
    assert fields["throughput"] == 0.0


@pytest.mark.parametrize("flavor", sorted(set(SERVICES) - SILENT_ON_ERRORS))
def test_errors_are_a_share_of_what_ended(flavor: str) -> None:
    server = Server(flavor)
    server.load.serve(10, failed=1)
    server.read()
    server.load.serve(30, failed=10)
    fields = server.service(SERVICES[flavor])
    assert fields["error_rate"] == pytest.approx(10 / 40)
    assert fields["throughput"] == pytest.approx(40 / STEP_S)


@pytest.mark.parametrize("flavor", sorted(set(SERVICES) - SILENT_ON_ERRORS - {"tgi"}))
def test_a_counter_of_failures_that_is_not_there_yet_is_no_failure(flavor: str) -> None:
    server = Server(flavor)
    server.read()
    server.load.serve(30)
    assert server.service(SERVICES[flavor])["error_rate"] == 0.0


@pytest.mark.parametrize("flavor", ["vllm", "sglang"])
def test_a_client_that_went_away_is_no_failure(flavor: str) -> None:
    server = Server(flavor)
    server.load.serve(30)
    server.read()
    server.load.serve(30)
    server.load.aborted += 10
    assert server.service(MODEL).get("error_rate", 0.0) == 0.0
    server.load.serve(30, failed=10)
    server.load.aborted += 40
    assert server.service(MODEL).get("error_rate") == (pytest.approx(10 / 80) if flavor == "vllm" else None)


def test_a_vllm_that_has_no_word_for_errors_tells_no_rate_of_them() -> None:
    def page(load: Load) -> str:
        return "".join(f"{line}\n" for line in PAGES["vllm"](load).splitlines() if '"error"' not in line)

    server = Server("vllm", page)
    server.read()
    server.load.serve(30)
    fields = server.service(MODEL)
    assert fields["throughput"] > 0
    assert "error_rate" not in fields


@pytest.mark.parametrize("flavor", sorted(set(SERVICES) - SILENT_ON_ERRORS))
def test_the_first_failures_make_their_counter_and_are_counted(flavor: str) -> None:
    """Else the first minute of an outage would read as no failure at all."""
    server = Server(flavor)
    server.load.serve(10)
    server.read()
    server.load.serve(30, failed=10)
    assert server.service(SERVICES[flavor])["error_rate"] == pytest.approx(0.25)
    server.load.serve(30)
    assert server.service(SERVICES[flavor])["error_rate"] == 0.0


QUEUES = {"vllm", "sglang", "tgi", "ray-serve"}


@pytest.mark.parametrize("flavor", sorted(QUEUES))
def test_waiting_and_in_flight_are_two_numbers(flavor: str) -> None:
    server = Server(flavor)
    server.load.waiting, server.load.in_flight = 3, 8
    fields = server.service(SERVICES[flavor])
    assert (fields["queue_depth"], fields["in_flight"]) == (3, 8)


@pytest.mark.parametrize("flavor", ["triton", "knative"])
def test_what_does_not_show_requests_in_flight_leaves_them_absent(flavor: str) -> None:
    server = Server(flavor)
    server.load.waiting, server.load.in_flight = 3, 8
    fields = server.service(SERVICES[flavor])
    assert fields["queue_depth"] == 3
    assert "in_flight" not in fields


@pytest.mark.parametrize("flavor", sorted(QUEUES))
def test_a_stream_in_flight_is_no_idleness_though_nothing_ended(flavor: str) -> None:
    server = Server(flavor)
    server.load.in_flight = 2
    server.read()
    for fragment in with_states(server.read()):
        if fragment.entity_id == SERVICES[flavor] and fragment.entity_type is EntityType.SERVICE:
            assert fragment.fields["throughput"] == 0.0
            assert fragment.fields["service_state"] == "active"


def test_idle_is_said_only_where_all_three_signs_are_there() -> None:
    nothing = {"in_flight": 0, "queue_depth": 0, "throughput": 0.0}
    assert state_of(nothing) == "idle"
    for missing in nothing:
        assert state_of({name: value for name, value in nothing.items() if name != missing}) is None
    assert state_of({"throughput": 0.5}) == "active"
    assert state_of({"queue_depth": 1}) == "active"


@pytest.mark.parametrize("old", [False, True], ids=["both names", "old names"])
def test_vllm_under_its_old_names_and_under_both(old: bool) -> None:
    """Versions 0.9 and 0.10 show a renamed metric twice; nothing may be counted twice."""
    server = Server("vllm", vllm_page, old=old, engines=2)
    server.load.cache_used = 0.9
    server.read()
    server.load.serve(20, latency_s=0.2)
    server.load.preempted = 30
    fields = server.service(MODEL)
    assert fields["kv_cache_utilization"] == 0.9
    assert fields["prefix_cache_hit_rate"] == pytest.approx(0.25)
    assert fields["throughput"] == pytest.approx(4.0), "two engines with twenty requests each"
    assert fields["inter_token_latency_p50_ms"] == pytest.approx(50.0)
    assert fields["time_to_first_token_p95_ms"] == pytest.approx(95.0)
    assert fields["queue_time_p95_ms"] == pytest.approx(95.0)
    assert fields["generation_tokens_per_second"] == pytest.approx(40.0)
    assert fields["prompt_tokens_per_second"] == pytest.approx(200.0)
    assert fields["preemptions_per_second"] == pytest.approx(6.0)


def test_sglang_ranks_are_copies_and_replicas_are_not() -> None:
    """Four ranks of tensor by two of pipeline parallelism tell one truth; two replicas have their own."""
    one = Server("sglang")
    many = Server("sglang", sglang_page, tp=4, pp=2, dp=2)
    for server in (one, many):
        server.load.in_flight, server.load.waiting, server.load.cache_used = 5, 3, 0.5
    first, second = one.service(MODEL), many.service(MODEL)
    assert (first["in_flight"], first["queue_depth"]) == (5, 3)
    assert (second["in_flight"], second["queue_depth"]) == (10, 6)
    assert second["kv_cache_utilization"] == 0.5
    assert second["prefix_cache_hit_rate"] == 0.25


def test_sglang_speed_is_its_counter_or_else_its_own_word() -> None:
    server = Server("sglang")
    assert server.service(MODEL)["generation_tokens_per_second"] == 123.0
    server.load.serve(20)
    assert server.service(MODEL)["generation_tokens_per_second"] == pytest.approx(20.0)


def test_tgi_requests_on_their_way_are_no_failures() -> None:
    """`tgi_request_count` grows when requests come: a burst of long ones would look like an outage."""
    server = Server("tgi")
    server.read()
    server.load.in_flight, server.load.waiting = 30, 10
    server.load.serve(10)
    fields = server.service("n1:8000")
    assert fields["error_rate"] == 0.0
    server.load.in_flight, server.load.waiting = 0, 0
    server.load.serve(40)
    fields = server.service("n1:8000")
    assert fields["error_rate"] == 0.0
    assert fields["throughput"] == pytest.approx(4.0)


def test_tgi_that_counts_its_failures_is_believed() -> None:
    server = Server("tgi", tgi_page, tells_failures=True)
    server.load.serve(10, failed=1)
    server.read()
    server.load.serve(15, failed=5)
    assert server.service("n1:8000")["error_rate"] == pytest.approx(0.25)


def test_triton_versions_are_revisions_with_their_share_of_the_traffic() -> None:
    server = Server("triton")
    server.read()
    server.load.serve(100, latency_s=0.2, failed=100)
    fragments = with_traffic(server.read())
    found = {f.entity_id: f.fields for f in fragments if f.entity_type is EntityType.MODEL_REVISION}
    assert set(found) == {f"{MODEL}/1", f"{MODEL}/2"}
    first, second = found[f"{MODEL}/1"], found[f"{MODEL}/2"]
    assert (first["model_name"], first["model_version"]) == (MODEL, "1")
    assert (first["traffic_percent"], second["traffic_percent"]) == (pytest.approx(75), pytest.approx(25))
    assert first["error_rate"] == second["error_rate"] == pytest.approx(0.5)
    assert second["latency_mean_ms"] == pytest.approx(200.0)
    (gpu,) = (f for f in fragments if f.entity_type is EntityType.GPU)
    assert gpu.entity_id == "GPU-7"
    assert gpu.fields == {"gpu_utilization": 0.5, "gpu_memory_used": 1024, "power_draw_watts": 250.5}


def test_without_traffic_no_revision_has_a_share_of_it() -> None:
    server = Server("triton")
    server.read()
    assert not [f for f in with_traffic(server.read()) if "traffic_percent" in f.fields]


def test_triton_summaries_are_microseconds_and_nan_where_nothing_came() -> None:
    server = Server("triton", triton_page, summaries=True)
    assert "latency_p95_ms" not in server.service(MODEL)
    server.load.serve(10, latency_s=0.25)
    assert server.service(MODEL)["latency_p95_ms"] == pytest.approx(250.0)


@pytest.mark.parametrize("shape", [{}, {"doubled": True}], ids=["now", "counters twice"])
def test_ray_serve_has_applications_deployments_and_replicas(shape: dict[str, bool]) -> None:
    server = Server("ray-serve", ray_serve_page, **shape)
    server.load.serve(10, failed=1)
    server.read()
    server.load.serve(30, failed=10)
    server.load.in_flight, server.load.waiting = 6, 4
    found = {(f.entity_type, f.entity_id): f.fields for f in server.read()}
    application = found[EntityType.SERVICE, "chat"]
    assert application["throughput"] == pytest.approx(4.0)
    assert application["error_rate"] == pytest.approx(0.25)
    deployment = found[EntityType.SERVICE, "chat/Model"]
    assert deployment["throughput"] == pytest.approx(4.0), "what went well and what did not, each once"
    assert deployment["error_rate"] == pytest.approx(0.25)
    assert (deployment["queue_depth"], deployment["in_flight"]) == (4, 6)
    assert deployment["service_state"] == "active"
    assert deployment["deployment_status"] == "HEALTHY"
    replicas = found[EntityType.DEPLOYMENT, "chat/Model"]
    assert replicas == {"available_replicas": 2, "desired_replicas": 2}


def test_ray_serve_before_its_metrics_had_a_prefix() -> None:
    server = Server("ray-serve", ray_serve_page, bare=True)
    server.read()
    server.load.in_flight = 6
    server.load.serve(10)
    fields = server.service("chat/Model")
    assert fields["in_flight"] == 6
    assert fields["latency_p50_ms"] == pytest.approx(175.0)


@pytest.mark.parametrize(
    "shape",
    [{}, {"labelled": False}, {"otel": False}],
    ids=["OpenTelemetry", "labels on target_info", "OpenCensus"],
)
def test_knative_says_the_same_in_seconds_and_in_milliseconds(shape: dict[str, bool]) -> None:
    server = Server("knative", knative_page, **shape)
    server.load.serve(10, failed=1)
    server.read()
    server.load.serve(30, latency_s=0.2, failed=10)
    server.load.waiting = 4
    found = {(f.entity_type, f.entity_id): f.fields for f in server.read()}
    for key in ((EntityType.SERVICE, "prod/chat"), (EntityType.MODEL_REVISION, "prod/chat-2")):
        fields = found[key]
        assert fields["latency_p95_ms"] == pytest.approx(242.5)
        assert fields["throughput"] == pytest.approx(4.0)
        assert fields["error_rate"] == pytest.approx(0.25)
        assert fields["queue_depth"] == 4


def test_knative_without_a_limit_has_no_depth() -> None:
    def page(load: Load) -> str:
        return "".join(f"{line}\n" for line in knative_page(load).splitlines() if "queue_depth" not in line)

    assert "queue_depth" not in Server("knative", page).service("prod/chat")


def test_kserve_joins_the_model_server_and_its_queue_proxy() -> None:
    server = Server("kserve")
    server.read()
    server.load.serve(30, latency_s=0.2)
    found = {f.entity_id: f.fields for f in server.read() if f.entity_type is EntityType.SERVICE}
    assert found[MODEL]["latency_p50_ms"] == pytest.approx(175.0)
    assert found[MODEL]["throughput"] == pytest.approx(3.0)
    assert found["prod/chat"]["throughput"] == pytest.approx(3.0)


def test_torchserve_counts_answers_for_the_server_and_latencies_for_models() -> None:
    server = Server("torchserve")
    server.load.serve(10, failed=1)
    server.read()
    server.load.serve(30, latency_s=0.2, failed=10)
    found = {(f.entity_type, f.entity_id): f.fields for f in server.read()}
    whole = found[EntityType.SERVICE, "n1:8000"]
    assert whole["error_rate"] == pytest.approx(0.25)
    assert whole["throughput"] == pytest.approx(4.0)
    assert whole["queue_time_mean_ms"] == 7.0
    revision = found[EntityType.MODEL_REVISION, f"{MODEL}/1.0"]
    assert revision["latency_mean_ms"] == pytest.approx(200.0)


@pytest.mark.parametrize("flavor", sorted(SERVICES))
def test_a_given_name_keeps_replicas_of_one_model_apart(flavor: str) -> None:
    server = Server(flavor)
    server.variables["@service"] = "blue"
    names = {f.entity_id for f in server.read() if f.entity_type is EntityType.SERVICE}
    if flavor in ("knative", "kserve"):
        assert "prod/chat" in names, "a Knative service has a name of its own"
    else:
        assert all(name == "blue" or name.startswith("blue/") for name in names)
