"""A machine in a box: its reading, its process table's neighbours and its GPUs, as tests and trials set them.

`FakeMachine` stands for psutil and the kernel. `FakeNvmlLibrary` stands for pynvml itself, function by
function and error by error, so that the real client is what runs on it.
"""

# The method names of FakeNvmlLibrary are pynvml's own.
# ruff: noqa: N802

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pynvml
from msgspec import Struct, field

from steersman.drivers.host.readings import DiskReading, MachineReading, NicReading

HANG_MAX_S = 30.0
"""A hang ends by itself after this: a test that forgets to mend it must not keep the process."""


class FakeMachine:
    """Answers with a machine at work. `fault`: "" or hang, refuse, garbage."""

    def __init__(self, hostname: str = "fake-node") -> None:
        self.hostname = hostname
        self.fault = ""
        self.reads = 0
        self._mended = threading.Event()

    def read(self) -> MachineReading:
        """A reading whose counters grow with each call."""
        if self.fault == "hang":
            self._mended.wait(HANG_MAX_S)
        if self.fault == "refuse":
            raise PermissionError(13, "Permission denied")
        if self.fault == "garbage":
            raise ValueError("could not convert string to float: 'secret-in-a-file'")
        self.reads += 1
        turn = self.reads
        return MachineReading(
            hostname=self.hostname,
            arch="x86_64",
            os="Fake Linux 1",
            kernel="6.1.0-fake",
            boot_id="00000000-0000-4000-8000-000000000001",
            booted_at=datetime(2026, 1, 1, tzinfo=UTC),
            cpu_count=64,
            affinity_count=64,
            cpu_idle_s=1000.0 + 48.0 * turn,
            cpu_all_s=2000.0 + 64.0 * turn,
            memory_total=512 << 30,
            memory_available=384 << 30,
            swap_total=0,
            swap_used=0,
            load=(16.0, 15.5, 15.0),
            disks=[
                DiskReading("/", 40 << 30, 100 << 30, 1000, 4000),
                DiskReading("/data", 9 << 40, 10 << 40),
            ],
            nics={"eth0": NicReading(packets=1000 * turn, faults=turn)},
            pressure={"cpu_some": 0.1, "memory_some": 0.0, "io_some": 0.02, "io_full": 0.01},
        )

    def mend(self) -> None:
        """Behave again; a hanging call returns."""
        self.fault = ""
        self._mended.set()
        self._mended = threading.Event()


class FakeGpu(Struct, kw_only=True):
    """One GPU. A value of None is "not supported". `lost`: it fell off the bus. `mig` has its instances, by
    GPU instance id."""

    uuid: str
    index: int = 0
    name: str = "NVIDIA H100 80GB HBM3"
    lost: bool = False
    reset_required: bool = False
    utilization: tuple[int, int] | None = (50, 20)
    memory: tuple[int, int, int] | None = (80 << 30, 30 << 30, 1 << 30)
    temperature: int | None = 61
    memory_temperature: int | None = 70
    power_mw: int | None = 350_000
    limit_mw: int | None = 700_000
    clocks: tuple[int, int] | None = (1980, 2619)
    reasons: int | None = 0x4
    ecc: tuple[int, int] | None = (0, 3)
    rows: tuple[int, int, int, int] | None = (0, 0, 0, 0)
    recovery: int | None = 0
    processes: dict[int, int | None] | None = field(default_factory=dict[int, int | None])
    mig: dict[int, str] | None = None

    @property
    def bus_id(self) -> str:
        """Its PCI address."""
        return f"00000000:{0x1B + self.index:02X}:00.0"


class _Value:
    """Any of NVML's structs: attributes by name."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class FakeNvmlLibrary:
    """pynvml's functions over `gpus`; its constants and errors are pynvml's own.

    `missing`: no library, "" or "library" or "driver". `fault`: "" or hang, refuse, garbage.
    """

    def __init__(self, gpus: list[FakeGpu] | None = None, *, missing: str = "") -> None:
        self.gpus = gpus if gpus is not None else [FakeGpu(uuid=f"GPU-{i}", index=i) for i in range(2)]
        self.missing = missing
        self.fault = ""
        self.opened = 0
        self._mended = threading.Event()

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("NVML_", "NVMLError", "nvmlMemory_v2")):
            return getattr(pynvml, name)
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def unsupported(*_: Any) -> Any:
            raise _error("NVML_ERROR_NOT_SUPPORTED")

        return unsupported

    def mend(self) -> None:
        """Behave again; a hanging call returns."""
        self.fault = ""
        self._mended.set()
        self._mended = threading.Event()

    def nvmlInit(self) -> None:
        if self.missing:
            raise _error(
                "NVML_ERROR_LIBRARY_NOT_FOUND"
                if self.missing == "library"
                else "NVML_ERROR_DRIVER_NOT_LOADED"
            )
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.90.07"

    def nvmlDeviceGetCount(self) -> int:
        if self.fault == "hang":
            self._mended.wait(HANG_MAX_S)
        if self.fault == "refuse":
            raise _error("NVML_ERROR_LIB_RM_VERSION_MISMATCH")
        if self.fault == "garbage":
            raise _error("NVML_ERROR_UNKNOWN")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        gpu = self.gpus[index]
        if gpu.lost:
            raise _error("NVML_ERROR_GPU_IS_LOST")
        return gpu

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return handle.name

    def nvmlDeviceGetPciInfo(self, handle: Any) -> Any:
        return _Value(busId=_have(handle.bus_id))

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        if handle.reset_required:
            raise _error("NVML_ERROR_RESET_REQUIRED")
        gpu, memory = _have(handle.utilization)
        return _Value(gpu=gpu, memory=memory)

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any:
        total, used, reserved = _have(handle.memory)
        if version is None:
            return _Value(total=total, used=used + reserved, free=total - used - reserved)
        return _Value(total=total, used=used, reserved=reserved, free=total - used - reserved)

    def nvmlDeviceGetTemperature(self, handle: Any, _sensor: int) -> int:
        return _have(handle.temperature)

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        return _have(handle.power_mw)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int:
        return _have(handle.limit_mw)

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int) -> int:
        return _have(handle.clocks)[0 if kind == pynvml.NVML_CLOCK_SM else 1]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int:
        return _have(handle.reasons)

    def nvmlDeviceGetTotalEccErrors(self, handle: Any, kind: int, _counter: int) -> int:
        return _have(handle.ecc)[0 if kind == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED else 1]

    def nvmlDeviceGetRemappedRows(self, handle: Any) -> tuple[int, int, int, int]:
        return _have(handle.rows)

    def nvmlDeviceGetMigMode(self, handle: Any) -> tuple[int, int]:
        return (0, 0) if handle.mig is None else (1, 1)

    def nvmlDeviceGetMaxMigDeviceCount(self, _handle: Any) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, slot: int) -> Any:
        parts: dict[int, str] = handle.mig
        if slot >= len(parts):
            raise _error("NVML_ERROR_NOT_FOUND")
        instance = sorted(parts)[slot]
        part = FakeGpu(uuid=f"MIG-{handle.uuid}-{instance}", index=handle.index)
        part.name = f"{handle.name} MIG {parts[instance]}"
        part.utilization = None  # NVML has none for an instance
        part.memory = (10 << 30, 2 << 30, 0)
        part.rows = (instance, 0, 0, 0)  # where the fake keeps its number
        return part

    def nvmlDeviceGetGpuInstanceId(self, handle: Any) -> int:
        return _have(handle.rows)[0]

    def nvmlDeviceGetComputeInstanceId(self, _handle: Any) -> int:
        return 0

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[Any]:
        processes: dict[int, int | None] = _have(handle.processes)
        return [_Value(pid=pid, usedGpuMemory=used) for pid, used in processes.items()]

    def nvmlDeviceGetFieldValues(self, handle: Any, ids: list[int]) -> list[Any]:
        known = {
            pynvml.NVML_FI_DEV_MEMORY_TEMP: handle.memory_temperature,
            pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION: handle.recovery,
        }
        value = known.get(ids[0])
        returned = pynvml.NVML_SUCCESS if value is not None else pynvml.NVML_ERROR_NOT_SUPPORTED
        kind = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
        return [_Value(nvmlReturn=returned, valueType=kind, value=_Value(uiVal=value))]


def _have(value: Any) -> Any:
    """The value, or NVML's word that this product does not have it."""
    if value is None:
        raise _error("NVML_ERROR_NOT_SUPPORTED")
    return value


def _error(code: str) -> Exception:
    return pynvml.NVMLError(getattr(pynvml, code))
