"""The dcgm driver on pages in all of the exporter's shapes."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.dcgm import DcgmDriver, DcgmOptions
from steersman.drivers.dcgm.fake import NOT_SUPPORTED, FakeDcgmExporter, FakeGpu, fake_gpus
from steersman.drivers.dcgm.picture import SPARE_GPUS, Page, Picture, merged
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fields import FIELDS
from steersman.kinds.fragment import StateFragment

CONTEXT = DriverContext("gpus", "hpc-1", SystemClock(), seeded_rng(1), 15.0, 5.0)
GPU, NODE = EntityType.GPU, EntityType.NODE


class Scraped:
    """An exporter and a driver that reads it."""

    def __init__(self, fake: FakeDcgmExporter, driver: DcgmDriver) -> None:
        self.fake = fake
        self.driver = driver

    async def look(self) -> Observation:
        self.fake.render()
        return await self.driver.observe()

    async def gpus(self) -> dict[str, StateFragment]:
        return {f.entity_id: f for f in (await self.look()).fragments if f.entity_type is GPU}

    async def gpu(self) -> dict[str, Any]:
        (one,) = (await self.gpus()).values()
        return one.fields


@asynccontextmanager
async def scraped(
    gpus: list[FakeGpu] | None = None, options: dict[str, Any] | None = None, **exporter: Any
) -> AsyncIterator[Scraped]:
    fake = FakeDcgmExporter(gpus if gpus is not None else fake_gpus(1), **exporter)
    await fake.start()
    driver = DcgmDriver(DcgmOptions(url=fake.url, **(options or {})), CONTEXT)
    try:
        yield Scraped(fake, driver)
    finally:
        await driver.close()
        await fake.stop()


DEFAULTS = {
    "gpu_utilization": 0.73,
    "gpu_memory_used": 20_000 * 1024**2,
    "gpu_memory_reserved": 600 * 1024**2,
    "gpu_memory_total": 80_600 * 1024**2,
    "memory_bandwidth_utilization": 0.41,
    "encoder_utilization": 0.0,
    "decoder_utilization": 0.0,
    "temperature_celsius": 51.0,
    "memory_temperature_celsius": 58.0,
    "power_draw_watts": 412.5,
    "energy_joules": 9_000.0,
    "sm_clock_mhz": 1980.0,
    "memory_clock_mhz": 2619.0,
    "pcie_replays": 0,
    "xid": 0,
    "nvlink_bandwidth_total": 88.0,
    "vgpu_license_status": 0,
    "remapped_rows_uncorrectable": 0,
    "remapped_rows_correctable": 2,
    "row_remap_failed": False,
    "engine_active": 0.71,
    "tensor_active": 0.22,
    "dram_active": 0.35,
    "pcie_tx_bytes_per_second": 1_500_000.0,
    "pcie_rx_bytes_per_second": 2_500_000.0,
    "gpu_index": 0,
    "model_name": "NVIDIA H100 80GB HBM3",
    "pci_bus_id": "00000000:1B:00.0",
    "driver_version": "570.86.15",
    "node": "gpu-n1",
    "xid_events": [],
    "xid_counts": {},
    "xid_window_seconds": 86_400.0,
}


@pytest.mark.parametrize("names", [{}, {"new_names": True}, {"old_namespace": True}], ids=str)
async def test_the_default_counters_are_told_alike_under_all_names(names: dict[str, Any]) -> None:
    async with scraped(**names) as seen:
        (gpu,) = (await seen.gpus()).values()
        assert set(gpu.fields) == set(DEFAULTS)
        for name, value in DEFAULTS.items():
            wanted = pytest.approx(value) if isinstance(value, float) else value
            assert gpu.fields[name] == wanted, name
        assert set(gpu.fields) <= set(FIELDS[GPU]), "a default counter has no declared field"
        assert gpu.labels == {
            "gpu_index": "0",
            "hostname": "gpu-n1",
            "namespace": "research",
            "pod": "run-1-0",
            "container": "train",
            "cluster": "hpc-1",
        }


OPTIONAL: list[tuple[str, float, str, Any]] = [
    ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 2, "ecc_errors", 2),
    ("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", 3, "ecc_errors_corrected", 3),
    ("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", 4, "ecc_errors_lifetime", 4),
    ("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", 5, "ecc_errors_corrected_lifetime", 5),
    ("DCGM_FI_DEV_ECC_CURRENT", 1, "ecc_enabled", True),
    ("DCGM_FI_DEV_RETIRED_SBE", 6, "retired_pages_sbe", 6),
    ("DCGM_FI_DEV_RETIRED_DBE", 7, "retired_pages_dbe", 7),
    ("DCGM_FI_DEV_RETIRED_PENDING", 1, "retired_pages_pending", 1),
    ("DCGM_FI_DEV_ROW_REMAP_PENDING", 1, "row_remap_pending", True),
    ("DCGM_FI_DEV_GPU_TEMP_LIMIT", -3, "temperature_margin_celsius", -3.0),
    ("DCGM_FI_DEV_SLOWDOWN_TEMP", 92, "slowdown_temperature_celsius", 92.0),
    ("DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION", 2, "recovery_action", "node_reboot"),
    ("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", 0x44, "throttle_reasons", ["sw_power_cap", "hw_thermal_slowdown"]),
    ("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", 0x1, "throttle_reasons", []),
    ("DCGM_FI_DEV_PCIE_LINK_WIDTH", 8, "pcie_link_width", 8),
    ("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", 9, "nvlink_replays", 9),
    ("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", 9, "nvlink_recoveries", 9),
    ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", 700, "power_limit_watts", 700.0),
    ("DCGM_FI_DEV_PERSISTENCE_MODE", 0, "persistence_mode", False),
    ("DCGM_FI_PROF_SM_ACTIVE", 0.5, "sm_active", 0.5),
    ("DCGM_FI_PROF_PIPE_FP16_ACTIVE", 0.25, "fp16_active", 0.25),
]


@pytest.mark.parametrize("new_names", [False, True])
@pytest.mark.parametrize(("metric", "value", "name", "told"), OPTIONAL, ids=lambda v: str(v)[:40])
async def test_an_optional_counter_is_absent_until_it_is_there(
    metric: str, value: float, name: str, told: Any, new_names: bool
) -> None:
    async with scraped(new_names=new_names) as seen:
        assert name not in await seen.gpu(), "not collected is not zero"
        seen.fake.gpus[0].numbers[metric] = value
        assert (await seen.gpu())[name] == told


async def test_one_percent_is_a_hundredth_and_a_ratio_of_one_is_all() -> None:
    async with scraped() as seen:
        seen.fake.gpus[0].numbers["DCGM_FI_DEV_GPU_UTIL"] = 1
        assert (await seen.gpu())["gpu_utilization"] == pytest.approx(0.01)
        seen.fake.new_names = True
        seen.fake.gpus[0].numbers["DCGM_FI_DEV_GPU_UTIL"] = 100
        assert (await seen.gpu())["gpu_utilization"] == pytest.approx(1.0)


SENTINELS = [float(base + kind) for base in (0x7FFFFFF0, 0x7FFFFFFFFFFFFFF0, 2**47) for kind in range(4)]


@pytest.mark.parametrize("sentinel", SENTINELS, ids=lambda v: f"{v:.0f}")
async def test_a_sentinel_is_absent(sentinel: float) -> None:
    gpu = fake_gpus(1)[0]
    gpu.numbers = dict.fromkeys(gpu.numbers, sentinel) | {"DCGM_FI_DEV_GPU_UTIL": 5}
    async with scraped([gpu]) as seen:
        found = await seen.look()
        (one,) = (f for f in found.fragments if f.entity_type is GPU)
        identity = {"gpu_index", "model_name", "pci_bus_id", "driver_version", "node"}
        assert set(one.fields) == {"gpu_utilization"} | identity
        assert (found.warnings, found.drift) == ([], [])


async def test_a_text_sentinel_is_absent() -> None:
    async with scraped([FakeGpu(index=0, uuid="GPU-1", model="<<<NOT_SUPPORTED>>>")]) as seen:
        assert "model_name" not in await seen.gpu()


async def test_old_exporters_print_a_sentinel_where_new_ones_print_nothing() -> None:
    gpu = FakeGpu(index=0, uuid="GPU-1", sentinels=("DCGM_FI_DEV_MEMORY_TEMP",))
    async with scraped([gpu]) as seen:
        assert str(NOT_SUPPORTED) in seen.fake.page
        assert "memory_temperature_celsius" not in await seen.gpu()


@pytest.mark.parametrize("missing", ["FREE", "USED", "RESERVED"])
async def test_total_memory_needs_all_three(missing: str) -> None:
    async with scraped() as seen:
        del seen.fake.gpus[0].numbers[f"DCGM_FI_DEV_FB_{missing}"]
        assert "gpu_memory_total" not in await seen.gpu()


async def test_counters_become_rates_and_survive_a_reset() -> None:
    gpu = fake_gpus(1)[0]
    gpu.numbers |= {
        "DCGM_FI_DEV_THERMAL_VIOLATION": 0,
        "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": 4,
        "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL": 2,
    }
    async with scraped([gpu]) as seen:
        first = await seen.gpu()
        rates = ("power_average_watts", "thermal_throttled", "pcie_replay_rate", "nvlink_crc_error_rate")
        assert not first.keys() & set(rates), "one page gives no rate"
        assert first["nvlink_crc_errors"] == 6
        gpu.numbers["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] += 1
        gpu.numbers["DCGM_FI_DEV_PCIE_REPLAY_COUNTER"] += 5
        gpu.numbers["DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL"] += 1
        second = await seen.gpu()
        assert second.keys() >= set(rates)
        assert second["pcie_replay_rate"] > 0
        assert second["nvlink_crc_error_rate"] > 0
        assert second["thermal_throttled"] == 0.0
        gpu.numbers["DCGM_FI_DEV_PCIE_REPLAY_COUNTER"] = 0
        third = await seen.gpu()
        assert (third["pcie_replay_rate"], third["pcie_replays"]) == (0.0, 0), "a reset is no negative rate"


async def test_a_mig_instance_is_a_part_of_its_gpu_and_no_gpu() -> None:
    gpus = fake_gpus(2)
    gpus[0].mig = {1: "1g.10gb", 2: "2g.20gb"}
    async with scraped(gpus) as seen:
        look = await seen.look()
        told = {f.entity_id: f for f in look.fragments if f.entity_type is GPU}
        assert set(told) == {"GPU-n1-0000/1", "GPU-n1-0000/2", "GPU-n1-0001"}
        part = told["GPU-n1-0000/2"]
        assert part.fields["parent_gpu"] == "GPU-n1-0000"
        assert (part.fields["mig_instance"], part.fields["mig_profile"]) == (2, "2g.20gb")
        assert part.labels["mig_profile"] == "2g.20gb"
        assert "parent_gpu" not in told["GPU-n1-0001"].fields
        (node,) = (f for f in look.fragments if f.entity_type is NODE)
        assert (node.entity_id, node.fields) == ("gpu-n1", {"gpus_visible": 2})
        assert node.labels == {"cluster": "hpc-1"}


async def test_an_instance_that_its_gpu_no_longer_has_is_gone_and_a_whole_gpu_is_not() -> None:
    gpus = fake_gpus(3)
    gpus[0].mig = {1: "1g.10gb", 2: "1g.10gb"}
    async with scraped(gpus) as seen:
        await seen.look()
        gpus[0].mig = {1: "1g.10gb"}
        del seen.fake.gpus[2]
        assert (await seen.look()).gone == [EntityKey(GPU, "hpc-1", "GPU-n1-0000/2")]
        assert (await seen.look()).gone == [], "it is said once"
        seen.fake.gpus[0].mig = {}
        assert (await seen.look()).gone == [EntityKey(GPU, "hpc-1", "GPU-n1-0000/1")]
        del seen.fake.gpus[0]
        look = await seen.look()
        assert look.gone == [], "silence is not gone"
        (node,) = (f for f in look.fragments if f.entity_type is NODE)
        assert node.fields == {"gpus_visible": 1}


async def test_a_page_with_a_broken_line_says_of_nothing_that_it_is_gone() -> None:
    gpus = fake_gpus(1)
    gpus[0].mig = {1: "1g.10gb", 2: "1g.10gb"}
    async with scraped(gpus) as seen:
        await seen.look()
        gpus[0].mig = {1: "1g.10gb"}
        seen.fake.render()
        seen.fake.page += 'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-n1-0000",GPU_I_ID="2 50\n'
        look = await seen.driver.observe()
        assert (look.gone, look.complete) == ([], False)
        assert not [f for f in look.fragments if f.entity_type is NODE], (
            "how many GPUs there are is not known"
        )


async def test_switches_links_and_processors_are_no_gpus() -> None:
    async with scraped(fake_gpus(2), beside=True) as seen:
        look = await seen.look()
        assert {f.entity_id for f in look.fragments} == {"GPU-n1-0000", "GPU-n1-0001", "gpu-n1"}
        assert look.warnings == []


async def test_a_shared_gpu_is_told_once_with_all_that_share_it() -> None:
    gpu = fake_gpus(1)[0]
    gpu.pods = [{"pod": "b", "namespace": "x"}, {"pod": "a", "namespace": "x"}]
    async with scraped([gpu]) as seen:
        (one,) = (await seen.gpus()).values()
        assert (one.labels["pod"], one.labels["namespace"]) == ("a,b", "x")
        assert one.fields["gpu_utilization"] == pytest.approx(0.73)


async def test_a_slurm_job_is_known_by_hpc_job_and_leaves_no_trace() -> None:
    gpu = fake_gpus(1)[0]
    gpu.hpc_job = "4711"
    async with scraped([gpu]) as seen:
        assert (await seen.gpu())["assigned_job_id"] == "4711"
        gpu.hpc_job, gpu.pods = "", []
        (one,) = (await seen.gpus()).values()
        assert "assigned_job_id" not in one.fields
        assert set(one.clear) == {"assigned_job_id", "labels.pod", "labels.namespace", "labels.container"}
        (again,) = (await seen.gpus()).values()
        assert again.clear == (), "it is taken away once"


async def test_several_jobs_on_one_gpu_are_said_and_not_guessed() -> None:
    async with scraped() as seen:
        (one,) = (await seen.gpus()).values()
        both = [structs.replace(one, fields={**one.fields, "assigned_job_id": job}) for job in ("2", "1")]
        (told,) = merged(both)
        assert told.fields["assigned_job_ids"] == ["1", "2"]
        assert "assigned_job_id" not in told.fields


async def test_a_claimed_device_is_named() -> None:
    async with scraped() as seen:
        seen.fake.page = (
            'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1",Hostname="n1",dra_claim_name="c",dra_claim_namespace="ns",'
            'dra_driver_name="gpu.nvidia.com",dra_pool_name="n1",dra_device_name="gpu-0",'
            'dra_mig_profile="1g.10gb",dra_mig_device_uuid="MIG-1"} 5\n'
        )
        look = await seen.driver.observe()
        (one,) = (f for f in look.fragments if f.entity_type is GPU)
        assert one.fields["device"] == "gpu.nvidia.com/n1/gpu-0"
        assert (one.fields["mig_uuid"], one.fields["mig_profile"]) == ("MIG-1", "1g.10gb")
        assert (one.labels["dra_claim"], one.labels["dra_claim_namespace"]) == ("c", "ns")


async def test_watches_clock_events_and_counts_of_the_exporter_itself() -> None:
    gpu = fake_gpus(1)[0]
    gpu.health = {"MEM": 20, "PCIE": 10, "SM": 0, "ALL": 20}
    gpu.clock_events = {"power_cap": 3, "hw_thermal": 0, "gpu_idle": 5}
    gpu.xid_counts = {79: 1, 0: 4}
    async with scraped([gpu]) as seen:
        told = await seen.gpu()
        assert told["health_watches_failed"] == ["ALL", "MEM"]
        assert told["health_watches_warned"] == ["PCIE"]
        assert told["clock_events"] == ["power_cap"]
        assert (told["xid_counts"], told["xid_events"]) == ({"79": 1.0}, ["79"])
        gpu.health = dict.fromkeys(gpu.health, 0)
        assert (await seen.gpu())["health_watches_failed"] == [], "none fails, and that is known"


async def test_the_gauge_of_xids_changes_over_real_pages() -> None:
    async with scraped() as seen:
        seen.fake.gpus[0].numbers["DCGM_FI_DEV_XID_ERRORS"] = 48
        assert (await seen.gpu())["xid_events"] == []
        seen.fake.gpus[0].numbers["DCGM_FI_DEV_XID_ERRORS"] = 79
        told = await seen.gpu()
        assert (told["xid"], told["xid_events"], told["xid_counts"]) == (79, ["79"], {"79": 1.0})


@pytest.mark.parametrize("host", ["3f2a9c1b7d44", "dcgm-exporter-7x9kq", "nvidia-dcgm-exporter-2f"])
async def test_the_exporters_own_host_name_is_no_node(host: str) -> None:
    async with scraped(hostname=host) as seen:
        look = await seen.look()
        assert ["node" in f.fields for f in look.fragments] == [False]
        assert any("NODE_NAME" in warning for warning in look.warnings)
    async with scraped(hostname=host, options={"node_name": "gpu-7"}) as seen:
        look = await seen.look()
        assert {f.fields.get("node", f.entity_id) for f in look.fragments} == {"gpu-7"}
        assert look.warnings == []


async def test_nodes_may_be_left_out() -> None:
    async with scraped(options={"nodes": False}) as seen:
        assert {f.entity_type for f in (await seen.look()).fragments} == {GPU}


async def test_an_exporter_that_has_collected_nothing_yet_is_up_and_says_nothing() -> None:
    async with scraped([]) as seen:
        look = await seen.look()
        assert (look.fragments, look.complete) == ([], False)
        assert "its page is empty" in look.warnings[0]


async def test_another_kind_of_page_is_a_failure() -> None:
    async with scraped() as seen:
        seen.fake.page = "<html>\n<p>not here</p>\n"
        with pytest.raises(SourceError, match="no exposition"):
            await seen.driver.observe()


@pytest.mark.real
async def test_a_real_prometheus_scrapes_the_exporter_in_a_box(
    real_program: Callable[[str], str], tmp_path: Path
) -> None:
    program = real_program("prometheus")
    fake = FakeDcgmExporter(fake_gpus(2), new_names=True, beside=True)
    await fake.start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: dcgm\n    static_configs:\n"
        f"      - targets: ['127.0.0.1:{fake.web.port}']\n"
    )
    process = subprocess.Popen(
        [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask() -> list[Any]:
        url = f"http://127.0.0.1:{port}/api/v1/query?query=DCGM_FI_DEV_GPU_UTIL_RATIO"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []

    try:
        for _ in range(200):
            found = await asyncio.to_thread(ask)
            if found:
                break
            await asyncio.sleep(0.1)
        assert {one["metric"]["UUID"] for one in found} == {"GPU-n1-0000", "GPU-n1-0001"}
        assert {one["value"][1] for one in found} == {"0.73"}
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        await fake.stop()


def test_names_that_change_for_ever_do_not_fill_the_memory() -> None:
    picture = Picture("dcgm", None, nodes=False)
    now = SystemClock().now()
    for page in range(12):
        fields: dict[str, Any] = {"mig_instance": "1"}
        gpus = [StateFragment("dcgm", GPU, f"GPU-{page}-{n}/1", now, fields) for n in range(500)]
        picture.take(Page(gpus, complete=True))
    assert picture.remembered <= 2 * 500 + SPARE_GPUS
