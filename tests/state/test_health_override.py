"""A site's own health rules: what they change, how verdicts name them, and what a wrong file says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_facts import GPU, NODE, START

from steersman.kinds.entity import HealthState
from steersman.kinds.explanation import HealthVerdict
from steersman.state.health.override import FILES_MAX, HealthFileInvalid, use_health_files
from steersman.state.health.table import table_for
from steersman.state.health.verdict import health_of

HOT = {"gpu_utilization": 0.5, "temperature_celsius": 88.0}


@pytest.fixture(autouse=True)
def shipped_again() -> Iterator[None]:
    yield
    use_health_files([])


def written(folder: Path, text: str, name: str = "site.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def verdict(**signals: object) -> HealthVerdict:
    return health_of(GPU, signals or HOT, START)


WARM = """\
entity_type: gpu
version: 4
rules:
  - name: hot
    health: degraded
    detail: "it is at {temperature_celsius} °C"
    all: [{field: temperature_celsius, gt: 85}]
"""


def test_a_row_takes_the_place_of_the_shipped_one_and_the_verdict_names_it(tmp_path: Path) -> None:
    shipped = verdict()
    assert (shipped.health, shipped.table) == (HealthState.HEALTHY, f"gpu/v{table_for(GPU).version}")
    names = use_health_files([written(tmp_path, WARM)])
    assert names == [f"gpu/v{table_for(GPU).version}+site/v4"]
    found = verdict()
    assert (found.health, found.table) == (HealthState.DEGRADED, names[0])
    assert [r.name for r in table_for(GPU).rules].count("hot") == 1
    assert health_of(NODE, {"scheduler_state": "DOWN"}, START).table == f"node/v{table_for(NODE).version}"
    use_health_files([])
    assert verdict() == shipped, "without the file the shipped table is in force"


def test_rows_may_be_removed_and_later_files_change_earlier_ones(tmp_path: Path) -> None:
    off = written(tmp_path, "entity_type: gpu\nremove: [hot]\n", "off.yaml")
    (name,) = use_health_files([written(tmp_path, WARM), off])
    assert name.endswith("+site/v4+off/v1")
    assert verdict(gpu_utilization=0.5, temperature_celsius=99.0).health is HealthState.HEALTHY


def test_a_whole_table_may_be_replaced_but_a_sources_own_word_still_counts(tmp_path: Path) -> None:
    use_health_files([written(tmp_path, WARM + "replace: true\n")])
    assert {r.name for r in table_for(GPU).rules if not r.name.startswith("reported_")} == {"hot"}
    assert verdict(gpu_utilization=0.1, lost=True).health is HealthState.HEALTHY
    assert verdict(gpu_utilization=0.1, health_state="critical").health is HealthState.CRITICAL


def test_a_file_may_be_for_an_architecture(tmp_path: Path) -> None:
    use_health_files([written(tmp_path, WARM + "    only: [hopper]\n")])
    assert verdict(**HOT, model_name="NVIDIA H100 80GB HBM3").health is HealthState.DEGRADED
    assert verdict(**HOT, model_name="Tesla T4").health is HealthState.HEALTHY
    assert "hot" in verdict(**HOT).unjudged, "of an unknown architecture it can not be said"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("entity_type: gpu\nrules:\n  - name: x\n    detail: d\n", 3, "health"),
        (WARM.replace("degraded", "bad"), 5, "bad"),
        (WARM.replace("temperature_celsius, gt", "heat, gt"), 4, "no field 'heat'"),
        (WARM.replace("gt: 85", "gt: 85, lt: 3"), 4, "exactly one comparison"),
        (WARM + "    only: [kepler]\n", 4, "no class 'kepler'"),
        (WARM + "    colour: red\n", 4, "colour"),
        ("entity_type: gpu\nremove:\n  - hot\n  - cold\n", 4, "no rule or planned state 'cold'"),
        ("entity_type: toaster\n", 1, "toaster"),
        ("entity_type: gpu\nevidence: [[model_name]]\n", 2, "never ages"),
        ("entity_type: gpu\n\trules: []\n", 2, ""),
        ("- a\n", 1, "object"),
    ],
)
def test_a_wrong_file_says_where_and_changes_nothing(tmp_path: Path, text: str, line: int, says: str) -> None:
    use_health_files([written(tmp_path, WARM)])
    before = verdict()
    path = written(tmp_path, text, "wrong.yaml")
    with pytest.raises(HealthFileInvalid) as told:
        use_health_files([path])
    assert str(path) in told.value.detail
    assert says in told.value.detail
    assert told.value.facts["file"] == str(path)
    assert told.value.facts["line"] == line
    assert verdict() == before


def test_a_file_that_is_not_there_and_too_many_of_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HealthFileInvalid, match="can't be read"):
        use_health_files([tmp_path / "none.yaml"])
    with pytest.raises(HealthFileInvalid, match="at most"):
        use_health_files([tmp_path / "none.yaml"] * (FILES_MAX + 1))
