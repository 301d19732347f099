"""The client of NVIDIA's management library. This module alone imports pynvml.

Every call may say "not supported", and does so for whole families of products; that is an absent value and
never zero. The library itself is often not there; that is the normal condition of a machine without GPUs.
Everything here blocks, and a wedged GPU blocks for ever: it runs in a lane of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct, field

GPUS_MAX = 64
MIG_INSTANCES_MAX = 16
PROCESSES_MAX = 4096

RECOVERY_ACTIONS = {
    0: "none",
    1: "gpu_reset",
    2: "node_reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "bus_reset",
    7: "system_reboot",
}
"""NVML_GPU_RECOVERY_ACTION_* of nvml.h; the driver's own verdict on what must be done."""

CLOCK_REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
"""Bits of nvmlDeviceGetCurrentClocksEventReasons (nvmlClocksEventReason* of nvml.h)."""

NOT_A_LIMIT = frozenset({"gpu_idle"})
"""Reasons that say why clocks are low without anything holding them down."""


class NvmlMissing(Exception):
    """There is no NVML here: no library or no driver. Says which; most machines are like this."""


class NvmlFailed(Exception):
    """NVML is here and can't be used; the message says what it answered."""


class GpuReading(Struct, kw_only=True):
    """One GPU or MIG instance. Units: bytes, watts, degrees Celsius, MHz, shares from 0 to 1; None is absent.

    `parent` is the UUID of the GPU that a MIG instance is part of. `processes` maps process ids to bytes of
    framebuffer (None where NVML does not tell); it is None where processes can't be listed.
    """

    uuid: str
    index: int
    name: str | None = None
    pci_bus_id: str | None = None
    parent: str | None = None
    instance_id: int | None = None
    compute_instance_id: int | None = None
    mig_enabled: bool | None = None
    utilization: float | None = None
    memory_utilization: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    memory_reserved: int | None = None
    temperature: float | None = None
    memory_temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    sm_clock: float | None = None
    memory_clock: float | None = None
    clock_reasons: list[str] | None = None
    ecc_uncorrected: int | None = None
    ecc_corrected: int | None = None
    remap_failed: bool | None = None
    remap_pending: bool | None = None
    recovery_action: str | None = None
    processes: dict[int, int | None] | None = None


class NvmlReading(Struct):
    """All GPUs that NVML could read. `lost` names those that it could not, with the reason."""

    driver_version: str | None = None
    gpus: list[GpuReading] = field(default_factory=list[GpuReading])
    lost: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    warnings: list[str] = field(default_factory=list[str])
    drift: list[str] = field(default_factory=list[str])


class Nvml:
    """NVML, opened at the first reading and kept open. `library` has pynvml's functions and constants."""

    def __init__(self, library: Any = None) -> None:
        self._library: Any = library
        self._open = False

    def read(self) -> NvmlReading:
        """One look at every GPU. Raises `NvmlMissing`, `NvmlFailed`. A GPU that fails costs only itself."""
        library = self._ensure_open()
        reading = NvmlReading()
        try:
            reading.driver_version = _text(self._ask(library.nvmlSystemGetDriverVersion, reading))
            count = library.nvmlDeviceGetCount()
        except library.NVMLError as error:
            self.close()  # the driver was unloaded or replaced: begin anew next time
            raise NvmlFailed(f"NVML can't list GPUs: {error}") from error
        if count > GPUS_MAX:
            reading.warnings.append(f"NVML lists {count} GPUs; the first {GPUS_MAX} are reported")
        for index in range(min(count, GPUS_MAX)):
            try:
                handle = library.nvmlDeviceGetHandleByIndex(index)
                # All of it or nothing: one that is lost halfway is lost.
                reading.gpus.extend([*self._read_device(handle, index, reading)])
            except library.NVMLError as error:
                if error.value in _library_codes(library):
                    self.close()
                    raise NvmlFailed(f"NVML stopped answering: {error}") from error
                reading.lost.append((index, str(error).lower()))
        return reading

    def close(self) -> None:
        """Release the library. Repeating it does nothing."""
        if self._open:
            self._open = False
            try:
                self._library.nvmlShutdown()
            except self._library.NVMLError:
                pass  # the driver is gone; there is nothing left to release

    def _ensure_open(self) -> Any:
        if self._library is None:
            # Loaded here because a machine without GPUs need not; Any, as its stubs know no codes.
            self._library = importlib.import_module("pynvml")
        library: Any = self._library
        if not self._open:
            try:
                library.nvmlInit()
            except library.NVMLError as error:
                absent = {library.NVML_ERROR_LIBRARY_NOT_FOUND, library.NVML_ERROR_DRIVER_NOT_LOADED}
                kind = NvmlMissing if error.value in absent else NvmlFailed
                raise kind(f"NVML can't be opened: {error}") from error
            self._open = True
        return library

    def _read_device(self, handle: Any, index: int, reading: NvmlReading) -> Iterator[GpuReading]:
        """A GPU and, where it is divided, its MIG instances."""
        library = self._library
        mig = self._ask(library.nvmlDeviceGetMigMode, reading, handle)
        gpu = self._read_common(handle, index, reading)
        gpu.mig_enabled = None if mig is None else bool(mig[0])
        pci = self._ask(library.nvmlDeviceGetPciInfo, reading, handle)
        gpu.pci_bus_id = _text(pci.busId) if pci is not None else None
        self._read_sensors(gpu, handle, reading)
        self._read_faults(gpu, handle, reading)
        yield gpu
        if not gpu.mig_enabled:
            return
        slots = self._ask(library.nvmlDeviceGetMaxMigDeviceCount, reading, handle) or 0
        for slot in range(min(slots, MIG_INSTANCES_MAX)):
            instance = self._ask(library.nvmlDeviceGetMigDeviceHandleByIndex, reading, handle, slot)
            if instance is None:
                continue  # an empty slot
            part = self._read_common(instance, index, reading)
            part.parent = gpu.uuid
            part.pci_bus_id = gpu.pci_bus_id
            part.instance_id = self._ask(library.nvmlDeviceGetGpuInstanceId, reading, instance)
            part.compute_instance_id = self._ask(library.nvmlDeviceGetComputeInstanceId, reading, instance)
            yield part

    def _read_common(self, handle: Any, index: int, reading: NvmlReading) -> GpuReading:
        """What a GPU and a MIG instance both have. Without a UUID there is no identity: that error passes."""
        library = self._library
        gpu = GpuReading(uuid=str(_text(library.nvmlDeviceGetUUID(handle))), index=index)
        gpu.name = _text(self._ask(library.nvmlDeviceGetName, reading, handle))
        memory = self._ask(library.nvmlDeviceGetMemoryInfo, reading, handle, library.nvmlMemory_v2)
        if memory is not None:
            gpu.memory_total, gpu.memory_used, gpu.memory_reserved = (
                memory.total,
                memory.used,
                memory.reserved,
            )
        else:  # drivers before 510 know only the first version, which counts reserved memory as used
            memory = self._ask(library.nvmlDeviceGetMemoryInfo, reading, handle)
            if memory is not None:
                gpu.memory_total, gpu.memory_used = memory.total, memory.used
        used = self._ask(library.nvmlDeviceGetUtilizationRates, reading, handle)
        if used is not None:
            gpu.utilization, gpu.memory_utilization = used.gpu / 100, used.memory / 100
        listed = self._ask(library.nvmlDeviceGetComputeRunningProcesses, reading, handle)
        if listed is not None:
            gpu.processes = {process.pid: process.usedGpuMemory for process in listed[:PROCESSES_MAX]}
        return gpu

    def _read_sensors(self, gpu: GpuReading, handle: Any, reading: NvmlReading) -> None:
        library = self._library
        gpu.temperature = self._ask(
            library.nvmlDeviceGetTemperature, reading, handle, library.NVML_TEMPERATURE_GPU
        )
        gpu.memory_temperature = self._field(handle, library.NVML_FI_DEV_MEMORY_TEMP, reading)
        power_mw = self._ask(library.nvmlDeviceGetPowerUsage, reading, handle)
        limit_mw = self._ask(library.nvmlDeviceGetEnforcedPowerLimit, reading, handle)
        gpu.power = power_mw / 1000 if power_mw is not None else None
        gpu.power_limit = limit_mw / 1000 if limit_mw is not None else None
        gpu.sm_clock = self._ask(library.nvmlDeviceGetClockInfo, reading, handle, library.NVML_CLOCK_SM)
        gpu.memory_clock = self._ask(library.nvmlDeviceGetClockInfo, reading, handle, library.NVML_CLOCK_MEM)
        mask = self._ask(library.nvmlDeviceGetCurrentClocksEventReasons, reading, handle)
        if mask is None:  # the name before driver 535
            mask = self._ask(library.nvmlDeviceGetCurrentClocksThrottleReasons, reading, handle)
        if mask is not None:
            gpu.clock_reasons = _named_bits(mask, reading.drift)

    def _read_faults(self, gpu: GpuReading, handle: Any, reading: NvmlReading) -> None:
        library = self._library
        volatile = library.NVML_VOLATILE_ECC
        for name, kind in (
            ("ecc_uncorrected", library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            ("ecc_corrected", library.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        ):
            setattr(
                gpu, name, self._ask(library.nvmlDeviceGetTotalEccErrors, reading, handle, kind, volatile)
            )
        rows = self._ask(library.nvmlDeviceGetRemappedRows, reading, handle)
        if rows is not None:
            gpu.remap_pending, gpu.remap_failed = bool(rows[2]), bool(rows[3])
        action = self._field(handle, library.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, reading)
        if action is not None:
            gpu.recovery_action = RECOVERY_ACTIONS.get(int(action), f"action_{int(action)}")
            if int(action) not in RECOVERY_ACTIONS:
                reading.drift.append(f"NVML: unknown GPU recovery action {int(action)}")

    def _ask(self, call: Callable[..., Any], reading: NvmlReading, *arguments: Any) -> Any:
        """The call's answer, or None where this product, driver or user does not have it.

        An error that speaks of the whole device or library passes; any other is absent, with a warning.
        """
        library = self._library
        try:
            return call(*arguments)
        except library.NVMLError as error:
            if error.value in _absent_codes(library):
                return None
            if error.value in _device_codes(library) or error.value in _library_codes(library):
                raise
            reading.warnings.append(f"{getattr(call, '__name__', 'NVML')}: {str(error).lower()}")
            return None

    def _field(self, handle: Any, field_id: int, reading: NvmlReading) -> float | None:
        """A value of the field interface, whose answer carries its own type and its own error."""
        library = self._library
        values = self._ask(library.nvmlDeviceGetFieldValues, reading, handle, [field_id])
        if values is None or values[0].nvmlReturn != library.NVML_SUCCESS:
            return None
        value, kind = values[0].value, values[0].valueType
        if kind == library.NVML_VALUE_TYPE_DOUBLE:
            return value.dVal
        if kind in (library.NVML_VALUE_TYPE_UNSIGNED_LONG, library.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG):
            return value.ullVal
        return value.siVal if kind == library.NVML_VALUE_TYPE_SIGNED_INT else value.uiVal


def _absent_codes(library: Any) -> tuple[int, ...]:
    return (
        library.NVML_ERROR_NOT_SUPPORTED,
        library.NVML_ERROR_NO_PERMISSION,
        library.NVML_ERROR_NOT_FOUND,
        library.NVML_ERROR_FUNCTION_NOT_FOUND,
        library.NVML_ERROR_INVALID_ARGUMENT,
        library.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        library.NVML_ERROR_NO_DATA,
        library.NVML_ERROR_DEPRECATED,
    )


def _device_codes(library: Any) -> tuple[int, ...]:
    return (library.NVML_ERROR_GPU_IS_LOST, library.NVML_ERROR_RESET_REQUIRED)


def _library_codes(library: Any) -> tuple[int, ...]:
    return (
        library.NVML_ERROR_UNINITIALIZED,
        library.NVML_ERROR_DRIVER_NOT_LOADED,
        library.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    )


def _named_bits(mask: int, drift: list[str]) -> list[str]:
    unknown = mask & ~sum(CLOCK_REASONS)
    if unknown:
        drift.append(f"NVML: unknown clock event reasons {unknown:#x}")
    names = [name for bit, name in CLOCK_REASONS.items() if mask & bit and name not in NOT_A_LIMIT]
    return names + ([f"reason_{unknown:#x}"] if unknown else [])


def _text(value: Any) -> str | None:
    """NVML's texts: bytes in old bindings, str in new ones."""
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
