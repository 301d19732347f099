"""The driver suite on the kubernetes driver: an API server in a box. None can be installed here for real."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.kubernetes import KubernetesDriver, KubernetesOptions
from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, Check, SystemUnderTest

sys.path.insert(0, str(Path(__file__).parent / "kubernetes"))

from kube_cluster import bare, node_json, populate
from kube_shapes import cond

SECRET = "hunter2-very-secret"
HUGE_NODES = 1_500


class Cluster:
    """An API server in a box, behind a token, with a small cluster in it."""

    secrets = (SECRET,)
    faults = FAULTS
    states = ("empty", "skewed", "restarted", "huge")

    def __init__(self, fake: FakeApiServer) -> None:
        self.fake = fake

    def driver(self, context: DriverContext) -> Driver:
        return KubernetesDriver(KubernetesOptions(url=self.fake.url, token=Secret(SECRET)), context)

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        await self.fake.web.mend()

    async def surprise(self) -> bool:
        self.fake.create("nodes", node_json("odd", conditions=[cond("Ready", "Perhaps")]))
        self.fake.create("nodes", bare({"metadata": {"name": "odder"}, "status": {"conditions": "none"}}))
        return True

    async def show(self, state: str) -> None:
        """See `testing.driver.STATES`."""
        if state == "empty":
            for kind in list(self.fake.kinds):
                for thing in list(self.fake.all(kind)):
                    self.fake.remove(kind, thing)
        elif state == "skewed":
            ahead = "2099-01-01T00:00:00Z"
            status = {"conditions": [cond("Ready", lastHeartbeatTime=ahead, lastTransitionTime=ahead)]}
            for node in list(self.fake.all("nodes")):
                self.fake.set_status("nodes", node, {**node["status"], **status})
        elif state == "restarted":
            self.fake.watches.end_all()
            self.fake.storage.expire()
        else:
            for number in range(HUGE_NODES):
                self.fake.create("nodes", node_json(f"huge-{number}"))


@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_cluster(check: Check) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        fake = await FakeApiServer(tokens={SECRET: "steersman"}).start()
        populate(fake)
        try:
            yield Cluster(fake)
        finally:
            await fake.stop()

    await check(system)
