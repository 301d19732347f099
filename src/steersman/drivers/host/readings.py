"""What was read of this machine, raw: counters as the kernel gives them, before anything is derived.

A value of None is one that the kernel does not have or would not give; it is never replaced by zero.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field


class DiskReading(Struct, frozen=True):
    """One local file system: bytes and inodes, as `df` sees them for an ordinary user."""

    mount: str
    used_bytes: int
    usable_bytes: int
    used_inodes: int | None = None
    usable_inodes: int | None = None


class NicReading(Struct, frozen=True):
    """Counters of one network interface since it came up: packets both ways, errors and drops both ways."""

    packets: int
    faults: int


class CgroupReading(Struct, frozen=True):
    """The limits that this process runs under; None where there is none. They bound us, not the machine."""

    version: int
    memory_limit_bytes: int | None = None
    memory_used_bytes: int | None = None
    cpu_limit: float | None = None


class MachineReading(Struct, kw_only=True):
    """One look at the machine. Times are seconds since boot, sizes bytes, pressures shares from 0 to 1."""

    hostname: str
    arch: str | None = None
    os: str | None = None
    kernel: str | None = None
    boot_id: str | None = None
    booted_at: datetime | None = None
    cpu_count: int | None = None
    affinity_count: int | None = None
    cpu_idle_s: float | None = None
    cpu_all_s: float | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    swap_total: int | None = None
    swap_used: int | None = None
    load: tuple[float, float, float] | None = None
    disks: list[DiskReading] = field(default_factory=list[DiskReading])
    nics: dict[str, NicReading] = field(default_factory=dict[str, NicReading])
    pressure: dict[str, float] = field(default_factory=dict[str, float])
    cgroup: CgroupReading | None = None
    container: str | None = None
    warnings: list[str] = field(default_factory=list[str])
