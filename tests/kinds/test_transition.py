"""StateTransition: both vocabularies, round trips, refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.kernel.clock import TimeOutOfRange
from steersman.kinds.transition import StateTransition, TransitionInvalid

AT = datetime(2025, 6, 18, 16, 44, tzinfo=UTC)
ENTRY = {
    "from": "maintenance",
    "to": "firmware_update",
    "timestamp": "2025-06-18T16:44:00Z",
    "initiator": "temporal:ReturnToServiceWorkflow",
    "note": "Automated firmware validation triggered",
}
"""The log entry of the node lifecycle document, verbatim."""


def test_the_documents_log_entry_is_read_and_written_verbatim():
    transition = StateTransition.from_dict(ENTRY)
    assert transition == StateTransition(
        "maintenance",
        "firmware_update",
        AT,
        "temporal:ReturnToServiceWorkflow",
        "Automated firmware validation triggered",
    )
    assert transition.to_inventory() == ENTRY


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        StateTransition(None, "a", AT).to_state = "b"  # type: ignore[misc]


def test_defaults_of_a_record():
    transition = StateTransition.from_dict({"to_state": "Scheduled", "transitioned_at": AT})
    assert transition.from_state is None
    assert transition.triggered_by == "system"
    assert transition.reason is None
    assert transition.metadata is None


def test_str_has_an_arrow_and_shows_a_missing_origin():
    assert "None → Scheduled" in str(StateTransition(None, "Scheduled", AT))
    assert "a → b at 2025-06-18T16:44:00Z by me" in str(StateTransition("a", "b", AT, "me"))


def test_naive_and_other_offsets_become_utc():
    assert StateTransition(None, "a", datetime(2025, 6, 18, 16, 44)).transitioned_at == AT  # noqa: DTZ001
    east = timezone(timedelta(hours=2))
    moved = StateTransition(None, "a", AT.astimezone(east)).transitioned_at
    assert moved == AT
    assert moved.tzinfo is UTC


def test_metadata_round_trips_nested_and_is_never_shared():
    metadata = {"evidence": [{"kind": "log", "lines": [1, 2]}], "forced": True}
    stored = StateTransition("a", "b", AT, metadata=metadata).to_dict()
    read = StateTransition.from_dict(stored)
    assert read.metadata == metadata
    stored["metadata"]["evidence"][0]["lines"].append(3)
    assert read.metadata == metadata


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"transitioned_at": AT}, "to_state"),
        ({"to_state": "a"}, "transitioned_at"),
        ({"to_state": "", "transitioned_at": AT}, "must not be empty"),
        ({"to_state": 5, "transitioned_at": AT}, "to_state"),
        ({"to_state": "a", "transitioned_at": "today"}, "transitioned_at"),
        ({"to_state": "a", "to": "a", "transitioned_at": AT}, "two names"),
        ({"to_state": "a", "transitioned_at": AT, "by": "me"}, "'by'"),
        (
            {"to_state": "a", "transitioned_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))},
            "UTC",
        ),
    ],
)
def test_what_can_not_be_read_is_refused_by_name(data: dict[str, Any], says: str):
    with pytest.raises(TransitionInvalid, match=says):
        StateTransition.from_dict(data)


def test_a_time_beyond_the_calendar_is_refused_by_name():
    beyond = datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))
    with pytest.raises(TimeOutOfRange, match="in UTC"):
        StateTransition(None, "a", beyond)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
transitions = st.builds(
    StateTransition,
    st.none() | st.text(min_size=1, max_size=10),
    st.text(min_size=1, max_size=10),
    st.datetimes(timezones=st.just(UTC)),
    st.text(max_size=10),
    st.none() | st.text(max_size=10),
    st.none() | st.dictionaries(st.text(max_size=5), _json, max_size=3),
)


@given(transitions)
def test_round_trips(transition: StateTransition):
    assert StateTransition.from_dict(transition.to_dict()) == transition
    assert msgspec.json.decode(msgspec.json.encode(transition), type=StateTransition) == transition
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(transition), type=StateTransition) == transition
    back = StateTransition.from_dict(transition.to_inventory())
    assert msgspec.structs.replace(back, metadata=transition.metadata) == transition
