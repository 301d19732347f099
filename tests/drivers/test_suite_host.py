"""The driver suite on the host driver: a fake machine with GPUs, and this machine for real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.host.fake import FakeGpu, FakeMachine, FakeNvmlLibrary
from steersman.drivers.host.nvml import Nvml
from steersman.drivers.host.observe import HostDriver, HostParts
from steersman.drivers.host.options import Endpoint, HostOptions, JobRule, WatchedFile
from steersman.drivers.web.fake import Request, Response, WebFake
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, Check, SystemUnderTest

SECRET = "hunter2-very-secret"


class FakeHost:
    """A machine with two GPUs whose kernel and NVML fail together."""

    secrets = (SECRET, "secret-in-a-file")
    faults = ("hang", "refuse", "garbage")
    states = ("empty", "restarted")

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.library = FakeNvmlLibrary()
        self.gpus = list(self.library.gpus)

    def driver(self, context: DriverContext) -> Driver:
        parts = HostParts(machine=self.machine, nvml=Nvml(self.library))
        return HostDriver(HostOptions(labels={"rack": "r1"}), context, parts)

    async def fail(self, fault: str) -> None:
        self.machine.fault = self.library.fault = fault

    async def mend(self) -> None:
        self.library.gpus[:] = self.gpus
        self.machine.mend()
        self.library.mend()

    async def show(self, state: str) -> None:
        if state == "empty":
            self.library.gpus.clear()
        else:
            self.machine.reads = 0  # its counters follow from it

    async def surprise(self) -> bool:
        self.library.gpus.append(FakeGpu(uuid="GPU-new", index=2, reasons=0x80000000, recovery=99))
        return True


class RealHost:
    """This machine, with a job, an endpoint behind a secret header, and files."""

    secrets = (SECRET,)
    faults = ()

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder

    def driver(self, context: DriverContext) -> Driver:
        options = HostOptions(
            jobs=[JobRule("tests", process="python")],
            endpoints=[
                Endpoint("api", f"{self._url}/health", header="X-Key", header_value=Secret(SECRET)),
                Endpoint("down", "http://user:hunter2-very-secret@127.0.0.1:9/x?token=hunter2-very-secret"),
            ],
            files=[WatchedFile(f"{self._folder}/*.conf"), WatchedFile(f"{self._folder}/missing")],
        )
        return HostDriver(options, context)

    async def fail(self, fault: str) -> None:
        raise AssertionError(f"this machine can't show {fault}")

    async def mend(self) -> None:
        pass

    async def surprise(self) -> bool:
        return False


@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_host(check: Check) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        host = FakeHost()
        yield host
        assert host.library.opened == 0, "NVML was not released"

    await check(system)


@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_this_host(check: Check, tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text(f"password={SECRET}\n")
    os.mkfifo(tmp_path / "pipe.conf")

    async def answer(_: Request) -> Response:
        return Response(b"ok")

    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        web = await WebFake(answer).start()
        try:
            yield RealHost(web.url, tmp_path)
        finally:
            await web.stop()
            await asyncio.sleep(0)

    await check(system)
