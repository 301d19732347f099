"""Timeslot: every edge of every question, to the microsecond, and round trips."""

from __future__ import annotations

from contextvars import copy_context
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import steersman
from steersman.kernel.clock import ManualClock, current_now, using_clock
from steersman.kernel.errors import InvalidInput
from steersman.kinds.timeslot import LEAD_TIME, TEARDOWN_BUFFER, Timeslot, TimeslotInvalid

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
END = START + timedelta(hours=2)
TICK = timedelta(microseconds=1)
SLOT = Timeslot(start=START, end=END)
PROVISION_AT = START - timedelta(minutes=15)
DEADLINE = END + timedelta(minutes=10)


def test_defaults_are_fifteen_and_ten_minutes():
    assert LEAD_TIME == SLOT.lead_time == timedelta(minutes=15)
    assert TEARDOWN_BUFFER == SLOT.teardown_buffer == timedelta(minutes=10)


def test_derived_instants_and_amounts():
    assert SLOT.provision_at() == PROVISION_AT
    assert SLOT.cleanup_deadline() == DEADLINE
    assert SLOT.duration() == timedelta(hours=2)
    assert SLOT.total_duration() == timedelta(hours=2, minutes=25)


@pytest.mark.parametrize("name", ["start", "end", "lead_time", "teardown_buffer"])
def test_it_is_frozen(name: str):
    with pytest.raises(AttributeError):
        setattr(SLOT, name, START)


def test_it_is_a_value():
    assert Timeslot(START, END) == SLOT
    assert hash(Timeslot(START, END)) == hash(SLOT)
    assert Timeslot(START, END, timedelta(0)) != SLOT


# is_approaching: provision_at <= now < start


def test_is_approaching_lower_edge_is_inclusive():
    assert SLOT.is_approaching(PROVISION_AT)
    assert not SLOT.is_approaching(PROVISION_AT - TICK)


def test_is_approaching_upper_edge_is_exclusive():
    assert SLOT.is_approaching(START - TICK)
    assert not SLOT.is_approaching(START)


# is_active: start <= now <= end


def test_is_active_lower_edge_is_inclusive():
    assert SLOT.is_active(START)
    assert not SLOT.is_active(START - TICK)


def test_is_active_upper_edge_is_inclusive():
    assert SLOT.is_active(END)
    assert not SLOT.is_active(END + TICK)


# is_expired: end < now


def test_is_expired_is_false_exactly_at_the_end():
    assert not SLOT.is_expired(END)
    assert SLOT.is_expired(END + TICK)


def test_is_expired_stays_true_after_the_cleanup_deadline():
    assert SLOT.is_expired(DEADLINE + timedelta(days=1))


# is_in_teardown: end < now <= cleanup_deadline


def test_is_in_teardown_lower_edge_is_exclusive():
    assert not SLOT.is_in_teardown(END)
    assert SLOT.is_in_teardown(END + TICK)


def test_is_in_teardown_upper_edge_is_inclusive():
    assert SLOT.is_in_teardown(DEADLINE)
    assert not SLOT.is_in_teardown(DEADLINE + TICK)


# remaining: max(0, end - now)


def test_remaining_counts_to_the_end_also_before_the_start():
    assert SLOT.remaining(START - timedelta(hours=1)) == timedelta(hours=3)
    assert SLOT.remaining(START) == timedelta(hours=2)


def test_remaining_is_zero_at_and_after_the_end():
    assert SLOT.remaining(END - TICK) == TICK
    assert SLOT.remaining(END) == timedelta(0)
    assert SLOT.remaining(END + TICK) == timedelta(0)


@pytest.mark.parametrize(
    ("now", "phase"),
    [
        (PROVISION_AT - TICK, "before"),
        (PROVISION_AT, "approaching"),
        (START - TICK, "approaching"),
        (START, "active"),
        (END, "active"),
        (END + TICK, "teardown"),
        (DEADLINE, "teardown"),
        (DEADLINE + TICK, "expired"),
    ],
)
def test_phase_at_each_edge(now: datetime, phase: str):
    assert SLOT.phase(now) == phase


def test_expired_as_a_window_is_not_yet_expired_as_a_phase():
    now = END + TICK
    assert SLOT.is_expired(now)
    assert SLOT.phase(now) == "teardown"


def test_whoever_acts_on_the_end_acts_while_the_slot_is_still_active():
    """`now >= end` triggers teardown; at that very instant the question still says active."""
    assert SLOT.end <= END
    assert SLOT.is_active(END)
    assert not SLOT.is_in_teardown(END)


def test_without_lead_it_never_approaches():
    slot = Timeslot(START, END, timedelta(0), timedelta(0))
    assert slot.provision_at() == START
    assert slot.cleanup_deadline() == END
    assert not slot.is_approaching(START)
    assert slot.phase(START - TICK) == "before"
    assert slot.phase(END + TICK) == "expired"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"end": START}, "must be after start"),
    ({"end": START - TICK}, "must be after start"),
    ({"lead_time": -TICK}, "lead_time must be non-negative"),
    ({"teardown_buffer": -TICK}, "teardown_buffer must be non-negative"),
    ({"lead_time": timedelta(days=999_999)}, "outside the years"),
    ({"end": datetime.max.replace(tzinfo=UTC)}, "outside the years"),
]


@pytest.mark.parametrize(("change", "says"), REFUSED)
def test_what_can_not_be_is_refused(change: dict[str, Any], says: str):
    with pytest.raises(TimeslotInvalid, match=says) as caught:
        Timeslot(**{"start": START, "end": END, **change})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InvalidInput)


def test_one_microsecond_is_long_enough():
    assert Timeslot(START, START + TICK).duration() == TICK


def test_naive_is_utc_in_the_slot_and_in_the_question():
    slot = Timeslot(datetime(2026, 6, 1, 12), datetime(2026, 6, 1, 14))  # noqa: DTZ001
    assert slot == SLOT
    assert slot.start.tzinfo is UTC
    assert slot.is_active(datetime(2026, 6, 1, 12))  # noqa: DTZ001


def test_other_offsets_are_kept_as_utc():
    east = timezone(timedelta(hours=9))
    slot = Timeslot(START.astimezone(east), END.astimezone(east))
    assert slot == SLOT
    assert slot.end.utcoffset() == timedelta(0)


def test_extend_by_an_amount_and_to_an_instant():
    for longer in (SLOT.extend(timedelta(minutes=30)), SLOT.extend(END + timedelta(minutes=30))):
        assert longer.end == END + timedelta(minutes=30)
        assert (longer.start, longer.lead_time, longer.teardown_buffer) == (
            SLOT.start,
            SLOT.lead_time,
            SLOT.teardown_buffer,
        )
    assert SLOT.end == END


def test_extend_takes_a_naive_instant_as_utc():
    assert SLOT.extend(datetime(2026, 6, 1, 15)).end == datetime(2026, 6, 1, 15, tzinfo=UTC)  # noqa: DTZ001


@pytest.mark.parametrize("to", [timedelta(0), -TICK, END, END - TICK, START])
def test_extend_never_shortens(to: timedelta | datetime):
    with pytest.raises(TimeslotInvalid, match="must be after"):
        SLOT.extend(to)


@pytest.mark.parametrize("to", [timedelta.max, datetime.max.replace(tzinfo=UTC)])
def test_extend_past_the_calendar_is_refused(to: timedelta | datetime):
    with pytest.raises(TimeslotInvalid, match="outside the years"):
        SLOT.extend(to)


def test_without_now_the_current_clock_is_asked():
    clock = ManualClock(PROVISION_AT)
    with using_clock(clock):
        assert SLOT.is_approaching()
        assert SLOT.phase() == "approaching"
        clock.advance(15 * 60)
        assert SLOT.is_active()
        assert SLOT.remaining() == timedelta(hours=2)
        clock.set_wall(END + TICK)
        assert SLOT.is_expired()
        assert SLOT.is_in_teardown()


def test_the_current_clock_ends_with_its_block_and_may_be_nested():
    early, late = ManualClock(START), ManualClock(END)
    with using_clock(early):
        with using_clock(late):
            assert current_now() == END
        assert current_now() == START
    assert current_now() not in (START, END)


def test_a_context_born_in_a_block_keeps_its_clock():
    """Tasks and `to_thread` copy the context they are born in, so they keep the clock too."""
    with using_clock(ManualClock(START)):
        born_inside = copy_context()
    assert born_inside.run(current_now) == START
    assert copy_context().run(current_now) != START


def test_to_dict_is_iso_utc_and_float_seconds():
    assert SLOT.to_dict() == {
        "start": "2026-06-01T12:00:00Z",
        "end": "2026-06-01T14:00:00Z",
        "lead_time_seconds": 900.0,
        "teardown_buffer_seconds": 600.0,
    }
    assert type(SLOT.to_dict()["lead_time_seconds"]) is float


def test_from_dict_takes_datetimes_and_fills_the_amounts():
    assert Timeslot.from_dict({"start": START, "end": END}) == SLOT
    assert Timeslot.from_dict({"start": "2026-06-01T12:00:00", "end": "2026-06-01T16:00:00+02:00"}) == SLOT
    assert Timeslot.from_dict({"start": START, "end": END, "lead_time_seconds": 900}) == SLOT


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "start"),
        ({"start": START}, "end"),
        ({"start": START, "end": START}, "must be after"),
        ({"start": "soon", "end": END}, "start"),
        ({"start": 5, "end": END}, "start"),
        ({"start": START, "end": END, "lead_time": 900}, "lead_time"),
        ({"start": START, "end": END, "lead_time_seconds": "900"}, "lead_time_seconds"),
        ({"start": START, "end": END, "lead_time_seconds": float("nan")}, "finite"),
        ({"start": START, "end": END, "teardown_buffer_seconds": float("inf")}, "finite"),
        ({"start": START, "end": END, "teardown_buffer_seconds": 1e300}, "finite"),
        ({"start": START, "end": END, "teardown_buffer_seconds": -1}, "non-negative"),
    ],
)
def test_from_dict_refuses_by_name(data: dict[str, Any], says: str):
    with pytest.raises(TimeslotInvalid, match=says):
        Timeslot.from_dict(data)


def test_str_names_itself_and_its_dates():
    assert str(SLOT).startswith("Timeslot(2026-06-01T12:00:00Z -> 2026-06-01T14:00:00Z")


def test_a_decoder_adds_the_place_to_a_refusal():
    class Booking(msgspec.Struct):
        slot: Timeslot

    with pytest.raises(msgspec.ValidationError, match=r"must be after start.*\$\.slot"):
        msgspec.json.decode(
            b'{"slot": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}}', type=Booking
        )


_times = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_amounts = st.timedeltas(timedelta(0), timedelta(days=400))


@st.composite
def slots(draw: st.DrawFn) -> Timeslot:
    start = draw(_times)
    length = draw(st.timedeltas(TICK, timedelta(days=4000)))
    return Timeslot(start, start + length, draw(_amounts), draw(_amounts))


@given(slots())
def test_round_trips(slot: Timeslot):
    assert Timeslot.from_dict(slot.to_dict()) == slot
    assert Timeslot.from_dict(msgspec.json.decode(msgspec.json.encode(slot.to_dict()))) == slot
    assert msgspec.json.decode(msgspec.json.encode(slot), type=Timeslot) == slot
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(slot), type=Timeslot) == slot


@given(slots(), st.data())
def test_every_instant_is_in_exactly_one_phase_and_the_questions_agree(slot: Timeslot, data: st.DataObject):
    """Random instants, and each edge with its neighbours: phases are a partition, in order."""
    edges = [slot.provision_at(), slot.start, slot.end, slot.cleanup_deadline()]
    now = data.draw(
        st.sampled_from([edge + tick for edge in edges for tick in (-TICK, timedelta(0), TICK)]) | _times
    )
    phase = slot.phase(now)
    assert (phase == "before") == (now < slot.provision_at())
    assert (phase == "approaching") == slot.is_approaching(now)
    assert (phase == "active") == slot.is_active(now)
    assert (phase == "teardown") == slot.is_in_teardown(now)
    assert (phase in ("teardown", "expired")) == slot.is_expired(now)
    assert slot.remaining(now) == max(timedelta(0), slot.end - now)


@given(slots(), _amounts)
def test_extending_is_the_same_by_amount_and_by_instant(slot: Timeslot, by: timedelta):
    assume(by > timedelta(0))
    assert slot.extend(by) == slot.extend(slot.end + by)
    assert slot.extend(by).duration() == slot.duration() + by


@given(_times, _times, st.timedeltas(timedelta(days=-2), timedelta(days=2)))
def test_construction_refuses_exactly_what_the_rules_say(start: datetime, end: datetime, lead: timedelta):
    possible = end > start and lead >= timedelta(0)
    try:
        Timeslot(start, end, lead)
    except TimeslotInvalid:
        assert not possible
    else:
        assert possible


def test_only_the_two_kinds_that_say_so_ask_the_current_clock():
    """Decision 0005: the default instant is for people. Program code takes a clock and passes `now` on."""
    source = Path(steersman.__path__[0])
    asks = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if "current_now" in path.read_text() and path.parent.name != "kernel"
    }
    assert asks == {"kinds/timeslot.py", "kinds/state.py"}
