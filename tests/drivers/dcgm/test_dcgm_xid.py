"""XIDs that come, and those that only stand there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.dcgm.xid import EVENTS_MAX, XidMemory
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import check_fields

AT = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW_S, HOLD_S = 86_400.0, 3_600.0


class Gpu:
    """One GPU's pages, 15 seconds apart."""

    def __init__(self) -> None:
        self.memory = XidMemory(WINDOW_S, HOLD_S)
        self.at_s = 0.0

    def page(self, after_s: float = 15.0, **fields: Any) -> dict[str, Any]:
        self.at_s += after_s
        given = dict(fields)
        self.memory.look("GPU-1", given, AT + timedelta(seconds=self.at_s), self.at_s)
        assert check_fields(EntityType.GPU, given) == []
        return given


def test_the_first_value_of_the_gauge_is_no_event() -> None:
    gpu = Gpu()
    first = gpu.page(xid=79)
    assert (first["xid"], first["xid_events"], first["xid_counts"]) == (79, [], {})
    assert "xid_event_at" not in first
    assert gpu.page(xid=79)["xid_events"] == [], "it is sticky: standing there is no news"


def test_a_change_of_the_gauge_is_an_event_that_stands() -> None:
    gpu = Gpu()
    gpu.page(xid=0)
    came = gpu.page(xid=79)
    assert (came["xid_events"], came["xid_counts"]) == (["79"], {"79": 1.0})
    assert came["xid_event_at"] == AT + timedelta(seconds=30)
    still = gpu.page(xid=79)
    assert (still["xid_events"], still["xid_counts"], still["xid_event_at"]) == (
        ["79"],
        {"79": 1.0},
        came["xid_event_at"],
    )


def test_a_code_that_another_one_covers_still_stands() -> None:
    gpu = Gpu()
    gpu.page(xid=0)
    gpu.page(xid=79)
    assert gpu.page(xid=45)["xid_events"] == ["45", "79"], "45 is collateral; the fault is 79"


def test_after_a_reboot_the_old_code_is_not_raised_again() -> None:
    gpu = Gpu()
    gpu.page(xid=0, energy_joules=100.0)
    gpu.page(xid=79, energy_joules=110.0)
    assert gpu.page(xid=79, energy_joules=3.0)["xid_events"] == [], "the driver was loaded anew"
    assert gpu.page(xid=79, energy_joules=4.0)["xid_events"] == []
    assert gpu.page(xid=0, energy_joules=5.0)["xid_events"] == []
    assert gpu.page(xid=79, energy_joules=6.0)["xid_events"] == ["79"], "this one is new"


def test_an_exporter_that_was_away_brings_no_news_with_an_old_code() -> None:
    gpu = Gpu()
    gpu.page(xid=79)
    away = gpu.page()
    assert away["xid_events"] == []
    assert "xid" not in away
    assert gpu.page(xid=79)["xid_events"] == []


def test_the_same_code_twice_is_seen_by_the_count_within_the_window() -> None:
    gpu = Gpu()
    gpu.page(xid=0, xid_counts={})
    assert gpu.page(xid=94, xid_counts={"94": 1.0})["xid_counts"] == {"94": 1.0}
    assert gpu.page(xid=94, xid_counts={"94": 2.0})["xid_counts"] == {"94": 2.0}
    assert gpu.page(xid=94, xid_counts={"94": 1.0})["xid_counts"] == {"94": 2.0}, "one left the window"
    assert gpu.page(xid=94, xid_counts={"94": 2.0})["xid_counts"] == {"94": 3.0}


def test_a_count_on_the_first_page_is_of_the_last_minutes_and_an_event() -> None:
    assert Gpu().page(xid=79, xid_counts={"79": 2.0})["xid_counts"] == {"79": 2.0}


def test_a_total_on_the_first_page_may_be_of_last_year() -> None:
    gpu = Gpu()
    assert gpu.page(xid=0, xid_totals={"31": 7.0})["xid_counts"] == {}
    assert gpu.page(xid=0, xid_totals={"31": 9.0})["xid_counts"] == {"31": 2.0}
    assert gpu.page(xid=0, xid_totals={"31": 1.0})["xid_counts"] == {"31": 3.0}, "it began anew, and one came"
    assert gpu.page(xid=0, xid_totals={"31": 1.0, "62": 1.0})["xid_events"] == ["31", "62"]


def test_gauge_count_and_total_of_one_event_are_one_event() -> None:
    gpu = Gpu()
    gpu.page(xid=0, xid_counts={}, xid_totals={})
    told = gpu.page(xid=79, xid_counts={"79": 1.0}, xid_totals={"79": 1.0})
    assert told["xid_counts"] == {"79": 1.0}
    assert "xid_totals" not in told, "the exporter's own way to count is not told"


def test_what_is_not_collected_is_not_none() -> None:
    assert Gpu().page(gpu_utilization=0.5) == {"gpu_utilization": 0.5}


def test_an_event_stands_for_the_hold_and_is_counted_for_the_window() -> None:
    gpu = Gpu()
    gpu.page(xid=0)
    gpu.page(xid=79)
    assert gpu.page(HOLD_S, xid=79)["xid_events"] == ["79"]
    assert gpu.page(1, xid=79)["xid_events"] == []
    assert gpu.page(1, xid=79)["xid_counts"] == {"79": 1.0}
    assert gpu.page(WINDOW_S, xid=79)["xid_counts"] == {}


def test_codes_that_are_none_are_left_out() -> None:
    told = Gpu().page(xid_counts={"79": 1.0, "": 3.0, "²": 1.0, "boom": 2.0, "031": 1.0})
    assert told["xid_counts"] == {"79": 1.0, "31": 1.0}


def test_gpus_that_left_are_forgotten() -> None:
    memory = XidMemory(WINDOW_S, HOLD_S)
    for number in range(10):
        memory.look(f"GPU-{number}", {"xid": 0}, AT, float(number))
    memory.forget(WINDOW_S + 5)
    assert len(memory) == 5


PAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "xid": st.sampled_from([0, 13, 45, 79, 94]),
            "energy_joules": st.floats(0, 1e9),
            "xid_counts": st.dictionaries(st.sampled_from(["13", "79", "x"]), st.floats(0, 1e12), max_size=3),
            "xid_totals": st.dictionaries(st.sampled_from(["13", "79"]), st.floats(0, 1e12), max_size=2),
        },
    ),
    max_size=30,
)


@given(PAGES)
def test_whatever_the_pages_say_standing_events_were_counted(pages: list[dict[str, Any]]) -> None:
    gpu = Gpu()
    for page in pages:
        told = gpu.page(**{name: dict(v) if isinstance(v, dict) else v for name, v in page.items()})
        assert set(told.get("xid_events", [])) <= set(told.get("xid_counts", {}))
        assert "xid_totals" not in told


@given(st.lists(st.sampled_from([0, 79]), min_size=2, max_size=40))
def test_as_many_events_as_changes_to_a_code(gauge: list[int]) -> None:
    gpu = Gpu()
    told: dict[str, Any] = {}
    for value in gauge:
        told = gpu.page(xid=value)
    rises = sum(1 for a, b in pairwise(gauge) if a == 0 and b == 79)
    assert told["xid_counts"].get("79", 0) == rises


def test_memory_is_bounded() -> None:
    gpu = Gpu()
    for number in range(EVENTS_MAX + 50):
        told = gpu.page(1, xid=number % 2 * 13)
    assert told["xid_counts"]["13"] <= EVENTS_MAX
