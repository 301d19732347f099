"""From what NVML and the kernel say to `gpu` fragments and the node's `gpu_count`. Pure: no I/O, no clock."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from steersman.drivers.host.nvml import GpuReading, NvmlReading
from steersman.drivers.host.presence import Presence

_OF_JOBS = ("assigned_job_id", "assigned_job_ids")
KNOWN_RECOVERY = frozenset({"none", "gpu_reset", "node_reboot", "drain_p2p", "drain_and_reset"})


class GpuFacts(Struct):
    """What is to be told of one GPU: its id, fields, labels, and fields that are no more."""

    entity_id: str
    fields: dict[str, Any]
    labels: dict[str, str]
    clear: tuple[str, ...] = ()


class GpuPicture(Struct):
    """All GPUs, how many can be used (None where nobody knows), MIG instances that are no more, and what is
    missing. A whole GPU that no longer answers is lost, not gone."""

    count: int | None = None
    gpus: list[GpuFacts] = field(default_factory=list[GpuFacts])
    gone: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    drift: list[str] = field(default_factory=list[str])
    shares: list[tuple[str, GpuReading]] = field(default_factory=list[tuple[str, GpuReading]])

    def of_job(self, job_id: str) -> dict[str, Any]:
        """How many GPUs a job runs on, and their mean utilisation."""
        mine = [gpu for owner, gpu in self.shares if owner == job_id]
        used = [gpu.utilization for gpu in mine if gpu.utilization is not None]
        return {
            "assigned_gpu_count": len(mine),
            "gpu_utilization": sum(used) / len(used) if used else None,
        }


class GpuMemory:
    """Every GPU as it last answered, by UUID: a lost one can't be asked its name. Not by index: when a driver
    is loaded anew, the GPUs behind a lost one move up and would stand in its place."""

    def __init__(self) -> None:
        self._last: dict[str, GpuReading] = {}
        self._parts: dict[str, str] = {}

    def picture(self, reading: NvmlReading, presence: Presence, jobs: dict[int, str] | None) -> GpuPicture:
        """The picture from an answer of NVML. `jobs` maps process ids to job ids; None where not known."""
        seen = GpuPicture(warnings=list(reading.warnings), drift=list(dict.fromkeys(reading.drift)))
        whole = [gpu for gpu in reading.gpus if gpu.parent is None]
        seen.count = len(whole)
        for gpu in reading.gpus:
            facts = _facts(gpu, reading.driver_version, jobs)
            seen.gpus.append(facts)
            owners = facts.fields.get("assigned_job_ids") or [facts.fields.get("assigned_job_id")]
            seen.shares.extend((owner, gpu) for owner in owners if owner)
        answered = {gpu.uuid for gpu in whole}
        self._last.update({gpu.uuid: gpu for gpu in whole})
        reasons = dict(reading.lost)
        sound = {gpu.uuid for gpu in whole if gpu.index not in reasons}
        seen.gone = self._gone_parts(reading, sound)
        for last in self._last.values():
            if last.uuid in answered:
                continue
            reason = reasons.pop(last.index, "no longer listed by NVML")
            where = f" at {last.pci_bus_id}" if last.pci_bus_id else ""
            seen.warnings.append(f"GPU {last.index} ({last.uuid}{where}) does not answer: {reason}")
            facts = _identity(last, reading.driver_version)
            facts.fields["lost"] = True
            seen.gpus.append(facts)
        for index, reason in reasons.items():
            seen.warnings.append(f"GPU {index} does not answer, and its UUID is not known: {reason}")
        if presence.nvidia_bound is not None and presence.nvidia_bound > len(whole) + len(reading.lost):
            missing = presence.nvidia_bound - len(whole) - len(reading.lost)
            seen.warnings.append(f"{missing} NVIDIA device(s) on the PCI bus are not listed by NVML")
        return seen

    def _gone_parts(self, reading: NvmlReading, sound: set[str]) -> list[str]:
        """MIG instances that their GPU, which answered in full, no longer has: it was divided anew."""
        parts = {entity_id(gpu): gpu.parent for gpu in reading.gpus if gpu.parent is not None}
        gone: list[str] = []
        if not reading.warnings:  # a slot that could not be read looks like an empty one
            gone = [part for part, parent in self._parts.items() if part not in parts and parent in sound]
        self._parts = {part: parent for part, parent in self._parts.items() if part not in gone} | parts
        return gone


def without_nvml(presence: Presence) -> GpuPicture:
    """The picture where NVML is not there: how many GPUs can be used is then not known, and not zero. Why is
    told where the kernel shows one; a machine without any is in order."""
    if not presence.known:
        return GpuPicture(
            warnings=["whether this machine has GPUs can't be told: no NVML, and no /sys to look at"]
        )
    if presence.accelerators:
        found = ", ".join(presence.accelerators[:4])
        return GpuPicture(
            warnings=[f"an accelerator is here ({found}) and NVML is not: its GPUs are not observed"]
        )
    return GpuPicture()


def entity_id(gpu: GpuReading) -> str:
    """The UUID; of a MIG instance its parent's and its instance number, as dcgm-exporter's labels allow."""
    if gpu.parent is None or gpu.instance_id is None:
        return gpu.uuid
    compute = f"/{gpu.compute_instance_id}" if gpu.compute_instance_id else ""
    return f"{gpu.parent}/{gpu.instance_id}{compute}"


def _identity(gpu: GpuReading, driver_version: str | None) -> GpuFacts:
    fields: dict[str, Any] = {
        "gpu_index": gpu.index,
        "model_name": gpu.name,
        "pci_bus_id": gpu.pci_bus_id,
        "driver_version": driver_version,
    }
    labels = {"gpu_index": str(gpu.index)}
    if gpu.parent is not None:
        fields["parent"] = gpu.parent
        labels |= {"parent": gpu.parent, "mig_uuid": gpu.uuid}
        profile = (gpu.name or "").partition(" MIG ")[2]
        if profile:
            labels["mig_profile"] = profile
    return GpuFacts(entity_id(gpu), fields, labels)


def _facts(gpu: GpuReading, driver_version: str | None, jobs: dict[int, str] | None) -> GpuFacts:
    facts = _identity(gpu, driver_version)
    action = gpu.recovery_action
    facts.fields |= {
        "gpu_utilization": gpu.utilization,
        "memory_bandwidth_utilization": gpu.memory_utilization,
        "gpu_memory_used": gpu.memory_used,
        "gpu_memory_total": gpu.memory_total,
        "gpu_memory_reserved": gpu.memory_reserved,
        "temperature_celsius": gpu.temperature,
        "memory_temperature_celsius": gpu.memory_temperature,
        "power_draw_watts": gpu.power,
        "power_limit_watts": gpu.power_limit,
        "sm_clock_mhz": gpu.sm_clock,
        "memory_clock_mhz": gpu.memory_clock,
        "throttle_reasons": gpu.clock_reasons,
        "ecc_errors": gpu.ecc_uncorrected,
        "ecc_errors_corrected": gpu.ecc_corrected,
        "row_remap_failed": gpu.remap_failed,
        "row_remap_pending": gpu.remap_pending,
        "recovery_action": action if action is None or action in KNOWN_RECOVERY else "unknown",
        "recovery_action_name": action if action is not None and action not in KNOWN_RECOVERY else None,
        "mig_enabled": gpu.mig_enabled,
        "process_count": len(gpu.processes) if gpu.processes is not None else None,
        "lost": False if gpu.parent is None else None,
    }
    if gpu.processes is not None and jobs is not None:
        owners = sorted({jobs[pid] for pid in gpu.processes if pid in jobs})
        if len(owners) == 1:
            facts.fields["assigned_job_id"] = owners[0]
        elif owners:  # several jobs share it: said, not guessed
            facts.fields["assigned_job_ids"] = owners
        facts.clear = tuple(name for name in _OF_JOBS if name not in facts.fields)
    if action in KNOWN_RECOVERY:
        facts.clear += ("recovery_action_name",)
    return facts
