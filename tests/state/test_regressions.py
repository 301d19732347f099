"""Mistakes that state planes are known to make, each as a test by its number in the checklist of the sources.

What the rooms of intake and drivers must hold (1 % is 0.01, sentinels are absent, labels of two spellings) is
tested there; here is the part that the bus can spoil.
"""

from __future__ import annotations

import itertools
from datetime import timedelta

import msgspec
import pytest
from bus_facts import GPU, JOB, NODE, SERVICE, at, declare, said, value_of, world

from steersman.kernel.clock import ManualClock
from steersman.kinds.entity import HealthState
from steersman.kinds.fragment import StateFragment
from steersman.state.bus import StateBus
from steersman.state.limits import BusLimits, FutureTimestamp


def test_01_out_of_order_fragments_of_two_sources_on_disjoint_fields_both_land() -> None:
    bus, _ = world()
    assert bus.put(said(at(9), "prometheus", cpu_utilization=0.5)).verdict == "created"
    assert bus.put(said(at(2), "slurm", gpu_count=8)).verdict == "merged"
    assert (value_of(bus, "cpu_utilization"), value_of(bus, "gpu_count")) == (0.5, 8)


def test_02_an_older_word_loses_and_equal_times_are_decided_by_priority_in_every_order() -> None:
    said_by_all = [
        said(at(5), "high", scheduler_state="HIGH"),
        said(at(5), "middle", scheduler_state="MIDDLE"),
        said(at(4), "highest", scheduler_state="OLD"),
    ]
    for order in itertools.permutations(said_by_all):
        bus, _ = world()
        for name, priority in (("highest", 9), ("high", 5), ("middle", 1)):
            declare(bus, name, priority=priority)
        bus.put_many(order)
        assert value_of(bus, "scheduler_state") == "HIGH"


def test_03_gpus_of_one_index_on_two_nodes_and_types_of_one_id_stay_apart() -> None:
    bus, _ = world()
    bus.put(said(at(1), entity_type=GPU, entity_id="GPU-a", gpu_index=0, node="n1"))
    bus.put(said(at(1), entity_type=GPU, entity_id="GPU-b", gpu_index=0, node="n2"))
    bus.put(said(at(1), entity_type=JOB, entity_id="x", job_state="running"))
    bus.put(said(at(1), entity_type=SERVICE, entity_id="x", up=True))
    assert len(bus) == 4


def test_04_a_value_is_taken_as_it_is_whatever_its_size() -> None:
    bus, _ = world()
    bus.put(said(at(1), entity_type=GPU, gpu_utilization=0.01))
    assert value_of(bus, "gpu_utilization", entity_type=GPU) == 0.01
    bus.put(said(at(2), entity_type=GPU, gpu_utilization=1.0))
    assert value_of(bus, "gpu_utilization", entity_type=GPU) == 1.0


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf"), float("-inf")])
def test_05_what_is_no_number_is_absent(nothing: float | None) -> None:
    bus, _ = world()
    bus.put(said(at(1), load_1m=1.0))
    bus.put(said(at(2), load_1m=nothing))
    assert value_of(bus, "load_1m") == 1.0


def test_07_an_unknown_state_word_is_kept_in_view_and_crashes_nothing() -> None:
    bus, _ = world()
    bus.put(said(at(1), scheduler_state="IDLE+FLAG_OF_NEXT_YEAR"))
    assert value_of(bus, "scheduler_state") == "IDLE+FLAG_OF_NEXT_YEAR"


def test_11_a_deleted_entity_is_not_brought_back_by_a_late_word_and_a_new_one_starts_clean() -> None:
    bus, _ = world()
    bus.put(said(at(1), "k8s", schedulable=True, boot_id="first"))
    bus.forget(NODE, "n1", observed_at=at(5))
    assert bus.put(said(at(4), "k8s", schedulable=False)).verdict == "stale"
    assert bus.put(said(at(6), "k8s", schedulable=True)).verdict == "created"
    assert value_of(bus, "boot_id") is None, "the same name is another incarnation"


def test_12_nothing_desired_is_not_degraded() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), entity_type=SERVICE, desired_replicas=0, available_replicas=0))
    assert [e.health_state for e in bus.entities()] == [HealthState.HEALTHY]


def test_13_an_outage_ages_lowers_confidence_and_ends_in_unknown_and_recovery_restores() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    word = {"cpu_utilization": 0.5, "memory_utilization": 0.5, "gpu_count": 8}
    told: list[tuple[HealthState, float]] = []
    for step in range(20):
        if step < 2 or step > 17:
            bus.put(said(clock.now(), **word))
        entity = bus.get(NODE, "n1")
        assert entity is not None
        told.append((entity.health_state, entity.confidence_score))
        clock.advance(10)
    scores = [score for _, score in told[1:18]]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == 0.0
    assert {health for health, _ in told} == {HealthState.HEALTHY, HealthState.UNKNOWN}
    assert told[-1] == (HealthState.HEALTHY, 1.0)
    assert value_of(bus, "gpu_count") == 8, "fields age; they neither vanish nor turn to zero"


def test_14_the_same_sticky_code_again_is_no_news() -> None:
    bus, _ = world()
    bus.put(said(at(1), entity_type=GPU, xid=79))
    assert bus.put(said(at(2), entity_type=GPU, xid=79)).fields == {"xid": "unchanged"}
    assert bus.put(said(at(3), entity_type=GPU, xid=31)).fields == {"xid": "accepted"}


def test_15_a_stamp_from_the_future_can_not_poison_an_entity() -> None:
    bus, clock = world()
    with pytest.raises(FutureTimestamp):
        bus.put(said(clock.now() + timedelta(hours=5), load_1m=9.0))
    bus.put(said(clock.now() + timedelta(seconds=50), load_1m=2.0))
    clock.advance(1)
    bus.put(said(clock.now(), load_1m=3.0))
    assert value_of(bus, "load_1m") == 3.0


def test_17_no_traffic_is_no_evidence_of_health_or_of_idleness() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), entity_type=SERVICE, error_rate=float("nan"), latency_p95_ms=float("nan")))
    assert [e.health_state for e in bus.entities()] == [HealthState.UNKNOWN]


def test_22_the_same_words_on_the_same_clock_give_the_same_bytes() -> None:
    def play() -> bytes:
        clock = ManualClock(at(0))
        bus = StateBus(clock, limits=BusLimits(history_samples_per_s=20.0))
        subscription = bus.subscribe()
        told: list[object] = []
        for step in range(200):
            clock.advance(1.7)
            bus.put_many(
                [
                    said(clock.now(), f"s{i % 3}", f"n{(step * i) % 40}", load_1m=float(step), **{f"m{i}": i})
                    for i in range(9)
                ]
            )
            bus.sweep(7)
            bus.flush()
            while (delta := subscription.poll()) is not None:
                told.append(delta)
        told += [bus.explain(NODE, f"n{i}") for i in range(40)]
        told += [bus.history(NODE, f"n{i}") for i in range(40)]
        return msgspec.json.encode(told)

    assert play() == play()


@pytest.mark.parametrize("word", ["IDLE+MAINTENANCE", "DOWN+MAINTENANCE", "IDLE+DRAIN", "IDLE+POWERED_DOWN"])
def test_23_planned_work_is_never_ill_health(word: str) -> None:
    bus, clock = world()
    bus.put(said(clock.now(), scheduler_state=word, schedulable=False))
    (entity,) = bus.entities()
    assert entity.health_state in (HealthState.HEALTHY, HealthState.UNKNOWN)


def test_27_memory_is_bounded_under_churn() -> None:
    """Names that come and go for ever (pods, jobs, labels, sources, words) leave nothing that grows."""
    limits = BusLimits(
        entities_max=200,
        tombstones_max=50,
        sources_max=20,
        changes_max=500,
        history_values_max=5_000,
        drift_max=10,
        tombstone_ttl_s=600.0,
    )
    clock = ManualClock(at(0))
    bus = StateBus(clock, limits=limits)
    for step in range(5_000):
        clock.advance(1)
        fragment: StateFragment = said(
            clock.now(),
            f"s{step % 30}",
            entity_id=f"job-{step}",
            entity_type=JOB,
            labels={"user": f"u{step}"},
            job_state=f"STATE_{step % 50}",
            **{f"m{step % 7}": step},
        )
        bus.put_many([fragment])
        if step >= 100:
            bus.forget(JOB, f"job-{step - 100}")
        bus.sweep()
    counters = bus.counters()
    cells = bus.cells()
    assert len(cells) <= 200
    assert counters["tombstones"] <= 50
    assert counters["sources"] == 20
    assert len(bus.drift()) <= 10
    assert bus.revision - bus.oldest_revision <= 750
    assert sum(cell.history.size for cell in cells if cell.history is not None) <= 5_000 + 200 * 8 * 8
    assert counters["refused"] > 0, "what does not fit is counted"
