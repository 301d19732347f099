"""Confidence: its items, and that it is reproducible."""

from __future__ import annotations

from typing import Any

from bus_facts import GPU, NODE, SERVICE, at, declare, said, world
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.kinds.entity import EntityType
from steersman.kinds.explanation import Confidence
from steersman.state.bus import StateBus
from steersman.state.confidence import agree


def confidence(bus: StateBus, kind: EntityType = NODE) -> Confidence:
    explanation = bus.explain(kind, "n1")
    assert explanation is not None
    entity = bus.get(kind, "n1")
    assert entity is not None
    assert entity.confidence_score == explanation.confidence.score, "told and explained are the same"
    return explanation.confidence


def items(bus: StateBus, kind: EntityType = NODE) -> dict[str, float]:
    return {item.name: item.score for item in confidence(bus, kind).items}


def full(**over: Any) -> dict[str, Any]:
    return {"cpu_utilization": 0.5, "memory_utilization": 0.5, "gpu_count": 8} | over


def test_all_expected_fields_fresh_from_a_living_source_is_full_confidence() -> None:
    bus, clock = world()
    declare(bus, "a")
    bus.put(said(clock.now(), **full()))
    assert confidence(bus).score == 1.0


def test_missing_expected_fields_lower_coverage_and_are_named() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), cpu_utilization=0.5))
    assert items(bus) == {"freshness": 1.0, "coverage": 0.5, "sources": 1.0, "agreement": 1.0}
    coverage = confidence(bus).items[1]
    assert coverage.detail == "1 of 2 expected fields are known (missing: memory_utilization)"


def test_knowing_something_else_is_worth_something() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), entity_type=SERVICE, up=False))
    assert items(bus, SERVICE)["coverage"] == 0.3333
    bus.put(said(clock.now(), entity_type=SERVICE, error_rate=1.0))
    assert items(bus, SERVICE)["coverage"] == 0.6667
    bus.put(said(clock.now(), entity_type=SERVICE, latency_p95_ms=3.0))
    assert items(bus, SERVICE)["coverage"] == 1.0


def test_age_lowers_freshness_field_by_field() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), **full()))
    clock.advance(30)
    bus.put(said(clock.now(), "b", memory_utilization=0.5))
    assert items(bus)["freshness"] == 0.75, "one stale at a half, one told anew"


def test_a_failing_source_costs_less_than_a_dead_one() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), **full()))
    bus.report_source("a", ok=False, detail="timed out")
    assert items(bus)["sources"] == 0.7
    bus.report_source("a", ok=True)
    assert items(bus)["sources"] == 1.0
    clock.advance(51)
    assert items(bus)["sources"] == 0.0
    assert confidence(bus).score == 0.0


def test_disagreement_between_living_sources_is_seen_and_named() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), "a", entity_type=GPU, gpu_utilization=0.2, temperature_celsius=60.0))
    bus.put(said(clock.now(), "b", entity_type=GPU, gpu_utilization=0.9, temperature_celsius=61.0))
    assert items(bus, GPU)["agreement"] == 0.5
    assert "gpu_utilization" in confidence(bus, GPU).items[3].detail


def test_a_dead_source_has_no_vote() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    declare(bus, "b", 10.0)
    bus.put(said(clock.now(), "a", gpu_count=4))
    clock.advance(60)
    bus.put(said(clock.now(), "b", gpu_count=8))
    assert items(bus)["agreement"] == 1.0


def test_no_evidence_is_no_confidence() -> None:
    """Not a half: a coin toss would read as some knowledge."""
    bus, clock = world()
    bus.put(said(clock.now()))
    assert confidence(bus).score == 0.0


def test_an_old_entity_that_is_still_spoken_of_is_not_trusted_for_it() -> None:
    bus, _ = world()
    declare(bus, "a", 10.0)
    bus.put(said(at(1), entity_type=SERVICE, latency_p95_ms=5.0, error_rate=0.0))
    assert items(bus, SERVICE) == {"freshness": 0.0, "coverage": 1.0, "sources": 1.0, "agreement": 1.0}


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["cpu_utilization", "memory_utilization", "gpu_count", "boot_id", "odd"]),
        st.integers(0, 9),
    ),
    st.floats(0, 700),
    st.booleans(),
    st.booleans(),
)
def test_the_short_way_equals_the_long_one(
    fields: dict[str, Any], age_s: float, failing: bool, heard_since: bool
) -> None:
    """An entity of one source takes a shorter way to its score; `confidence` compares the two."""
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), **fields))
    clock.advance(age_s)
    if heard_since:
        bus.report_source("a", ok=True)
    if failing:
        bus.report_source("a", ok=False)
    assert 0.0 <= confidence(bus).score <= 1.0


def test_what_each_scheduler_says_of_its_own_is_no_disagreement() -> None:
    bus, clock = world()
    slurm = {
        "agent_version": "23.11.4",
        "scheduler_state": "IDLE",
        "gpus_allocated": 0,
        "memory_allocated": 0,
    }
    kubernetes = {"agent_version": "v1.31", "scheduler_state": "Ready", "gpus_allocated": 8}
    bus.put(said(clock.now(), "slurm", scheduler_domain="slurm", cpu_count=8, **slurm))
    bus.put(said(clock.now(), "kubernetes", scheduler_domain="kubernetes", cpu_count=8, **kubernetes))
    assert confidence(bus).items[3].detail == "1 of 1 shared fields agree"
    why = bus.explain(NODE, "n1")
    assert why is not None
    assert why.fields["agent_version"].agreement == ""
    assert why.fields["agent_version"].others[0].value == "23.11.4", "what it says is shown all the same"


def test_a_machine_that_hardly_works_is_no_disagreement() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), "a", cpu_utilization=0.01, memory_utilization=0.30))
    bus.put(said(clock.now(), "b", cpu_utilization=0.04, memory_utilization=0.40))
    assert confidence(bus).items[3].detail == "1 of 2 shared fields agree (not: memory_utilization)"
    bus.put(said(clock.now(), "a", entity_type=SERVICE, error_rate=0.0))
    bus.put(said(clock.now(), "b", entity_type=SERVICE, error_rate=0.04))
    assert items(bus, SERVICE)["agreement"] == 0.0, "of failures that is much"


def test_times_lists_and_mappings_say_the_same_within_reason() -> None:
    assert agree([at(0), at(3)])
    assert not agree([at(0), at(30)])
    assert agree([["a", "b"], ["b", "a"]])
    assert not agree([["a"], ["b"]])
    assert agree([{"/": 0.50, "/home": 0.1}, {"/": 0.52, "/tmp": 0.9}], 0.05)
    assert not agree([{"/": 0.50}, {"/": 0.80}], 0.05)
    assert not agree([{"/": 0.50}, {"/tmp": 0.50}], 0.05)
    assert not agree([True, 1.0]), "a flag is no number"
    assert not agree([at(0), "2026"])
    assert not agree([{"/": 0.5}, None])


def test_a_machine_without_gpus_is_known_in_full() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), cpu_utilization=0.5, memory_utilization=0.5, cpu_count=4))
    assert confidence(bus).score == 1.0


GIB = 2**30
FIVE: dict[str, dict[str, Any]] = {
    "host": {
        "cpu_utilization": 0.02, "memory_utilization": 0.31, "cpu_count": 128, "memory_total": 2015 * GIB,
        "memory_available": 1390 * GIB, "load_1m": 0.4, "load_5m": 0.2, "booted_at": at(-500.4),
        "hostname": "n1", "kernel": "6.8.0-45", "os": "Ubuntu 24.04.1 LTS", "addresses": ["10.0.0.4"],
        "gpu_count": 8, "gpus_visible": 8, "disks": {"/": 0.41, "/raid": 0.7}, "disk_utilization": 0.7,
        "cpu_pressure": 0.0, "boot_id": "b",
    },
    "metrics": {
        "cpu_utilization": 0.05, "memory_utilization": 0.32, "cpu_count": 128, "memory_total": 2015 * GIB,
        "memory_available": 1372 * GIB, "load_1m": 0.9, "load_5m": 0.3, "booted_at": at(-500),
        "hostname": "n1", "kernel": "6.8.0-45", "os": "Ubuntu 24.04.1 LTS", "disks": {"/": 0.41},
        "disk_utilization": 0.68, "cpu_pressure": 0.01,
    },
    "slurm": {
        "scheduler_domain": "slurm", "scheduler_state": "MIXED", "schedulable": True, "cpu_count": 128,
        "memory_total": 1984 * GIB, "memory_allocated": 256 * GIB, "cpus_allocated": 16, "gpus_allocated": 2,
        "gpu_count": 8, "gpu_capacity": 8, "load_1m": 0.1, "booted_at": at(-499), "hostname": "n1",
        "os": "Linux 6.8.0-45", "agent_version": "24.05.4", "partitions": ["train"], "addresses": ["n1"],
    },
    "kubernetes": {
        "scheduler_domain": "kubernetes", "scheduler_state": "Ready", "schedulable": True, "cpu_count": 128,
        "memory_total": 2015 * GIB, "memory_allocated": GIB, "cpus_allocated": 2.5, "gpus_allocated": 0,
        "gpu_count": 8, "gpu_capacity": 8, "hostname": "n1", "kernel": "6.8.0-45", "os": "Ubuntu 24.04.1 LTS",
        "agent_version": "v1.31.2", "uid": "u1", "addresses": ["10.0.0.4"],
    },
    "dcgm": {"gpus_visible": 8, "hostname": "n1"},
}  # fmt: skip
"""What the five say of one sound and nearly idle machine, by the fields that their drivers fill."""


def of_five(**other: dict[str, Any]) -> Confidence:
    """Their confidence, with other words of some of them."""
    bus, clock = world()
    for source, fields in FIVE.items():
        bus.put(said(clock.now(), source, **fields | other.get(source, {})))
    return confidence(bus)


def test_a_sound_machine_of_five_sources_is_trusted() -> None:
    found = of_five()
    assert found.score >= 0.8, found
    assert "(not:" not in found.items[3].detail


def test_five_sources_that_do_disagree_are_told() -> None:
    for source, fields in (
        ("slurm", {"gpu_count": 7}),
        ("kubernetes", {"memory_total": 1007 * GIB}),
        ("dcgm", {"gpus_visible": 7}),
        ("metrics", {"booted_at": at(-10)}),
        ("metrics", {"cpu_utilization": 0.4}),
        ("kubernetes", {"hostname": "n2"}),
    ):
        found = of_five(**{source: fields})
        assert found.items[3].detail.endswith(f"(not: {next(iter(fields))})"), source
        assert found.score < of_five().score
