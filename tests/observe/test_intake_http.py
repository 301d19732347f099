"""Drivers that speak HTTP beside each other: one system hangs, one drips, and the others are read on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from steersman.drivers.api import DriverContext
from steersman.drivers.dcgm.fake import FakeDcgmExporter, fake_gpus
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.openmetrics import OpenMetricsDriver, OpenMetricsOptions
from steersman.drivers.web.fake import Request, Response, WebFake
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import EntityType
from steersman.observe.inlet import Inlet
from steersman.observe.intake import Intake
from steersman.observe.registry import Source
from steersman.state.bus import StateBus

INTERVAL_S = 0.02
TIMEOUT_S = 60.0
"""Longer than the test: while it runs, the slow ones are neither done nor given up."""
ROUNDS = 10
LINES = b"node_load1 1.5\n"
DCGM = FakeDcgmExporter(fake_gpus(2)).page.encode()


def source(name: str, url: str, mapping: str) -> Source:
    clock = SystemClock()
    context = DriverContext(name, name, clock, seeded_rng(1), INTERVAL_S, TIMEOUT_S)
    driver = OpenMetricsDriver(OpenMetricsOptions(url=url, mapping=open_mapping(mapping)), context)
    return Source(name, driver.name, driver, name, INTERVAL_S, TIMEOUT_S)


async def test_a_system_that_hangs_and_one_that_drips_delay_none_of_the_others() -> None:
    dripped = 0

    async def well(_: Request) -> Response:
        return Response(LINES)

    async def gpus(_: Request) -> Response:
        return Response(DCGM)

    async def drip(_: Request) -> Response:
        async def bytes_of_it() -> AsyncIterator[bytes]:
            nonlocal dripped
            while True:
                for byte in LINES:
                    dripped += 1
                    yield bytes([byte])
                    await asyncio.sleep(INTERVAL_S / 4)

        return Response(stream=bytes_of_it())

    fakes = {
        "hangs": await WebFake(well).start(),
        "drips": await WebFake(drip).start(),
        "node": await WebFake(well).start(),
        "gpus": await WebFake(gpus).start(),
    }
    await fakes["hangs"].fail("hang")
    clock = SystemClock()
    bus = StateBus(clock)
    sources = [
        source(name, fake.url, "dcgm" if name == "gpus" else "node-exporter") for name, fake in fakes.items()
    ]
    # Three places for four sources: the two that are slow hold theirs all the time.
    intake = Intake(Inlet(bus, clock), sources, clock=clock, rng=seeded_rng(1), concurrency=3)
    try:
        async with Supervisor(clock, seeded_rng(1), name="test") as tasks:
            tasks.start("intake", intake.run)
            good = ("node", "gpus")
            while min(h.observations for h in intake.snapshot() if h.name in good) < ROUNDS:
                await asyncio.sleep(INTERVAL_S)
            health = {one.name: one for one in intake.snapshot()}
    finally:
        for fake in fakes.values():
            await fake.stop()
    assert [health[name].state for name in good] == ["up", "up"]
    assert len(list(bus.entities(EntityType.GPU))) == 2
    # Both were asked once and have not ended: what the good ones were read meanwhile waited for neither.
    assert [len(fakes[name].requests) for name in ("hangs", "drips")] == [1, 1]
    assert [health[name].observations for name in ("hangs", "drips")] == [0, 0]
    assert dripped > 1, "the slow answer was on its way"
