"""Freshness by pace, source and entity; ageing told without a word from anybody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from bus_facts import GPU, JOB, NODE, SERVICE, at, declare, said, world
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.explanation import Freshness
from steersman.state.bus import StateBus
from steersman.state.freshness import Standing, standing_of
from steersman.state.layer import Arrival, Layer, Stamp
from steersman.state.sources import Source, SourceInfo


def freshness(bus: StateBus, kind: EntityType = NODE) -> Freshness:
    found = bus.freshness(kind, "n1")
    assert found is not None
    return found


def states(bus: StateBus, kind: EntityType = NODE) -> dict[str, str]:
    return {name: field.state for name, field in freshness(bus, kind).fields.items()}


@pytest.mark.parametrize(
    ("age_s", "state"), [(0, "fresh"), (20, "fresh"), (20.1, "stale"), (50, "stale"), (50.1, "expired")]
)
def test_a_volatile_field_by_the_cadence_of_its_source(age_s: float, state: str) -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), cpu_utilization=0.5))
    clock.advance(age_s)
    assert states(bus) == {"cpu_utilization": state}
    assert freshness(bus).state == state


def test_age_counts_from_the_observation_not_from_its_arrival() -> None:
    bus, _ = world()
    declare(bus, "a", 10.0)
    bus.put(said(at(1000 - 30), cpu_utilization=0.5))
    assert freshness(bus).fields["cpu_utilization"].age_s == 30.0
    assert states(bus) == {"cpu_utilization": "stale"}


def test_an_exporters_own_lag_is_allowed_for() -> None:
    """DCGM collects every 30 s behind a scrape of 15 s: 45 s old on arrival is normal there."""
    bus, _ = world()
    declare(bus, "a", 15.0, lag_s=30.0)
    bus.put(said(at(1000 - 45), cpu_utilization=0.5))
    assert states(bus) == {"cpu_utilization": "fresh"}


def test_a_slow_field_ages_more_slowly() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), gpu_count=8, cpu_utilization=0.5))
    told: list[tuple[str, str]] = []
    for _ in range(6):
        clock.advance(99)
        bus.report_source("a", ok=True)
        told.append((states(bus)["gpu_count"], states(bus)["cpu_utilization"]))
    assert told == [("fresh", "expired")] * 2 + [("stale", "expired")] * 3 + [("expired", "expired")]


def test_nothing_that_a_dead_source_said_is_fresh() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), gpu_count=8, boot_id="b"))
    clock.advance(51)
    assert states(bus) == {"gpu_count": "stale", "boot_id": "expired"}


def test_a_static_field_never_ages_but_dies_with_its_source() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), entity_type=GPU, model_name="H100"))
    for _ in range(20):
        clock.advance(30)
        bus.report_source("a", ok=True)
    assert states(bus, GPU) == {"model_name": "fresh"}
    clock.advance(51)
    assert states(bus, GPU) == {"model_name": "expired"}
    assert freshness(bus, GPU).state == "expired"


def test_an_event_does_not_make_its_entity_stale() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), entity_type=SERVICE, last_error="timeout", up=True))
    for _ in range(10):
        clock.advance(10)
        bus.put(said(clock.now(), entity_type=SERVICE, up=True))
    assert freshness(bus, SERVICE).state == "fresh"
    assert freshness(bus, SERVICE).fields["last_error"].age_s == 100.0


def test_what_a_watch_said_holds_while_the_watch_lives() -> None:
    """A source that speaks only of changes proves its life by reports; an old word is not a stale one."""
    bus, clock = world()
    declare(bus, "a", 10.0, repeats=False)
    bus.put(said(clock.now(), scheduler_state="Ready", schedulable=True))
    for _ in range(100):
        clock.advance(10)
        bus.report_source("a", ok=True)
    assert freshness(bus).state == "fresh"
    clock.advance(60)
    assert freshness(bus).state == "stale", "slow fields outlive the death of their source, but not fresh"
    clock.advance(600)
    assert freshness(bus).state == "expired"


def test_one_silent_source_of_two_makes_the_entity_stale_not_expired() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    declare(bus, "b", 10.0)
    bus.put(said(clock.now(), "a", cpu_utilization=0.5))
    for _ in range(10):
        clock.advance(10)
        bus.put(said(clock.now(), "b", memory_utilization=0.5))
    assert states(bus) == {"cpu_utilization": "expired", "memory_utilization": "fresh"}
    assert freshness(bus).state == "stale"


def test_an_entity_known_by_name_alone_is_fresh_while_it_is_spoken_of() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now()))
    assert freshness(bus).state == "fresh"
    clock.advance(30)
    assert freshness(bus).state == "stale"
    clock.advance(30)
    assert freshness(bus).state == "expired"


def test_silence_ages_health_to_unknown_and_is_told_once_for_each_class() -> None:
    """Checklist 13: an outage ages the fields and takes health to unknown, never to healthy or critical; the
    return of the source restores it."""
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), cpu_utilization=0.5, memory_utilization=0.5))
    seen: list[tuple[str, HealthState]] = []
    revision = bus.revision
    for _ in range(100):
        clock.advance(1)
        bus.sweep()
        for entity in bus.changed_since(revision):
            seen.append((entity.freshness, entity.health_state))
        revision = bus.revision
    assert seen == [("stale", HealthState.UNKNOWN), ("expired", HealthState.UNKNOWN)]
    bus.put(said(clock.now(), cpu_utilization=0.5, memory_utilization=0.5))
    (entity,) = bus.changed_since(revision)
    assert (entity.freshness, entity.health_state) == ("fresh", HealthState.HEALTHY)
    revision = bus.revision
    clock.advance(21)
    bus.sweep()
    assert [e.freshness for e in bus.changed_since(revision)] == ["stale"], "it ages anew"


def test_a_critical_signal_that_is_stale_is_unknown() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), entity_type=SERVICE, up=False))
    assert [e.health_state for e in bus.entities()] == [HealthState.CRITICAL]
    clock.advance(30)
    assert [e.health_state for e in bus.entities()] == [HealthState.UNKNOWN]


def test_silence_of_one_source_is_told_where_only_its_own_fields_change() -> None:
    """The entity as a whole stays fresh, but its health rested on the field that aged: that is a change."""
    bus, clock = world()
    declare(bus, "metrics", 10.0)
    declare(bus, "slurm", 10.0)
    bus.put(said(clock.now(), "slurm", scheduler_state="DOWN"))
    told: list[tuple[str, HealthState]] = []
    for _ in range(8):
        bus.put(said(clock.now(), "metrics", cpu_utilization=0.1, memory_utilization=0.1))
        for _ in range(9):
            clock.advance(1)
            revision = bus.revision
            bus.sweep()
            told += [(e.freshness, e.health_state) for e in bus.changed_since(revision)]
    assert told[0] == ("fresh", HealthState.UNKNOWN), (
        "nobody says any more that it is down, nor that it is up"
    )


def test_health_that_changes_by_the_clock_alone_is_told() -> None:
    """A tracked run whose heartbeat stops while its tracker still calls it running."""
    bus, clock = world()
    declare(bus, "mlflow", 60.0)
    kind = EntityType.EXPERIMENT_TRACKER
    heartbeat = clock.now()
    told: list[HealthState] = []
    for _ in range(15):
        bus.put(said(clock.now(), "mlflow", entity_type=kind, run_state="RUNNING", heartbeat_at=heartbeat))
        for _ in range(60):
            clock.advance(1)
            revision = bus.revision
            bus.sweep()
            told += [e.health_state for e in bus.changed_since(revision)]
    assert told == [HealthState.WARNING]


def test_a_source_that_comes_back_revives_what_it_holds_without_repeating_it() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0, repeats=False)
    bus.put(said(clock.now(), entity_type=GPU, model_name="H100", gpu_utilization=0.5))
    clock.advance(300)
    bus.sweep()
    assert freshness(bus, GPU).state == "expired"
    revision = bus.revision
    bus.report_source("a", ok=True)
    assert bus.due_at() <= clock.monotonic()
    bus.sweep()
    assert [e.freshness for e in bus.changed_since(revision)] == ["fresh"]


def test_a_source_that_holds_nothing_may_come_back_too() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.report_source("a", ok=True)
    clock.advance(300)
    bus.report_source("a", ok=True)
    assert bus.sweep() == 0
    assert bus.due_at() == float("inf")


def test_a_thousand_sources_that_come_back_at_once_are_searched_for_together() -> None:
    """A network that heals brings back every agent in the same second; one search serves them all."""
    bus, clock = world()
    names = [f"agent-{i:04d}" for i in range(1000)]
    for name in names:
        declare(bus, name, 10.0, repeats=False)
        bus.put(said(clock.now(), name, entity_id=name, entity_type=GPU, gpu_utilization=0.5))
    clock.advance(300)
    while bus.sweep(500) == 500:
        pass
    revision = bus.revision
    for name in names:
        bus.report_source(name, ok=True)
    rounds = 0
    while bus.sweep(100) == 100:
        rounds += 1
    assert rounds == 10
    revived = list(bus.changed_since(revision))
    assert [e.entity_id for e in revived] == names
    assert {e.freshness for e in revived} == {"fresh"}


def test_a_steady_entity_is_looked_at_seldom_and_never_told_of_for_nothing() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    looked = 0
    for _ in range(600):
        bus.put(said(clock.now(), cpu_utilization=0.5))
        clock.advance(1)
        looked += bus.sweep()
    assert looked <= 60, "at most once a cadence, however often it is written"
    assert bus.counters()["announced"] == 0


def test_sweep_is_bounded_and_due_at_says_when_to_come_back() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put_many([said(clock.now(), entity_id=f"n{i}", cpu_utilization=0.1) for i in range(50)])
    assert bus.sweep() == 0
    assert clock.monotonic() + 20 <= bus.due_at() <= clock.monotonic() + 21
    clock.advance(25)
    assert [bus.sweep(20), bus.sweep(20), bus.sweep(20)] == [20, 20, 10]
    assert bus.counters()["announced"] == 50


def test_nothing_is_due_on_an_empty_bus() -> None:
    bus, _ = world()
    assert bus.due_at() == float("inf")
    assert bus.sweep() == 0


names = st.sampled_from(["cpu_utilization", "gpu_count", "boot_id", "hostname", "load_1m", "odd"])


@settings(max_examples=300, deadline=None)
@given(
    st.sets(names),
    st.floats(0, 700),
    st.floats(0, 300),
    st.floats(0, 300),
    st.booleans(),
    st.sampled_from([NODE, JOB]),
)
def test_the_short_way_of_judging_equals_the_long_one(
    fields: set[str], age_s: float, on_arrival_s: float, silent_s: float, repeats: bool, kind: EntityType
) -> None:
    """An entity with one layer is judged at once where all of it is fresh; `stamps` forces the long way."""
    source = Source(SourceInfo("a", "a", 30.0, repeats=repeats), declared=True)
    arrival = Arrival(at(1000), 0.0)
    now = Arrival(at(1000 + age_s), age_s)
    source.heard = Arrival(at(1000), max(0.0, age_s - silent_s))
    values: dict[str, Any] = dict.fromkeys(sorted(fields), 1)
    fragment = said(at(1000 - on_arrival_s), entity_type=kind, **values)
    short = Layer(fragment, fragment.observed_at, arrival, 1, source)
    stamp = Stamp(fragment.observed_at, arrival, 1)
    long = Layer(fragment, fragment.observed_at, arrival, 1, source, dict.fromkeys(values, stamp))

    def comparable(standing: Standing) -> tuple[Any, ...]:
        return dict(standing.values), standing.states, standing.state

    one, other = standing_of(kind, (short,), now), standing_of(kind, (long,), now)
    assert comparable(one) == comparable(other)
    assert one.change_s <= other.change_s, "a look may come early, never late"


def test_a_shorter_promise_ages_what_was_said_before_it_and_is_told() -> None:
    """At a restart what is restored comes before the sources are declared: it was judged by the default."""
    bus, clock = world()
    bus.put(said(clock.now(), entity_type=GPU, gpu_utilization=0.5))
    clock.advance(1)
    bus.sweep()
    declare(bus, "a", 5.0)
    told: list[tuple[float, str]] = []
    for second in range(2, 60):
        clock.advance(1)
        revision = bus.revision
        bus.sweep()
        told += [(second, e.freshness) for e in bus.changed_since(revision)]
    assert told == [(11, "stale"), (26, "expired")]


def test_a_longer_promise_makes_fresh_again_and_is_told() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), entity_type=GPU, gpu_utilization=0.5))
    clock.advance(130)
    bus.sweep()
    assert freshness(bus, GPU).state == "stale"
    declare(bus, "a", 600.0)
    assert bus.due_at() <= clock.monotonic()
    revision = bus.revision
    bus.sweep()
    assert [(e.freshness, e.health_state) for e in bus.changed_since(revision)] == [
        ("fresh", HealthState.HEALTHY)
    ]
    assert bus.due_at() > clock.monotonic()


def test_the_same_promise_again_costs_nothing() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), entity_type=GPU, gpu_utilization=0.5))
    declare(bus, "a", 10.0, priority=3)
    assert bus.due_at() > clock.monotonic()


def test_the_end_of_an_event_with_its_source_is_told() -> None:
    """An XID never ages, but a warning that rests on it ends when the source that told of it is dead."""
    bus, clock = world()
    declare(bus, "dcgm", 10.0)
    bus.put(said(clock.now(), "dcgm", entity_type=GPU, xid=79))
    told: list[HealthState] = []
    for _ in range(100):
        clock.advance(1)
        revision = bus.revision
        bus.sweep()
        told += [e.health_state for e in bus.changed_since(revision)]
    assert told[-1] is HealthState.UNKNOWN


def test_a_quiet_watch_that_speaks_again_makes_fresh_what_it_held_and_it_is_told() -> None:
    """A source that speaks only of changes need not have been dead for what it holds to have gone stale."""
    bus, clock = world()
    declare(bus, "a", 10.0, repeats=False)
    bus.put(said(clock.now(), entity_type=GPU, gpu_utilization=0.5))
    clock.advance(30)
    bus.sweep()
    assert freshness(bus, GPU).state == "stale"
    bus.report_source("a", ok=True)
    revision = bus.revision
    bus.sweep()
    assert [e.freshness for e in bus.changed_since(revision)] == ["fresh"]


def test_a_source_that_comes_back_by_the_shortest_path_revives_what_it_holds() -> None:
    """One of its entities is heard again before the sweep came round to that one, but not to the others."""
    bus, clock = world()
    declare(bus, "a", 10.0)
    bus.put(said(clock.now(), entity_id="still", entity_type=GPU, model_name="H100"))
    bus.put(said(clock.now(), entity_id="told", entity_type=GPU, gpu_utilization=0.5))
    clock.advance(60)
    bus.sweep(1)
    bus.put(said(clock.now(), entity_id="told", entity_type=GPU, gpu_utilization=0.6))
    revision = bus.revision
    bus.sweep()
    assert "still" in [e.entity_id for e in bus.changed_since(revision)]


def test_what_a_deletion_leaves_ages_by_its_own_time_and_it_is_told() -> None:
    bus, clock = world()
    bus.put(said(clock.now() - timedelta(seconds=100), "a", memory_utilization=0.5, hostname="n"))
    clock.advance(60)
    bus.sweep()
    bus.put(said(clock.now(), "b", labels={"x": "1"}))
    bus.forget(NODE, "n1", observed_at=clock.now() - timedelta(seconds=30))
    told: list[str] = []
    for _ in range(130):
        clock.advance(1)
        revision = bus.revision
        bus.sweep()
        told += [e.freshness for e in bus.changed_since(revision)]
    assert told == ["stale"]
