"""The driver suite on the wandb driver: W&B in a box. Its server is no free software that installs here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.wandb import WandbDriver, WandbOptions
from steersman.drivers.wandb.fake import FakeWandb
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, STATES, Check, SystemUnderTest

SECRET = "hunter2-very-secret"


class Server:
    """W&B in a box, behind a key."""

    secrets = (SECRET,)
    faults = FAULTS
    states = STATES

    def __init__(self, fake: FakeWandb) -> None:
        self.fake = fake
        self.fill(3)

    def fill(self, runs: int) -> None:
        self.fake.projects.clear()
        for number in range(runs):
            summary = {"loss": 0.5, "_step": number, "img": {"_type": "image-file"}}
            self.fake.add_run("nlp", ago_s=number % 60, summary=summary, config={"api_key": SECRET})

    def driver(self, context: DriverContext) -> Driver:
        options = WandbOptions(url=self.fake.url, api_key=Secret(SECRET), job_config="slurm", runs_max=5000)
        self.fake.authorization = options.headers()["Authorization"]
        return WandbDriver(options, context)

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        await self.fake.web.mend()
        self.fill(3)

    async def surprise(self) -> bool:
        self.fake.add_run("nlp", "hibernating")
        self.fake.add_run("nlp")["state"] = 7
        return True

    async def show(self, state: str) -> None:
        if state == "restarted":
            await self.fake.stop()
            await self.fake.start()
            return
        self.fake.ahead_s = 3600.0 if state == "skewed" else 0.0
        self.fill({"empty": 0, "skewed": 3, "huge": 1500}[state])
        self.fake.ahead_s = 0.0


@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_wandb(check: Check) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        fake = await FakeWandb(SystemClock(), seeded_rng(1)).start()
        try:
            yield Server(fake)
        finally:
            await fake.stop()

    await check(system)
