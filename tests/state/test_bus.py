"""The State Bus, rule by rule."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from datetime import datetime, timedelta

import pytest
from bus_facts import GPU, JOB, NODE, SERVICE, START, at, declare, said, value_of, world

from steersman import EntityType, HealthState, StateBus, StateFragment
from steersman.kinds.entity import EntityKey
from steersman.state.limits import AmbiguousScope, BusFull, EntityTooWide, FutureTimestamp, RevisionsExhausted


def test_it_works_in_a_plain_script_without_a_clock_or_a_loop() -> None:
    bus = StateBus()
    now = datetime.now().astimezone()
    outcome = bus.put(
        StateFragment(
            source_type="prometheus",
            entity_type=EntityType.SERVICE,
            entity_id="inference-api",
            observed_at=now,
            fields={"latency_p95_ms": 142.0},
            labels={"cluster": "us-east-1"},
        )
    )
    assert outcome.verdict == "created"
    assert outcome.fields == {"latency_p95_ms": "accepted"}
    entity = bus.get(EntityType.SERVICE, "inference-api", scope="us-east-1")
    assert entity is not None
    assert entity.key == EntityKey(SERVICE, "us-east-1", "inference-api")
    assert [e.entity_id for e in bus.entities()] == ["inference-api"]
    assert bus.freshness(SERVICE, "inference-api") is not None
    assert bus.explain(SERVICE, "inference-api") is not None
    assert bus.forget(SERVICE, "inference-api", observed_at=now)
    assert bus.get(SERVICE, "inference-api") is None


# ---- merging


def test_a_later_word_of_the_same_source_replaces() -> None:
    bus, _ = world()
    bus.put(said(at(1), load_1m=1.0))
    outcome = bus.put(said(at(2), load_1m=2.0))
    assert (outcome.verdict, outcome.fields) == ("merged", {"load_1m": "accepted"})
    assert value_of(bus, "load_1m") == 2.0


def test_an_older_fragment_of_the_same_source_is_stale_as_a_whole() -> None:
    """Also a field that only it knows does not land: the source itself has moved on."""
    bus, _ = world()
    bus.put(said(at(2), load_1m=2.0))
    outcome = bus.put(said(at(1), load_1m=1.0, load_5m=1.0))
    assert (outcome.verdict, outcome.revision) == ("stale", None)
    assert outcome.fields == {"load_1m": "older", "load_5m": "older"}
    assert value_of(bus, "load_1m") == 2.0
    assert value_of(bus, "load_5m") is None


def test_a_slower_source_still_lands_what_only_it_knows() -> None:
    bus, _ = world()
    bus.put(said(at(5), "fast", cpu_utilization=0.5, memory_utilization=0.5))
    outcome = bus.put(said(at(1), "slow", cpu_utilization=0.1, gpu_count=8))
    assert outcome.verdict == "partial"
    assert outcome.fields == {"cpu_utilization": "older", "gpu_count": "accepted"}
    assert value_of(bus, "cpu_utilization") == 0.5
    assert value_of(bus, "gpu_count") == 8


def test_a_fragment_that_is_older_than_the_entity_in_every_field_is_stale() -> None:
    bus, _ = world()
    bus.put(said(at(5), "fast", load_1m=5.0))
    outcome = bus.put(said(at(1), "slow", load_1m=1.0))
    assert (outcome.verdict, outcome.fields) == ("stale", {"load_1m": "older"})


def test_equal_times_of_one_source_merge() -> None:
    bus, _ = world()
    bus.put(said(at(1), load_1m=1.0))
    outcome = bus.put(said(at(1), load_5m=5.0))
    assert outcome.verdict == "merged"
    assert value_of(bus, "load_1m") == 1.0
    assert value_of(bus, "load_5m") == 5.0


def test_the_same_value_again_is_unchanged_and_still_newer() -> None:
    bus, _ = world()
    bus.put(said(at(1), load_1m=1.0))
    assert bus.put(said(at(2), load_1m=1.0)).fields == {"load_1m": "unchanged"}
    explanation = bus.explain(NODE, "n1")
    assert explanation is not None
    assert explanation.fields["load_1m"].observed_at == at(2)


@pytest.mark.parametrize("order", [("high", "low"), ("low", "high")])
def test_at_one_instant_the_source_of_higher_priority_has_the_field(order: tuple[str, str]) -> None:
    bus, _ = world()
    declare(bus, "high", priority=5)
    declare(bus, "low", priority=1)
    for source in order:
        bus.put(said(at(1), source, scheduler_state=source))
    assert value_of(bus, "scheduler_state") == "high"


def test_at_one_instant_and_priority_the_later_arrival_has_the_field() -> None:
    bus, _ = world()
    bus.put(said(at(1), "a", scheduler_state="A"))
    assert bus.put(said(at(1), "b", scheduler_state="B")).verdict == "merged"
    assert value_of(bus, "scheduler_state") == "B"


def test_none_and_nan_never_erase() -> None:
    bus, _ = world()
    bus.put(said(at(1), cpu_utilization=0.5, load_1m=1.0))
    bus.put(said(at(2), cpu_utilization=None, load_1m=float("nan")))
    assert value_of(bus, "cpu_utilization") == 0.5
    assert value_of(bus, "load_1m") == 1.0


def test_zero_is_a_value_and_absent_is_not() -> None:
    bus, _ = world()
    bus.put(said(at(1), gpu_count=0))
    assert value_of(bus, "gpu_count") == 0
    assert value_of(bus, "cpu_utilization") is None


def test_a_clear_erases_until_a_later_word_sets_the_field_again() -> None:
    bus, _ = world()
    bus.put(said(at(1), "a", scheduler_state="UP"))
    outcome = bus.put(said(at(3), "b", clear=("scheduler_state",)))
    assert outcome.fields == {"scheduler_state": "accepted"}
    assert value_of(bus, "scheduler_state") is None
    bus.put(said(at(2), "c", scheduler_state="OLD"))
    assert value_of(bus, "scheduler_state") is None, "an older word does not set it"
    bus.put(said(at(4), "a", scheduler_state="NEW"))
    assert value_of(bus, "scheduler_state") == "NEW", "a later one of any source does"


def test_a_cleared_field_stays_explained() -> None:
    bus, _ = world()
    bus.put(said(at(1), load_1m=1.0))
    bus.put(said(at(2), clear=("load_1m",)))
    explanation = bus.explain(NODE, "n1")
    assert explanation is not None
    assert explanation.fields["load_1m"].cleared
    assert explanation.fields["load_1m"].value is None


def test_labels_are_kept_and_belong_to_their_newest_writer() -> None:
    bus, _ = world()
    bus.put(said(at(1), "a", labels={"rack": "r1", "zone": "z1"}, load_1m=1.0))
    bus.put(said(at(2), "b", labels={"rack": "r2"}, load_5m=1.0))
    bus.put(said(at(1.5), "c", labels={"rack": "r3", "pod": "p"}, load_15m=1.0))
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert entity.labels == {"rack": "r2", "zone": "z1", "pod": "p"}


def test_a_label_is_cleared_by_name() -> None:
    bus, _ = world()
    bus.put(said(at(1), labels={"pod": "p", "rack": "r"}, load_1m=1.0))
    bus.put(said(at(2), labels={"rack": "r"}, clear=("labels.pod",), load_1m=1.0))
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert entity.labels == {"rack": "r"}


def test_one_metric_in_each_fragment_makes_one_entity_with_each_fields_own_time() -> None:
    """Sources that send a fragment for each metric must neither lose fields nor pile fragments up."""
    bus, _ = world()
    for second in range(50):
        for i in range(12):
            bus.put(said(at(second * 12 + i), **{f"m{i}": float(second)}))
    explanation = bus.explain(NODE, "n1")
    assert explanation is not None
    assert {name: f.value for name, f in explanation.fields.items()} == {f"m{i}": 49.0 for i in range(12)}
    assert {name: f.observed_at for name, f in explanation.fields.items()} == {
        f"m{i}": at(49 * 12 + i) for i in range(12)
    }
    (cell,) = bus.cells()
    assert len(cell.layers) <= 5


def test_an_empty_fragment_tells_that_the_entity_is_there() -> None:
    bus, _ = world()
    assert bus.put(said(at(1))).verdict == "created"
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert entity.health_state is HealthState.UNKNOWN
    assert entity.confidence_score == 0.0


def test_undeclared_fields_are_kept_in_extra() -> None:
    bus, _ = world()
    bus.put(said(at(1), fan_rpm=4000, confidence_score=0.99))
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert entity.extra == {"fan_rpm": 4000, "confidence_score": 0.99}
    assert entity.confidence_score != 0.99, "confidence is computed, never taken"


def test_the_fragments_own_data_is_never_changed() -> None:
    bus, _ = world()
    first = said(at(1), labels={"rack": "r"}, load_1m=1.0)
    fields, labels = dict(first.fields), dict(first.labels)
    bus.put(first)
    for second in range(2, 12):
        bus.put(said(at(second), labels={f"l{second}": "x"}, **{f"m{second}": 1}))
    assert (first.fields, first.labels) == (fields, labels)


# ---- identity and reading


def test_scope_defaults_to_the_only_one_and_ambiguity_names_them() -> None:
    bus, _ = world()
    bus.put(said(at(1), labels={"cluster": "east"}, load_1m=1.0))
    assert bus.get(NODE, "n1") is not None
    assert bus.get(NODE, "n1", scope="west") is None
    bus.put(said(at(1), labels={"cluster": "west"}, load_1m=1.0))
    with pytest.raises(AmbiguousScope, match="'east', 'west'") as caught:
        bus.get(NODE, "n1")
    assert caught.value.facts["scopes"] == ["east", "west"]
    assert bus.get(NODE, "n1", scope="west") is not None


def test_entities_come_in_a_steady_order_and_go_on_behind_a_key() -> None:
    bus, _ = world()
    for name in ("n3", "n1", "n2"):
        for scope in ("b", "a"):
            bus.put(said(at(1), entity_id=name, labels={"cluster": scope}, load_1m=1.0))
    bus.put(said(at(1), entity_id="j", entity_type=JOB, job_state="running"))
    keys = [str(e.key) for e in bus.entities()]
    assert keys == ["node/a/n1", "node/a/n2", "node/a/n3", "node/b/n1", "node/b/n2", "node/b/n3", "job/j"]
    behind = bus.entities(after=EntityKey(NODE, "a", "n2"))
    assert [str(e.key) for e in behind] == keys[2:]
    gone = bus.entities(NODE, after=EntityKey(NODE, "a", "n2zz"))
    assert [str(e.key) for e in gone] == keys[2:6], "the key itself need not exist"


def test_entities_filter_by_type_scope_label_health_and_freshness() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), entity_id="n1", labels={"cluster": "a", "rack": "1"}, cpu_utilization=0.1))
    bus.put(said(clock.now(), entity_id="n2", labels={"cluster": "b"}, scheduler_state="DOWN"))
    bus.put(said(at(1), entity_id="n3", labels={"cluster": "b"}, cpu_utilization=0.1))
    bus.put(said(clock.now(), entity_id="j", entity_type=JOB, job_state="running"))

    def ids(**filters: object) -> list[str]:
        return [e.entity_id for e in bus.entities(**filters)]  # pyright: ignore[reportArgumentType]

    assert ids(entity_type=NODE) == ["n1", "n2", "n3"]
    assert ids(scope="b") == ["n2", "n3"]
    assert ids(labels={"rack": "1"}) == ["n1"]
    assert ids(health=HealthState.CRITICAL) == ["n2"]
    assert ids(freshness="expired") == ["n3"]


def test_reading_while_writing_is_safe() -> None:
    bus, _ = world()
    for i in range(50):
        bus.put(said(at(1), entity_id=f"n{i:02d}", load_1m=1.0))
    seen = 0
    for entity in bus.entities():
        seen += 1
        bus.put(said(at(2), entity_id=f"x{entity.entity_id}", load_1m=1.0))
        bus.forget(NODE, "n49")
    assert seen >= 49


def test_changed_since_gives_each_changed_entity_once_with_tombstones() -> None:
    bus, _ = world()
    for name in ("n1", "n2", "n3"):
        bus.put(said(at(1), entity_id=name, load_1m=1.0))
    revision = bus.revision
    bus.put(said(at(2), entity_id="n2", load_1m=2.0))
    bus.put(said(at(3), entity_id="n2", load_1m=3.0))
    bus.forget(NODE, "n1")
    changed = list(bus.changed_since(revision))
    assert [(e.entity_id, e.deleted_at is not None) for e in changed] == [("n2", False), ("n1", True)]
    assert all(e.revision > revision for e in changed)
    assert len(list(bus.changed_since(0))) == 3


def test_changes_beyond_the_log_are_given_as_everything() -> None:
    bus, _ = world(changes_max=10)
    for i in range(100):
        bus.put(said(at(i), entity_id=f"n{i % 20}", load_1m=1.0))
    assert bus.oldest_revision > 50
    assert len(list(bus.changed_since(0))) == 20
    newest = [e.revision for e in bus.changed_since(bus.oldest_revision)]
    assert newest == sorted(newest)
    assert newest[-1] == bus.revision


# ---- deletion


def test_a_deletion_is_a_tombstone_with_what_was_last_seen() -> None:
    bus, _ = world()
    bus.put(said(at(1), load_1m=1.0))
    assert bus.forget(NODE, "n1", observed_at=at(5))
    assert bus.get(NODE, "n1") is None
    assert list(bus.entities()) == []
    tombstone = bus.get(NODE, "n1", deleted=True)
    assert tombstone is not None
    assert (tombstone.deleted_at, tombstone.observed_at) == (at(5), at(1))
    assert tombstone.confidence_score == 0.0


@pytest.mark.parametrize("source", ["a", "b"])
@pytest.mark.parametrize("second", [2, 5])
def test_nothing_observed_before_a_deletion_brings_the_entity_back(source: str, second: float) -> None:
    bus, _ = world()
    bus.put(said(at(1), load_1m=1.0))
    bus.forget(NODE, "n1", observed_at=at(5))
    assert bus.put(said(at(second), source, load_1m=2.0)).verdict == "stale"
    assert bus.get(NODE, "n1") is None


def test_a_newer_observation_is_a_new_life_without_the_old_fields() -> None:
    bus, _ = world()
    bus.put(said(at(1), load_1m=1.0, load_5m=1.0))
    bus.forget(NODE, "n1", observed_at=at(5))
    assert bus.put(said(at(6), load_1m=6.0)).verdict == "created"
    assert value_of(bus, "load_5m") is None
    assert bus.put(said(at(4), "b", load_15m=1.0)).verdict == "stale", "the deletion still stands for others"


def test_a_deletion_that_comes_before_the_first_fragment_counts() -> None:
    bus, _ = world()
    assert not bus.forget(NODE, "n1", observed_at=at(5))
    assert bus.put(said(at(4), load_1m=1.0)).verdict == "stale"
    assert bus.put(said(at(6), load_1m=1.0)).verdict == "created"


def test_an_old_deletion_takes_only_what_is_older() -> None:
    bus, _ = world()
    bus.put(said(at(1), "old", load_5m=1.0))
    bus.put(said(at(9), "new", load_1m=9.0))
    assert not bus.forget(NODE, "n1", observed_at=at(5)), "it lives on"
    assert value_of(bus, "load_1m") == 9.0
    assert value_of(bus, "load_5m") is None


def test_tombstones_end_with_time() -> None:
    bus, clock = world(tombstone_ttl_s=60.0)
    bus.put(said(at(1), load_1m=1.0))
    bus.forget(NODE, "n1")
    clock.advance(61)
    bus.sweep()
    assert bus.counters()["tombstones"] == 0
    assert list(bus.cells()) == []


def test_too_many_tombstones_drop_the_oldest_and_count_it() -> None:
    bus, _ = world(tombstones_max=2)
    for name in ("n1", "n2", "n3"):
        bus.put(said(at(1), entity_id=name, load_1m=1.0))
        bus.forget(NODE, name)
    assert bus.counters()["tombstones"] == 2
    assert bus.counters()["tombstones_dropped"] == 1
    assert bus.get(NODE, "n1", deleted=True) is None


# ---- time


def test_a_little_skew_is_clamped_and_flagged() -> None:
    bus, clock = world()
    bus.put(said(clock.now() + timedelta(seconds=30), load_1m=1.0))
    explanation = bus.explain(NODE, "n1")
    assert explanation is not None
    field = explanation.fields["load_1m"]
    assert field.skewed
    assert field.observed_at == clock.now()
    clock.advance(1)
    assert bus.put(said(clock.now(), load_1m=2.0)).verdict == "merged", "it poisons nothing"


def test_a_stamp_from_the_future_is_refused_and_names_both_times() -> None:
    bus, clock = world()
    ahead = clock.now() + timedelta(hours=3)
    with pytest.raises(FutureTimestamp) as caught:
        bus.put(said(ahead, load_1m=1.0))
    assert ahead.isoformat() in caught.value.detail
    assert clock.now().isoformat() in caught.value.detail
    assert bus.get(NODE, "n1") is None
    assert bus.revision == 0


def test_a_clock_set_back_neither_stops_a_source_nor_makes_ages_wrong() -> None:
    """A source on our clock stamps in the past of what it said; that must not count as stale for an hour."""
    bus, clock = world()
    declare(bus, "host", 10.0)
    bus.put(said(clock.now(), "host", cpu_utilization=0.1, memory_utilization=0.1))
    clock.advance(5)
    clock.set_wall(clock.now() - timedelta(hours=1))
    freshness = bus.freshness(NODE, "n1")
    assert freshness is not None
    assert freshness.age_s == 5.0
    clock.advance(5)
    outcome = bus.put(said(clock.now(), "host", cpu_utilization=0.2, memory_utilization=0.2))
    assert outcome.verdict == "merged"
    assert value_of(bus, "cpu_utilization") == 0.2
    assert bus.put(said(clock.now(), "other", cpu_utilization=0.3)).verdict == "merged"


def test_a_clock_set_back_does_not_bury_the_living_under_an_old_deletion() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), load_1m=1.0))
    bus.forget(NODE, "n1")
    clock.advance(10)
    clock.set_wall(clock.now() - timedelta(hours=1))
    assert bus.put(said(clock.now(), load_1m=1.0)).verdict == "created"


def test_received_at_may_be_told_and_counts_for_age() -> None:
    bus, clock = world()
    bus.put(said(clock.now() - timedelta(seconds=50), load_1m=1.0), clock.now() - timedelta(seconds=40))
    explanation = bus.explain(NODE, "n1")
    assert explanation is not None
    assert explanation.fields["load_1m"].age_s == 50.0
    assert explanation.fields["load_1m"].received_at == clock.now() - timedelta(seconds=40)


def test_naive_times_are_utc() -> None:
    bus, _ = world()
    bus.put(said(START.replace(tzinfo=None), load_1m=1.0))
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert entity.observed_at == START


# ---- bounds


def test_put_many_loses_no_good_fragment_to_a_bad_one() -> None:
    bus, clock = world()
    ahead = clock.now() + timedelta(days=1)
    outcomes = bus.put_many([said(at(1)), said(ahead, entity_id="n2"), said(at(1), entity_id="n3")])
    assert [o.verdict for o in outcomes] == ["created", "refused", "created"]
    assert isinstance(outcomes[1].error, FutureTimestamp)
    assert bus.counters()["refused"] == 1


def test_a_refused_fragment_is_freed_with_its_outcome() -> None:
    """The error must not tie the outcome into a ring that the garbage collector does not see."""
    bus, clock = world()

    class Marked(dict[str, float]):
        """A dict that can be watched."""

    marked = Marked(load_1m=1.0)
    watched = weakref.ref(marked)
    outcomes = bus.put_many(
        [StateFragment("a", NODE, "n1", clock.now() + timedelta(days=1), marked, source="a")]
    )
    assert [o.verdict for o in outcomes] == ["refused"]
    del outcomes, marked
    gc.collect()
    assert watched() is None


def test_too_many_entities_are_refused_and_room_is_made_from_tombstones_first() -> None:
    bus, _ = world(entities_max=2)
    bus.put(said(at(1), entity_id="n1"))
    bus.put(said(at(1), entity_id="n2"))
    with pytest.raises(BusFull, match="2 entities"):
        bus.put(said(at(1), entity_id="n3"))
    bus.forget(NODE, "n1")
    assert bus.put(said(at(2), entity_id="n3")).verdict == "created"
    assert len(bus) == 2


@pytest.mark.parametrize("what", ["fields", "labels", "sources"])
def test_too_wide_an_entity_is_refused_and_stays_as_it_was(what: str) -> None:
    bus, _ = world(fields_per_entity_max=10, labels_per_entity_max=10, sources_per_entity_max=10)
    fragments = [
        said(
            at(i),
            source=f"s{i}" if what == "sources" else "s",
            labels={f"l{i}": "x"} if what == "labels" else {},
            **({f"m{i}": 1} if what == "fields" else {"m": 1}),
        )
        for i in range(11)
    ]
    for fragment in fragments[:10]:
        bus.put(fragment)
    with pytest.raises(EntityTooWide, match=f"11 {what}"):
        bus.put(fragments[10])
    assert bus.revision == 10
    assert bus.counters()["refused"] == 1


def test_two_sources_that_widen_together_are_held_to_the_same_width() -> None:
    """Each is narrow by itself, and each only repeats itself with more."""
    bus, _ = world(fields_per_entity_max=10)
    for i in range(1, 6):
        for source in ("a", "b"):
            bus.put(said(at(i), source, **{f"{source}{n}": 1 for n in range(i)}))
    with pytest.raises(EntityTooWide):
        bus.put(said(at(7), "a", **{f"a{n}": 1 for n in range(6)}))


def test_too_many_sources_are_refused() -> None:
    bus, _ = world(sources_max=3)
    for i in range(3):
        bus.put(said(at(1), f"s{i}", entity_id=f"n{i}"))
    with pytest.raises(BusFull, match="3 sources"):
        bus.put(said(at(1), "s3", entity_id="n3"))
    assert bus.put(said(at(2), "s0", entity_id="n0")).verdict == "merged"


def test_revisions_end_where_the_reservation_does() -> None:
    bus, _ = world()
    bus.grant_revisions(2)
    bus.put(said(at(1)))
    bus.put(said(at(2)))
    with pytest.raises(RevisionsExhausted):
        bus.put(said(at(3)))
    bus.grant_revisions(10)
    assert bus.put(said(at(3))).revision == 3


def test_counters_add_up() -> None:
    bus, _ = world()
    bus.put(said(at(2), "a", load_1m=1.0))
    bus.put(said(at(3), "a", load_1m=1.0))
    bus.put(said(at(1), "a", load_1m=1.0))
    bus.put(said(at(1), "b", load_1m=1.0, load_5m=1.0))
    bus.put(said(at(1), "c", load_1m=1.0))
    bus.forget(NODE, "n1")
    counters = bus.counters()
    assert {name: counters[name] for name in ("created", "merged", "partial", "stale", "forgotten")} == {
        "created": 1,
        "merged": 1,
        "partial": 1,
        "stale": 2,
        "forgotten": 1,
    }


# ---- drift


def test_an_unknown_word_becomes_unknown_and_a_drift_signal() -> None:
    bus, _ = world()
    bus.put(said(at(1), entity_id="j", entity_type=JOB, job_state="FROZEN"))
    assert value_of(bus, "job_state", "j", JOB) == "unknown"
    (signal,) = bus.drift()
    assert (signal.entity_type, signal.field) == (JOB, "job_state")
    assert "FROZEN" in signal.detail


def test_an_unknown_scheduler_domain_is_drift_and_a_known_spelling_is_not() -> None:
    bus, _ = world()
    bus.put(said(at(1), labels={"scheduler_domain": "managed_cloud"}, workload_type="llm_serving"))
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert (entity.scheduler_domain, entity.workload_type) == ("cloud_managed", "llm_serving")
    assert bus.drift() == []
    bus.put(said(at(2), labels={"scheduler_domain": "nomad"}, workload_type="llm_serving"))
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert entity.scheduler_domain == "unknown"
    assert [(s.field, s.count) for s in bus.drift()] == [("scheduler_domain", 1)]


def test_a_value_of_another_type_keeps_the_schema_and_is_not_lost() -> None:
    bus, _ = world()
    bus.put(said(at(1), entity_type=GPU, gpu_memory_used="12 GiB"))
    entity = bus.get(GPU, "n1")
    assert entity is not None
    assert entity.extra == {"gpu_memory_used": "12 GiB"}
    assert [signal.field for signal in bus.drift()] == ["gpu_memory_used"]


def test_drift_is_bounded_and_counts_what_it_drops() -> None:
    bus, clock = world(drift_max=3)
    for i in range(5):
        clock.advance(1)
        bus.put(said(clock.now(), entity_type=JOB, job_state=f"W{i}"))
        bus.get(JOB, "n1")
    assert len(bus.drift()) == 3
    assert bus.counters()["drift_dropped"] > 0


def test_the_picture_does_not_depend_on_the_order_of_hashes() -> None:
    """The same fragments give the same bytes in processes with different hash seeds."""
    program = (
        "import sys; sys.path.insert(0, 'tests/state');"
        "import msgspec; from bus_facts import *; bus, _ = world();"
        "[bus.put(said(at(i % 7), f's{i % 5}', entity_id=f'n{i % 11}', labels={f'l{i % 3}': 'x'},"
        " **{f'm{i % 13}': i})) for i in range(500)];"
        "print(msgspec.json.encode(list(bus.entities())).hex())"
    )
    pictures = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(pictures) == 1


def test_a_source_that_renames_a_field_for_ever_and_clears_the_old_name_is_never_locked_out() -> None:
    bus, clock = world()
    for n in range(600):
        clock.advance(1)
        names = {f"m{n}": n}
        gone = (f"m{n - 1}", f"labels.l{n - 1}") if n else ()
        bus.put(said(clock.now(), labels={f"l{n}": "x"}, clear=gone, **names))
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert (entity.extra, entity.labels) == ({"m599": 599}, {"l599": "x"})
    (cell,) = bus.cells()
    assert sum(len(layer.fragment.clear) for layer in cell.layers) <= 2 * 256


def test_too_many_labels_over_several_fragments_are_named_as_what_they_are() -> None:
    bus, clock = world()
    for n in range(64):
        clock.advance(1)
        bus.put(said(clock.now(), labels={f"l{n}": "x"}))
    with pytest.raises(EntityTooWide, match="65 labels"):
        bus.put(said(clock.now(), labels={"one": "x"}))
    entity = bus.get(NODE, "n1")
    assert entity is not None
    assert len(entity.labels) == 64
