"""An exporter that is scraped and two senders that push, as Kubernetes and Slurm would: one node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from steersman.drivers.api import DriverContext
from steersman.drivers.exposition.fake import FakeExporter, dcgm_page
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.openmetrics import OpenMetricsDriver, OpenMetricsOptions
from steersman.kernel.clock import SystemClock, iso_utc
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import EntityType
from steersman.observe.inlet import Inlet
from steersman.observe.intake import Intake
from steersman.observe.push import Push
from steersman.observe.registry import Source
from steersman.state.bus import StateBus

NODE, GPU = EntityType.NODE, EntityType.GPU
WAIT_S = 20.0


class Plane:
    def __init__(self, inlet: Inlet, push: Push) -> None:
        self.inlet, self.bus, self.push = inlet, inlet.bus, push

    async def send(self, source_type: str, kind: str, name: str, **fields: object) -> None:
        item = {
            "source_type": source_type,
            "entity_type": kind,
            "entity_id": name,
            "observed_at": iso_utc(SystemClock().now()),
            "fields": fields,
        }
        answer = await self.push.take_array(json.dumps([item]).encode())
        assert answer.accepted == 1, answer

    async def gpu_is_seen(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.bus.get(GPU, "GPU-node001-0") is None:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def scraping() -> AsyncIterator[Plane]:
    clock, rng = SystemClock(), seeded_rng(1)
    fake = await FakeExporter(dcgm_page(seeded_rng(2), host="node001")).start()
    try:
        options = OpenMetricsOptions(url=fake.url, mapping=open_mapping("dcgm"))
        driver = OpenMetricsDriver(options, DriverContext("dcgm", "", clock, rng, 0.2, 2.0))
        inlet = Inlet(StateBus(clock), clock)
        intake = Intake(inlet, [Source("dcgm", "openmetrics", driver, "", 0.2, 2.0)], clock=clock, rng=rng)
        async with Supervisor(clock, rng, name="test") as tasks:
            tasks.start("intake", intake.run)
            plane = Plane(inlet, Push(inlet, clock))
            await plane.gpu_is_seen()
            yield plane
    finally:
        await fake.stop()


@pytest.mark.parametrize("first", ["kubernetes", "slurm"])
async def test_three_sources_that_name_one_node_three_ways_tell_of_one_node(first: str) -> None:
    async with scraping() as plane:
        names = {
            "kubernetes": ("ip-10-0-0-7", {"addresses": ["10.0.0.7"], "gpu_count": 8, "uid": "u1"}),
            "slurm": (
                "gpu-a-17",
                {
                    "addresses": ["10.0.0.7"],
                    "hostname": "node001.hpc.example",
                    "scheduler_state": "ALLOCATED",
                },
            ),
        }
        for source in sorted(names, reverse=first == "slurm"):
            name, fields = names[source]
            await plane.send(source, "node", name, **fields)
        (node,) = plane.bus.entities(NODE)
        assert (node.entity_id, node.gpu_count, node.scheduler_state) == ("ip-10-0-0-7", 8, "ALLOCATED")
        # The exporter names the node by its short host name, which Slurm alone knows.
        gpus = list(plane.bus.entities(GPU))
        assert len(gpus) == 8
        assert {gpu.node for gpu in gpus} == {"ip-10-0-0-7"}
        why = plane.bus.explain(NODE, "node001")
        assert why is not None
        rules = {(alias.name, alias.rule, alias.sources) for alias in why.identity.aliases}
        assert rules == {("gpu-a-17", "address", ("slurm",)), ("node001", "short_name", ())}


async def test_a_fourth_that_could_be_either_of_two_is_told_as_such_and_guessed_by_nobody() -> None:
    async with scraping() as plane:
        await plane.send("kubernetes", "node", "node001.east")
        assert {gpu.node for gpu in plane.bus.entities(GPU)} == {"node001.east"}
        await plane.send("kubernetes", "node", "node001.west")
        assert {gpu.node for gpu in plane.bus.entities(GPU)} == {"node001"}
        (signal,) = [one for one in plane.bus.drift() if one.kind == "identity"]
        assert "node001 is ambiguous" in signal.detail
        assert "node001.east, node001.west" in signal.detail
