"""The serving driver on a real Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from servers.ray import RayServer
from steersman.drivers.api import Driver, DriverContext, Observation
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.serving import ServingDriver, ServingOptions
from steersman.drivers.web.client import WebClient
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.entity import EntityType
from steersman.testing.driver import DRIVER_CHECKS, Check, SystemUnderTest

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
CLOCK = SystemClock()
open_mapping("ray-serve")  # as the configuration does, before any loop runs


@pytest.fixture(scope="module")
def ray(real_program: Callable[[str], str]) -> Iterator[RayServer]:
    program = real_program("ray")
    # Of its own and short: its sockets' names are 107 bytes at most.
    with TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = RayServer(program, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def driver(ray: RayServer, context: DriverContext) -> ServingDriver:
    return ServingDriver(ServingOptions(flavor="ray-serve", url=ray.metrics_url), context)


class System:
    """Ray Serve, started once; stopping the process that shows the page is a hang."""

    secrets = ()
    faults = ("hang",)

    def __init__(self, ray: RayServer) -> None:
        self._ray = ray

    def driver(self, context: DriverContext) -> Driver:
        return driver(self._ray, context)

    async def fail(self, fault: str) -> None:
        await asyncio.to_thread(self._ray.hang)

    async def mend(self) -> None:
        await asyncio.to_thread(self._ray.mend)

    async def surprise(self) -> bool:
        return False


@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_ray_serve(check: Check, ray: RayServer) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        try:
            yield System(ray)
        finally:
            await asyncio.to_thread(ray.mend)

    await check(system)


async def test_its_figures_are_those_of_the_requests_that_were_sent(ray: RayServer) -> None:
    """Five that go well in 200 ms, two that fail, and one that runs while it is looked at."""
    context = DriverContext("ray", "lab", CLOCK, seeded_rng(1), 15.0, 10.0)
    watching = driver(ray, context)
    client = WebClient(ray.url(), CLOCK, connections=16)

    async def ask(query: str) -> int:
        return (await client.get(query, timeout_s=60)).status

    try:
        assert [await ask("?s=0.2"), await ask("?fail=1")] == [200, 500]
        await CLOCK.sleep(3)
        await watching.observe()
        async with asyncio.TaskGroup() as group:
            group.create_task(ask("?s=8"))
            assert [await ask("?s=0.2") for _ in range(15)] == [200] * 15
            assert [await ask("?fail=1") for _ in range(6)] == [500] * 6
            await CLOCK.sleep(3)
            seen = await watching.observe()
        found = fields(seen)
        deployment = found[EntityType.SERVICE, "demo/Tiny"]
        assert deployment["error_rate"] == pytest.approx(2 / 7)
        assert 100 <= deployment["latency_p95_ms"] <= 1000
        assert deployment["in_flight"] == 1
        assert deployment["queue_depth"] == 0
        assert deployment["service_state"] == "active"
        application = found[EntityType.SERVICE, "demo"]
        assert application["error_rate"] == pytest.approx(2 / 7)
        assert found[EntityType.DEPLOYMENT, "demo/Tiny"] == {"available_replicas": 1, "desired_replicas": 1}
        assert seen.complete, seen.warnings
    finally:
        await watching.close()
        await client.close()


def fields(seen: Observation) -> dict[tuple[EntityType, str], dict[str, Any]]:
    return {(f.entity_type, f.entity_id): f.fields for f in seen.fragments}


def test_it_listens_on_loopback_alone(ray: RayServer) -> None:
    assert ray.open_to_others() == []
