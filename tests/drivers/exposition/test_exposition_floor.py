"""A share of failures needs requests to be a share of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.exposition.floor import REQUESTS_MIN, SPAN_MAX_S, ErrorFloor
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment

AT = datetime(2026, 1, 1, tzinfo=UTC)
STEP_S = 10.0


def word(requests: float, failed: float, *, over_s: float = STEP_S, **more: Any) -> StateFragment:
    fields: dict[str, Any] = {"throughput": requests / over_s, "up": True}
    if requests:
        fields["error_rate"] = failed / requests
    return StateFragment("t", EntityType.SERVICE, "s", AT, fields, **more)


class Looks:
    """Looks at one service, ten seconds apart."""

    def __init__(self) -> None:
        self.floor = ErrorFloor()
        self.at_s = 1000.0
        self.floor.apply([], self.at_s)

    def at(self, requests: float, failed: float = 0, *, after_s: float = STEP_S) -> float | None:
        self.at_s += after_s
        fragment = word(requests, failed, over_s=after_s)
        self.floor.apply([fragment], self.at_s)
        assert fragment.fields["up"] is True
        return fragment.fields.get("error_rate")


def test_one_failed_of_two_says_nothing_of_a_service() -> None:
    assert Looks().at(2, 1) is None


def test_enough_requests_are_judged_by_themselves() -> None:
    looks = Looks()
    assert looks.at(REQUESTS_MIN, REQUESTS_MIN) == 1.0
    assert looks.at(REQUESTS_MIN, 1) == pytest.approx(0.05), "what was before counts no more"
    assert looks.at(100) == 0.0


def test_few_requests_are_counted_with_those_before_them() -> None:
    looks = Looks()
    assert [looks.at(5, 1) for _ in range(4)] == [None, None, None, pytest.approx(0.2)]
    assert looks.at(5, 0) == pytest.approx(3 / 20)
    assert looks.at(0) is None, "nothing came, and nothing is said"
    assert [looks.at(5, 0) for _ in range(3)] == [pytest.approx(n / 20) for n in (2, 1, 0)]


def test_a_service_that_always_fails_is_told_with_few_requests_too() -> None:
    looks = Looks()
    told = [looks.at(1, 1) for _ in range(REQUESTS_MIN + 5)]
    assert told == [None] * (REQUESTS_MIN - 1) + [1.0] * 6


def test_what_was_too_long_ago_counts_no_more() -> None:
    looks = Looks()
    assert looks.at(19, 19) is None
    assert looks.at(1, after_s=SPAN_MAX_S) is None
    assert looks.at(30, 3) == pytest.approx(0.1)


def test_windows_that_overlap_are_counted_once() -> None:
    floor = ErrorFloor(300.0)
    told: list[float | None] = []
    for turn in range(42):  # 15 s apart; six requests in each window
        fragment = word(6, 3, over_s=300.0)
        floor.apply([fragment], 1000 + 15.0 * turn)
        told.append(fragment.fields.get("error_rate"))
    assert told == [None] * 42, "three windows of six are not yet enough"
    for turn in range(42, 70):
        fragment = word(6, 3, over_s=300.0)
        floor.apply([fragment], 1000 + 15.0 * turn)
    assert fragment.fields["error_rate"] == pytest.approx(0.5)


def test_others_are_left_as_they_are() -> None:
    floor = ErrorFloor()
    alone = StateFragment("t", EntityType.SERVICE, "s", AT, {"error_rate": 0.5})
    node = StateFragment("t", EntityType.NODE, "n", AT, {"error_rate": 0.5, "throughput": 0.1})
    floor.apply([alone, node], 1.0)
    floor.apply([alone, node], 2.0)
    assert alone.fields == {"error_rate": 0.5}, "it does not say of how many"
    assert node.fields["error_rate"] == 0.5


def test_services_of_two_clusters_are_two() -> None:
    floor = ErrorFloor()
    floor.apply([], 0.0)
    first = word(15, 15, labels={"cluster": "a"})
    second = word(15, 0, labels={"cluster": "b"})
    floor.apply([first, second], STEP_S)
    again = word(15, 0, labels={"cluster": "b"})
    floor.apply([again], 2 * STEP_S)
    assert again.fields["error_rate"] == 0.0


def test_a_clock_that_was_put_back_begins_anew() -> None:
    looks = Looks()
    looks.at(15, 15)
    assert looks.at(15, 0, after_s=-500.0) is None
    assert looks.at(15, 0) is None
    assert looks.at(15, 0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1)), max_size=60))
def test_a_share_is_a_share_and_memory_is_bounded(history: list[tuple[int, float]]) -> None:
    looks = Looks()
    for requests, share in history:
        told = looks.at(requests, requests * share)
        assert told is None or 0.0 <= told <= 1.0
        assert told is not None or requests < REQUESTS_MIN
    assert all(len(parts) <= REQUESTS_MIN + 1 for parts in looks.floor._parts.values())
