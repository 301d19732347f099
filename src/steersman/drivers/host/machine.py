"""The client of this machine: psutil, and the few files of /proc and /sys that psutil does not read.

Everything here blocks and runs in the driver's lanes. This module and `processes` alone import psutil. A
part that can't be read is left out with a warning; one broken file never costs the rest of the reading.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import psutil

from steersman.drivers.host.cgroup import container_kind, read_cgroup
from steersman.drivers.host.readings import DiskReading, MachineReading, NicReading

DISKS_MAX = 64
NICS_MAX = 256
MOUNTS_MAX = 4096
SMALL_FILE_MAX_BYTES = 64 * 1024

LOCAL_FILE_SYSTEMS = frozenset(
    (
        "apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "ntfs", "ntfs3",
        "reiserfs", "ufs", "vfat", "xfs", "zfs",
    )
)  # fmt: skip
"""Kinds that sit on local storage. Not listed: network kinds (asking a dead server for its size hangs for
ever), memory and pseudo kinds, and read-only images (squashfs, iso9660), which are always full."""


class Machine(Protocol):
    """A machine that can be looked at."""

    def read(self) -> MachineReading:
        """One look. Blocks. Raises OSError where nothing can be read."""
        ...


class LocalMachine:
    """The machine that this process runs on. `proc` and `sys` are where its kernel's trees are mounted."""

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self._proc = proc
        self._sys = sys
        self._booted: tuple[str | None, datetime] | None = None

    def read(self) -> MachineReading:
        name = os.uname()
        reading = MachineReading(
            hostname=socket.gethostname(), arch=name.machine or None, kernel=name.release or None
        )
        parts: tuple[tuple[str, Callable[[MachineReading], None]], ...] = (
            ("operating system", self._read_identity),
            ("CPU", self._read_cpu),
            ("memory", self._read_memory),
            ("file systems", self._read_disks),
            ("network", self._read_nics),
            ("pressure", self._read_pressure),
            ("cgroup", self._read_limits),
        )
        for what, read in parts:
            try:
                read(reading)
            except (OSError, ValueError, psutil.Error) as error:
                reading.warnings.append(f"{what} of this machine can't be read: {_reason(error)}")
        return reading

    def _read_identity(self, reading: MachineReading) -> None:
        try:
            release = platform.freedesktop_os_release()
            reading.os = release.get("PRETTY_NAME") or release.get("NAME")
        except OSError:
            reading.os = platform.system() or None
        boot_id = read_small(self._proc / "sys/kernel/random/boot_id")
        reading.boot_id = boot_id.strip() if boot_id else None
        # The kernel computes the boot time from the wall clock, so it wanders when the clock is corrected.
        # One boot has one boot time: the first we saw.
        if self._booted is None or self._booted[0] != reading.boot_id:
            self._booted = (reading.boot_id, datetime.fromtimestamp(psutil.boot_time(), UTC))
        reading.booted_at = self._booted[1]

    def _read_cpu(self, reading: MachineReading) -> None:
        times = psutil.cpu_times()._asdict()
        # guest time is already inside user time; adding it would count it twice.
        reading.cpu_all_s = sum(s for name, s in times.items() if not name.startswith("guest"))
        reading.cpu_idle_s = times["idle"] + times.get("iowait", 0.0)
        reading.cpu_count = psutil.cpu_count()
        if hasattr(os, "sched_getaffinity"):
            reading.affinity_count = len(os.sched_getaffinity(0))
        reading.load = os.getloadavg()

    def _read_memory(self, reading: MachineReading) -> None:
        memory = psutil.virtual_memory()
        reading.memory_total, reading.memory_available = memory.total, memory.available
        meminfo = read_small(self._proc / "meminfo")
        if meminfo is None:
            return
        # psutil.swap_memory also opens /proc/vmstat and warns where that is hidden; two lines are enough.
        sizes = {line.split(":")[0]: line.split()[1] for line in meminfo.splitlines() if ":" in line}
        if "SwapTotal" in sizes and "SwapFree" in sizes:
            reading.swap_total = int(sizes["SwapTotal"]) * 1024
            reading.swap_used = reading.swap_total - int(sizes["SwapFree"]) * 1024

    def _read_disks(self, reading: MachineReading) -> None:
        seen: dict[str, str] = {}
        for part in psutil.disk_partitions(all=True)[:MOUNTS_MAX]:
            local = part.fstype in LOCAL_FILE_SYSTEMS or (part.fstype == "overlay" and part.mountpoint == "/")
            # A bind mount shows one file system again at another place: keep the shortest name of each.
            if local and len(part.mountpoint) < len(seen.get(part.device, part.mountpoint + "/")):
                seen[part.device] = part.mountpoint
        if len(seen) > DISKS_MAX:
            reading.warnings.append(f"{len(seen)} local file systems; the first {DISKS_MAX} are reported")
        for mount in sorted(seen.values())[:DISKS_MAX]:
            try:
                reading.disks.append(_read_disk(mount))
            except OSError as error:
                # Mounts of other users or namespaces can't be entered; that is their right, not our fault.
                if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOENT):
                    reading.warnings.append(f"file system {mount} can't be read: {_reason(error)}")

    def _read_nics(self, reading: MachineReading) -> None:
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        names = [name for name in counters if name != "lo"]
        # Bridges, bonds and tunnels carry the packets of the hardware below them a second time.
        hardware = [name for name in names if (self._sys / "class/net" / name / "device").exists()]
        for name in sorted(hardware or names)[:NICS_MAX]:
            nic = counters[name]
            reading.nics[name] = NicReading(
                packets=nic.packets_sent + nic.packets_recv,
                faults=nic.errin + nic.errout + nic.dropin + nic.dropout,
            )

    def _read_pressure(self, reading: MachineReading) -> None:
        for resource in ("cpu", "memory", "io"):
            text = read_small(self._proc / "pressure" / resource)
            for kind, share in parse_pressure(text or "").items():
                reading.pressure[f"{resource}_{kind}"] = share

    def _read_limits(self, reading: MachineReading) -> None:
        reading.cgroup = read_cgroup(self._proc, self._sys)
        reading.container = container_kind()


def parse_pressure(text: str) -> dict[str, float]:
    """`some` and `full` over the last 10 s as shares, from one file of /proc/pressure.

    The kernel writes percents (Documentation/accounting/psi.rst). Lines of another shape are left out.
    """
    shares: dict[str, float] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        for pair in rest.split():
            name, _, value = pair.partition("=")
            if name == "avg10" and kind in ("some", "full"):
                try:
                    shares[kind] = min(1.0, max(0.0, float(value) / 100))
                except ValueError:
                    continue
    return shares


def read_small(path: Path) -> str | None:
    """A small kernel file's text; None where the kernel does not have it or has it switched off."""
    try:
        with path.open("rb") as file:
            return file.read(SMALL_FILE_MAX_BYTES).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL):  # e.g. booted with psi=0
            return None
        raise


def _read_disk(mount: str) -> DiskReading:
    stat = os.statvfs(mount)
    used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    # Blocks kept for root are neither used nor usable: `df` leaves them out of its percentage, and so do we.
    usable = used + stat.f_bavail * stat.f_frsize
    return DiskReading(
        mount=mount,
        used_bytes=used,
        usable_bytes=usable,
        used_inodes=stat.f_files - stat.f_ffree if stat.f_files else None,
        usable_inodes=stat.f_files or None,
    )


def _reason(error: Exception) -> str:
    """The short form of an error: an OSError's own words without a repeated file name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
