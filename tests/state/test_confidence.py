"""Confidence: its items, and that it is reproducible."""

from __future__ import annotations

from typing import Any

from bus_facts import GPU, NODE, SERVICE, at, declare, said, world
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.kinds.entity import EntityType
from steersman.kinds.explanation import Confidence
from steersman.state.bus import StateBus


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
    assert items(bus) == {"freshness": 1.0, "coverage": 0.3333, "sources": 1.0, "agreement": 1.0}
    coverage = confidence(bus).items[1]
    assert coverage.detail == "1 of 3 expected fields are known (missing: memory_utilization, gpu_count)"


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
    assert items(bus)["freshness"] == 0.6667, "two stale at a half, one slow and fresh"


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
