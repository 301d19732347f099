"""The mlflow driver over its fake: what is told of runs and versions, what is gone, and what it costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.mlflow import MlflowDriver, MlflowOptions
from steersman.drivers.mlflow.fake import FakeMlflow
from steersman.drivers.mlflow.runs import METRICS_MAX, run_facts
from steersman.drivers.mlflow.shapes import Run, time_of
from steersman.drivers.web.look import read_items
from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import Duration
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import check_fields
from steersman.kinds.fragment import StateFragment

RUN, REVISION = EntityType.EXPERIMENT_TRACKER, EntityType.MODEL_REVISION


class ShiftedClock(SystemClock):
    """The machine's clock, as far ahead as a test says."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class World:
    """A fake server, a driver, and the time of both."""

    def __init__(self, fake: FakeMlflow, driver: MlflowDriver, clock: ShiftedClock) -> None:
        self.fake, self.driver, self.clock = fake, driver, clock

    async def look(self) -> Observation:
        self.fake.web.requests.clear()
        return await self.driver.observe()

    def pass_time(self, **span: float) -> None:
        self.clock.ahead += timedelta(**span)

    @property
    def asked(self) -> list[str]:
        return [request.path.partition("?")[0].rpartition("mlflow/")[2] for request in self.fake.web.requests]

    @property
    def filters(self) -> list[str]:
        bodies = [msgspec.json.decode(request.body) for request in self.fake.web.requests if request.body]
        return [body["filter"] for body in bodies if "filter" in body]


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    clock = ShiftedClock()
    fake = await FakeMlflow(clock, seeded_rng(7)).start()
    fake.add_experiment("pretraining")
    context = DriverContext("mlf", "hpc", clock, seeded_rng(1), interval_s=30.0, timeout_s=5.0)
    driver = MlflowDriver(MlflowOptions(url=fake.url, **options), context)
    try:
        yield World(fake, driver, clock)
    finally:
        await driver.close()
        await fake.stop()


def of(seen: Observation, entity_id: str) -> StateFragment:
    (found,) = [fragment for fragment in seen.fragments if fragment.entity_id == entity_id]
    return found


def gone(seen: Observation) -> list[str]:
    return [key.entity_id for key in seen.gone]


async def test_a_run_is_told_with_its_words_times_metrics_and_job() -> None:
    async with world(params=["lr"], labels={"team": "nlp"}) as w:
        run = w.fake.add_run("1", ago_s=100, SLURM_JOB_ID="4711", **{"mlflow.user": "ada"})
        w.fake.log_metric(run, "loss", 0.25, ago_s=40)
        w.fake.log_metric(run, "norm", float("nan"), ago_s=20)
        w.fake.log_metric(run, "ppl", float("inf"), ago_s=30)
        w.fake.log_param(run, "lr", "0.1")
        w.fake.log_param(run, "api_key", "hunter2")
        seen = await w.look()
        told = of(seen, run)
        age = w.clock.now() - told.fields["heartbeat_at"]
        assert timedelta(seconds=19) < age < timedelta(seconds=25), "a NaN is a sign of life too"
        assert told.fields["run_state"] == "RUNNING"
        assert told.fields["metrics"] == {"loss": 0.25}
        assert told.fields["metrics_not_finite"] == ["norm", "ppl"]
        assert told.fields["heartbeat_timeout_s"] == 600.0
        assert told.fields["params"] == {"lr": "0.1"}
        assert told.fields["job_id"] == "4711"
        assert "ended_at" not in told.fields
        assert told.clear == ("ended_at",)
        assert told.labels == {"experiment": "pretraining", "user": "ada", "team": "nlp", "cluster": "hpc"}
        assert seen.complete
        assert "hunter2" not in repr(seen)


async def test_a_run_without_metrics_counts_from_its_start() -> None:
    async with world() as w:
        run = w.fake.add_run("1", ago_s=7200)
        told = of(await w.look(), run).fields
        assert told["heartbeat_at"] == told["started_at"]


async def test_a_client_whose_clock_is_ahead_does_not_seem_alive_for_ever() -> None:
    async with world() as w:
        run = w.fake.add_run("1", ago_s=-3600)
        w.fake.log_metric(run, "loss", 1.0, ago_s=-3600)
        first = of(await w.look(), run).fields["heartbeat_at"]
        assert first <= w.clock.now()
        w.pass_time(minutes=30)
        assert of(await w.look(), run).fields["heartbeat_at"] == first, "nothing new was logged"
        w.fake.log_metric(run, "loss", 0.9, ago_s=-3600)
        assert of(await w.look(), run).fields["heartbeat_at"] > first


async def test_old_runs_are_not_read_again() -> None:
    async with world() as w:
        for _ in range(50):
            w.fake.end_run(w.fake.add_run("1", ago_s=90_000), ago_s=80_000)
        alive = w.fake.add_run("1")
        ended = w.fake.add_run("1", ago_s=700)
        w.fake.end_run(ended, ago_s=600)
        assert {f.entity_id for f in (await w.look()).fragments} == {alive, ended}
        assert "status != 'FINISHED'" in w.filters[0]
        seen = await w.look()
        assert {f.entity_id for f in seen.fragments} == {alive, ended}, "an ended run is told from memory"
        since_ms = int(w.filters[1].rpartition(" ")[2])
        age_s = w.clock.now().timestamp() - since_ms / 1000
        assert age_s < 310, "only what ended since the last look, and a little before, is asked for"


async def test_a_run_ends_stays_a_while_and_is_gone() -> None:
    async with world(keep_ended=Duration(3600)) as w:
        run = w.fake.add_run("1", ago_s=60)
        assert of(await w.look(), run).fields["run_state"] == "RUNNING"
        w.fake.end_run(run, "FAILED")
        told = of(await w.look(), run)
        assert told.fields["run_state"] == "FAILED"
        assert told.fields["ended_at"]
        assert told.clear == ()
        w.pass_time(minutes=50)
        assert of(await w.look(), run).fields["run_state"] == "FAILED"
        w.pass_time(minutes=20)
        seen = await w.look()
        assert gone(seen) == [run]
        assert not [f for f in seen.fragments if f.entity_id == run]
        assert gone(await w.look()) == [], "it is gone once"


async def test_a_run_that_ends_by_a_clock_far_behind_is_told_all_the_same() -> None:
    async with world() as w:
        run = w.fake.add_run("1", ago_s=90_000)
        await w.look()
        w.fake.end_run(run, ago_s=80_000)
        assert of(await w.look(), run).fields["run_state"] == "FINISHED"
        assert "runs/get" in w.asked
        assert of(await w.look(), run).fields["run_state"] == "FINISHED", "kept from when we saw it end"


async def test_a_resumed_run_runs_again() -> None:
    async with world() as w:
        run = w.fake.add_run("1")
        w.fake.end_run(run)
        assert of(await w.look(), run).fields["run_state"] == "FINISHED"
        w.fake.resume_run(run)
        told = of(await w.look(), run)
        assert told.fields["run_state"] == "RUNNING"
        assert told.clear == ("ended_at",)


async def test_deleted_runs_are_gone_alive_or_ended_and_so_are_purged_ones() -> None:
    async with world() as w:
        alive, ended, purged = (w.fake.add_run("1") for _ in range(3))
        w.fake.end_run(ended)
        await w.look()
        w.fake.delete_run(alive)
        w.fake.delete_run(ended)
        del w.fake.runs[purged]
        assert sorted(gone(await w.look())) == sorted([alive, ended, purged])


async def test_a_deleted_experiment_takes_its_runs_with_it() -> None:
    async with world() as w:
        alive, ended = w.fake.add_run("1"), w.fake.add_run("1")
        w.fake.end_run(ended)
        w.fake.add_experiment("other")
        await w.look()
        w.fake.experiments["1"]["lifecycle_stage"] = "deleted"
        assert sorted(gone(await w.look())) == sorted([alive, ended])


async def test_what_a_failed_look_found_out_is_told_by_the_next_one() -> None:
    async with world() as w:
        run = w.fake.add_run("1")
        await w.look()
        del w.fake.runs[run]
        page = w.fake._search_runs
        calls = 0

        def fail_at_the_second(asked: dict[str, Any]) -> dict[str, Any]:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise ValueError("busy")
            return page(asked)

        w.fake._search_runs = fail_at_the_second  # type: ignore[method-assign]  # the fake fails in its midst
        with pytest.raises(SourceError, match="INVALID_PARAMETER_VALUE"):
            await w.look()
        assert gone(await w.look()) == [run]


async def test_only_the_experiments_that_are_asked_for_are_followed() -> None:
    async with world(experiments=["pre*"]) as w:
        other = w.fake.add_experiment("scratch")
        w.fake.add_run(other)
        run = w.fake.add_run("1")
        assert [f.entity_id for f in (await w.look()).fragments] == [run]


async def test_a_run_that_started_too_long_ago_is_not_followed_and_one_that_becomes_so_is_let_go() -> None:
    async with world(started_within=Duration(3600)) as w:
        w.fake.add_run("1", ago_s=4000)
        run = w.fake.add_run("1", ago_s=3000)
        assert [f.entity_id for f in (await w.look()).fragments] == [run]
        w.pass_time(minutes=30)
        assert gone(await w.look()) == [run]


async def test_pages_are_followed_and_more_than_the_bound_is_said() -> None:
    async with world(runs_max=1200) as w:
        for _ in range(1300):
            w.fake.add_run("1")
        seen = await w.look()
        assert len(seen.fragments) == 1200
        assert not seen.complete
        assert "runs_max 1200" in " ".join(seen.warnings)
        assert RUN not in seen.whole
    async with world() as w:
        for _ in range(1300):
            w.fake.add_run("1")
        seen = await w.look()
        assert len(seen.fragments) == 1300
        assert seen.complete
        assert RUN in seen.whole
        assert RUN not in (await w.look()).whole, "said once"


async def test_many_vanished_runs_are_asked_for_over_several_looks() -> None:
    async with world() as w:
        runs = [w.fake.add_run("1") for _ in range(40)]
        await w.look()
        w.fake.runs.clear()
        first = await w.look()
        assert len(first.gone) == 32
        assert "8 runs are no longer listed" in " ".join(first.warnings)
        assert set(gone(first)) | set(gone(await w.look())) == set(runs)


async def test_versions_have_states_stages_and_aliases() -> None:
    async with world() as w:
        w.fake.add_version("chat", run_id="r1")
        w.fake.add_version("chat", "FAILED_REGISTRATION", "Archived")
        w.fake.add_version("chat", "PENDING_REGISTRATION")
        w.fake.models["chat"]["aliases"] = [{"alias": "champion", "version": "1"}]
        seen = await w.look()
        told = {f.entity_id: f.fields for f in seen.fragments}
        assert told["chat/1"] == {
            "model_name": "chat",
            "model_version": "1",
            "revision_state": "READY",
            "aliases": ["champion"],
            "run_id": "r1",
        }
        assert told["chat/2"]["rollout_phase"] == "Archived"
        assert told["chat/2"]["revision_state"] == "FAILED_REGISTRATION"
        assert told["chat/3"]["revision_state"] == "PENDING_REGISTRATION"
        assert REVISION in seen.whole
        w.fake.add_version("chat", "SOMETHING_NEW")
        del w.fake.versions["chat/2"]
        for _ in range(3):
            assert "registered-models/search" not in ((await w.look()) and w.asked), "not with every look"
        seen = await w.look()
        assert gone(seen) == ["chat/2"]
        assert "SOMETHING_NEW" in " ".join(seen.drift)


async def test_a_server_without_a_registry_costs_only_that() -> None:
    async with world() as w:
        w.fake.registry = False
        run = w.fake.add_run("1")
        seen = await w.look()
        assert of(seen, run)
        assert not seen.complete
        assert "registry" in seen.warnings[0]
    async with world(models=False) as w:
        w.fake.registry = False
        w.fake.add_run("1")
        assert (await w.look()).complete


@pytest.mark.parametrize(
    ("status", "said"), [(401, "other credentials"), (403, "does not let us"), (404, "no MLflow at this url")]
)
async def test_refusals_say_what_to_do(status: int, said: str) -> None:
    async with world() as w:
        if status == 401:
            w.fake.authorization = "Basic x"
        elif status == 404:
            w.driver = MlflowDriver(
                MlflowOptions(url=f"{w.fake.url}/elsewhere"),
                DriverContext("m", "", w.clock, seeded_rng(1), 30.0, 5.0),
            )
        else:
            answer = w.fake.web.answer

            async def refuse(request: Any) -> Any:
                return msgspec.structs.replace(await answer(request), status=403)

            w.fake.web.answer = refuse
        with pytest.raises(SourceError, match=said):
            await w.look()
        await w.driver.close()


def run_of(**info: Any) -> Run:
    return msgspec.convert({"info": {"run_id": "r", "status": "RUNNING", **info}}, Run)


def test_metrics_are_chosen_by_pattern_and_bounded() -> None:
    metrics = [{"key": f"m{n:04}", "value": 1.0, "timestamp": 1} for n in range(500)]
    run = msgspec.convert({"info": {"run_id": "r", "status": "RUNNING"}, "data": {"metrics": metrics}}, Run)
    options = MlflowOptions(url="http://x", metrics=["m04*", "m0001"])
    told = run_facts(run, None, {}, options).fields["metrics"]
    assert len(told) == METRICS_MAX
    assert list(told)[:2] == ["m0001", "m0400"]


def test_a_word_that_is_not_known_is_kept_and_told() -> None:
    facts = run_facts(run_of(status="PAUSED"), None, {}, MlflowOptions(url="http://x"))
    assert facts.fields["run_state"] == "PAUSED"
    assert facts.drift


@pytest.mark.parametrize(
    ("stamp", "when"),
    [
        (1_700_000_000_000, datetime.fromtimestamp(1_700_000_000, UTC)),
        ("1700000000000", datetime.fromtimestamp(1_700_000_000, UTC)),
        (0, None),
        (None, None),
        (-5, None),
        ("soon", None),
        (10**30, None),
    ],
)
def test_times_are_milliseconds_or_absent(stamp: Any, when: datetime | None) -> None:
    assert time_of(stamp) == when


leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
json_value = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
runs = st.fixed_dictionaries(
    {},
    optional={
        "info": st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ("run_id", "status", "start_time", "end_time", "lifecycle_stage", "run_name", "user_id"),
                json_value,
            ),
        )
        | json_value,
        "data": st.fixed_dictionaries(
            {},
            optional={
                "metrics": st.lists(
                    st.fixed_dictionaries(
                        {}, optional={"key": json_value, "value": json_value, "timestamp": json_value}
                    ),
                    max_size=3,
                ),
                "tags": json_value,
                "params": json_value,
            },
        ),
    },
)


@given(st.lists(runs | json_value, max_size=4))
def test_any_answer_gives_runs_with_sound_fields_or_a_warning(answers: list[Any]) -> None:
    warnings: list[str] = []
    raw = [msgspec.Raw(msgspec.json.encode(answer)) for answer in answers]
    read = read_items(raw, Run, warnings, "a run")
    assert len(read) == len(answers) or warnings
    for run in read:
        facts = run_facts(run, None, {"1": "e"}, MlflowOptions(url="http://x", params=["p"]))
        assert not check_fields(RUN, facts.fields)


def test_options_refuse_the_scope_as_a_label() -> None:
    with pytest.raises(ValueError, match="scope"):
        MlflowOptions(url="http://x", labels={"cluster": "a"})


def test_a_driver_is_made_without_any_io() -> None:
    context = DriverContext("m", "", ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), seeded_rng(1), 30.0, 5.0)
    MlflowDriver(MlflowOptions(url="http://127.0.0.1:1"), context)
