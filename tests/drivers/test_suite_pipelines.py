"""The driver suite on the pipelines driver: Airflow, old and new, and Dagster in a box."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.pipelines import PipelinesDriver, PipelinesOptions
from steersman.drivers.pipelines.fake import FakeAirflow, FakeDagster
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, Check, SystemUnderTest

SECRET = "hunter2-very-secret"


class System:
    """One of them behind a token."""

    secrets = (SECRET,)
    faults = FAULTS
    states = ("empty", "skewed", "restarted", "huge")

    def __init__(self, fake: FakeAirflow | FakeDagster) -> None:
        self.fake = fake
        self.fill()

    def fill(self, pipelines: int = 3) -> None:
        fake = self.fake
        fake.answers = {}
        fake.runs = []
        if isinstance(fake, FakeAirflow):
            fake.dags, fake.tasks = [], {}
            for number in range(pipelines):
                fake.add(f"etl-{number}", "success", "running")
        else:
            fake.assets = []
            for number in range(pipelines):
                fake.add(f"job-{number}", "SUCCESS", "STARTED") if number < 3 else None
                fake.make("lake", f"table-{number}")
        fake.beat()

    def driver(self, context: DriverContext) -> Driver:
        flavor: Any = "airflow" if isinstance(self.fake, FakeAirflow) else "dagster"
        url = f"{self.fake.web.url}/?key={SECRET}"
        return PipelinesDriver(PipelinesOptions(flavor=flavor, url=url, token=Secret(SECRET)), context)

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        if isinstance(self.fake, FakeAirflow):
            self.fake.ahead = timedelta()
        else:
            self.fake.ahead_s = 0.0
        self.fill()
        await self.fake.web.mend()

    async def show(self, state: str) -> None:
        if state == "skewed":
            if isinstance(self.fake, FakeAirflow):
                self.fake.ahead = timedelta(hours=1)
            else:
                self.fake.ahead_s = 3600.0
        self.fill({"empty": 0, "huge": 1500}.get(state, 3))

    async def surprise(self) -> bool:
        if isinstance(self.fake, FakeAirflow):
            self.fake.add("odd", "hibernating")
            self.fake.dags.append({"is_paused": True})
        else:
            self.fake.add("odd", "HIBERNATING")
            self.fake.runs.append("a text")
        return True


@pytest.mark.parametrize("kind", ["airflow v2", "airflow v1", "dagster"])
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake(check: Check, kind: str) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        name, _, version = kind.partition(" ")
        token = f"Bearer {SECRET}"
        made = FakeAirflow(version, authorization=token) if version else FakeDagster(authorization=token)
        assert name in type(made).__name__.lower()
        fake = await made.start()
        try:
            yield System(fake)
        finally:
            await fake.stop()

    await check(system)
