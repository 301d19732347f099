"""The driver suite on the dcgm driver: the exporter in a box under its old and new names, and MIG."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.dcgm import DcgmDriver, DcgmOptions
from steersman.drivers.dcgm.fake import FakeDcgmExporter, FakeGpu, fake_gpus
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, STATES, Check, SystemUnderTest

SECRET = "hunter2-very-secret"


class Exporter:
    """The exporter in a box, behind a token."""

    secrets = (SECRET,)
    faults = FAULTS
    states = STATES

    def __init__(self, fake: FakeDcgmExporter) -> None:
        self.fake = fake
        self.gpus = list(fake.gpus)

    def driver(self, context: DriverContext) -> Driver:
        return DcgmDriver(DcgmOptions(url=f"{self.fake.url}?key={SECRET}", token=Secret(SECRET)), context)

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        self.fake.gpus = list(self.gpus)
        self.fake.render()
        await self.fake.web.mend()

    async def show(self, state: str) -> None:
        if state == "empty":
            self.fake.gpus = []
        elif state == "huge":
            self.fake.gpus = fake_gpus(1200)
        elif state == "restarted":
            for gpu in self.fake.gpus:
                gpu.numbers["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] = 10
        self.fake.render(stamp_ms=int((time.time() + 3600) * 1000) if state == "skewed" else None)

    async def surprise(self) -> bool:
        self.fake.page += 'DCGM_FI_DEV_GPU_TEMP{gpu="9",UUID="GPU-9"} 51.5.1\n'
        self.fake.page += 'DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{gpu="0",UUID="GPU-n1-0000"} 65536\n'
        self.fake.page += 'DCGM_FI_DEV_GPU_RECOVERY_ACTION{gpu="0",UUID="GPU-n1-0000"} 77\n'
        return True


def divided() -> list[FakeGpu]:
    gpus = fake_gpus(2)
    gpus[1].mig = {1: "1g.10gb", 2: "1g.10gb"}
    return gpus


SYSTEMS: dict[str, dict[str, Any]] = {
    "old": {"old_namespace": True},
    "new": {"new_names": True, "beside": True},
    "mig": {"mig": True},
}


@pytest.mark.parametrize("made", SYSTEMS)
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_dcgm(check: Check, made: str) -> None:
    options = dict(SYSTEMS[made])

    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        gpus = divided() if options.pop("mig", False) else fake_gpus(3)
        fake = FakeDcgmExporter(gpus, authorization=f"Bearer {SECRET}", **options)
        await fake.start()
        try:
            yield Exporter(fake)
        finally:
            await fake.stop()

    await check(system)
