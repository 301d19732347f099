"""The one door: what passes is told to listeners in order, and cleaned by its kind of sender."""

from __future__ import annotations

from datetime import UTC, datetime

from steersman.kernel.clock import ManualClock
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.observe.entries import Batch, Declared, Entry, Gone, Reported, weight
from steersman.observe.inlet import SLICE_MAX, Inlet, Refusal, cleaned, salvaged, slices
from steersman.state.bus import StateBus
from steersman.state.sources import SourceInfo

AT = datetime(2026, 3, 1, tzinfo=UTC)


def fragment(entity_id: str = "g", **fields: object) -> StateFragment:
    return StateFragment("dcgm", EntityType.GPU, entity_id, AT, fields or {"gpu_utilization": 0.5})


def make() -> tuple[Inlet, ManualClock]:
    clock = ManualClock(AT)
    return Inlet(StateBus(clock), clock), clock


def test_listeners_hear_everything_in_order_with_both_times() -> None:
    inlet, clock = make()
    inlet.declare(SourceInfo("early", "x", 5.0))
    heard: list[Entry] = []
    end = inlet.listen(heard.append)
    clock.advance(2.5)
    inlet.take([fragment()])
    inlet.take([])
    inlet.forget(EntityKey(EntityType.GPU, "", "g"), clock.now())
    inlet.report("early", False, "down")
    assert [type(entry) for entry in heard] == [Declared, Batch, Gone, Reported]
    assert (heard[1].at, heard[1].elapsed_s) == (clock.now(), 2.5)
    end()
    end()
    inlet.take([fragment()])
    assert len(heard) == 4


def test_an_entry_done_again_does_the_same() -> None:
    inlet, clock = make()
    heard: list[Entry] = []
    inlet.listen(heard.append)
    inlet.declare(SourceInfo("dcgm", "dcgm", 7.0, priority=3))
    inlet.take([fragment("a"), fragment("b")])
    inlet.forget(EntityKey(EntityType.GPU, "", "a"), clock.now())
    inlet.report("dcgm", False, "down")
    again, _ = make()
    for entry in heard:
        again.replay(entry)
    assert [e.entity_id for e in again.bus.entities()] == ["b"]
    assert again.bus.sources() == inlet.bus.sources()


def test_a_declared_source_is_observed_and_others_are_not() -> None:
    inlet, _ = make()
    inlet.declare(SourceInfo("metrics", "prometheus", 15.0))
    inlet.declare(SourceInfo("pusher", "x", 15.0), observed=False)
    assert [inlet.is_observed(name) for name in ("metrics", "steersman", "pusher", "x")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_pushed_fragment_with_a_wrong_field_is_refused_and_a_drivers_is_salvaged() -> None:
    wrong = fragment(gpu_utilization=7.0, temperature_celsius=50.0)
    refusal = cleaned(wrong)
    assert isinstance(refusal, Refusal)
    assert refusal.problems[0].startswith("fields.gpu_utilization: expected")
    good, lines = salvaged(wrong)
    assert good.fields == {"temperature_celsius": 50.0}
    assert "gpu_utilization" in lines[0]


def test_a_good_fragment_is_handed_on_as_it_is() -> None:
    good = fragment()
    assert cleaned(good) is good
    assert salvaged(good) == (good, [])


def test_canonical_names_replace_known_others() -> None:
    named = cleaned(fragment(gpu_temperature_celsius=50.0))
    assert isinstance(named, StateFragment)
    assert named.fields == {"temperature_celsius": 50.0}


def test_slices_hold_all_in_order() -> None:
    many = [fragment(str(n)) for n in range(2 * SLICE_MAX + 1)]
    parts = list(slices(many))
    assert [len(part) for part in parts] == [SLICE_MAX, SLICE_MAX, 1]
    assert [one for part in parts for one in part] == many
    assert list(slices([])) == [[]]


def test_weight_counts_fragments() -> None:
    assert weight(Batch(AT, 0.0, [fragment(), fragment()])) == 2
    assert weight(Reported(AT, 0.0, "a", True, "")) == 1


def test_names_to_clear_are_canonical_ones() -> None:
    """Who writes under an alias clears under it too; else the value would stay for ever."""
    inlet, clock = make()
    written = cleaned(fragment(gpu_temperature_celsius=50.0))
    cleared = cleaned(
        StateFragment(
            "dcgm", EntityType.GPU, "g", AT, clear=("gpu_temperature_celsius", "labels.pod", "other")
        )
    )
    assert isinstance(written, StateFragment)
    assert isinstance(cleared, StateFragment)
    assert cleared.clear == ("temperature_celsius", "labels.pod", "other")
    inlet.take([written])
    clock.advance(1)
    inlet.take([cleared])
    entity = inlet.bus.get(EntityType.GPU, "g")
    assert entity is not None
    assert getattr(entity, "temperature_celsius", 0) is None
    salvage, _ = salvaged(StateFragment("dcgm", EntityType.GPU, "g", AT, clear=("ecc_errors_uncorrected",)))
    assert salvage.clear == ("ecc_errors",)


def test_a_word_that_no_vocabulary_knows_reaches_the_bus_as_drift() -> None:
    inlet, _ = make()
    job = StateFragment("x", EntityType.JOB, "j", AT, {"job_state": "REVOKED_BY_MOON"})
    for clean in (cleaned, salvaged):
        clean(job, inlet.surprised)
    (signal,) = inlet.bus.drift()
    assert (signal.entity_type, signal.field, signal.count) == (EntityType.JOB, "job_state", 2)
    assert signal.detail == "unknown word 'REVOKED_BY_MOON'"
