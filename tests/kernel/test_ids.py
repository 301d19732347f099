"""Names that sort, and chance that repeats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import CountedIds, SortableIds, new_secret, seeded_rng, system_rng

AT = datetime(2026, 3, 1, tzinfo=UTC)


def test_later_names_sort_after_earlier_ones_even_when_the_clock_is_set_back() -> None:
    clock = ManualClock(AT)
    ids = SortableIds(clock, seeded_rng(1))
    names: list[str] = []
    for step in (1, 1, -3600, 5, 7200):
        clock.set_wall(clock.now() + timedelta(seconds=step))
        names.append(ids.new("op")[: len("op-") + 10])
    assert names == sorted(names)


def test_names_of_one_instant_differ_and_repeat_with_the_seed() -> None:
    first = SortableIds(ManualClock(AT), seeded_rng(1))
    second = SortableIds(ManualClock(AT), seeded_rng(1))
    names = [first.new("x") for _ in range(1000)]
    assert len(set(names)) == 1000
    assert names == [second.new("x") for _ in range(1000)]


def test_counted_names() -> None:
    ids = CountedIds()
    assert [ids.new("a"), ids.new("b")] == ["a-000001", "b-000002"]


def test_chance_and_secrets() -> None:
    assert 0 <= system_rng().random() < 1
    assert seeded_rng(3).random() == seeded_rng(3).random()
    assert len({new_secret() for _ in range(100)}) == 100
    assert len(new_secret(32)) >= 43
