"""What mapping tables can say of servers: copies, other names, changes, means, first events, presence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from steersman.drivers.exposition.mapping import Derived, EntityRule, Mapping, MappingInvalid, MetricRule
from steersman.drivers.exposition.plan import Plan
from steersman.drivers.exposition.series import SeriesCache
from steersman.kinds.entity import EntityType

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Pages:
    """Pages of one service, ten seconds apart."""

    def __init__(self, *metrics: MetricRule, derive: list[Derived] | None = None, **entity: Any) -> None:
        rule = EntityRule(type=EntityType.SERVICE, id=["{m}"], **entity)
        table = Mapping(name="t", entities={"s": rule}, metrics=list(metrics), derive=derive or [])
        self._plan = Plan([table], "source", {})
        self._cache = SeriesCache(self._plan.want, self._plan.forget)
        self._at_s = 0.0

    def read(self, text: str) -> dict[str, Any]:
        self._at_s += 10
        read = self._plan.build(self._cache.read(text), AT, self._at_s, {})
        assert read.warnings == []
        return read.fragments[0].fields if read.fragments else {}


def rule(metric: str, field: str, **more: Any) -> MetricRule:
    return MetricRule(metric=metric.split(), entity="s", field=field, **more)


def derived(field: str, calculation: Any, of: str, **more: Any) -> Derived:
    return Derived(entity="s", field=field, calculation=calculation, of=of.split(), **more)


def test_copies_count_once_and_others_are_added() -> None:
    pages = Pages(rule("q", "queue_depth", combine="sum", copies=["rank"]))
    page = 'q{m="a",dp="0",rank="0"} 3\nq{m="a",dp="0",rank="1"} 3\nq{m="a",dp="1",rank="2"} 4\n'
    assert pages.read(page) == {"queue_depth": 7}
    assert pages.read(page.replace('rank="1"} 3', 'rank="1"} 5')) == {"queue_depth": 9}, "the largest"


def test_copies_of_a_counter_and_of_a_histogram() -> None:
    pages = Pages(
        rule("n", "throughput", kind="counter", combine="sum", copies=["rank"]),
        rule("h", "", kind="histogram", unit="s", quantiles={"latency_p50_ms": 0.5}, copies=["rank"]),
    )

    def page(count: int) -> str:
        return "".join(
            f'n{{m="a",rank="{rank}"}} {count}\nh_bucket{{m="a",le="1",rank="{rank}"}} {count}\n'
            f'h_bucket{{m="a",le="+Inf",rank="{rank}"}} {count}\n'
            for rank in (0, 1)
        )

    pages.read(page(10))
    assert pages.read(page(30)) == {"throughput": 2.0, "latency_p50_ms": 500.0}


def test_of_several_names_the_first_that_is_there_counts() -> None:
    """Exporters show a renamed metric under both names for some versions."""
    pages = Pages(rule("new old", "throughput", kind="counter", combine="sum"))
    assert pages.read('old{m="a"} 0\n') == {}
    assert pages.read('old{m="a"} 100\n') == {"throughput": 10.0}
    assert pages.read('old{m="a"} 200\nnew{m="a"} 200\n') == {"throughput": 10.0}
    assert pages.read('old{m="a"} 300\nnew{m="a"} 300\n') == {"throughput": 10.0}
    assert pages.read('new{m="a"} 400\n') == {"throughput": 10.0}


def test_a_change_may_be_negative_and_is_no_reset() -> None:
    pages = Pages(rule("g", "x", kind="change"))
    assert pages.read('g{m="a"} 10\n') == {}
    assert pages.read('g{m="a"} 4\n') == {"x": pytest.approx(-0.6)}
    assert pages.read('g{m="a"} 9\n') == {"x": pytest.approx(0.5)}


@pytest.mark.parametrize(("unit", "scale"), [("us", 1e6), ("ms", 1e3), ("s", 1.0), ("ns", 1e9)])
def test_a_mean_from_a_counter_of_time(unit: str, scale: float) -> None:
    pages = Pages(
        rule("busy", "_busy", kind="counter", unit=unit),
        rule("n", "throughput", kind="counter"),
        derive=[derived("latency_mean_ms", "ratio", "_busy throughput", unit="s")],
    )
    pages.read('busy{m="a"} 0\nn{m="a"} 0\n')
    fields = pages.read(f'busy{{m="a"}} {5 * scale}\nn{{m="a"}} 20\n')
    assert fields["latency_mean_ms"] == pytest.approx(250.0)
    assert "latency_mean_ms" not in pages.read(f'busy{{m="a"}} {5 * scale}\nn{{m="a"}} 20\n')


def test_what_is_named_as_zero_counts_so_while_it_is_absent() -> None:
    pages = Pages(
        rule("n", "throughput", kind="counter"),
        rule("bad", "_bad", kind="counter", from_zero=True),
        derive=[derived("error_rate", "ratio", "_bad throughput", zero=["_bad"])],
    )
    assert pages.read('n{m="a"} 0\n') == {}
    assert pages.read('n{m="a"} 100\n')["error_rate"] == 0.0
    assert pages.read('n{m="a"} 200\nbad{m="a"} 20\n')["error_rate"] == pytest.approx(0.2), "its first event"
    assert pages.read('n{m="a"} 300\nbad{m="a"} 20\n')["error_rate"] == 0.0
    assert "error_rate" not in pages.read('n{m="a"} 300\nbad{m="a"} 20\n'), "nothing came"


def test_a_counter_that_is_there_from_the_start_is_no_event_of_now() -> None:
    pages = Pages(rule("bad", "x", kind="counter", combine="sum", from_zero=True))
    assert pages.read('bad{m="a"} 5000\n') == {}
    assert pages.read('bad{m="a"} 5000\nbad{m="a",err="new"} 20\n') == {"x": 2.0}
    assert pages.read('bad{m="a"} 5000\nbad{m="a",err="new"} 20\n') == {"x": 0.0}


def test_what_went_beyond_is_put_on_the_bound_only_where_that_is_said() -> None:
    def pages(clamp: bool) -> Pages:
        steps = [rule("a", "_a"), rule("b", "_b"), rule("up", "up")]
        return Pages(*steps, derive=[derived("error_rate", "ratio", "_a _b", clamp=clamp)])

    page = 'a{m="x"} 3\nb{m="x"} 2\nup{m="x"} 1\n'
    assert pages(clamp=True).read(page) == {"up": True, "error_rate": 1.0}
    with pytest.raises(AssertionError, match="out of bounds"):
        pages(clamp=False).read(page)


def test_a_difference_and_a_step_that_is_not_less_than_zero() -> None:
    steps = [rule("a", "_a"), rule("b", "_b"), rule("c", "_c")]
    pages = Pages(
        *steps,
        derive=[derived("_d", "difference", "_a _b _c", clamp=True), derived("retries", "sum", "_d")],
    )
    assert pages.read('a{m="x"} 9\nb{m="x"} 2\nc{m="x"} 3\n') == {"retries": 4.0}
    assert pages.read('a{m="x"} 1\nb{m="x"} 2\nc{m="x"} 3\n') == {"retries": 0.0}


def test_what_is_seen_is_told_with_its_constants_alone() -> None:
    def pages(seen: bool) -> Pages:
        return Pages(rule("n", "throughput", kind="counter"), seen=seen, values={"up": True})

    assert pages(seen=False).read('n{m="a"} 5\n') == {}
    seen = pages(seen=True)
    assert seen.read('n{m="a"} 5\n') == {"up": True}
    assert seen.read('other{m="a"} 5\n') == {}, "and no longer once it is not on the page"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (derived("error_rate", "ratio", "_a _b", zero=["_c"]), "zero names some of its fields"),
        (derived("error_rate", "ratio", "_a _b", zero=["_a", "_b"]), "not all of them"),
        (derived("latency_mean_ms", "ratio", "_a _b", unit="B"), "does not convert"),
        (derived("latency_mean_ms", "ratio", "_a _b", unit="eons"), "does not convert"),
    ],
)
def test_a_calculation_that_can_not_be_right_is_refused(wrong: Derived, says: str) -> None:
    with pytest.raises(MappingInvalid, match=says):
        Pages(rule("a", "_a"), derive=[wrong])
