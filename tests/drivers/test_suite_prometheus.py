"""The driver suite on the prometheus driver: the API in a box, and Debian's Prometheus for real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from servers.prometheus import PrometheusServer, node_exporter, running_prometheus
from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.exposition.fake import FakeExporter, dcgm_page
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.prometheus import PrometheusDriver, PrometheusOptions
from steersman.drivers.prometheus.fake import FakePrometheus
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import ByteSize, Duration
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, STATES, Check, SystemUnderTest

SECRET = "hunter2-very-secret"
DCGM = open_mapping("dcgm")


class Api:
    """The API in a box, behind a token and a tenant."""

    secrets = (SECRET,)
    faults = FAULTS
    states = STATES

    def __init__(self, fake: FakePrometheus) -> None:
        self.fake = fake
        self._odd = False
        self.fill()

    def fill(self, gpus: int = 8) -> None:
        """What a scrape of an exporter leaves there."""
        self.fake.clear()
        page = dcgm_page(seeded_rng(1), gpus=gpus)
        self.fake.scrape(page, {"job": "dcgm", "instance": "10.0.0.1:9400"}, age_s=7.0)

    def driver(self, context: DriverContext) -> Driver:
        options = PrometheusOptions(
            url=self.fake.url,
            mapping=DCGM,
            token=Secret(SECRET),
            tenant="team-a",
            max_bytes=ByteSize(8 << 20),
        )
        return PrometheusDriver(options, context)

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        if self._odd:
            self._odd = False
            self.fake.shift_s = 0.0
            self.fill()
        await self.fake.web.mend()

    async def show(self, state: str) -> None:
        self._odd = True
        if state == "empty":
            self.fake.clear()
            return
        self.fake.shift_s = 3600.0 if state == "skewed" else 0.0
        self.fill(gpus=1_050 if state == "huge" else 8)

    async def surprise(self) -> bool:
        self.fake.put("DCGM_FI_DEV_GPU_RECOVERY_ACTION", {"UUID": "GPU-8"}, 77)
        return True


@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_prometheus(check: Check) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        fake = FakePrometheus()
        fake.authorization, fake.tenant = f"Bearer {SECRET}", "team-a"
        await fake.start()
        try:
            yield Api(fake)
        finally:
            await fake.stop()

    await check(system)


class RealPrometheus:
    """Debian's Prometheus, with a node exporter and an exporter with DCGM's page behind it: stopping the
    process is a hang, ending it a refusal."""

    secrets = (SECRET,)
    faults = ("hang", "refuse")

    def __init__(self, server: PrometheusServer, options: PrometheusOptions, dcgm: FakeExporter) -> None:
        self._server = server
        self._options = options
        self._dcgm = dcgm

    def driver(self, context: DriverContext) -> Driver:
        return PrometheusDriver(self._options, context)

    async def fail(self, fault: str) -> None:
        if fault == "hang":
            self._server.program.freeze()
        else:
            await self._server.program.stop()

    async def mend(self) -> None:
        if self._server.program.running:
            self._server.program.thaw()
        else:
            await self._server.start()

    async def surprise(self) -> bool:
        self._dcgm.page += 'DCGM_FI_DEV_GPU_RECOVERY_ACTION{UUID="GPU-8"} 77\n'
        await self._server.wait_for("DCGM_FI_DEV_GPU_RECOVERY_ACTION")
        return True


@pytest.mark.real
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_real_prometheus(check: Check, real_program: Callable[[str], str], tmp_path: Path) -> None:
    path, exporter_path = real_program("prometheus"), real_program("prometheus-node-exporter")

    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        exporter = node_exporter(exporter_path, tmp_path)
        dcgm = await FakeExporter(dcgm_page(seeded_rng(1))).start()
        jobs = {"node": [f"127.0.0.1:{exporter.port}"], "dcgm": [f"127.0.0.1:{dcgm.web.port}"]}
        await exporter.start()
        try:
            async with running_prometheus(path, tmp_path, jobs) as server:
                await server.wait_for("node_load1 and on () DCGM_FI_DEV_GPU_TEMP")
                url = f"http://user:{SECRET}@127.0.0.1:{server.port}"
                tables = ["node-exporter", "dcgm"]
                options = await asyncio.to_thread(
                    lambda: PrometheusOptions(url=url, mappings=tables, window=Duration(10))
                )
                yield RealPrometheus(server, options, dcgm)
        finally:
            await exporter.stop()
            await dcgm.stop()

    await check(system)
