"""dcgm-exporter in a box: GPUs as tests and trials set them, in the exporter's shapes, over real HTTP.

It knows the exporter's two generations of metric and label names, MIG, the sentinels that old versions
print instead of leaving a series out, the counters that are off by default, NVSwitches, links and Grace CPUs.
A real Prometheus can scrape it.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from steersman.drivers.exposition.fake import FakeExporter

MIB = 1024**2
NOT_SUPPORTED = 0x7FFFFFFFFFFFFFF2
"""What an old exporter prints for a number that the GPU does not have."""
HEALTH_WATCHES = ("PCIE", "NVLINK", "MEM", "SM", "THERMAL", "POWER", "INFOROM", "ALL")
PASS, WARN, FAIL = 0, 10, 20

_RENAMED = {
    "DCGM_FI_DEV_GPU_TEMP": "DCGM_FI_DEV_GPU_TEMP_CELSIUS",
    "DCGM_FI_DEV_MEMORY_TEMP": "DCGM_FI_DEV_MEMORY_TEMP_CELSIUS",
    "DCGM_FI_DEV_POWER_USAGE": "DCGM_FI_DEV_BOARD_POWER_WATTS",
    "DCGM_FI_DEV_XID_ERRORS": "DCGM_FI_DEV_XID_ERROR",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": "DCGM_FI_DEV_PCIE_REPLAY_TOTAL",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": "DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": "DCGM_FI_DEV_ROW_REMAP_CORRECTABLE_TOTAL",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "DCGM_FI_DEV_ROW_REMAP_FAILED",
    "DCGM_FI_DEV_GPU_TEMP_LIMIT": "DCGM_FI_DEV_GPU_TEMP_MARGIN_CELSIUS",
    "DCGM_FI_DEV_SLOWDOWN_TEMP": "DCGM_FI_DEV_GPU_TEMP_SLOWDOWN_CELSIUS",
    "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
    "DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION": "DCGM_FI_DEV_GPU_RECOVERY_ACTION",
    "DCGM_FI_DEV_RETIRED_SBE": "DCGM_FI_DEV_PAGE_RETIRED_SBE_TOTAL",
    "DCGM_FI_DEV_RETIRED_DBE": "DCGM_FI_DEV_PAGE_RETIRED_DBE_TOTAL",
    "DCGM_FI_DEV_RETIRED_PENDING": "DCGM_FI_DEV_PAGE_RETIRED_PENDING",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": "DCGM_FI_DEV_NVLINK_THROUGHPUT_TOTAL",
    "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_TOTAL",
    "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL": "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_TOTAL",
    "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL": "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_TOTAL",
    "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL": "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_TOTAL",
}
"""Names since DCGM 4.6 (dcgm_fields.h). The ratio of GPU use has another unit too and is made below."""

_COUNTERS = ("_TOTAL", "_COUNTER", "_CONSUMPTION", "_ROWS", "_VIOLATION")


def default_numbers() -> dict[str, float]:
    """The exporter's default counters, as of a GPU at work."""
    return {
        "DCGM_FI_DEV_SM_CLOCK": 1980,
        "DCGM_FI_DEV_MEM_CLOCK": 2619,
        "DCGM_FI_DEV_MEMORY_TEMP": 58,
        "DCGM_FI_DEV_GPU_TEMP": 51,
        "DCGM_FI_DEV_POWER_USAGE": 412.5,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 9_000_000,
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0,
        "DCGM_FI_DEV_GPU_UTIL": 73,
        "DCGM_FI_DEV_MEM_COPY_UTIL": 41,
        "DCGM_FI_DEV_ENC_UTIL": 0,
        "DCGM_FI_DEV_DEC_UTIL": 0,
        "DCGM_FI_DEV_XID_ERRORS": 0,
        "DCGM_FI_DEV_FB_FREE": 60_000,
        "DCGM_FI_DEV_FB_USED": 20_000,
        "DCGM_FI_DEV_FB_RESERVED": 600,
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": 88,
        "DCGM_FI_DEV_VGPU_LICENSE_STATUS": 0,
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 2,
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.71,
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.22,
        "DCGM_FI_PROF_DRAM_ACTIVE": 0.35,
        "DCGM_FI_PROF_PCIE_TX_BYTES": 1_500_000,
        "DCGM_FI_PROF_PCIE_RX_BYTES": 2_500_000,
    }


class FakeGpu(Struct, kw_only=True):
    """One GPU as the exporter prints it. `numbers`: by metric, under the old names; more are optional
    counters. `xid_counts`, `xid_totals`, `health` (watch to 0, 10, 20) and `clock_events` are the exporter's
    own, printed where they are not None. `mig`: instances by number with their profile. `pods`: who uses it;
    several share it. `sentinels`: metrics that an old exporter prints with a sentinel."""

    index: int
    uuid: str
    model: str = "NVIDIA H100 80GB HBM3"
    numbers: dict[str, float] = field(default_factory=default_numbers)
    xid_counts: dict[int, int] | None = None
    xid_totals: dict[int, int] | None = None
    health: dict[str, int] | None = None
    clock_events: dict[str, int] | None = None
    mig: dict[int, str] = field(default_factory=dict[int, str])
    pods: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    hpc_job: str = ""
    sentinels: tuple[str, ...] = ()


class FakeDcgmExporter(FakeExporter):
    """The exporter on one node. `new_names`: those of DCGM 4.6 and of exporter 4.9. `old_namespace`: its flag
    of that name. `beside`: also print NVSwitches, links and Grace CPUs. Call `render` after a change."""

    def __init__(
        self,
        gpus: list[FakeGpu] | None = None,
        *,
        hostname: str = "gpu-n1",
        new_names: bool = False,
        old_namespace: bool = False,
        beside: bool = False,
        authorization: str = "",
    ) -> None:
        super().__init__(authorization=authorization)
        self.gpus = gpus if gpus is not None else fake_gpus(2)
        self.hostname = hostname
        self.new_names = new_names
        self.old_namespace = old_namespace
        self.beside = beside
        self.render()

    def render(self, *, stamp_ms: int | None = None) -> str:
        """Print the page anew; `stamp_ms` gives each sample that time, as a relay would."""
        families: dict[str, list[str]] = {}
        for gpu in self.gpus:
            for part, profile in gpu.mig.items() or [(None, "")]:
                self._add_gpu(families, gpu, part, profile)
        if self.beside:
            _add_beside(families, self.hostname)
        end = f" {stamp_ms}" if stamp_ms is not None else ""
        lines: list[str] = []
        for name, samples in families.items():
            kind = "counter" if name.endswith(_COUNTERS) else "gauge"
            lines += [f"# HELP {name} {name.lower()}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{sample}{end}" for sample in samples]
        self.page = "".join(f"{line}\n" for line in lines)
        return self.page

    def _add_gpu(self, families: dict[str, list[str]], gpu: FakeGpu, part: int | None, profile: str) -> None:
        for work in gpu.pods or [{}]:
            labels = self._labels(gpu, part, profile, work)
            for metric, value in gpu.numbers.items():
                name, value = self._named(metric, value)
                shown = NOT_SUPPORTED if metric in gpu.sentinels else value
                more = {"err_code": f"{value:g}", "err_msg": "of that code"} if "XID" in metric else {}
                families.setdefault(name, []).append(f"{_braces({**labels, **more})} {shown!r}")
            window = {"window_size_in_ms": "300000"}
            own: list[tuple[str, str, dict[str, str], dict[Any, int] | None]] = [
                ("DCGM_EXP_XID_ERRORS_COUNT", "xid", window, gpu.xid_counts),
                ("DCGM_EXP_XID_ERRORS_TOTAL", "xid", {}, gpu.xid_totals),
                ("DCGM_EXP_GPU_HEALTH_STATUS", "health_watch", {}, gpu.health),
                ("DCGM_EXP_CLOCK_EVENTS_COUNT", "clock_event", window, gpu.clock_events),
            ]
            for name, key, more, counts in own:
                for word, count in (counts or {}).items():
                    sample = f"{_braces({**labels, **more, key: str(word)})} {count}"
                    families.setdefault(name, []).append(sample)

    def _named(self, metric: str, value: float) -> tuple[str, float]:
        if not self.new_names:
            return metric, value
        if metric == "DCGM_FI_DEV_GPU_UTIL":
            return "DCGM_FI_DEV_GPU_UTIL_RATIO", value / 100
        return _RENAMED.get(metric, metric), value

    def _labels(self, gpu: FakeGpu, part: int | None, profile: str, work: dict[str, str]) -> dict[str, str]:
        labels = {
            "gpu": str(gpu.index),
            "uuid" if self.old_namespace else "UUID": gpu.uuid,
            "pci_bus_id": f"00000000:{0x1B + gpu.index:02X}:00.0",
            "device": f"nvidia{gpu.index}",
            "modelName": gpu.model,
        }
        if part is not None:
            labels |= {"GPU_I_PROFILE": profile, "GPU_I_ID": str(part)}
        labels["hostname" if self.new_names else "Hostname"] = self.hostname
        labels["DCGM_FI_DRIVER_VERSION"] = "570.86.15"
        old = {"container": "container_name", "namespace": "pod_namespace", "pod": "pod_name"}
        labels |= {old.get(name, name) if self.old_namespace else name: text for name, text in work.items()}
        if gpu.hpc_job:
            labels["hpc_job"] = gpu.hpc_job
        return labels


def fake_gpus(count: int, *, host: str = "n1", model: str = "NVIDIA H100 80GB HBM3") -> list[FakeGpu]:
    """GPUs at work, the first of them for a pod."""
    gpus = [FakeGpu(index=n, uuid=f"GPU-{host}-{n:04d}", model=model) for n in range(count)]
    for gpu in gpus[:1]:
        gpu.pods = [{"container": "train", "namespace": "research", "pod": "run-1-0"}]
    return gpus


def _add_beside(families: dict[str, list[str]], hostname: str) -> None:
    """What the exporter prints of other things: they look alike and are no GPUs."""
    switch = {"nvswitch": "nvswitch0", "Hostname": hostname}
    link = {
        "nvlink": "3",
        "nvswitch": "nvswitch0",
        "gpu_uuid": "GPU-x",
        "UUID": "GPU-x",
        "Hostname": hostname,
    }
    core = {"cpu": "0", "cpucore": "3", "Hostname": hostname, "UUID": "CPU-0"}
    families["DCGM_FI_DEV_NVSWITCH_TEMPERATURE_CURRENT"] = [f"{_braces(switch)} 44"]
    families["DCGM_FI_DEV_CPU_UTIL_TOTAL"] = [f"{_braces(core)} 0.5"]
    families.setdefault("DCGM_FI_DEV_GPU_TEMP", []).append(f"{_braces(core)} 61")
    families.setdefault("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", []).append(f"{_braces(link)} 5")


def _braces(labels: dict[str, str]) -> str:
    inside = ",".join(
        name + '="' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        for name, text in labels.items()
    )
    return f"{{{inside}}}"
