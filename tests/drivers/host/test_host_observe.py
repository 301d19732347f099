"""The host driver as a whole: sections that fail alone, and facts that two sections share."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.host.fake import FakeGpu, FakeMachine, FakeNvmlLibrary
from steersman.drivers.host.nvml import Nvml
from steersman.drivers.host.observe import HostDriver, HostParts
from steersman.drivers.host.options import Endpoint, HostOptions, JobRule, WatchedFile
from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kernel.config import ConfigInvalid, convert
from steersman.kernel.confread import Rest
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import TasksLeft
from steersman.kernel.yamltext import parse
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment

CONTEXT = DriverContext("host", "lab", SystemClock(), seeded_rng(1), 10.0, 0.3)


def of_type(seen: Observation, entity_type: EntityType) -> list[StateFragment]:
    return [fragment for fragment in seen.fragments if fragment.entity_type is entity_type]


async def test_a_job_and_its_gpu_know_each_other(tmp_path: Path) -> None:
    """NVML names the process, the process table its job; the join is told on both."""
    (tmp_path / "pid").write_text(str(os.getpid()))
    gpus = [
        FakeGpu(uuid=f"GPU-{i}", index=i, processes={os.getpid(): 1 << 30} if i else {}) for i in range(2)
    ]
    parts = HostParts(machine=FakeMachine("n1"), nvml=Nvml(FakeNvmlLibrary(gpus)))
    options = HostOptions(jobs=[JobRule("tests", pid_file=str(tmp_path / "pid"), per="rule", children=False)])
    driver = HostDriver(options, CONTEXT, parts)
    try:
        seen = await driver.observe()
        (job,) = of_type(seen, EntityType.JOB)
        assert job.entity_id == "n1/tests"
        assert job.fields["assigned_gpu_count"] == 1
        assert [gpu.fields.get("assigned_job_id") for gpu in of_type(seen, EntityType.GPU)] == [
            None,
            job.entity_id,
        ]
        (node,) = of_type(seen, EntityType.NODE)
        assert node.fields["gpu_count"] == 2
        assert node.entity_id == job.fields["node"] == "n1"
    finally:
        await driver.close()


@pytest.mark.parametrize(
    ("jobs", "whole"),
    [([], (EntityType.JOB,)), (["no-such-program-here"], (EntityType.JOB,)), (["no-such-user"], ())],
)
async def test_the_first_look_at_jobs_is_the_whole_of_them(jobs: list[str], whole: tuple[str, ...]) -> None:
    """So that jobs of before a restart vanish; not where the look had its gaps, and only once."""
    rules = [JobRule(j, process=j, user="no-such-user-here" if "user" in j else None) for j in jobs]
    options = HostOptions(gpus=False, jobs=rules)
    driver = HostDriver(options, CONTEXT, HostParts(machine=FakeMachine("n1")))
    try:
        assert (await driver.observe()).whole == whole
        assert (await driver.observe()).whole == ()
    finally:
        await driver.close()


class PassingClock(ManualClock):
    """Sleeping takes virtual time alone."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


async def test_the_first_picture_has_its_rates() -> None:
    """Nobody should look at a hole for an interval: the first look takes two readings in half a second."""
    clock, machine = PassingClock(), FakeMachine("n1")
    context = structs.replace(CONTEXT, clock=clock, timeout_s=10.0)
    driver = HostDriver(HostOptions(gpus=False), context, HostParts(machine))
    try:
        seen = await driver.observe()
        (node,) = of_type(seen, EntityType.NODE)
        assert node.fields["cpu_utilization"] == 0.25
        assert "network_error_rate" in node.fields
        assert seen.complete
        assert 0 < clock.monotonic() <= 0.5
        assert machine.reads == 2
        await driver.observe()
        assert machine.reads == 3, "one reading from then on"
        assert clock.monotonic() <= 0.5
    finally:
        await driver.close()


async def test_a_machine_that_is_slow_to_read_is_not_read_twice() -> None:
    """The time-out is for one look: two slow readings must not make a failure of what one would be."""
    clock, machine = PassingClock(), FakeMachine("n1")
    context = structs.replace(CONTEXT, clock=clock, timeout_s=0.5)
    driver = HostDriver(HostOptions(gpus=False), context, HostParts(machine))
    try:
        (node,) = (await driver.observe()).fragments
        assert "cpu_utilization" not in node.fields
        (node,) = (await driver.observe()).fragments
        assert node.fields["cpu_utilization"] == 0.25
        assert machine.reads == 2
    finally:
        await driver.close()


@pytest.mark.parametrize("fault", ["hang", "refuse", "garbage"])
async def test_gpus_that_fail_cost_gpus_alone(fault: str) -> None:
    library = FakeNvmlLibrary()
    driver = HostDriver(HostOptions(), CONTEXT, HostParts(machine=FakeMachine("n1"), nvml=Nvml(library)))
    try:
        assert len(of_type(await driver.observe(), EntityType.GPU)) == 2
        library.fault = fault
        seen = await driver.observe()
        (node,) = of_type(seen, EntityType.NODE)
        assert "gpu_count" not in node.fields, "nobody knows now how many there are"
        assert not seen.complete
        assert "NVML" in seen.warnings[0]
        library.mend()
        assert len(of_type(await driver.observe(), EntityType.GPU)) == 2
    finally:
        library.mend()
        await driver.close()


async def test_a_machine_that_fails_leaves_the_files(tmp_path: Path) -> None:
    machine = FakeMachine("n1")
    machine.fault = "refuse"
    options = HostOptions(node="n1", gpus=False, files=[WatchedFile(str(tmp_path / "a"))])
    driver = HostDriver(options, CONTEXT, HostParts(machine=machine))
    try:
        seen = await driver.observe()
        assert [fragment.entity_id for fragment in seen.fragments] == [f"n1:{tmp_path}/a"]
        assert seen.warnings == ["this machine can't be read: permission denied"]
    finally:
        await driver.close()


async def test_the_name_and_labels_that_are_configured_win() -> None:
    options = HostOptions(node="gpu-7", labels={"rack": "r1", "arch": "special"}, gpus=False)
    driver = HostDriver(options, CONTEXT, HostParts(machine=FakeMachine("localhost")))
    try:
        (node,) = (await driver.observe()).fragments
        assert node.entity_id == "gpu-7"
        assert node.fields["hostname"] == "localhost"
        assert node.labels == {"hostname": "localhost", "arch": "special", "rack": "r1", "cluster": "lab"}
    finally:
        await driver.close()


async def test_closing_over_a_hung_device_names_its_thread_and_ends_the_others() -> None:
    library = FakeNvmlLibrary()
    driver = HostDriver(HostOptions(), CONTEXT, HostParts(machine=FakeMachine("n1"), nvml=Nvml(library)))
    library.fault = "hang"
    await driver.observe()
    with pytest.raises(TasksLeft, match="host-gpus"):
        await driver.close()
    names = {thread.name for thread in threading.enumerate()}
    assert "host-machine" not in names
    library.mend()


@pytest.mark.parametrize(
    "options",
    [
        {"labels": {"cluster": "x"}},
        {"jobs": [JobRule("a", process="x"), JobRule("a", process="y")]},
        {"endpoints": [Endpoint("a", "http://h/"), Endpoint("a", "http://h/x")]},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scope|one name"):
        HostOptions(**options)


def test_options_are_read_from_yaml_with_their_place() -> None:
    text = (
        "jobs:\n  - {name: t, cmdline: 'a.*b'}\nendpoints:\n  - {name: e, url: 'http://h/', timeout: 250ms}\n"
    )
    options = convert(Rest(parse(text, "s.yaml")), HostOptions)
    assert options.endpoints[0].timeout == 0.25
    with pytest.raises(ConfigInvalid, match=r"s\.yaml:2.*unbounded time"):
        convert(Rest(parse("jobs:\n  - {name: t, cmdline: '(a+)+'}\n", "s.yaml")), HostOptions)
    with pytest.raises(ConfigInvalid, match=r"s\.yaml:1.*did you mean files"):
        convert(Rest(parse("fils: []\n", "s.yaml")), HostOptions)
