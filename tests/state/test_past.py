"""What an entity looked like at a moment: states are kept as they change, and folded from the old end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steersman.kinds.entity import EntityType
from steersman.kinds.explanation import EntityHistory
from steersman.kinds.fields import FIELDS
from steersman.state.past import STATES, VALUE_MAX_CHARS, Past, states_of

START = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = st.sampled_from(["x", "y", True, False, ["p"], ["p", "q"]])
HOLDINGS = st.dictionaries(st.sampled_from("abcd"), VALUES)


def at(past: Past, moment: datetime) -> tuple[dict[str, Any], dict[str, datetime]]:
    seen = EntityHistory(states=past.read()).at(moment)
    return seen.fields, seen.since


def known_since(past: Past) -> datetime | None:
    return EntityHistory(states=past.read()).at(START).known_since


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def test_words_flags_lists_and_rare_numbers_are_states_measurements_and_heartbeats_are_not() -> None:
    values: dict[str, Any] = {
        "gpu_utilization": 0.5,
        "gpu_memory_used": 1,
        "temperature_celsius": 60.0,
        "xid": 79,
        "recovery_action": "gpu_reset",
        "row_remap_failed": True,
        "throttle_reasons": ["hw_slowdown"],
        "site_word": "blue",
        "site_flag": True,
        "site_number": 7,
    }
    assert set(states_of(EntityType.GPU, values)) == {
        "xid", "recovery_action", "row_remap_failed", "throttle_reasons", "site_word", "site_flag",
    }  # fmt: skip
    assert "heartbeat_at" in FIELDS[EntityType.EXPERIMENT_TRACKER]
    assert "heartbeat_at" not in STATES[EntityType.EXPERIMENT_TRACKER]
    assert "started_at" in STATES[EntityType.JOB]
    assert "disks" not in STATES[EntityType.NODE]


def test_what_was_at_ten_past_three_is_told_with_since_when() -> None:
    past = Past()
    assert past.note(after(0), {"state": "idle", "ok": True}, 8)
    assert not past.note(after(1), {"state": "idle", "ok": True}, 8)
    assert past.note(after(10), {"state": "mixed", "ok": True}, 8)
    assert past.note(after(20), {"state": "mixed"}, 8)
    assert at(past, after(-1)) == ({}, {})
    assert at(past, after(5)) == ({"state": "idle", "ok": True}, {"state": after(0), "ok": after(0)})
    assert at(past, after(10)) == ({"state": "mixed", "ok": True}, {"state": after(10), "ok": after(0)})
    assert at(past, after(99)) == ({"state": "mixed"}, {"state": after(10)})
    assert known_since(past) == after(0)
    assert [change.fields for change in past.read()] == [
        {"state": "idle", "ok": True},
        {"state": "mixed"},
        {"ok": None},
    ]


def test_a_clock_that_was_set_back_turns_no_order_round() -> None:
    past = Past()
    past.note(after(10), {"state": "idle"}, 8)
    past.note(after(0), {"state": "down"}, 8)
    assert at(past, after(11))[0] == {"state": "down"}


def test_a_long_value_is_cut_and_noticed_once() -> None:
    past = Past()
    long: dict[str, Any] = {"why": "x" * (VALUE_MAX_CHARS + 5), "list": ["y" * VALUE_MAX_CHARS, "z"]}
    assert past.note(after(0), dict(long), 8)
    assert not past.note(after(1), dict(long), 8)
    fields, _ = at(past, after(1))
    assert (len(fields["why"]), len(fields["list"])) == (VALUE_MAX_CHARS, 1)


@given(st.lists(HOLDINGS, max_size=30), st.integers(1, 6))
def test_however_much_is_folded_the_remembered_moments_stay_true(
    holdings: list[dict[str, Any]], changes_max: int
) -> None:
    past = Past()
    told: list[tuple[datetime, dict[str, Any]]] = []
    for minute, states in enumerate(holdings):
        past.note(after(minute), dict(states), changes_max)
        told.append((after(minute), states))
    assert len(past) <= changes_max
    again = Past(past.kept())
    if holdings:
        again.note(after(len(holdings)), dict(holdings[-1]), changes_max)
    known = known_since(past)
    for when, states in told:
        if known is not None and when >= known:
            assert at(past, when)[0] == states
            assert at(again, when)[0] == states
            assert all(since <= when for since in at(past, when)[1].values())
    if told:
        assert not past.note(after(99), dict(told[-1][1]), changes_max), "nothing changed since"
