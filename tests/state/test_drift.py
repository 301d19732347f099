"""What nobody here knows is told once for each kind, bounded, and remembered over a restart."""

from __future__ import annotations

from bus_facts import GPU, at, said, world

from steersman.kernel.ids import seeded_rng
from steersman.kinds.drift import SHAPE, TYPE, WORD
from steersman.state.bus import StateBus
from steersman.state.checkpoint import DRIFT_KEY, Checkpoint
from steersman.state.drift import DETAIL_MAX_CHARS, DriftLog
from steersman.store.api import Put
from steersman.store.memory import MemoryStore


def test_one_surprise_is_counted_and_not_repeated() -> None:
    log = DriftLog(10)
    for second in range(3):
        log.note(GPU, "recovery_action", "unknown word 'x'", at(second))
    log.note(GPU, "recovery_action", "unknown word 'x'", at(9), source="b")
    first, other = log.read()
    assert (first.count, first.first_at, first.last_at, first.kind) == (3, at(0), at(2), WORD)
    assert other.source == "b"


def test_there_is_a_bound_on_kinds_and_on_their_words() -> None:
    log = DriftLog(2)
    for number in range(5):
        log.note(None, "", f"{number} " + "x" * 1000, at(0), kind=SHAPE, source="s")
    assert len(log.read()) == 2
    assert log.dropped == 3
    assert all(len(one.detail) == DETAIL_MAX_CHARS for one in log.read())


def test_a_value_of_another_type_is_told_as_such() -> None:
    bus, _ = world()
    bus.put(said(at(0), "a", entity_type=GPU, temperature_celsius="hot"))
    bus.get(GPU, "n1")
    assert [(one.kind, one.field) for one in bus.drift()] == [(TYPE, "temperature_celsius")]


async def test_drift_outlives_a_restart_and_goes_on_counting() -> None:
    bus, clock = world()
    bus.note_drift(GPU, "recovery_action", "unknown word 'x'")
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
        await Checkpoint(bus, store, clock).save()
        again = StateBus(clock)
        await Checkpoint(again, store, clock).restore()
        assert again.drift() == bus.drift()
        again.note_drift(GPU, "recovery_action", "unknown word 'x'")
        assert [one.count for one in again.drift()] == [2]
        await store.commit([], [Put(DRIFT_KEY, b"\1garbage")])
        report = await Checkpoint(StateBus(clock), store, clock).restore()
        assert any(DRIFT_KEY in warning for warning in report.warnings)


async def test_drift_that_did_not_change_is_not_written_again() -> None:
    bus, clock = world()
    bus.note_drift(GPU, "x", "odd")
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
        checkpoint = Checkpoint(bus, store, clock)
        await checkpoint.save()
        before = await store.get(DRIFT_KEY)
        await checkpoint.save()
        assert await store.get(DRIFT_KEY) == before
