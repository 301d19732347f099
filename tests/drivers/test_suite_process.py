"""The driver suite on the process driver: processes in a box, and real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.process import ProcessDriver, ProcessOptions
from steersman.drivers.process.fake import FakeLauncher
from steersman.drivers.process.options import ProcessRule
from steersman.kernel.clock import SystemClock
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, Check, SystemUnderTest

SECRET = "hunter2-very-secret"
RULES = [
    ProcessRule(name="one", argv=["sleep", "60"], env={"ONE_TOKEN": Secret(SECRET)}),
    ProcessRule(name="two", argv=["sh", "-c", f"sleep 60; echo {SECRET}"], restart="always"),
]


class Boxed:
    """Processes that are not there."""

    secrets = (SECRET,)
    faults = ("hang", "refuse")

    def __init__(self) -> None:
        self.launcher = FakeLauncher(SystemClock())

    def driver(self, context: DriverContext) -> Driver:
        return ProcessDriver(ProcessOptions(processes=RULES), context, self.launcher)

    async def fail(self, fault: str) -> None:
        self.launcher.fault = fault

    async def mend(self) -> None:
        self.launcher.fault = ""

    async def surprise(self) -> bool:
        return False


class Real(Boxed):
    """Real ones. Nothing here can be made to fail from outside."""

    faults = ()

    def driver(self, context: DriverContext) -> Driver:
        return ProcessDriver(ProcessOptions(processes=RULES), context)


@pytest.mark.parametrize("made", [Boxed, Real])
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_processes(check: Check, made: type[Boxed]) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        yield made()

    await check(system)
