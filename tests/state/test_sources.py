"""What a source promised, and how it stands."""

from __future__ import annotations

import pytest
from bus_facts import NODE, at, declare, said, value_of, world

from steersman.state.bus import StateBus
from steersman.state.sources import SourceStatus


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
