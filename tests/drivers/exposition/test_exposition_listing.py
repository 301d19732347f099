"""Lists from series: sets of names, bits of masks; labels with several names; what is of something else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from steersman.drivers.exposition.mapping import EntityRule, Mapping, MappingInvalid, MetricRule, fill
from steersman.drivers.exposition.plan import Plan, Reading
from steersman.drivers.exposition.series import SeriesCache
from steersman.drivers.exposition.units import factor, rate_unit
from steersman.kinds.entity import EntityType

AT = datetime(2026, 1, 1, tzinfo=UTC)
BITS = {"0x1": "", "0x4": "sw_power_cap", "0x40": "hw_thermal_slowdown"}


def table(*rules: MetricRule, entity: EntityRule | None = None, blanks: Any = "dcgm") -> Mapping:
    gpu = entity or EntityRule(EntityType.GPU, ["{id}"])
    return Mapping(name="test", entities={"gpu": gpu}, metrics=list(rules), blanks=blanks)


class Pages:
    def __init__(self, mapping: Mapping) -> None:
        self._plan = Plan([mapping], "source", {})
        self._cache = SeriesCache(self._plan.want, self._plan.forget)
        self._at_s = 0.0

    def read(self, text: str) -> Reading:
        self._at_s += 10
        return self._plan.build(self._cache.read(text), AT, self._at_s, {})

    def fields(self, text: str) -> dict[str, Any]:
        (fragment,) = self.read(text).fragments
        return fragment.fields


def watches(**more: Any) -> MetricRule:
    return MetricRule(["w"], "gpu", field="health_watches_failed", kind="set", key="{watch}", **more)


def test_a_set_holds_the_keys_of_what_is_not_zero() -> None:
    pages = Pages(table(watches(), MetricRule(["x"], "gpu", field="xid")))
    assert pages.fields('w{id="a",watch="MEM"} 1\nw{id="a",watch="PCIE"} 0\nx{id="a"} 0\n') == {
        "health_watches_failed": ["MEM"],
        "xid": 0,
    }
    assert pages.fields('w{id="a",watch="MEM"} 0\nx{id="a"} 0\n')["health_watches_failed"] == []
    assert "health_watches_failed" not in pages.fields('x{id="a"} 0\n'), "no series is not an empty list"


def test_a_set_may_ask_for_values() -> None:
    pages = Pages(table(watches(among=[20.0])))
    text = 'w{id="a",watch="MEM"} 20\nw{id="a",watch="PCIE"} 10\nw{id="a",watch="SM"} 0\n'
    assert pages.fields(text) == {"health_watches_failed": ["MEM"]}


def test_a_series_without_its_key_or_with_a_blank_is_not_in_the_set() -> None:
    pages = Pages(table(watches(), MetricRule(["x"], "gpu", field="xid")))
    text = 'w{id="a"} 1\nw{id="a",watch="MEM"} 9223372036854775794\nx{id="a"} 1\n'
    assert pages.fields(text) == {"xid": 1}


@pytest.mark.parametrize(
    ("value", "names", "drift"),
    [
        ("0", [], 0),
        ("1", [], 0),  # a bit whose word is empty is known, and says nothing
        ("68", ["sw_power_cap", "hw_thermal_slowdown"], 0),
        ("4100", ["sw_power_cap", "0x1000"], 1),
        ("9223372036854775794", None, 0),
        ("0.5", None, 1),
        ("-4", None, 1),
        ("1e18", None, 1),
    ],
)
def test_the_bits_of_a_mask_are_named(value: str, names: list[str] | None, drift: int) -> None:
    rule = MetricRule(["m"], "gpu", field="throttle_reasons", kind="bits", words=BITS)
    read = Pages(table(rule, MetricRule(["x"], "gpu", field="xid"))).read(
        f'm{{id="a"}} {value}\nx{{id="a"}} 1\n'
    )
    assert read.fragments[0].fields.get("throttle_reasons") == names
    assert len(read.drift) == drift


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"field": "throttle_reasons"}, "a list is filled by"),
        ({"field": "xid", "kind": "set", "key": "{a}"}, "a list is filled by"),
        ({"field": "throttle_reasons", "kind": "set"}, "needs a key"),
        ({"field": "throttle_reasons", "kind": "bits"}, "words for single bits"),
        ({"field": "throttle_reasons", "kind": "bits", "words": {"3": "a"}}, "words for single bits"),
        ({"field": "throttle_reasons", "kind": "bits", "words": {"x": "a"}}, "words for single bits"),
    ],
)
def test_a_rule_for_a_list_that_cannot_be_right_is_refused(rule: dict[str, Any], says: str) -> None:
    with pytest.raises(MappingInvalid, match=says):
        table(MetricRule(["m"], "gpu", **rule))


def test_of_several_labels_the_first_that_has_a_value_counts() -> None:
    assert fill("{pod|pod_name}", {"pod_name": "b"}) == "b"
    assert fill("{pod|pod_name}", {"pod": "a", "pod_name": "b"}) == "a"
    assert fill("{pod|pod_name}", {"pod": "", "pod_name": "b"}) == "b"
    assert fill("x-{pod|pod_name}/{n}", {"pod_name": "b", "n": "1"}) == "x-b/1"
    assert fill("{pod|pod_name}", {"other": "c"}) is None


def test_a_series_with_a_label_of_something_else_is_not_taken() -> None:
    entity = EntityRule(EntityType.GPU, ["{id}"], without=["nvswitch"])
    pages = Pages(table(MetricRule(["x"], "gpu", field="xid"), entity=entity))
    read = pages.read('x{id="a"} 1\nx{id="b",nvswitch="0"} 1\nx{id="c",nvswitch=""} 1\n')
    assert [fragment.entity_id for fragment in read.fragments] == ["a", "c"]


def test_a_text_that_means_no_value_is_no_label() -> None:
    entity = EntityRule(EntityType.GPU, ["{id}"], fields={"model_name": "{model}"}, labels={"pod": "{pod}"})
    pages = Pages(table(MetricRule(["x"], "gpu", field="xid"), entity=entity))
    text = 'x{id="a",model="<<<NOT_SUPPORTED>>>",pod="<<<NULL>>>"} 1\nx{id="<<<NOT_FOUND>>>"} 1\n'
    read = pages.read(text)
    (fragment,) = read.fragments
    assert (fragment.fields, fragment.labels) == ({"xid": 1}, {})
    other = table(MetricRule(["x"], "gpu", field="xid"), entity=entity, blanks="none")
    assert {f.entity_id for f in Pages(other).read(text).fragments} == {"a", "<<<NOT_FOUND>>>"}


def test_a_counter_of_energy_is_power_and_one_of_time_a_share() -> None:
    rules = [
        MetricRule(["e"], "gpu", field="power_average_watts", unit="mJ", kind="counter"),
        MetricRule(["v"], "gpu", field="thermal_throttled", unit="ns", kind="counter"),
        MetricRule(["b"], "gpu", field="pcie_tx_bytes_per_second", unit="B", kind="counter"),
    ]
    pages = Pages(table(*rules))
    assert pages.read('e{id="a"} 5000\nv{id="a"} 0\nb{id="a"} 7\n').fragments == [], "one page has no rate"
    told = pages.fields('e{id="a"} 3005000\nv{id="a"} 2500000000\nb{id="a"} 1007\n')
    assert told == {
        "power_average_watts": pytest.approx(300.0),
        "thermal_throttled": pytest.approx(0.25),
        "pcie_tx_bytes_per_second": pytest.approx(100.0),
    }
    again = pages.fields('e{id="a"} 1000000\nv{id="a"} 0\nb{id="a"} 0\n')
    assert again["power_average_watts"] == pytest.approx(100.0), "a counter that fell counts from zero"
    assert again["thermal_throttled"] == 0.0


def test_what_a_counter_rates_to() -> None:
    assert [rate_unit(unit) for unit in ("", "B", "mJ", "W")] == ["1/s", "B/s", "mW", None]
    assert factor("ns/s", "1") == 1e-9
