"""End to end on Debian's Prometheus and node exporter: units, ages, what stops and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from servers.program import Program
from servers.prometheus import PrometheusServer, node_exporter, running_prometheus
from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.exposition.fake import FakeExporter, dcgm_page
from steersman.drivers.exposition.mapping import EntityRule, Mapping, MetricRule
from steersman.drivers.prometheus import PrometheusDriver, PrometheusOptions
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import Duration
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.observe.inlet import Inlet
from steersman.observe.intake import Intake
from steersman.observe.registry import Source
from steersman.state.bus import StateBus

CLOCK = SystemClock()
CONTEXT = DriverContext("metrics", "lab", CLOCK, seeded_rng(1), 15.0, 10.0)
READY = "count_over_time(node_load1[10s]) > 3 and on () DCGM_FI_DEV_GPU_TEMP"
RealProgram = Callable[[str], str]

pytestmark = pytest.mark.real


@asynccontextmanager
async def driving(server: PrometheusServer, **options: Any) -> AsyncIterator[PrometheusDriver]:
    chosen = {"mappings": ["node-exporter", "dcgm"], "window": Duration(10), **options}
    made = await asyncio.to_thread(lambda: PrometheusOptions(url=server.url, **chosen))  # it reads tables
    driver = PrometheusDriver(made, CONTEXT)
    try:
        yield driver
    finally:
        await driver.close()


@asynccontextmanager
async def fleet(
    real_program: RealProgram, folder: Path, **options: Any
) -> AsyncIterator[tuple[PrometheusServer, Program, FakeExporter]]:
    """A node exporter and an exporter with DCGM's page, both scraped by a Prometheus."""
    exporter = node_exporter(real_program("prometheus-node-exporter"), folder)
    dcgm = await FakeExporter(dcgm_page(seeded_rng(1), host="gpu-0001", gpus=2, pod="train-7")).start()
    own = {"targets": [f"127.0.0.1:{dcgm.web.port}"], "labels": {"pod": "dcgm-x1", "namespace": "monitoring"}}
    jobs = {"node": [f"127.0.0.1:{exporter.port}"], "dcgm": {"static_configs": [own]}}
    await exporter.start()
    try:
        async with running_prometheus(real_program("prometheus"), folder, jobs, **options) as server:
            await server.wait_for(READY)
            yield server, exporter, dcgm
    finally:
        await exporter.stop()
        await dcgm.stop()


def of_type(seen: Observation, kind: EntityType) -> list[StateFragment]:
    return [fragment for fragment in seen.fragments if fragment.entity_type is kind]


async def test_nodes_and_gpus_have_right_units_and_the_age_of_their_samples(
    real_program: RealProgram, tmp_path: Path
) -> None:
    async with fleet(real_program, tmp_path) as (server, exporter, _), driving(server) as driver:
        await server.wait_for('count_over_time(node_cpu_seconds_total{mode="idle",cpu="0"}[10s]) > 3')
        seen = await driver.observe()
        assert (seen.complete, seen.warnings, seen.drift) == (True, [], [])
        (node,) = of_type(seen, EntityType.NODE)
        (uname,) = await server.query("node_uname_info")
        assert node.entity_id == uname["metric"]["nodename"]
        assert node.labels == {"cluster": "lab", "instance": f"127.0.0.1:{exporter.port}"}
        ((_, cpus),) = [
            one["value"] for one in await server.query("count(node_cpu_seconds_total{mode='idle'})")
        ]
        assert node.fields["cpu_count"] == int(cpus)
        assert 0 <= node.fields["cpu_utilization"] <= 1
        assert 0 < node.fields["memory_utilization"] < 1
        assert node.fields["memory_available"] > 1 << 20
        assert 0 < node.fields["disk_utilization"] < 1
        assert node.fields["booted_at"] < CLOCK.now()
        gpus = of_type(seen, EntityType.GPU)
        assert [gpu.entity_id for gpu in gpus] == ["GPU-gpu-0001-0", "GPU-gpu-0001-1"]
        for gpu in gpus:
            raw = await server.query(f'DCGM_FI_DEV_GPU_UTIL{{UUID="{gpu.entity_id}"}}')
            assert gpu.fields["gpu_utilization"] == pytest.approx(float(raw[0]["value"][1]) / 100)
            assert gpu.fields["gpu_memory_total"] > 1 << 30
            assert "memory_temperature_celsius" not in gpu.fields  # the page has a blank there
            assert gpu.labels["pod"] == "train-7"  # and not the exporter's own
            assert gpu.labels["namespace"] == "ns"
        for fragment in seen.fragments:
            ((_, scraped),) = [
                one["value"] for one in await server.query(f'min(timestamp(up{{job="{_job(fragment)}"}}))')
            ]
            assert fragment.observed_at.timestamp() <= float(scraped) + 0.001
            assert CLOCK.now() - fragment.observed_at < timedelta(seconds=5)


def _job(fragment: StateFragment) -> str:
    return "node" if fragment.entity_type is EntityType.NODE else "dcgm"


async def test_an_exporter_that_stops_makes_nothing_zero_and_comes_back(
    real_program: RealProgram, tmp_path: Path
) -> None:
    async with fleet(real_program, tmp_path) as (server, exporter, dcgm), driving(server) as driver:
        (before,) = of_type(await driver.observe(), EntityType.NODE)
        await exporter.stop()
        await server.wait_for('up{job="node"} == 0')
        seen = await driver.observe()
        assert of_type(seen, EntityType.NODE) == []  # silence: what it had ages
        assert len(of_type(seen, EntityType.GPU)) == 2
        assert not seen.complete
        assert any("1 of 1 targets of scrape job 'node' are down" in line for line in seen.warnings)
        assert not seen.gone
        await exporter.start()
        await server.wait_for("node_load1")
        (again,) = of_type(await driver.observe(), EntityType.NODE)
        assert again.entity_id == before.entity_id
        assert again.observed_at > before.observed_at
        # An idle GPU's page names no workload; the pod that is left is the exporter's own.
        dcgm.page = dcgm.page.replace(
            'container="c",namespace="ns",pod="train-7"', 'container="",namespace=""'
        )
        await server.wait_for(
            'DCGM_FI_DEV_GPU_UTIL{exported_pod="",gpu="1"} unless DCGM_FI_DEV_GPU_UTIL{exported_pod!=""}'
        )
        for gpu in of_type(await driver.observe(), EntityType.GPU):
            assert "pod" not in gpu.labels
            assert "namespace" not in gpu.labels


async def test_on_the_bus_a_stopped_exporter_ages_and_is_never_zero(
    real_program: RealProgram, tmp_path: Path
) -> None:
    """From a real Prometheus through intake to the bus: entities are fresh, age while their exporter is away
    with all that was known of them, and are fresh again; those of the other exporter stay as they are."""
    async with fleet(real_program, tmp_path) as (server, exporter, _), driving(server) as driver:
        (uname,) = await server.query("node_uname_info")
        host = uname["metric"]["nodename"]
        bus = StateBus(CLOCK)
        source = Source("metrics", "prometheus", driver, "lab", interval_s=1.0, timeout_s=10.0)
        intake = Intake(Inlet(bus, CLOCK), [source], clock=CLOCK, rng=seeded_rng(1))

        async def until(fresh: bool) -> Any:
            async with asyncio.timeout(30):
                while (node := bus.get(EntityType.NODE, host)) is None or (
                    node.freshness == "fresh"
                ) != fresh:
                    await asyncio.sleep(0.1)
            return node

        async with Supervisor(CLOCK, seeded_rng(1), name="test") as tasks:
            tasks.start("intake", intake.run)
            node = await until(fresh=True)
            await exporter.stop()
            aged = await until(fresh=False)
            assert aged.memory_total == node.memory_total
            assert aged.memory_utilization > 0
            assert aged.load_1m is not None
            gpu = bus.get(EntityType.GPU, "GPU-gpu-0001-0")
            assert gpu is not None
            assert gpu.freshness == "fresh"
            service = bus.get(EntityType.SERVICE, "source/metrics")
            assert service is not None
            assert service.up is True  # the API answers; what it says of its targets is a warning
            await exporter.start()
            again = await until(fresh=True)
            assert again.observed_at > aged.observed_at
            assert [one.entity_id for one in bus.entities(EntityType.NODE)] == [host]


async def test_samples_with_a_time_of_their_own_are_as_old_as_they_say(
    real_program: RealProgram, tmp_path: Path
) -> None:
    """An exporter that sets timestamps stops setting new ones: its last sample lingers, and is told so."""
    async with fleet(real_program, tmp_path) as (server, _, dcgm), driving(server) as driver:
        stamp_ms = round((CLOCK.now() - timedelta(seconds=100)).timestamp() * 1000)
        dcgm.page = (
            "\n".join(
                f"{line} {stamp_ms}" if not line.startswith("#") else line
                for line in dcgm_page(seeded_rng(2), host="gpu-0002", gpus=1).splitlines()
            )
            + "\n"
        )
        await server.wait_for('DCGM_FI_DEV_GPU_UTIL{UUID="GPU-gpu-0002-0"}')
        seen = await driver.observe()
        (gpu,) = [one for one in of_type(seen, EntityType.GPU) if one.entity_id == "GPU-gpu-0002-0"]
        assert round(gpu.observed_at.timestamp() * 1000) == stamp_ms


async def test_an_expression_of_ones_own_fills_a_field(real_program: RealProgram, tmp_path: Path) -> None:
    rules = (
        "groups: [{name: gpu, interval: 1s, rules: [{record: 'fleet:gpu_util:avg', "
        "expr: 'avg(DCGM_FI_DEV_GPU_UTIL)'}]}]"
    )
    table = Mapping(
        name="own",
        source_type="recorded",
        entities={"fleet": EntityRule(EntityType.DEPLOYMENT, ["fleet"])},
        metrics=[
            MetricRule(
                ["mean use"], "fleet", "gpu_utilization", "percent",
                query="fleet:gpu_util:avg", stamp="timestamp(fleet:gpu_util:avg)",
            ),
            MetricRule(
                ["number"], "fleet", "replica_count",
                query="scalar(count(DCGM_FI_DEV_GPU_UTIL))", stamp="min(timestamp(DCGM_FI_DEV_GPU_UTIL))",
            ),
        ],
    )  # fmt: skip
    async with fleet(real_program, tmp_path, rules=rules) as (server, _, _):
        await server.wait_for("fleet:gpu_util:avg")
        async with driving(server, mappings=[], mapping=table) as driver:
            seen = await driver.observe()
            assert seen.warnings == []
            (fragment,) = seen.fragments
            (raw,) = await server.query("fleet:gpu_util:avg")
            assert fragment.fields["gpu_utilization"] == pytest.approx(float(raw["value"][1]) / 100)
            assert fragment.fields["replica_count"] == 2
            assert CLOCK.now() - fragment.observed_at < timedelta(seconds=5)


async def test_two_scrape_jobs_on_one_target_count_its_processors_once(
    real_program: RealProgram, tmp_path: Path
) -> None:
    exporter = node_exporter(real_program("prometheus-node-exporter"), tmp_path)
    target = [f"127.0.0.1:{exporter.port}"]
    await exporter.start()
    try:
        jobs = {"node": target, "again": target}
        async with running_prometheus(real_program("prometheus"), tmp_path, jobs) as server:
            await server.wait_for(
                'count_over_time(node_load1{job="again"}[10s]) > 2 and on () node_load1{job="node"}'
            )
            async with driving(server, mappings=["node-exporter"]) as driver:
                (node,) = (await driver.observe()).fragments
                (count,) = await server.query("count(node_cpu_seconds_total{mode='idle',job='node'})")
                assert node.fields["cpu_count"] == int(count["value"][1])
                assert 0 <= node.fields["cpu_utilization"] <= 1
    finally:
        await exporter.stop()
