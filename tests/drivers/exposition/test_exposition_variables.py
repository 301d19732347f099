"""Variables of a page in what mappings make: put in where the page has them, left out where it has not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from steersman.drivers.exposition.mapping import EntityRule, Mapping, MappingInvalid, MetricRule, Variable
from steersman.drivers.exposition.plan import Plan, Reading
from steersman.drivers.exposition.series import SeriesCache
from steersman.kinds.entity import EntityType

AT = datetime(2026, 1, 1, tzinfo=UTC)
TABLE = Mapping(
    name="t",
    entities={
        "gpu": EntityRule(
            type=EntityType.GPU,
            id=["{gpu}"],
            labels={"rack": "{@rack}", "place": "{@rack}/{gpu}", "note": "{note}", "cluster": "{@rack}"},
            fields={"driver_version": "{@driver}", "gpu_index": "{@index}", "node": "{host}"},
        )
    },
    metrics=[MetricRule(metric=["watts"], entity="gpu", field="power_draw_watts", unit="W")],
    variables={"index": Variable(metric="place_info", label="index")},
)


def read(text: str, variables: dict[str, str], pages: int = 1) -> Reading:
    plan = Plan([TABLE], "source", {"cluster": "lab"})
    cache = SeriesCache(plan.want, plan.forget)
    reading = Reading()
    for turn in range(pages):
        reading = plan.build(cache.read(text), AT, 10.0 * turn, variables)
    return reading


PAGE = 'watts{gpu="g0",host="n1",note="x {@rack}"} 300\n'


def test_a_text_whose_variable_is_missing_is_left_out() -> None:
    (fragment,) = read(PAGE, {}).fragments
    assert fragment.labels == {"note": "x {@rack}", "cluster": "lab"}
    assert fragment.fields == {"power_draw_watts": 300.0, "node": "n1"}


def test_a_text_whose_variable_is_there_has_it_and_its_fields_type() -> None:
    read_once = read(PAGE, {"@rack": "r1", "@driver": "550"}, pages=2)
    (fragment,) = read_once.fragments
    assert fragment.labels == {"note": "x {@rack}", "cluster": "lab", "rack": "r1", "place": "r1/g0"}
    assert fragment.fields == {"power_draw_watts": 300.0, "node": "n1", "driver_version": "550"}
    (fragment,) = read(f'{PAGE}place_info{{index="3"}} 1\n', {}).fragments
    assert fragment.fields["gpu_index"] == 3


@pytest.mark.parametrize("more", [{"key": "{@rack}"}, {"kind": "info", "fields": {"node": "{@rack}"}}])
def test_a_variable_where_none_is_put_in_is_refused(more: dict[str, object]) -> None:
    rule = MetricRule(metric=["x"], entity="gpu", field="_x", **more)  # type: ignore[arg-type] - any of its keys
    with pytest.raises(MappingInvalid, match="variables belong to"):
        Mapping(name="t", entities=TABLE.entities, metrics=[rule])
