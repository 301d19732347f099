"""The pipelines driver: states kept, times, what is missing, what is gone, versions, garbage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.pipelines import PipelinesDriver, PipelinesOptions
from steersman.drivers.pipelines.airflow import PAGES_MAX, TASK_RUNS_MAX
from steersman.drivers.pipelines.fake import FakeAirflow, FakeDagster
from steersman.drivers.pipelines.picture import Picture, Stage
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.secret import Secret
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment

CLOCK = SystemClock()
CONTEXT = DriverContext("flows", "prod", CLOCK, seeded_rng(1), 30.0, 10.0)
STAGE = EntityType.DATA_PIPELINE_STAGE


@asynccontextmanager
async def watched(fake: FakeAirflow | FakeDagster, **options: Any) -> AsyncIterator[PipelinesDriver]:
    await fake.start()
    flavor: Any = "airflow" if isinstance(fake, FakeAirflow) else "dagster"
    driver = PipelinesDriver(PipelinesOptions(flavor=flavor, url=fake.web.url, **options), CONTEXT)
    try:
        yield driver
    finally:
        await driver.close()
        await fake.stop()


async def look(fake: FakeAirflow | FakeDagster, **options: Any) -> Observation:
    async with watched(fake, **options) as driver:
        return await driver.observe()


def stages(seen: Observation) -> dict[str, dict[str, Any]]:
    return {f.entity_id: f.fields for f in seen.fragments if f.entity_type is STAGE}


def scheduler(seen: Observation) -> StateFragment:
    (found,) = (f for f in seen.fragments if f.entity_id.endswith("/scheduler"))
    return found


def age_s(value: Any) -> float:
    return (CLOCK.now() - value).total_seconds()


VERSIONS = pytest.mark.parametrize("version", ["v2", "v1"])


@VERSIONS
async def test_a_dag_is_in_the_state_of_its_newest_run_and_knows_its_last_success(version: str) -> None:
    fake = FakeAirflow(version)
    fake.add("etl", "success", "failed", due_in_s=-120.0)
    seen = await look(fake)
    assert (seen.complete, seen.warnings, seen.drift) == (True, [], [])
    etl = stages(seen)["etl"]
    assert etl["stage_state"] == "failed"
    assert age_s(etl["last_success_at"]) == pytest.approx(7140, abs=30), "the older run's end"
    assert etl["lag_seconds"] == pytest.approx(120, abs=30), "its next run is due since then"
    assert "throughput" not in etl
    assert {request.path.split("/")[2] for request in fake.web.requests} <= {"v1", "v2"}
    assert fake.web.requests[-1].path.startswith(f"/api/{version}/")


@pytest.mark.parametrize(
    "state", ["up_for_retry", "deferred", "upstream_failed", "up_for_reschedule", "skipped", "queued"]
)
async def test_states_of_tasks_are_kept_in_airflows_words(state: str) -> None:
    fake = FakeAirflow()
    fake.add("etl", "running")
    fake.tasks["etl", "scheduled__0"] = [
        {"task_id": "load", "state": state},
        {"task_id": "wait", "state": None},
    ]
    seen = await look(fake)
    assert stages(seen)["etl/load"]["stage_state"] == state
    assert stages(seen)["etl/wait"]["stage_state"] == "none", "not yet scheduled"
    assert seen.drift == []


async def test_of_a_mapped_task_the_instance_that_is_worst_speaks() -> None:
    fake = FakeAirflow()
    fake.add("etl", "running")
    fake.tasks["etl", "scheduled__0"] = [
        {"task_id": "load", "map_index": n, "state": state}
        for n, state in enumerate(("success", "failed", "running"))
    ]
    assert stages(await look(fake))["etl/load"]["stage_state"] == "failed"


async def test_a_paused_dag_is_paused_and_lags_behind_nothing() -> None:
    fake = FakeAirflow()
    fake.add("etl", "success", paused=True, due_in_s=-5000.0)
    etl = stages(await look(fake))["etl"]
    assert etl["stage_state"] == "paused"
    assert etl["last_run_state"] == "success"
    assert "lag_seconds" not in etl


async def test_a_dag_that_never_ran_has_no_state_and_no_success() -> None:
    fake = FakeAirflow()
    fake.add("etl")
    etl = stages(await look(fake))["etl"]
    assert "stage_state" not in etl
    assert "last_success_at" not in etl


@VERSIONS
async def test_the_scheduler_is_a_service_with_a_heart(version: str) -> None:
    fake = FakeAirflow(version)
    fake.beat(age_s=45, status="unhealthy")
    fields = scheduler(await look(fake)).fields
    assert fields["up"] is False
    assert fields["heartbeat_age_seconds"] == pytest.approx(45, abs=10)
    fake.beat()
    assert scheduler(await look(fake)).fields["up"] is True


async def test_a_triggerer_that_does_not_run_is_not_down() -> None:
    seen = await look(FakeAirflow())
    assert not [f for f in seen.fragments if "triggerer" in f.entity_id]


async def test_lists_are_read_page_by_page_and_within_bounds() -> None:
    fake = FakeAirflow()
    for number in range(250):
        fake.add(f"d{number}", "success")
    seen = await look(fake, tasks=False)
    assert len(stages(seen)) == 250
    assert all("stage_state" in fields for fields in stages(seen).values()), "runs are paged, too"
    offsets = [r.path for r in fake.web.requests if r.path.startswith("/api/v2/dags?")]
    assert len(offsets) == 3
    fake.dags *= PAGES_MAX
    seen = await look(fake, tasks=False)
    assert "more than 2000; the rest is not told" in seen.warnings[0]
    assert not seen.complete


async def test_tasks_are_asked_for_a_bounded_number_of_runs_unless_they_are_not_wanted() -> None:
    fake = FakeAirflow()
    for number in range(TASK_RUNS_MAX + 5):
        fake.add(f"d{number}", "running")
    seen = await look(fake)
    assert "the tasks of 5 DAGs were not asked for" in seen.warnings[0]
    fake.web.requests.clear()
    assert (await look(fake, tasks=False)).complete
    assert not [request for request in fake.web.requests if "taskInstances" in request.path]


async def test_a_dag_that_is_no_longer_there_is_gone_with_its_tasks() -> None:
    fake = FakeAirflow()
    fake.add("a", "running")
    fake.add("b", "running")
    async with watched(fake) as driver:
        assert (await driver.observe()).gone == []
        fake.dags = [dag for dag in fake.dags if dag["dag_id"] == "b"]
        fake.answers["taskInstances"] = {"task_instances": [], "total_entries": 0}
        seen = await driver.observe()
        assert seen.gone == [EntityKey(STAGE, "prod", "a"), EntityKey(STAGE, "prod", "a/load")]
        fake.dags = [{"dag": "broken"}]
        assert (await driver.observe()).gone == [], "what can't be read may be the one that is missed"


async def test_an_airflow_that_is_upgraded_is_read_on() -> None:
    fake = FakeAirflow("v1")
    fake.add("etl", "success")
    async with watched(fake) as driver:
        await driver.observe()
        fake.version = "v2"
        with pytest.raises(SourceError, match="neither"):
            await driver.observe()
        assert "etl" in stages(await driver.observe())


async def test_only_pipelines_that_are_wanted_are_told() -> None:
    fake = FakeAirflow()
    for name in ("etl-a", "etl-b", "other"):
        fake.add(name, "success")
    assert set(stages(await look(fake, tasks=False, only=["etl-*"]))) == {"etl-a", "etl-b"}


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        ("dagRuns", {"dag_runs": None, "total_entries": 0}),
        ("dagRuns", {"dag_runs": {"a": 1}}),
        ("taskInstances", {"task_instances": None}),
        ("taskInstances", {"task_instances": [None, 7, {"task_id": None}]}),
        ("taskInstances", []),
    ],
)
async def test_a_part_that_is_odd_costs_itself_alone(part: str, answer: Any) -> None:
    fake = FakeAirflow()
    fake.add("etl", "running")
    fake.answers[part] = answer
    seen = await look(fake)
    assert "etl" in stages(seen)
    assert not seen.complete
    assert seen.warnings


@pytest.mark.parametrize("answer", [{"dags": None}, {}, [], "text", {"dags": {"a": 1}}])
async def test_without_a_list_of_dags_the_source_is_down(answer: Any) -> None:
    fake = FakeAirflow()
    fake.answers["dags"] = answer
    with pytest.raises(SourceError):
        await look(fake)


@pytest.mark.parametrize(
    ("options", "header"),
    [({"token": Secret("jwt")}, "Bearer jwt"), ({"username": "u", "password": Secret("p")}, "Basic dTpw")],
)
async def test_a_token_or_a_password_goes_with_each_request(options: dict[str, Any], header: str) -> None:
    fake = FakeAirflow()
    fake.add("etl", "success")
    await look(fake, **options)
    assert {request.headers["authorization"] for request in fake.web.requests} == {header}


async def test_a_job_of_dagster_is_in_the_state_of_its_newest_run() -> None:
    fake = FakeDagster()
    fake.add("etl", "SUCCESS", "FAILURE", "STARTED")
    fake.make("lake", "users", age_s=90, status="DEGRADED")
    seen = await look(fake)
    assert (seen.complete, seen.drift) == (True, [])
    found = stages(seen)
    assert found["job/etl"]["stage_state"] == "STARTED"
    assert age_s(found["job/etl"]["last_success_at"]) == pytest.approx(10740, abs=30)
    asset = found["asset/lake/users"]
    assert asset["stage_state"] == "DEGRADED"
    assert age_s(asset["last_success_at"]) == pytest.approx(90, abs=30), "milliseconds, as a text"
    fields = scheduler(seen).fields
    assert (fields["up"], fields["heartbeat_age_seconds"]) == (True, pytest.approx(3, abs=10))
    assert not [f for f in seen.fragments if "backfill" in f.entity_id], "a daemon that is not needed"


@pytest.mark.parametrize(
    ("schema", "field", "value"),
    [
        ("freshnessStatusInfo", "stage_state", "HEALTHY"),
        ("freshnessInfo", "lag_seconds", 300.0),
        ("none", "stage_state", None),
    ],
)
async def test_freshness_in_the_words_of_each_version(schema: str, field: str, value: Any) -> None:
    """A field that the schema does not have fails the query in `errors`, with status 200."""
    fake = FakeDagster(freshness=schema)
    fake.make("users")
    async with watched(fake) as driver:
        seen = await driver.observe()
        assert seen.complete
        assert stages(seen)["asset/users"].get(field) == value
        fake.web.requests.clear()
        await driver.observe()
        assert len(fake.web.requests) == 4, "and is not tried again"


@pytest.mark.parametrize(
    "answer",
    [
        {"data": None, "errors": [{"message": "boom"}]},
        {"data": {"runsOrError": {"__typename": "PythonError", "message": "boom"}}},
        {"data": {"runsOrError": None}},
        {"errors": "text"},
        {"data": []},
        {},
        [],
    ],
)
async def test_runs_that_are_errors_are_a_source_error(answer: Any) -> None:
    fake = FakeDagster()
    fake.answers["Runs"] = answer
    with pytest.raises(SourceError):
        await look(fake)


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        ("Assets", {"data": {"assetNodes": None}}),
        ("Assets", {"data": {"assetNodes": [None, {"assetKey": {"path": "x"}}]}}),
        ("Daemons", {"data": {"instance": None}}),
        ("Daemons", {"data": None, "errors": [{"message": "no"}]}),
    ],
)
async def test_a_part_of_dagster_that_is_odd_costs_itself_alone(part: str, answer: Any) -> None:
    fake = FakeDagster()
    fake.add("etl", "SUCCESS")
    fake.answers[part] = answer
    seen = await look(fake)
    assert stages(seen)["job/etl"]["stage_state"] == "SUCCESS"
    assert not seen.complete


async def test_a_page_of_html_instead_of_graphql_is_a_source_error() -> None:
    fake = FakeDagster()
    with pytest.raises(SourceError):
        await _html(fake)


async def _html(fake: FakeDagster) -> Observation:
    await fake.start()
    options = PipelinesOptions(flavor="dagster", url=f"{fake.web.url}/login")
    driver = PipelinesDriver(options, CONTEXT)
    try:
        return await driver.observe()
    finally:
        await driver.close()
        await fake.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_list_gives_what_can_be_read_of_it(value: Any) -> None:
    picture = Picture(CLOCK.now(), "http://h")
    read = picture.items([value, {"name": "n", "pipeline": "p"}], Stage, "stages")
    assert "n" in {stage.name for stage in read}
    picture.items(value, Stage, "stages")
