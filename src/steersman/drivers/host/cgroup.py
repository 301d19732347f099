"""Which limits this process runs under, and whether inside a container.

They are told beside the machine's figures and never mixed into them: inside a container /proc still speaks
of the whole machine, and a reader must be able to see that both are true.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from steersman.drivers.host.readings import CgroupReading

UNLIMITED_BYTES = 1 << 60
"""cgroup v1 writes "no limit" as the largest page-aligned number below 2^63; no machine has an exbibyte."""
DEPTH_MAX = 64


def read_cgroup(proc: Path, sys: Path) -> CgroupReading | None:
    """The tightest limits on this process, or None where there are no cgroups.

    A limit anywhere above us binds us, so each level up to the root is asked.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    paths = {
        controllers: path
        for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2)
    }
    root = sys / "fs/cgroup"
    if (root / "cgroup.controllers").exists() and "" in paths:
        return _read_v2(root, paths[""])
    memory = next((path for names, path in paths.items() if "memory" in names.split(",")), None)
    cpu = next((path for names, path in paths.items() if "cpu" in names.split(",")), None)
    if memory is None and cpu is None:
        return None
    limits = [_number(level / "memory.limit_in_bytes") for level in _levels(root / "memory", memory or "/")]
    return CgroupReading(
        version=1,
        memory_limit_bytes=_tightest(limits),
        memory_used_bytes=next(_used(root / "memory", memory, "memory.usage_in_bytes"), None),
        cpu_limit=_tightest_cpu(_quota_v1(level) for level in _levels(root / "cpu", cpu or "/")),
    )


def container_kind(root: Path = Path("/")) -> str | None:
    """What kind of container this process is in, or None where no sign of one is found."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    return None


def _read_v2(root: Path, path: str) -> CgroupReading:
    levels = list(_levels(root, path))
    return CgroupReading(
        version=2,
        memory_limit_bytes=_tightest([_number(level / "memory.max") for level in levels]),
        memory_used_bytes=next(_used(root, path, "memory.current"), None),
        cpu_limit=_tightest_cpu(_quota_v2(level) for level in levels),
    )


def _levels(root: Path, path: str) -> Iterator[Path]:
    """Our own cgroup and those above it. Inside a container the path may name levels that are not mounted."""
    parts = [part for part in path.split("/") if part not in ("", "..")][:DEPTH_MAX]
    for depth in range(len(parts), -1, -1):
        level = root.joinpath(*parts[:depth])
        if level.is_dir():
            yield level


def _used(root: Path, path: str | None, name: str) -> Iterator[int]:
    for level in _levels(root, path or "/"):
        used = _number(level / name)
        if used is not None:
            yield used


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):  # absent at the root, and "max" where there is no limit
        return None


def _tightest(limits: list[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None and limit < UNLIMITED_BYTES), default=None)


def _quota_v2(level: Path) -> float | None:
    try:
        quota, period = (level / "cpu.max").read_text().split()[:2]
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(level: Path) -> float | None:
    quota, period = _number(level / "cpu.cfs_quota_us"), _number(level / "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _tightest_cpu(quotas: Iterator[float | None]) -> float | None:
    return min((quota for quota in quotas if quota is not None), default=None)
