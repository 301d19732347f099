"""From a reading of the machine to the `node` fragment. Pure: no I/O, no clock.

Rates need two readings, so the driver's first look takes two. Where there is only one, the fields that need
two are absent: an average since boot would be a true number that answers another question.
"""

from __future__ import annotations

from typing import Any

from steersman.drivers.host.readings import MachineReading, NicReading

MIN_CPU_WINDOW_S = 0.2
"""CPU seconds (over all CPUs) that must lie between two readings: the kernel counts in ticks of 10 ms, so
below this the quantisation is more than five percent."""


class Rates:
    """What is kept of the last reading, to make rates from the next one."""

    def __init__(self) -> None:
        self._boot_id: str | None = None
        self._cpu: tuple[float, float] | None = None
        self._nics: dict[str, NicReading] = {}
        self.begun = False

    def begin(self, reading: MachineReading) -> None:
        """Take a reading that the next one is measured against, and that is not told."""
        self.cpu_utilization(reading)
        self.network_error_rate(reading)
        self.keep(reading)

    def cpu_utilization(self, reading: MachineReading) -> float | None:
        """Share of CPU time since the last reading that was not idle; waiting for I/O is idle."""
        if reading.cpu_all_s is None or reading.cpu_idle_s is None:
            return None
        now = (reading.cpu_all_s, reading.cpu_idle_s)
        before = self._cpu if self._boot_id == reading.boot_id else None
        if before is None or now[0] < before[0]:
            self._cpu = now  # the first reading, or counters that started anew
            return None
        span_s, idle_s = now[0] - before[0], now[1] - before[1]
        if span_s < MIN_CPU_WINDOW_S:
            return None
        self._cpu = now
        # The kernel's idle and iowait counters may step back a little (Documentation/filesystems/proc.rst).
        return min(1.0, max(0.0, 1.0 - idle_s / span_s))

    def network_error_rate(self, reading: MachineReading) -> float | None:
        """Share of packets since the last reading that failed; None where no packet was seen."""
        packets = faults = 0
        same_boot = self._boot_id == reading.boot_id
        for name, nic in reading.nics.items():
            before = self._nics.get(name) if same_boot else None
            if before is None or nic.packets < before.packets or nic.faults < before.faults:
                continue  # a new interface, or one whose counters started anew
            packets += nic.packets - before.packets
            faults += nic.faults - before.faults
        self._nics = dict(reading.nics)
        # Some drivers count a dropped packet among the received, others do not: never above 1 either way.
        return min(1.0, faults / max(packets, faults)) if packets or faults else None

    def keep(self, reading: MachineReading) -> None:
        """Remember which boot the counters belong to."""
        self._boot_id = reading.boot_id
        self.begun = True


def node_fields(reading: MachineReading, rates: Rates, gpu_count: int | None) -> dict[str, Any]:
    """The node's fields by canonical name; what is not known is None and falls out of the fragment."""
    fields: dict[str, Any] = {
        "cpu_utilization": rates.cpu_utilization(reading),
        "network_error_rate": rates.network_error_rate(reading),
        "cpu_count": reading.cpu_count,
        "gpu_count": gpu_count,
        "memory_total": reading.memory_total,
        "memory_available": reading.memory_available,
        "memory_utilization": _used_share(reading.memory_total, reading.memory_available),
        "swap_utilization": _share(reading.swap_used, reading.swap_total),
        "cpu_pressure": reading.pressure.get("cpu_some"),
        "memory_pressure": reading.pressure.get("memory_some"),
        "memory_pressure_full": reading.pressure.get("memory_full"),
        "storage_io_pressure": reading.pressure.get("io_some"),
        "storage_io_pressure_full": reading.pressure.get("io_full"),
        "boot_id": reading.boot_id,
        "booted_at": reading.booted_at,
        "hostname": reading.hostname,
        "os": reading.os,
        "kernel": reading.kernel,
    }
    rates.keep(reading)
    if reading.load is not None:
        fields["load_1m"], fields["load_5m"], fields["load_15m"] = reading.load
    fields.update(_disk_fields(reading))
    fields.update(_limit_fields(reading))
    return fields


def _disk_fields(reading: MachineReading) -> dict[str, Any]:
    # A mount point's name need not be UTF-8, and half a character would cost the whole field.
    shares = {
        disk.mount.encode(errors="backslashreplace").decode(): _share(disk.used_bytes, disk.usable_bytes)
        for disk in reading.disks
    }
    disks = {mount: share for mount, share in shares.items() if share is not None}
    inodes = [_share(disk.used_inodes, disk.usable_inodes) for disk in reading.disks]
    if not disks:
        return {}
    return {
        "disks": disks,
        "disk_utilization": max(disks.values()),
        "disk_inode_utilization": max((share for share in inodes if share is not None), default=None),
    }


def _limit_fields(reading: MachineReading) -> dict[str, Any]:
    """What bounds the observing process, under names of its own: these are not the machine's figures."""
    fields: dict[str, Any] = {"container": reading.container}
    if reading.cgroup is not None:
        fields["cgroup_memory_limit_bytes"] = reading.cgroup.memory_limit_bytes
        fields["cgroup_cpu_limit"] = reading.cgroup.cpu_limit
        if reading.cgroup.memory_limit_bytes is not None:
            fields["cgroup_memory_used_bytes"] = reading.cgroup.memory_used_bytes
    if reading.affinity_count is not None and reading.affinity_count != reading.cpu_count:
        fields["cpu_affinity_count"] = reading.affinity_count
    return fields


def _share(part: int | None, whole: int | None) -> float | None:
    """`part` of `whole`; None where either is not known or there is no whole (no swap is not empty swap)."""
    if part is None or not whole:
        return None
    return min(1.0, max(0.0, part / whole))


def _used_share(total: int | None, free: int | None) -> float | None:
    return _share(total - free, total) if total is not None and free is not None else None
