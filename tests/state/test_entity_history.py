"""The recent past of an entity: sampled, bounded, never in the way of writes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from bus_facts import GPU, NODE, SERVICE, at, declare, said, world
from hypothesis import given
from hypothesis import strategies as st

from steersman.kinds.entity import EntityKey, EntityType, HealthState
from steersman.kinds.explanation import EntityHistory
from steersman.state.bus import StateBus
from steersman.state.history import History


def history(bus: StateBus, kind: EntityType = NODE, entity_id: str = "n1") -> EntityHistory:
    found = bus.history(kind, entity_id)
    assert found is not None
    return found


def test_each_change_of_a_small_fleet_is_a_sample() -> None:
    bus, clock = world()
    for i in range(5):
        bus.put(said(clock.now(), cpu_utilization=i / 10, hostname="h", gpu_count=8))
        clock.advance(10)
    samples = history(bus).samples
    assert [s.values for s in samples] == [{"cpu_utilization": i / 10, "gpu_count": 8.0} for i in range(5)]
    assert [s.at for s in samples] == [at(1000 + 10 * i) for i in range(5)]


def test_a_burst_within_a_second_is_one_sample() -> None:
    bus, clock = world()
    for i in range(100):
        bus.put(said(at(i), load_1m=float(i)))
    clock.advance(1)
    bus.put(said(at(200), load_1m=200.0))
    assert [s.values for s in history(bus).samples] == [{"load_1m": 0.0}, {"load_1m": 200.0}]


def test_fields_that_come_and_go_leave_gaps_not_zeros() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), load_1m=1.0))
    clock.advance(10)
    bus.put(said(clock.now(), "b", load_5m=5.0))
    clock.advance(10)
    bus.put(said(clock.now(), clear=("load_1m",)))
    assert [s.values for s in history(bus).samples] == [
        {"load_1m": 1.0},
        {"load_1m": 1.0, "load_5m": 5.0},
        {"load_5m": 5.0},
    ]


def test_samples_are_bounded_and_the_newest_stay() -> None:
    bus, clock = world(history_samples_max=20)
    for i in range(100):
        bus.put(said(clock.now(), load_1m=float(i)))
        clock.advance(5)
    assert [s.values["load_1m"] for s in history(bus).samples] == [float(i) for i in range(80, 100)]


def test_all_histories_together_are_bounded() -> None:
    bus, clock = world(history_values_max=4_000)
    for _ in range(100):
        bus.put_many([said(clock.now(), entity_id=f"n{i}", load_1m=1.0) for i in range(100)])
        clock.advance(2)
    assert len(history(bus, entity_id="n5").samples) == 4_000 // (100 * 2)


def test_changes_of_health_are_kept_and_silence_is_one() -> None:
    bus, clock = world()
    declare(bus, "a", 10.0)
    for up in (True, True, False, True):
        bus.put(said(clock.now(), entity_type=SERVICE, up=up))
        clock.advance(5)
        bus.sweep()
    for _ in range(30):
        clock.advance(1)
        bus.sweep()
    healths = [change.health for change in history(bus, SERVICE).health]
    assert healths == [HealthState.HEALTHY, HealthState.CRITICAL, HealthState.HEALTHY, HealthState.UNKNOWN]


def test_changes_of_health_are_bounded() -> None:
    bus, clock = world(health_changes_max=4)
    for i in range(20):
        bus.put(said(clock.now(), entity_type=SERVICE, up=i % 2 == 0))
        clock.advance(5)
    assert len(history(bus, SERVICE).health) == 4


def test_a_big_fleet_is_sampled_in_turn_when_it_is_looked_at() -> None:
    """Writes of a big fleet do no sampling; each entity still gets its share of samples."""
    bus, clock = world(history_samples_per_s=10.0)
    declare(bus, "a", 10.0)
    count = 300
    for _ in range(60):
        bus.put_many(
            [said(clock.now(), entity_id=f"g{i}", entity_type=GPU, gpu_utilization=0.5) for i in range(count)]
        )
        for _ in range(10):
            clock.advance(1)
            while bus.sweep() == 500:
                pass
    per_entity = [len(history(bus, GPU, f"g{i}").samples) for i in range(20, count)]
    assert min(per_entity) >= 5, "600 s at 10 samples a second for 300 entities"
    assert max(per_entity) <= 25


def test_no_history_of_what_was_never_there() -> None:
    bus, _ = world()
    assert bus.history(NODE, "n1") is None


def test_what_it_looked_like_then_is_told_also_when_it_is_gone() -> None:
    bus, clock = world()
    start = clock.now()
    for minute, word in enumerate(("IDLE", "IDLE", "IDLE+DRAIN", "IDLE+DRAIN")):
        bus.put(said(clock.now(), load_1m=float(minute), scheduler_state=word))
        clock.advance(60)
    bus.forget(NODE, "n1", observed_at=clock.now())
    seen = history(bus)
    third = seen.at(start + timedelta(seconds=150))
    assert third.fields["scheduler_state"] == "IDLE+DRAIN"
    assert third.since["scheduler_state"] == start + timedelta(seconds=120)
    assert third.fields["health_state"] in set(HealthState)
    assert third.sample is not None
    assert third.sample.values == {"load_1m": 2.0}
    assert seen.at(start + timedelta(seconds=70)).fields["scheduler_state"] == "IDLE"
    assert seen.at(clock.now()).fields == {}, "it was not there any more"
    before = seen.at(start - timedelta(seconds=1))
    assert (before.known_since, before.fields, before.sample) == (start, {}, None)


def test_what_was_measured_before_it_was_gone_is_not_told_of_what_came_after() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), load_1m=1.0, scheduler_state="IDLE"))
    clock.advance(60)
    bus.forget(NODE, "n1", observed_at=clock.now())
    assert history(bus).at(clock.now()).sample is None, "it was not there"
    clock.advance(60)
    bus.put(said(clock.now(), scheduler_state="IDLE"))
    made_again = history(bus).at(clock.now())
    assert made_again.fields["scheduler_state"] == "IDLE"
    assert made_again.sample is None or not made_again.sample.values


def test_what_turned_out_to_be_one_entity_has_one_past_and_parts_with_it() -> None:
    bus, clock = world()
    start = clock.now()
    old, new = EntityKey(NODE, "", "old"), EntityKey(NODE, "", "new")

    def state_at(name: str, seconds: float) -> tuple[Any, Any, Any]:
        fields = history(bus, NODE, name).at(start + timedelta(seconds=seconds)).fields
        return tuple(fields.get(one) for one in ("scheduler_state", "hostname", "health_state"))

    bus.put(said(clock.now(), "a", "old", scheduler_state="DOWN"))
    clock.advance(100)
    bus.put(said(clock.now(), "b", "new", hostname="h"))
    clock.advance(50)
    bus.put(said(clock.now(), "a", "old", scheduler_state="IDLE"))
    clock.advance(50)
    bus.links.tie(old, new, "serial", "both have it")
    for name in ("old", "new"):
        assert state_at(name, 50) == ("DOWN", None, "critical")
        assert state_at(name, 120) == ("DOWN", "h", "critical")
        assert state_at(name, 180) == ("IDLE", "h", "healthy")
    clock.advance(50)
    bus.links.part(old)
    clock.advance(50)
    bus.put(said(clock.now(), "a", "old", scheduler_state="MIXED"))
    assert state_at("old", 300) == ("MIXED", None, "healthy")
    assert state_at("new", 220) == ("IDLE", "h", "healthy")
    assert state_at("new", 300)[:2] == (None, "h"), "what the other does now is nothing of its own"


def test_a_name_that_only_led_elsewhere_has_no_state_once_it_is_parted() -> None:
    bus, clock = world()
    old, new = EntityKey(NODE, "", "old"), EntityKey(NODE, "", "new")
    bus.put(said(clock.now(), "a", "old", scheduler_state="IDLE"))
    clock.advance(10)
    bus.links.tie(old, new, "serial", "it has it")
    clock.advance(10)
    bus.links.part(old)
    clock.advance(10)
    bus.put(said(clock.now(), "a", "old", scheduler_state="DOWN"))
    assert history(bus, NODE, "new").at(clock.now()).fields == {}
    assert history(bus, NODE, "old").at(clock.now()).fields["scheduler_state"] == "DOWN"
    assert (
        history(bus, NODE, "old").at(clock.now() - timedelta(seconds=25)).fields["scheduler_state"] == "IDLE"
    )


def test_a_change_in_a_big_fleet_is_found_within_a_look_not_a_sample() -> None:
    """Samples of this fleet are half a minute apart; the looks that age it notice the change before."""
    bus, clock = world(history_samples_per_s=10.0)
    declare(bus, "a", 10.0)
    state = "IDLE"

    def tell() -> None:
        bus.put_many([said(clock.now(), entity_id=f"g{i}", scheduler_state=state) for i in range(300)])
        for _ in range(10):
            clock.advance(1)
            while bus.sweep() == 500:
                pass

    for _ in range(20):
        tell()
    changed = clock.now()
    state = "DOWN"
    for _ in range(3):
        tell()
    for i in range(20, 300):
        last = history(bus, entity_id=f"g{i}").states[-1]
        assert last.fields.get("scheduler_state") == "DOWN"
        assert (last.at - changed).total_seconds() <= 25


def test_states_are_bounded_and_begin_with_everything_known() -> None:
    bus, clock = world(state_changes_max=4)
    for i in range(20):
        bus.put(said(clock.now(), scheduler_state=f"S{i}", hostname="h"))
        clock.advance(5)
    states = history(bus).states
    assert len(states) == 4
    assert {"scheduler_state", "hostname", "health_state"} <= set(states[0].fields)


rows = st.lists(
    st.dictionaries(st.sampled_from("abcde"), st.one_of(st.integers(0, 9), st.just("text"), st.booleans())),
    max_size=30,
)


@given(rows, st.integers(1, 10))
def test_rows_read_back_as_they_were_added(added: list[dict[str, Any]], samples_max: int) -> None:
    kept = History()
    for i, row in enumerate(added):
        kept.add(at(i), row, samples_max)
    numbers = [{n: float(v) for n, v in row.items() if type(v) is int} for row in added]
    read = kept.read().samples
    assert [s.values for s in read] == numbers[-samples_max:]
    times: list[datetime] = [at(i) for i in range(len(added))][-samples_max:]
    assert [s.at for s in read] == times


def test_fields_that_change_their_names_for_ever_do_not_make_the_history_grow() -> None:
    history = History()
    for second in range(2000):
        history.add(at(second), {f"m{second}": 1.0, "load": 0.5}, 8)
    assert history.width <= 8 + 32
    assert [sorted(sample.values) for sample in history.read().samples] == [
        sorted((f"m{n}", "load")) for n in range(1992, 2000)
    ]


def test_wide_histories_have_fewer_samples_so_that_all_fit() -> None:
    bus, clock = world(history_values_max=2000)
    for n in range(300):
        bus.forget(NODE, "n1")
        clock.advance(1)
        bus.put(said(clock.now(), **{f"m{n}": 1.0}))
        clock.advance(1)
    kept = bus.history(NODE, "n1")
    assert kept is not None
    assert len(kept.samples) * (1 + len(kept.samples)) <= 2000


def test_a_number_beyond_any_float_is_kept_and_not_drawn() -> None:
    bus, clock = world()
    assert bus.put(said(clock.now(), huge=10**400, load_1m=1.0)).verdict == "created"
    history = bus.history(NODE, "n1")
    assert history is not None
    assert [sample.values for sample in history.samples] == [{"load_1m": 1.0}]
