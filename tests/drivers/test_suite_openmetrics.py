"""The driver suite on the openmetrics driver: the exporter in a box, and Debian's node exporter for real."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.exposition.fake import FakeExporter, dcgm_page
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.openmetrics import OpenMetricsDriver, OpenMetricsOptions
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.ids import seeded_rng
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, STATES, Check, SystemUnderTest

SECRET = "hunter2-very-secret"
DCGM = open_mapping("dcgm")
NODE_EXPORTER = open_mapping("node-exporter")


class Exporter:
    """The exporter in a box, behind a token."""

    secrets = (SECRET,)
    faults = FAULTS
    states = STATES

    def __init__(self, fake: FakeExporter) -> None:
        self.fake = fake
        self.full = fake.page

    def driver(self, context: DriverContext) -> Driver:
        options = OpenMetricsOptions(url=f"{self.fake.url}?key={SECRET}", mapping=DCGM, token=Secret(SECRET))
        return OpenMetricsDriver(options, context)

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        self.fake.page = self.full
        await self.fake.web.mend()

    async def show(self, state: str) -> None:
        end = "# EOF\n" if self.fake.openmetrics else ""
        ahead_s = time.time() + 3600
        stamp = f"{ahead_s:.3f}" if self.fake.openmetrics else f"{ahead_s * 1000:.0f}"
        pages = {
            "empty": "exporter_build_info 1\n" + end,
            "skewed": re.sub(r"(?m)^([^#\n].*)$", rf"\1 {stamp}", self.full),
            "restarted": dcgm_page(seeded_rng(2)) + end,
            "huge": dcgm_page(seeded_rng(1), gpus=4000) + end,
        }
        self.fake.page = pages[state]

    async def surprise(self) -> bool:
        self.fake.page += (
            'DCGM_FI_DEV_GPU_UTIL{gpu="9",UUID="GPU-9"} 12.5.1\nDCGM_FI_DEV_GPU_UTIL{UUID="GPU-9"} 4000\n'
            'DCGM_FI_DEV_GPU_RECOVERY_ACTION{UUID="GPU-8"} 77\n'
        )
        return True


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_exporter(check: Check, openmetrics: bool) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        page = dcgm_page(seeded_rng(1)) + ("# EOF\n" if openmetrics else "")
        fake = FakeExporter(page, openmetrics=openmetrics, authorization=f"Bearer {SECRET}")
        exporter = Exporter(await fake.start())
        if openmetrics:
            fake.page = page

            async def surprise() -> bool:
                fake.page = page.replace("# EOF\n", 'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-9" 1\n# EOF\n')
                return True

            exporter.surprise = surprise  # type: ignore[method-assign]  # the end mark must stay last
        try:
            yield exporter
        finally:
            await fake.stop()

    await check(system)


class NodeExporter:
    """Debian's node exporter: stopping the process is a hang, ending it a refusal."""

    secrets = (SECRET,)
    faults = ("hang", "refuse")

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    async def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, f"--web.listen-address=127.0.0.1:{self.port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise AssertionError("the node exporter did not start")

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            await asyncio.to_thread(process.wait)

    def driver(self, context: DriverContext) -> Driver:
        url = f"http://user:{SECRET}@127.0.0.1:{self.port}/metrics"
        return OpenMetricsDriver(OpenMetricsOptions(url=url, mapping=NODE_EXPORTER), context)

    async def fail(self, fault: str) -> None:
        assert self._process is not None
        if fault == "hang":
            self._process.send_signal(signal.SIGSTOP)
        else:
            await self.stop()

    async def mend(self) -> None:
        if self._process is None:
            await self.start()
        else:
            self._process.send_signal(signal.SIGCONT)

    async def surprise(self) -> bool:
        return False


@pytest.mark.real
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_node_exporter(check: Check, real_program: Callable[[str], str]) -> None:
    program = real_program("prometheus-node-exporter")

    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        exporter = NodeExporter(program)
        await exporter.start()
        try:
            yield exporter
        finally:
            await exporter.stop()

    await check(system)
