"""What a source promised, and how it stands."""

from __future__ import annotations

import pytest
from bus_facts import NODE, at, declare, said, value_of, world

from steersman.kinds.explanation import SourceStatus
from steersman.state.bus import StateBus
from steersman.state.limits import BusFull, EntityTooWide


def status(bus: StateBus, name: str = "a") -> SourceStatus:
    found = bus.source_status(name)
    assert found is not None
    return found


def test_a_declared_source_is_unheard_until_it_speaks() -> None:
    bus, _ = world()
    declare(bus, "a", 10.0)
    assert (status(bus).state, status(bus).silent_s, status(bus).declared) == ("unheard", None, True)
    bus.put(said(at(1), "a"))
    assert status(bus).state == "alive"


def test_a_source_nobody_named_is_not_known() -> None:
    bus, _ = world()
    assert bus.source_status("a") is None
    assert bus.sources() == []


def test_a_pushing_source_is_taken_as_it_comes() -> None:
    bus, clock = world()
    bus.put(said(at(1), "pusher"))
    assert (status(bus, "pusher").declared, status(bus, "pusher").cadence_s) == (False, 60.0)
    clock.advance(300)
    assert status(bus, "pusher").state == "alive"
    clock.advance(1)
    assert status(bus, "pusher").state == "silent"


def test_failures_are_counted_told_and_end_with_a_success() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.report_source("a", ok=True)
    bus.report_source("a", ok=False, detail="connection refused")
    bus.report_source("a", ok=False, detail="timed out")
    told = status(bus)
    assert (told.state, told.failures, told.detail) == ("failing", 2, "timed out")
    clock.advance(60)
    assert status(bus).state == "silent", "failing for long is being dead"
    bus.report_source("a", ok=True)
    assert (status(bus).state, status(bus).failures, status(bus).silent_s) == ("alive", 0, 0.0)


def test_a_source_that_never_answered_is_failing() -> None:
    bus, _ = world()
    declare(bus, "a")
    bus.report_source("a", ok=False, detail="no route")
    assert status(bus).state == "failing"


def test_a_stale_word_is_still_a_sign_of_life() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(at(5), "a"))
    clock.advance(40)
    assert bus.put(said(at(4), "a")).verdict == "stale"
    assert status(bus).silent_s == 0.0


def test_other_terms_hold_for_what_was_said_before() -> None:
    """A restored or early entity must not keep the priority and cadence that its source had then."""
    bus, clock = world()
    bus.put(said(at(1), "a", scheduler_state="A"))
    bus.put(said(at(1), "b", scheduler_state="B"))
    assert value_of(bus, "scheduler_state") == "B"
    declare(bus, "a", 10.0, priority=1)
    assert value_of(bus, "scheduler_state") == "A"
    clock.advance(1)
    assert [s.priority for s in bus.sources()] == [1, 0]


def test_sources_are_told_in_order_of_name() -> None:
    bus, _ = world()
    for name in ("b", "c", "a"):
        declare(bus, name)
    assert [s.name for s in bus.sources()] == ["a", "b", "c"]


@pytest.mark.parametrize("late_s", [0.0, 500.0])
def test_an_old_arrival_told_late_does_not_unhear_a_source(late_s: float) -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(at(1), "a"))
    bus.put(said(at(2), "a", entity_id="n2"), at(1000 - late_s))
    assert status(bus).silent_s == 0.0
    assert bus.get(NODE, "n2") is not None
    assert clock.monotonic() == 0.0


def test_a_sender_with_another_name_in_each_of_its_lives_locks_no_entity() -> None:
    """An agent that pushes under its pod's name: the 33rd pod must be heard like the first."""
    bus, clock = world()
    for n in range(100):
        clock.advance(3600)
        assert bus.put(said(clock.now(), f"pod-{n}", cpu_utilization=n / 100)).verdict in {
            "created",
            "merged",
        }
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert len(entity.sources) <= 32
    assert value_of(bus, "cpu_utilization") == 0.99


def test_no_living_source_makes_room_for_another() -> None:
    bus, clock = world(sources_per_entity_max=2)
    bus.put(said(clock.now(), "a", cpu_utilization=0.1))
    bus.put(said(clock.now(), "b", memory_utilization=0.1))
    with pytest.raises(EntityTooWide, match="3 sources"):
        bus.put(said(clock.now(), "c", gpu_count=1))
    assert sorted(getattr(bus.get(NODE, "n1"), "sources", ())) == ["a", "b"]


def test_sources_that_nobody_declared_and_that_hold_nothing_make_room() -> None:
    bus, clock = world(sources_max=10, tombstone_ttl_s=10.0)
    declare(bus, "kept")
    for n in range(9):
        bus.put(said(clock.now(), f"pod-{n}", f"n{n}", cpu_utilization=0.5))
    with pytest.raises(BusFull):
        bus.put(said(clock.now(), "pod-x", "nx", cpu_utilization=0.5))
    for n in range(1, 9):
        bus.forget(NODE, f"n{n}")
    clock.advance(61)
    bus.sweep()
    assert bus.put(said(clock.now(), "pod-y", "ny", cpu_utilization=0.5)).verdict == "created"
    assert {source.name for source in bus.sources()} == {"kept", "pod-0", "pod-y"}
