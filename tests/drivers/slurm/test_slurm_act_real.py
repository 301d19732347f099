"""Operations on a real cluster: slurmrestd of 22.05 (which changes no nodes) with commands beside it, and
commands alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from slurm_calls import call, operations

from servers.slurm import PROGRAMS, SlurmCluster
from steersman.act.engines.operations import ActingSource, source_steps
from steersman.app.acting import names_of
from steersman.drivers.slurm import SlurmDriver, SlurmOptions
from steersman.kernel.clock import SystemClock
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.settings import IdentitySettings
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import StepOutcome
from steersman.observe.inlet import Inlet
from steersman.state.bus import StateBus
from steersman.testing.driver import context

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """One cluster for all; each test uses a node or a job of its own."""
    made = SlurmCluster(3)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def started(cluster: SlurmCluster, real_program: Callable[[str], str]) -> None:
    for program in PROGRAMS:
        real_program(program)
    if not cluster.processes:
        cluster.start()


WAYS = ["both", "commands", "text"]


def options(cluster: SlurmCluster, way: str) -> dict[str, Any]:
    conf = str(cluster.conf)
    if way == "both":
        return {"url": cluster.url, "slurm_conf": conf}
    return {"via": "commands", "slurm_conf": conf, "output": "text" if way == "text" else "auto"}


def shown(cluster: SlurmCluster, what: str, name: str, key: str) -> str:
    line = cluster.run("scontrol", "-o", "show", what, name)
    return line.partition(f" {key}=")[2].partition(" ")[0]


def running(cluster: SlurmCluster, *more: str) -> int:
    """A job that runs."""
    job = cluster.submit("--mem=10", *more)
    wait_for(cluster, job, "RUNNING")
    return job


ENDED = {"CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "BOOT_FAIL", "TIMEOUT"}


def wait_for(cluster: SlurmCluster, job: int | str, *states: str) -> None:
    until = time.monotonic() + 20
    while (state := shown(cluster, "job", str(job), "JobState")) not in states:
        over = state in ENDED or time.monotonic() > until
        assert not over, cluster.run("scontrol", "show", "job", str(job))
        time.sleep(0.1)


def start_soon(cluster: SlurmCluster, job: int) -> None:
    """Start a job that was put back before its two minutes are over. A node refuses the job's credential
    where it was issued within the second in which the former one was revoked, by which the job fails ("Job
    credential revoked"); so it starts in a later second."""
    cluster.run("scontrol", "update", f"jobid={job}", "starttime=now+2")


@pytest.mark.parametrize("way", WAYS)
async def test_a_drain_waits_for_a_job_and_is_taken_back(cluster: SlurmCluster, way: str) -> None:
    job = running(cluster, "-w", "n0")
    async with operations(**options(cluster, way)) as steps:
        assert (await steps["drain"].run(call(node="n0", dry_run=True))).outputs["busy"] is True
        assert "DRAIN" not in shown(cluster, "node", "n0", "State")
        late = await steps["drain"].run(call(node="n0", reason='bad "disk"', timeout_s=3.0))
        assert late.outcome is StepOutcome.TRANSIENT, late.detail
        assert "DRAIN" in shown(cluster, "node", "n0", "State")
        assert "steersman:op-1 e3 bad 'disk' (Node/n1)" in cluster.run("scontrol", "-o", "show", "node", "n0")
        task = asyncio.ensure_future(steps["drain"].run(call(node="n0", attempt=2)))
        await asyncio.sleep(0.5)
        assert not task.done()
        cluster.run("scancel", str(job))
        done = await task
        assert done.outcome is StepOutcome.SUCCEEDED, done.detail
        assert (done.outputs["busy"], done.outputs["ours"]) == (False, True)
        older = await steps["resume"].run(call(step="resume", node="n0", epoch=2))
        assert older.outcome is StepOutcome.SUPERSEDED
        resumed = await steps["resume"].run(call(step="resume", node="n0"))
        assert (resumed.outcome, resumed.outputs["changed"]) == (StepOutcome.SUCCEEDED, True), resumed.detail
        assert "DRAIN" not in shown(cluster, "node", "n0", "State")
        found = await steps["resume"].observe(call(step="resume", node="n0"))
        assert found is not None
        assert found.outcome is StepOutcome.SUCCEEDED
        missing = await steps["drain"].run(call(node="n77"))
        assert (missing.outcome, "no such node" in missing.detail) == (StepOutcome.PERMANENT, True)


async def test_a_drain_of_an_entity_lands_on_the_node_that_slurm_has_for_it(cluster: SlurmCluster) -> None:
    """The host says `n1.dc1.example`, Slurm `n1`; a reservation names two nodes, one by each kind of name."""
    clock, settings = SystemClock(), IdentitySettings()
    bus = StateBus(clock)
    inlet = Inlet(bus, clock, settings)
    driver = SlurmDriver(SlurmOptions(**options(cluster, "both")), context())
    scope = context().scope
    source = ActingSource("hpc", "slurm", scope, driver.operations())
    steps = source_steps([source], no_scope, names_of(bus, settings), clock)
    entity = "n1.dc1.example"
    try:
        seen = await driver.observe()
        inlet.take([structs.replace(one, source="hpc") for one in seen.fragments])
        fields = {"hostname": entity}
        labels = {"cluster": scope} if scope else {}
        inlet.take([StateFragment("host", EntityType.NODE, entity, clock.now(), fields, labels, "host")])
        done = await steps["slurm.drain"].run(call(node=entity, reason="new firmware"))
        assert done.outcome is StepOutcome.SUCCEEDED, done.detail
        assert done.detail.startswith(f"to hpc {entity} is n1; node n1: drained")
        assert "DRAIN" in shown(cluster, "node", "n1", "State")
        found = await steps["slurm.drain"].observe(call(node=entity))
        assert found is not None
        assert (found.outcome, found.outputs["called"]) == (StepOutcome.SUCCEEDED, {entity: "n1"})
        assert (await steps["slurm.resume"].run(call(node=entity))).outcome is StepOutcome.SUCCEEDED
        nodes = [entity, "n2"]
        made = await steps["slurm.reservation_create"].run(call(step="reserve", nodes=nodes, duration="1h"))
        assert made.outcome is StepOutcome.SUCCEEDED, made.detail
        name = made.outputs["reservation"]
        assert " Nodes=n[1-2] " in cluster.run("scontrol", "-o", "show", "reservation", name)
        await steps["slurm.reservation_delete"].run(call(step="free", name=name))
        missing = await steps["slurm.drain"].run(call(node="n77.dc1.example"))
        assert missing.outcome is StepOutcome.PERMANENT, "Slurm itself says that it has no such node"
    finally:
        await driver.close()


async def no_scope(ref: ResourceRef) -> str | None:
    return None


@pytest.mark.parametrize("way", WAYS)
async def test_somebody_elses_drain_is_not_undone(cluster: SlurmCluster, way: str) -> None:
    cluster.run("scontrol", "update", "nodename=n1", "state=drain", "reason=bad disk, ask ada")
    async with operations(**options(cluster, way)) as steps:
        done = await steps["drain"].run(call(node="n1", reason="x"))
        assert (done.outcome, done.outputs["ours"]) == (StepOutcome.SUCCEEDED, False)
        refused = await steps["resume"].run(call(node="n1"))
        assert refused.outcome is StepOutcome.PERMANENT
        assert "bad disk, ask ada" in refused.detail
        assert "Reason=bad disk, ask ada" in cluster.run("scontrol", "-o", "show", "node", "n1")
        assert (await steps["resume"].run(call(node="n1", force=True))).outcome is StepOutcome.SUCCEEDED
        assert "DRAIN" not in shown(cluster, "node", "n1", "State")


async def test_what_we_drained_is_observed_as_planned(cluster: SlurmCluster) -> None:
    async with operations(**options(cluster, "both")) as steps:
        await steps["drain"].run(call(node="n1", reason="new firmware"))
        driver = SlurmDriver(SlurmOptions(url=cluster.url), context())
        look = await driver.observe()
        await driver.close()
        (node,) = [one for one in look.fragments if one.entity_id == "n1"]
        assert node.fields["drain_intent"] == "planned"
        assert node.fields["drain_reason"].startswith("steersman:op-1 e3 new firmware")
        assert (await steps["resume"].run(call(node="n1"))).outcome is StepOutcome.SUCCEEDED


async def test_slurmrestd_of_22_05_alone_says_that_it_changes_no_nodes(cluster: SlurmCluster) -> None:
    async with operations(url=cluster.url) as steps:
        done = await steps["drain"].run(call(node="n1"))
        assert done.outcome is StepOutcome.PERMANENT
        assert "v0.0.39" in done.detail
        reservation = await steps["reservation_create"].run(call(nodes=["n1"], duration="1h"))
        assert (reservation.outcome, "v0.0.43" in reservation.detail) == (StepOutcome.PERMANENT, True)
        job = running(cluster, "-w", "n1")
        cancelled = await steps["cancel"].run(call(job=job))
        assert (cancelled.outcome, cancelled.outputs["changed"]) == (StepOutcome.SUCCEEDED, True)


@pytest.mark.parametrize("way", WAYS)
async def test_a_job_is_put_back_once_and_cancelled(cluster: SlurmCluster, way: str) -> None:
    job = running(cluster)
    cluster.run("scontrol", "update", f"jobid={job}", "admincomment=ask ada")
    async with operations(**options(cluster, way)) as steps:
        ours = call(step="requeue", job=job)
        assert (await steps["requeue"].run(call(step="requeue", job=job, dry_run=True))).outputs[
            "restarts"
        ] == 0
        assert await steps["requeue"].observe(ours) is None
        done = await steps["requeue"].run(ours)
        assert done.outcome is StepOutcome.SUCCEEDED, done.detail
        line = cluster.run("scontrol", "-o", "show", "job", str(job))
        assert " Restarts=1 " in line
        assert "AdminComment=ask ada; steersman:op-1 e3 op-1/requeue/1 after 0 restarts (Node/n1)" in line
        wait_for(cluster, job, "PENDING")
        start_soon(cluster, job)
        wait_for(cluster, job, "RUNNING")
        for found in (await steps["requeue"].run(ours), await steps["requeue"].observe(ours)):
            assert found is not None
            assert found.outcome is StepOutcome.SUCCEEDED
        assert shown(cluster, "job", str(job), "Restarts") == "1"
        older = await steps["requeue"].run(call(step="requeue", job=job, epoch=2))
        assert older.outcome is StepOutcome.SUPERSEDED
        cancelled = await steps["cancel"].run(call(step="cancel", job=job))
        assert (cancelled.outcome, cancelled.outputs["changed"]) == (StepOutcome.SUCCEEDED, True)
        wait_for(cluster, job, "CANCELLED")
        ended = await steps["requeue"].run(call(step="requeue", job=job, attempt=2))
        assert ended.outcome is StepOutcome.PERMANENT
        assert "has ended" in ended.detail
        unknown = await steps["requeue"].run(call(job=4_000_000))
        assert (unknown.outcome, "no such job" in unknown.detail) == (StepOutcome.PERMANENT, True)


@pytest.mark.parametrize("way", WAYS)
async def test_tasks_of_an_array_are_told_apart(cluster: SlurmCluster, way: str) -> None:
    job = cluster.submit("--mem=10", "--array=1-4%2")
    wait_for(cluster, f"{job}_2", "RUNNING")
    async with operations(**options(cluster, way)) as steps:
        assert (await steps["requeue"].run(call(job=job))).outcome is StepOutcome.PERMANENT
        one = await steps["cancel"].run(call(job=f"{job}_2"))
        assert (one.outcome, one.outputs["changed"]) == (StepOutcome.SUCCEEDED, True), one.detail
        assert shown(cluster, "job", f"{job}_1", "JobState") == "RUNNING"
        waiting = await steps["cancel"].run(call(job=f"{job}_4", attempt=2))
        assert (waiting.outcome, waiting.outputs["changed"]) == (StepOutcome.SUCCEEDED, True), waiting.detail
        whole = await steps["cancel"].run(call(job=job, attempt=3))
        assert (whole.outcome, whole.outputs["changed"]) == (StepOutcome.SUCCEEDED, True)


async def test_a_job_that_may_not_be_requeued_is_left(cluster: SlurmCluster) -> None:
    job = running(cluster, "--no-requeue")
    async with operations(**options(cluster, "commands")) as steps:
        done = await steps["requeue"].run(call(job=job))
        assert done.outcome is StepOutcome.PERMANENT
        assert "disabled" in done.detail
        assert shown(cluster, "job", str(job), "JobState") == "RUNNING"
        await steps["cancel"].run(call(job=job))


@pytest.mark.parametrize("way", WAYS)
async def test_a_reservation_is_made_and_deleted(cluster: SlurmCluster, way: str) -> None:
    async with operations(**options(cluster, way)) as steps:
        inputs: dict[str, Any] = {"nodes": "n[1-2]", "duration": "1h30m", "users": ["root"]}
        assert await steps["reservation_create"].observe(call(step="reserve", **inputs)) is None
        done = await steps["reservation_create"].run(call(step="reserve", **inputs))
        assert done.outcome is StepOutcome.SUCCEEDED, done.detail
        name = done.outputs["reservation"]
        line = cluster.run("scontrol", "-o", "show", "reservation", name)
        assert " Duration=01:30:00 Nodes=n[1-2] " in line
        assert "Flags=MAINT,IGNORE_JOBS" in line
        again = await steps["reservation_create"].run(call(step="reserve", attempt=2, **inputs))
        assert (again.outcome, again.outputs["changed"]) == (StepOutcome.SUCCEEDED, False)
        busy = await steps["reservation_create"].run(call(nodes=["n77"], duration=3600, name="x"))
        assert busy.outcome is StepOutcome.PERMANENT
        gone = await steps["reservation_delete"].run(call(step="free", name=name))
        assert (gone.outcome, gone.outputs["reservations"]) == (StepOutcome.SUCCEEDED, [name])
        assert name not in cluster.run("scontrol", "-o", "show", "reservation", check=False)


# ---- crashes between a change and its answer


def bent(cluster: SlurmCluster, folder: Path, words: str, *, does: bool) -> dict[str, Any]:
    """Commands of which one dies: those whose arguments have `words`, having done it or not."""
    real = Path(
        next(Path(part) for part in cluster.env["PATH"].split(":") if (Path(part) / "scontrol").exists())
    )
    for name in ("scontrol", "scancel"):
        script = folder / name
        does_it = f'{real}/{name} "$@"' if does else ":"
        script.write_text(
            f'#!/bin/sh\ncase "$*" in *"{words}"*) {does_it}; kill -9 $$;; esac\nexec {real}/{name} "$@"\n'
        )
        script.chmod(0o755)
    return {"via": "commands", "slurm_conf": str(cluster.conf), "bin": str(folder)}


@pytest.mark.parametrize("does", [True, False])
async def test_a_crash_between_a_drain_and_its_answer(
    cluster: SlurmCluster, tmp_path: Path, does: bool
) -> None:
    async with operations(**bent(cluster, tmp_path, "state=DRAIN", does=does)) as steps:
        lost = await steps["drain"].run(call(node="n2"))
        assert lost.outcome is StepOutcome.UNCERTAIN
    async with operations(**options(cluster, "both")) as steps:
        found = await steps["drain"].observe(call(node="n2"))
        assert (found.outcome if found is not None else None) == (StepOutcome.SUCCEEDED if does else None)
        assert (await steps["drain"].run(call(node="n2"))).outcome is StepOutcome.SUCCEEDED
        assert (await steps["resume"].run(call(node="n2"))).outcome is StepOutcome.SUCCEEDED


@pytest.mark.parametrize("does", [True, False])
async def test_a_crash_between_a_requeue_and_its_answer_puts_a_job_back_once(
    cluster: SlurmCluster, tmp_path: Path, does: bool
) -> None:
    job = running(cluster)
    async with operations(**bent(cluster, tmp_path, "requeue ", does=does)) as steps:
        lost = await steps["requeue"].run(call(step="requeue", job=job))
        assert lost.outcome is StepOutcome.UNCERTAIN
    async with operations(**options(cluster, "both")) as steps:
        found = await steps["requeue"].observe(call(step="requeue", job=job))
        assert (found.outcome if found is not None else None) == (StepOutcome.SUCCEEDED if does else None)
        assert (await steps["requeue"].run(call(step="requeue", job=job))).outcome is StepOutcome.SUCCEEDED
        assert shown(cluster, "job", str(job), "Restarts") == "1"
        await steps["cancel"].run(call(job=job))


async def test_a_controller_that_hangs_leaves_a_change_open(cluster: SlurmCluster, tmp_path: Path) -> None:
    """slurmctld stops between the look and the change: the command is ended by its time."""
    pid = cluster.processes["slurmctld"].pid
    real = bent(cluster, tmp_path, "state=DRAIN", does=False)
    script = tmp_path / "scontrol"
    stops = f'case "$*" in *state=DRAIN*) kill -STOP {pid};; esac\n'
    script.write_text(script.read_text().replace('case "$*"', f'{stops}case "$0"', 1))
    try:
        async with operations(**real) as steps:
            lost = await steps["drain"].run(call(node="n2", timeout_s=3.0))
            assert lost.outcome is StepOutcome.UNCERTAIN, lost.detail
            found = await steps["drain"].observe(call(node="n2", timeout_s=1.0))
            assert found is not None
            assert found.outcome is StepOutcome.UNCERTAIN
    finally:
        cluster.resume("slurmctld")
    async with operations(**options(cluster, "commands")) as steps:
        assert (await steps["drain"].run(call(node="n2", attempt=2))).outcome is StepOutcome.SUCCEEDED
        assert (await steps["resume"].run(call(node="n2"))).outcome is StepOutcome.SUCCEEDED
