"""A node of a real Slurm cluster is drained by the guide's lifecycle, while a job runs on it. `steersman up`
is killed with SIGKILL in the middle and started again: no job is ended, and nobody's drain is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drain_story import KEPT_OUT, STORY, Plane, Up, guide_lifecycle
from loop_story import states_of, type_ok

from servers.slurm import PROGRAMS, SlurmCluster

pytestmark = pytest.mark.real

OURS, THEIRS = "gpu01.dc1.example", "n1"
"""Slurm calls the first one n0. The second one is drained by a person."""


@pytest.fixture
def cluster(real_program: Callable[[str], str]) -> Iterator[SlurmCluster]:
    for program in PROGRAMS:
        real_program(program)
    made = SlurmCluster(2)
    try:
        yield made.start()
    finally:
        made.stop()


def slurm_lifecycle() -> str:
    """The guide's, for Slurm, as the guide says."""
    text = guide_lifecycle().replace("kubernetes.drain", "slurm.drain").replace(", pods_max: 100", "")
    return text.replace("kubernetes.uncordon", "slurm.resume")


@pytest.mark.timeout(240)
def test_killed_while_a_job_runs_on_a_drains_slurm_node_it_ends_the_same(
    up: Up, cluster: SlurmCluster, tmp_path: Path
) -> None:
    job = cluster.submit("--mem=10", "-w", "n0")
    cluster.run("scontrol", "update", "nodename=n1", "state=drain", "reason=bad disk, ask ada")
    options = {"url": cluster.url, "slurm_conf": str(cluster.conf)}
    source = {"name": "hpc", "driver": "slurm", "interval": "1s", **options}
    plane = Plane(up, tmp_path, source, slurm_lifecycle(), [OURS, THEIRS], {OURS: "n0"})

    def node(name: str) -> str:
        return cluster.run("scontrol", "-o", "show", "node", name)

    def is_running() -> bool:
        return "JobState=RUNNING" in cluster.run("scontrol", "show", "job", str(job))

    plane.running.until(is_running, "a job that runs")
    plane.want("maintenance", OURS, THEIRS)
    plane.running.until(lambda: "steersman:" in node("n0"), "the drain")
    plane.until_is("maintenance", THEIRS)
    tag = node("n0").partition("Reason=")[2]
    plane.running.process.kill()
    plane.start_again()
    plane.running.wait_healthy()
    plane.running.until(
        lambda: any(
            "drained, and has work yet" in json.dumps(entry["data"]) for entry in plane.history(OURS)
        ),
        "the end of the attempt that was broken off",
    )
    assert plane.status(OURS) == "draining"
    assert is_running(), "no job is ended"
    cluster.run("scancel", str(job))
    plane.until_is("maintenance", OURS)
    assert node("n0").partition("Reason=")[2].partition(" [")[0] == tag.partition(" [")[0], "drained once"

    plane.want("in_service", OURS, THEIRS)
    plane.until_is("in_service", OURS)
    assert states_of(plane.history(OURS)) == STORY
    assert f"to hpc {OURS} is n0; " in json.dumps(plane.history(OURS))
    assert "DRAIN" not in node("n0").partition(" State=")[2].partition(" ")[0]
    plane.running.until(lambda: states_of(plane.history(THEIRS))[:5] == KEPT_OUT, "a refusal")
    assert "bad disk, ask ada" in node("n1")
    assert "DRAIN" in node("n1").partition(" State=")[2].partition(" ")[0]
    assert plane.running.stop()[0] == 0
    type_ok(plane.running, "store", "verify")
