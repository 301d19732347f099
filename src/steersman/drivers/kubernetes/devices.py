"""GPUs as DRA shows them: slices of pools to devices, claims to who holds them. Pure.

A driver that changes its pool writes all slices anew under a higher generation. So only the slices of the
highest generation are read, and only where all that it says there are have come; until then nothing is known
of the pool, which is not that it is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from steersman.drivers.kubernetes.addons import (
    Attribute,
    Device,
    DeviceTaintRule,
    ResourceClaim,
    ResourceSlice,
    capacity_of,
    named,
)
from steersman.drivers.kubernetes.fact import Fact, present
from steersman.drivers.kubernetes.nodes import BLOCKING_EFFECTS, NodeDevices
from steersman.drivers.kubernetes.objects import Taint
from steersman.drivers.kubernetes.quantity import amount
from steersman.kinds.entity import EntityType

GPU_DRIVERS = ("gpu.nvidia.com", "gpu.amd.com", "gpu.intel.com")
PARTITION_TYPES = ("mig", "amdgpu-partition", "vgpu")
"""What drivers say in the attribute `type` of a device that is a part of a GPU."""
TAINTS_MAX = 16


class DeviceKey(Struct, frozen=True, order=True):
    """What names a device in a cluster."""

    driver: str
    pool: str
    device: str

    def __str__(self) -> str:
        return f"{self.driver}/{self.pool}/{self.device}"


class Gpu(Struct, frozen=True):
    """A device of a GPU driver."""

    key: DeviceKey
    node: str
    device: Device
    taints: tuple[Taint, ...]

    @property
    def uuid(self) -> str | None:
        """Its UUID, where its driver tells."""
        value = _attribute(self.device, "uuid")
        return value if isinstance(value, str) and value else None

    @property
    def partition(self) -> bool:
        """Whether it is a part of a GPU."""
        return _attribute(self.device, "type") in PARTITION_TYPES

    @property
    def entity_id(self) -> str:
        """The UUID; without one, its place in its pool."""
        return self.uuid or str(self.key)

    @property
    def usable(self) -> bool:
        """Whether no taint keeps new work off it."""
        return not any(taint.effect in BLOCKING_EFFECTS for taint in self.taints)


class Holder(Struct, frozen=True):
    """Who holds a device: paths of pods, and the claim."""

    claim: str
    pods: tuple[str, ...]


class Devices(Struct, frozen=True):
    """The GPUs of all pools that are whole, and pools that are not."""

    gpus: tuple[Gpu, ...]
    incomplete: tuple[str, ...] = ()


def read_devices(
    slices: Iterable[ResourceSlice],
    rules: Iterable[DeviceTaintRule] = (),
    drivers: Iterable[str] = GPU_DRIVERS,
) -> Devices:
    """The GPUs of all pools that are whole now."""
    wanted = frozenset(drivers)
    pools: dict[tuple[str, str], list[ResourceSlice]] = {}
    for one in slices:
        if one.spec.driver in wanted:
            pools.setdefault((one.spec.driver, one.spec.pool.name), []).append(one)
    marks = list(rules)
    gpus: list[Gpu] = []
    incomplete: list[str] = []
    for (driver, pool), parts in sorted(pools.items()):
        newest = max(part.spec.pool.generation or 0 for part in parts)
        current = [part for part in parts if (part.spec.pool.generation or 0) == newest]
        if any(part.spec.pool.resource_slice_count not in (None, len(current)) for part in current):
            incomplete.append(f"{driver}/{pool}")
            continue
        for part in sorted(current, key=lambda one: one.metadata.name):
            gpus += (_gpu(part, device, marks) for device in part.spec.devices or [])
    return Devices(tuple(gpus), tuple(incomplete))


def _gpu(part: ResourceSlice, device: Device, rules: list[DeviceTaintRule]) -> Gpu:
    key = DeviceKey(part.spec.driver, part.spec.pool.name, device.name)
    basics = device.basics
    taints = [*(basics.taints or []), *(rule.spec.taint for rule in rules if _chooses(rule, key))]
    return Gpu(key, part.spec.node_name or basics.node_name or "", device, tuple(taints[:TAINTS_MAX]))


def _chooses(rule: DeviceTaintRule, key: DeviceKey) -> bool:
    selector = rule.spec.device_selector
    if selector is None:
        return True
    pairs = ((selector.driver, key.driver), (selector.pool, key.pool), (selector.device, key.device))
    return all(wanted is None or wanted == has for wanted, has in pairs)


def read_holders(claims: Iterable[ResourceClaim]) -> dict[DeviceKey, Holder]:
    """Who holds each device that is allocated. A monitor's access for administrators holds nothing."""
    holders: dict[DeviceKey, Holder] = {}
    for claim in claims:
        status = claim.status
        results = status.allocation.devices if status and status.allocation else None
        namespace = claim.metadata.namespace
        pods = tuple(
            f"{namespace}/{one.name}"
            for one in (status.reserved_for if status else None) or []
            if one.resource == "pods"
        )
        for got in (results.results if results else None) or []:
            if not got.admin_access:
                key = DeviceKey(got.driver, got.pool, got.device)
                holders[key] = Holder(f"{namespace}/{claim.metadata.name}", pods)
    return holders


def by_node(gpus: Iterable[Gpu]) -> dict[str, NodeDevices]:
    """How many GPUs each node has and may give out, by DRA."""
    found: dict[str, NodeDevices] = {}
    for gpu in gpus:
        if not gpu.node:
            continue
        now = found.get(gpu.node, NodeDevices())
        if gpu.partition:
            found[gpu.node] = NodeDevices(now.gpus, now.usable, now.partitions + 1)
        else:
            found[gpu.node] = NodeDevices(now.gpus + 1, now.usable + gpu.usable, now.partitions)
    return found


def gpu_fact(gpu: Gpu, assigned: Mapping[str, str | None], claim: str | None) -> Fact:
    """A device as a `gpu` entity. `assigned` has `assigned_job_id` and `assigned_service_id`."""
    device = gpu.device
    memory = amount(capacity_of(device.basics, "memory"))
    index = _attribute(device, "index")
    fields: dict[str, Any] = {
        "scheduler_domain": "kubernetes",
        "device": str(gpu.key),
        "node": gpu.node or None,
        "gpu_uuid": gpu.uuid,
        "gpu_index": index if isinstance(index, int) and not gpu.partition else None,
        "model_name": _text(device, "productName"),
        "pci_bus_id": _text(device, "pciBusID") or _text(device, "pciAddr"),
        "driver_version": _text(device, "driverVersion"),
        "architecture": _text(device, "architecture"),
        "gpu_memory_total": memory if isinstance(memory, int) else None,
        "parent_gpu": _text(device, "parentUUID"),
        "mig_uuid": gpu.uuid if gpu.partition else None,
        "mig_profile": _text(device, "profile"),
        "schedulable": gpu.usable,
        "taints": [_taint(taint) for taint in gpu.taints],
        "claim": claim,
        **assigned,
    }
    labels = {"driver": gpu.key.driver, "pool": gpu.key.pool}
    if gpu.node:
        labels["node"] = gpu.node
    return Fact(EntityType.GPU, gpu.entity_id, present(fields), labels)


def _attribute(device: Device, name: str) -> str | int | bool | None:
    found = named(device.basics.attributes, name)
    return found.value if isinstance(found, Attribute) else None


def _text(device: Device, name: str) -> str | None:
    value = _attribute(device, name)
    return value if isinstance(value, str) and value else None


def _taint(taint: Taint) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"
