"""The slurm driver as a whole: equal entities by every version and way, what did not change, what is gone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from servers.slurm import PROGRAMS, SlurmCluster
from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.slurm import SlurmDriver, SlurmOptions
from steersman.drivers.slurm.entities import drain_intent
from steersman.drivers.slurm.fake import FakeJob, FakeSlurm
from steersman.drivers.slurm.options import API_VERSIONS, AUTOMATIC_REASONS
from steersman.drivers.slurm.shapes import jobs_of, read_said
from steersman.drivers.web.fake import Request, Response
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.entity import EntityType
from steersman.testing.driver import context

OF_THE_RELEASE = {"agent_version", "version", "latency_ms"}
"""Fields that tell of the release or the way itself."""
OF_THE_MOMENT = {"runtime_seconds", "cycle_seconds", "server_threads", "load_1m"}


def manual() -> DriverContext:
    """A context whose time stands still, so that two looks are at one time."""
    clock = ManualClock(datetime(2026, 5, 4, tzinfo=UTC))
    return DriverContext("suite-source", "suite-scope", clock, seeded_rng(1), 30.0, 5.0)


def told(seen: Observation, without: set[str]) -> dict[str, dict[str, Any]]:
    return {
        str(one.key): {name: value for name, value in one.fields.items() if name not in without}
        for one in seen.fragments
    }


def interesting(fake: FakeSlurm) -> FakeSlurm:
    """A cluster with some of everything."""
    fake.nodes["n1"].gres_used = "gpu:h100:2(IDX:0-1)"
    fake.nodes["n2"].state = ["IDLE", "DRAIN"]
    fake.nodes["n2"].reason, fake.nodes["n2"].reason_by = "Kill task failed", "root"
    fake.nodes["n2"].reason_at = fake.now - 60
    fake.nodes["n3"].load = None
    fake.jobs[8] = FakeJob(job_id=8, state=["PENDING"], started_ago_s=None, partition="main,low", gpus=1)
    fake.jobs[9] = FakeJob(
        job_id=9, state=["PENDING"], started_ago_s=None, array_job_id=9, array_tasks="1-5,8%2"
    )
    fake.jobs[10] = FakeJob(job_id=10, state=["FAILED"], nodes="n3", ended_ago_s=30, exit_code=3)
    fake.jobs[11] = FakeJob(job_id=11, state=["OUT_OF_MEMORY"], nodes="n3", ended_ago_s=30, signal=9)
    fake.jobs[12] = FakeJob(job_id=12, nodes="n1,n2", time_limit_minutes=None)
    fake.reservations["fw"] = {"nodes": "n3", "flags": ["MAINT"], "starts_in_s": 3600, "ends_in_s": 7200}
    return fake


async def test_each_version_gives_equal_entities() -> None:
    seen: dict[str, dict[str, dict[str, Any]]] = {}
    for version in API_VERSIONS:
        context = manual()
        fake = await interesting(FakeSlurm((version,), clock=context.clock)).start()
        driver = SlurmDriver(SlurmOptions(url=fake.url), context)
        try:
            look = await driver.observe()
        finally:
            await driver.close()
            await fake.stop()
        assert (look.warnings, look.drift, look.complete) == ([], [], True)
        seen[version] = told(look, OF_THE_RELEASE)
    first = seen[API_VERSIONS[0]]
    for version in API_VERSIONS:
        assert seen[version] == first, version
    assert first["node/suite-scope/n2"]["drain_intent"] == "automatic"
    assert "load_1m" not in first["node/suite-scope/n3"]
    assert first["node/suite-scope/n3"]["planned_reason"] == "maintenance"
    assert first["job/suite-scope/7"]["assigned_gpu_count"] == 2
    assert first["job/suite-scope/8"]["queues"] == ["main", "low"]
    assert first["job/suite-scope/10"]["exit_code"] == 3
    assert first["job/suite-scope/11"]["exit_code"] == 137
    assert "time_limit_seconds" not in first["job/suite-scope/12"]
    assert first["queue/suite-scope/main"]["pending_jobs"] == 7
    assert {"tenant_scope/suite-scope/partition:main", "tenant_scope/suite-scope/account:physics"} <= set(
        first
    )


async def test_the_newest_version_that_both_know_is_taken_and_found_again_after_an_upgrade() -> None:
    fake = await FakeSlurm(("v0.0.38", "v0.0.41", "v0.0.46")).start()
    driver = SlurmDriver(SlurmOptions(url=fake.url), context())
    try:
        first = await driver.observe()
        assert any("v0.0.46" in line for line in first.drift)
        assert any("/slurm/v0.0.41/nodes" in one.path for one in fake.web.requests)
        fake.versions = ("v0.0.44",)
        assert (await driver.observe()).fragments
        assert any("/slurm/v0.0.44/nodes" in one.path for one in fake.web.requests)
        fake.versions = ("v0.0.99",)
        with pytest.raises(SourceError, match=r"v0\.0\.99"):
            await driver.observe()
    finally:
        await driver.close()
        await fake.stop()


@pytest.mark.parametrize("version", ["v0.0.40", "v0.0.44"])
async def test_no_change_erases_nothing_and_what_left_is_gone(version: str) -> None:
    fake = await FakeSlurm((version,)).start()
    driver = SlurmDriver(SlurmOptions(url=fake.url), context())
    try:
        first = await driver.observe()
        assert EntityType.JOB in first.whole
        again = await driver.observe()
        assert any("update_time=" in one.path for one in fake.web.requests)
        assert told(again, OF_THE_MOMENT) == told(first, OF_THE_MOMENT)
        assert (again.gone, again.whole) == ([], ())
        fake.jobs.clear()
        fake.changed()
        later = await driver.observe()
        assert [str(key) for key in later.gone] == ["job/suite-scope/7"]
    finally:
        await driver.close()
        await fake.stop()


async def test_a_drain_that_is_over_is_cleared() -> None:
    fake = await FakeSlurm().start()
    driver = SlurmDriver(SlurmOptions(url=fake.url), context())
    try:
        fake.nodes["n1"].state, fake.nodes["n1"].reason = ["IDLE", "DRAIN"], "bad disk"
        fake.changed()
        await driver.observe()
        fake.nodes["n1"].state, fake.nodes["n1"].reason = ["IDLE"], ""
        fake.changed()
        (node,) = [one for one in (await driver.observe()).fragments if one.entity_id == "n1"]
        assert "drain_reason" in node.clear
    finally:
        await driver.close()
        await fake.stop()


def test_who_wants_a_drain() -> None:
    reasons = tuple(reason.lower() for reason in AUTOMATIC_REASONS)
    assert drain_intent("NHC: check_fs failed", "root", reasons) == "automatic"
    assert drain_intent("gres/gpu count reported lower than configured", "slurm", reasons) == "automatic"
    assert drain_intent("new firmware", "ada", reasons) == "planned"
    assert drain_intent("steersman:op-1 e3 new firmware", "root", reasons) == "planned"
    assert drain_intent("xid79", "root", reasons) is None


async def test_a_queue_may_be_a_qos_and_one_without_jobs_goes_on_being_told() -> None:
    fake = await FakeSlurm().start()
    driver = SlurmDriver(SlurmOptions(url=fake.url, queues="qos"), context())
    try:
        first = told(await driver.observe(), OF_THE_MOMENT)
        assert [key for key in first if key.startswith("queue/")] == ["queue/suite-scope/normal"]
        assert first["queue/suite-scope/normal"]["active_jobs"] == 1
        assert first["job/suite-scope/7"]["queue"] == "normal"
        fake.jobs.clear()
        fake.changed()
        later = told(await driver.observe(), OF_THE_MOMENT)
        assert later["queue/suite-scope/normal"]["active_jobs"] == 0
    finally:
        await driver.close()
        await fake.stop()


async def test_status_304_is_no_change_and_only_where_that_was_asked() -> None:
    fake = await FakeSlurm(("v0.0.44",)).start()
    driver = SlurmDriver(SlurmOptions(url=fake.url), context())
    real = fake.web.answer

    async def answer(request: Request) -> Response:
        return Response(b"", 304) if "update_time=" in request.path else await real(request)

    fake.web.answer = answer
    try:
        first = await driver.observe()
        again = await driver.observe()
        assert any("update_time=" in one.path for one in fake.web.requests)
        assert told(again, OF_THE_MOMENT) == told(first, OF_THE_MOMENT)
        assert again.gone == []

        async def always(request: Request) -> Response:
            return Response(b"", 304) if "/nodes" in request.path else await real(request)

        fake.web.answer = always
        fresh = SlurmDriver(SlurmOptions(url=fake.url), context())
        with pytest.raises(SourceError, match="was not asked so"):
            await fresh.observe()
        await fresh.close()
    finally:
        await driver.close()
        await fake.stop()


async def test_a_node_that_does_not_respond_was_heard_at_the_look_before() -> None:
    clock = ManualClock(datetime(2026, 5, 4, tzinfo=UTC))
    fake = await FakeSlurm(clock=clock).start()
    made = DriverContext("suite-source", "suite-scope", clock, seeded_rng(1), 30.0, 5.0)
    driver = SlurmDriver(SlurmOptions(url=fake.url), made)
    begun = clock.now()

    async def look(*state: str) -> dict[str, Any]:
        fake.nodes["n1"].state = list(state)
        fake.changed()
        seen = told(await driver.observe(), set())["node/suite-scope/n1"]
        clock.advance(60)
        return seen

    try:
        assert "heartbeat_at" not in await look("IDLE")
        assert (await look("IDLE", "NOT_RESPONDING"))["heartbeat_at"] == begun
        assert (await look("IDLE", "NOT_RESPONDING"))["heartbeat_at"] == begun
        assert "heartbeat_at" not in await look("IDLE")
    finally:
        await driver.close()
        await fake.stop()


@pytest.mark.parametrize(
    "resources",
    [
        {"nodes": "n[1-2]", "allocated_nodes": {}},  # 21.08
        {"allocated_nodes": {"0": {"nodename": "n1"}, "1": {"nodename": "n2"}}},
        {"allocated_nodes": [{"nodename": "n1"}, {"nodename": "n2"}]},  # 22.05
        {"nodes": "n1,n2", "allocated_cores": 4},  # v0.0.40
        {"nodes": {"count": 2, "list": "n[1-2]"}},  # v0.0.41
        {"nodes": {"allocation": [{"name": "n1"}, {"name": "n2"}]}},
    ],
)
def test_a_jobs_nodes_are_read_from_its_resources_in_each_versions_shape(resources: dict[str, Any]) -> None:
    body = msgspec.json.encode(
        {"jobs": [{"job_id": 7, "job_state": ["RUNNING"], "job_resources": resources}]}
    )
    listing = jobs_of(read_said(body))
    assert listing.warnings == []
    assert listing.items[0].nodes == ("n1", "n2")
    assert listing.items[0].node_count == 2


@pytest.mark.real
async def test_every_way_to_a_real_cluster_gives_equal_entities(real_program: Callable[[str], str]) -> None:
    for program in PROGRAMS:
        real_program(program)
    cluster = SlurmCluster(3).start()
    try:
        cluster.submit("--gres=gpu:2", "-c2", "--mem=1000")
        cluster.submit("--array=1-5%1", "--gres=gpu:1", "--mem=100", "-t", "1-02:00:00")
        cluster.submit("--hold", "-p", "main,low", "--mem=10", "--gres=gpu:1")
        cluster.submit("-N", "3", "--mem=10", "--begin=now+1hour")
        cluster.run("scontrol", "update", "nodename=n2", "state=drain", "reason=xid79 here = there")
        ways: dict[str, dict[str, Any]] = {
            "rest": {"url": cluster.url},
            "json": {"via": "commands", "slurm_conf": str(cluster.conf)},
            "text": {"via": "commands", "output": "text", "slurm_conf": str(cluster.conf)},
        }
        for _ in range(3):  # the cluster may change between two looks, and is still soon
            seen: dict[str, dict[str, dict[str, Any]]] = {}
            for way, options in ways.items():
                driver = SlurmDriver(SlurmOptions(**options), context())
                look = await driver.observe()
                await driver.close()
                assert (look.warnings, look.drift) == ([], [])
                seen[way] = told(look, OF_THE_MOMENT)
            if seen["rest"] == seen["json"] == seen["text"] and len(seen["rest"]) > 10:
                break
        assert seen["rest"] == seen["json"]
        assert seen["rest"] == seen["text"]
        assert seen["text"]["node/suite-scope/n2"]["drain_reason"] == "xid79 here = there"
        assert seen["text"]["node/suite-scope/n2"]["scheduler_flags"] == ["DRAIN"]
    finally:
        cluster.stop()
