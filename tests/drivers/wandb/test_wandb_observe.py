"""The wandb driver over its fake: what is told of runs, what it costs, and what a refusal does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.wandb import WandbDriver, WandbOptions
from steersman.drivers.wandb.fake import FakeWandb
from steersman.drivers.wandb.runs import METRICS_MAX, run_facts
from steersman.drivers.wandb.shapes import Run
from steersman.drivers.web.look import read_items
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import Duration
from steersman.kernel.secret import Secret
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import check_fields

RUN = EntityType.EXPERIMENT_TRACKER


class ShiftedClock(SystemClock):
    """The machine's clock, as far ahead as a test says."""

    ahead_s = 0.0

    def now(self) -> Any:
        return super().now() + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class World:
    """A fake server, a driver, and the time of both."""

    def __init__(self, fake: FakeWandb, driver: WandbDriver, clock: ShiftedClock) -> None:
        self.fake, self.driver, self.clock = fake, driver, clock

    async def look(self) -> Observation:
        self.fake.web.requests.clear()
        return await self.driver.observe()

    @property
    def asked(self) -> list[str]:
        queries = [msgspec.json.decode(request.body)["query"] for request in self.fake.web.requests]
        return [query.split("(")[0].split("{")[0].split()[-1] for query in queries]


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    clock = ShiftedClock()
    fake = await FakeWandb(clock, seeded_rng(7)).start()
    context = DriverContext("wb", "", clock, seeded_rng(1), interval_s=60.0, timeout_s=5.0)
    driver = WandbDriver(WandbOptions(url=fake.url, api_key=Secret("k"), **options), context)
    try:
        yield World(fake, driver, clock)
    finally:
        await driver.close()
        await fake.stop()


def fields_of(seen: Observation, name: str) -> dict[str, Any]:
    (found,) = [fragment for fragment in seen.fragments if fragment.entity_id.endswith(name)]
    return found.fields


async def test_a_run_is_told_with_its_state_heartbeat_summary_and_job() -> None:
    async with world(job_config="slurm_job_id", silent_after=Duration(120)) as w:
        summary = {
            "loss": 0.25,
            "epoch": 3,
            "best": {"max": 1},
            "diverged": "NaN",
            "up": "Infinity",
            "note": "hello",
            "done": True,
            "_runtime": 55,
        }
        config = {"slurm_job_id": 4711, "password": "hunter2"}
        run = w.fake.add_run("nlp", ago_s=30, summary=summary, config=config)
        seen = await w.look()
        told = fields_of(seen, run["name"])
        assert seen.fragments[0].entity_id == f"lab/nlp/{run['name']}"
        assert told["run_state"] == "running"
        assert told["metrics"] == {"loss": 0.25, "epoch": 3.0}
        assert told["metrics_not_finite"] == ["diverged", "up"]
        assert told["heartbeat_timeout_s"] == 120.0
        assert told["job_id"] == "4711"
        age = w.clock.now() - told["heartbeat_at"]
        assert timedelta(seconds=29) < age < timedelta(seconds=40), "a time without a zone is UTC"
        assert told["started_at"] < told["heartbeat_at"]
        assert seen.fragments[0].labels == {"experiment": "nlp", "entity": "lab", "user": "ada"}
        assert "hunter2" not in repr(seen)
        assert seen.complete


async def test_configuration_is_not_even_asked_for_without_need() -> None:
    async with world() as w:
        w.fake.add_run("nlp", config={"password": "hunter2"})
        await w.look()
        bodies = [msgspec.json.decode(request.body) for request in w.fake.web.requests]
        assert [body["variables"]["config"] for body in bodies if "config" in body["variables"]] == [
            False
        ] * 2


@pytest.mark.parametrize(
    "state", ["running", "finished", "failed", "crashed", "killed", "preempted", "preempting"]
)
async def test_each_word_of_state_is_known(state: str) -> None:
    async with world() as w:
        run = w.fake.add_run("nlp", state)
        seen = await w.look()
        assert fields_of(seen, run["name"])["run_state"] == state
        assert not seen.drift


async def test_runs_that_wait_have_no_heartbeat_and_are_told_all_the_same() -> None:
    async with world() as w:
        run = w.fake.add_run("nlp", "pending", ago_s=9000)
        told = fields_of(await w.look(), run["name"])
        assert told["run_state"] == "pending"
        assert "heartbeat_at" not in told


async def test_old_runs_are_not_read_and_pages_are_followed() -> None:
    async with world(keep_ended=Duration(3600)) as w:
        for number in range(150):
            w.fake.add_run("nlp", "finished", ago_s=60 + number)
        for number in range(500):
            w.fake.add_run("nlp", "finished", ago_s=4000 + number)
        seen = await w.look()
        assert len(seen.fragments) == 150
        assert w.asked == ["Viewer", "Projects", "Runs", "Runs", "Runs"], "two pages, and those that wait"
        assert seen.whole == (RUN,)
        assert (await w.look()).whole == ()
        assert "Viewer" not in w.asked


async def test_an_ended_run_is_gone_after_a_while_and_a_deleted_one_at_once() -> None:
    async with world(keep_ended=Duration(3600)) as w:
        done = w.fake.add_run("nlp", "finished", ago_s=3000)
        deleted = w.fake.add_run("nlp")
        assert len((await w.look()).fragments) == 2
        w.fake.projects["nlp"].remove(deleted)
        assert [key.entity_id for key in (await w.look()).gone] == [f"lab/nlp/{deleted['name']}"]
        w.clock.ahead_s = 900
        assert [key.entity_id for key in (await w.look()).gone] == [f"lab/nlp/{done['name']}"]
        assert (await w.look()).gone == []


async def test_projects_are_chosen_by_name_without_a_request_and_by_pattern_with_one() -> None:
    async with world(entity="lab", projects=["nlp"]) as w:
        w.fake.add_run("nlp")
        w.fake.add_run("vision")
        assert len((await w.look()).fragments) == 1
        assert w.asked == ["Runs", "Runs"]
    async with world(entity="lab", projects=["vis*"]) as w:
        w.fake.add_run("nlp")
        run = w.fake.add_run("vision")
        assert fields_of(await w.look(), run["name"])["experiment"] == "vision"


async def test_a_project_that_can_not_be_seen_costs_only_itself() -> None:
    async with world(entity="lab", projects=["nlp", "secret"]) as w:
        w.fake.add_run("nlp")
        seen = await w.look()
        assert len(seen.fragments) == 1
        assert not seen.complete
        assert "no project lab/secret" in seen.warnings[0]


async def test_an_odd_run_costs_only_itself_and_is_not_called_gone() -> None:
    async with world() as w:
        run, other = w.fake.add_run("nlp"), w.fake.add_run("nlp")
        await w.look()
        run["state"] = {"code": 1}
        seen = await w.look()
        assert fields_of(seen, other["name"])
        assert not seen.complete
        assert seen.gone == []


async def test_more_runs_than_the_bound_are_said() -> None:
    async with world(runs_max=100) as w:
        for _ in range(201):
            w.fake.add_run("nlp")
        seen = await w.look()
        assert len(seen.fragments) == 100
        assert "runs_max 100" in seen.warnings[0]
        assert seen.whole == ()


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "120"}, 120),
        ({"RateLimit-Reset": "30"}, 30),
        ({}, 60),
        ({"Retry-After": "soon"}, 60),
        ({"Retry-After": "999999"}, 3600),
        ({"Retry-After": "date"}, 90),
    ],
)
async def test_too_many_requests_are_a_failure_and_then_silence(headers: dict[str, str], wait_s: int) -> None:
    async with world() as w:
        w.fake.add_run("nlp")
        if headers.get("Retry-After") == "date":
            headers = {"Retry-After": format_datetime(w.clock.now() + timedelta(seconds=90), usegmt=True)}
        w.fake.limited = headers
        with pytest.raises(SourceError, match="limits our requests") as failure:
            await w.look()
        assert abs(float(failure.value.detail.split(" in ")[1].split()[0]) - wait_s) <= 2
        w.fake.limited = None
        w.clock.ahead_s += wait_s - 3
        with pytest.raises(SourceError, match="limits our requests"):
            await w.look()
        assert w.asked == [], "it is not asked before its time"
        w.clock.ahead_s += 5
        w.fake.add_run("nlp")
        assert (await w.look()).fragments


async def test_errors_of_graphql_are_failures_in_their_own_words() -> None:
    async with world() as w:
        w.fake.errors = [{"message": "permission\ndenied"}]
        with pytest.raises(SourceError, match="permission denied"):
            await w.look()


@pytest.mark.parametrize(("status", "said"), [(401, "another api_key"), (404, "no W&B API")])
async def test_refusals_say_what_to_do(status: int, said: str) -> None:
    async with world() as w:
        if status == 401:
            w.fake.authorization = "Basic other"
            with pytest.raises(SourceError, match=said):
                await w.look()
        else:
            context = DriverContext("wb", "", w.clock, seeded_rng(1), 60.0, 5.0)
            driver = WandbDriver(WandbOptions(url=f"{w.fake.url}/elsewhere"), context)
            with pytest.raises(SourceError, match=said):
                await driver.observe()
            await driver.close()


@pytest.mark.parametrize("more", [{"token": Secret("t")}, {"username": "u", "password": Secret("p")}])
def test_one_way_to_log_in(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not both"):
        WandbOptions(api_key=Secret("k"), **more)


def test_the_cloud_is_where_it_asks_by_default_and_the_key_is_not_shown() -> None:
    options = WandbOptions(api_key=Secret("hunter2"))
    assert options.url == "https://api.wandb.ai"
    assert "hunter2" not in repr(options)


def test_metrics_are_chosen_and_bounded() -> None:
    summary = msgspec.json.encode({f"m{n:04}": n for n in range(500)}).decode()
    run = Run(name="r", state="running", summary_metrics=summary)
    told = run_facts(run, "e", "p", WandbOptions(metrics=["m04*"])).fields["metrics"]
    assert len(told) == METRICS_MAX
    assert min(told) == "m0400"


def test_a_summary_that_is_no_json_is_told_as_drift() -> None:
    facts = run_facts(
        Run(name="r", state="running", summary_metrics='{"loss": NaN}'), "e", "p", WandbOptions()
    )
    assert facts.fields["metrics"] == {}
    assert facts.drift


leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
name = st.text(max_size=5)
value = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(name, inner, max_size=3), max_leaves=6
)
inner_json = st.dictionaries(name, value, max_size=4).map(lambda d: msgspec.json.encode(d).decode())
times = st.sampled_from(["2024-01-01T00:00:00", "2024-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "x"])
runs = st.fixed_dictionaries(
    {},
    optional={
        "name": name | value,
        "state": st.sampled_from(["running", "odd"]) | value,
        "createdAt": times | value,
        "heartbeatAt": times | value,
        "summaryMetrics": inner_json | value,
        "config": inner_json | value,
        "user": value,
    },
)


@given(st.lists(runs | value, max_size=4))
def test_any_answer_gives_runs_with_sound_fields_or_a_warning(answers: list[Any]) -> None:
    warnings: list[str] = []
    raw = [msgspec.Raw(msgspec.json.encode(answer)) for answer in answers]
    read = read_items(raw, Run, warnings, "a run")
    assert len(read) == len(answers) or warnings
    for run in read:
        facts = run_facts(run, "e", "p", WandbOptions(job_config="a"))
        assert not check_fields(RUN, facts.fields)
