"""The driver suite on the slurm driver: slurmrestd in a box in every version's shapes, and a real cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from servers.slurm import PROGRAMS, SlurmCluster
from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.slurm import SlurmDriver, SlurmOptions
from steersman.drivers.slurm.fake import FakeJob, FakeNode, FakeSlurm
from steersman.drivers.slurm.options import API_VERSIONS
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, Check, SystemUnderTest

SECRET = "hunter2-very-secret"


class Boxed:
    """slurmrestd in a box, behind a token."""

    secrets = (SECRET,)
    faults = FAULTS
    states = ("empty", "skewed", "restarted", "huge")

    def __init__(self, fake: FakeSlurm) -> None:
        self.fake = fake

    def driver(self, context: DriverContext) -> Driver:
        return SlurmDriver(SlurmOptions(url=self.fake.url, user="watch", token=Secret(SECRET)), context)

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        await self.fake.web.mend()
        again = FakeSlurm()
        self.fake.nodes, self.fake.jobs, self.fake.partitions = again.nodes, again.jobs, again.partitions
        self.fake.skew_s = 0
        self.fake.last_update = self.fake.now
        self.fake.changed()

    async def show(self, state: str) -> None:
        if state == "empty":
            self.fake.nodes, self.fake.jobs, self.fake.partitions = {}, {}, {}
        elif state == "skewed":
            self.fake.skew_s = 3600
        elif state == "restarted":
            self.fake.jobs = {1: FakeJob(job_id=1, nodes="n2", submitted_ago_s=1, started_ago_s=0)}
            self.fake.last_update = 0
        else:
            self.fake.nodes = {f"n{i}": FakeNode(name=f"n{i}") for i in range(2_000)}
            self.fake.jobs = {i: FakeJob(job_id=i, nodes=f"n{i % 2_000}", gpus=1) for i in range(1, 3_000)}
        self.fake.changed()

    async def surprise(self) -> bool:
        self.fake.nodes["n2"].state = ["IDLE", "LEVITATING"]
        self.fake.changed()
        return True


@pytest.mark.parametrize("version", ["v0.0.38", "v0.0.40", "v0.0.45"])
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_slurmrestd(check: Check, version: str) -> None:
    assert version in API_VERSIONS

    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        fake = await FakeSlurm((version,), user="watch", token=SECRET, openapi=version != "v0.0.40").start()
        try:
            yield Boxed(fake)
        finally:
            await fake.stop()

    await check(system)


class Real:
    """A real cluster: stopping slurmrestd or slurmctld is a hang, ending slurmrestd a refusal."""

    secrets = (SECRET,)

    def __init__(self, cluster: SlurmCluster, via: str) -> None:
        self.cluster = cluster
        self.via = via
        self.faults = ("hang", "refuse") if via == "rest" else ("hang",)
        self._hung = "slurmrestd" if via == "rest" else "slurmctld"

    def driver(self, context: DriverContext) -> Driver:
        token = Secret(SECRET)
        if self.via == "rest":
            return SlurmDriver(SlurmOptions(url=self.cluster.url, token=token), context)
        conf = str(self.cluster.conf)
        return SlurmDriver(SlurmOptions(via="commands", output=self.via, slurm_conf=conf), context)

    async def fail(self, fault: str) -> None:
        if fault == "hang":
            self.cluster.pause(self._hung)
        else:
            self.cluster.end("slurmrestd")

    async def mend(self) -> None:
        if "slurmrestd" not in self.cluster.processes:
            self.cluster.start_rest()
        else:
            self.cluster.resume(self._hung)

    async def surprise(self) -> bool:
        return False


@pytest.fixture(scope="module")
def real_cluster() -> Iterator[SlurmCluster]:
    """One cluster for all checks; the test asked for its programs before."""
    cluster = SlurmCluster(2)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.real
@pytest.mark.parametrize("via", ["rest", "auto", "text"])
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_real_cluster(
    check: Check, via: str, real_program: Callable[[str], str], real_cluster: SlurmCluster
) -> None:
    for program in PROGRAMS:
        real_program(program)
    if not real_cluster.processes:
        real_cluster.start()
        real_cluster.submit("--gres=gpu:2", "--mem=10")

    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        yield Real(real_cluster, via)

    await check(system)
