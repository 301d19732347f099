"""From a picture of a cluster to fragments of nodes, jobs, queues, tenants and the scheduler itself."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from steersman.drivers.api import DriverContext
from steersman.drivers.slurm.options import SlurmOptions
from steersman.drivers.slurm.picture import JobSeen, NodeSeen, PartitionSeen, Picture, ReservationSeen
from steersman.drivers.slurm.tags import OUR_TAG
from steersman.drivers.slurm.tres import gpus_of, gpus_of_tres, slices_of
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fields import ITEMS_MAX
from steersman.kinds.fragment import SCOPE_LABEL, TEXT_MAX_CHARS, FragmentInvalid, StateFragment

SOURCE_TYPE = "slurm"
WAITS_WITHIN_S = 3600.0
"""A queue's mean wait is over jobs that started within so long, and of which Slurm still knows."""
NAMES_MAX = 10_000
"""Accounts, and QOS, that go on being told when they have no job: Slurm's controller lists neither."""
TASKS_MAX = 4_000_000
"""Tasks of one array: Slurm's own bound on MaxArraySize."""
_DAEMONS = frozenset({"root", "slurm", "slurmctld", "slurmd"})
"""Users as which Slurm's own programs write reasons. A person may be root too; its words then decide."""
_TASKS = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?")


class Fragments(Struct, frozen=True):
    """What a picture tells, and what in it could not be told."""

    told: list[StateFragment]
    warnings: list[str]


class Translator:
    """Makes the fragments of one source."""

    def __init__(self, options: SlurmOptions, context: DriverContext) -> None:
        self._options = options
        self._source = context.source
        self._scope = context.scope
        self._labels = {SCOPE_LABEL: context.scope} if context.scope else {}
        self._reasons = options.reasons
        self._silent: dict[str, datetime] = {}
        self._looked_at: datetime | None = None
        self._named: dict[str, dict[str, None]] = {"account": {}, "qos": {}}

    def key(self, entity_type: EntityType, entity_id: str) -> EntityKey:
        """The identity of an entity of this source."""
        return EntityKey(entity_type, self._scope, entity_id)

    def fragments(self, picture: Picture, at: datetime) -> Fragments:
        """All that the picture tells, true at `at`."""
        told: list[StateFragment] = []
        warnings: list[str] = []
        nodes = picture.nodes.items if picture.nodes is not None else []
        jobs = picture.jobs.items if picture.jobs is not None else None
        parts: list[Iterable[tuple[EntityType, str, dict[str, Any]]]] = [
            self._nodes(nodes, picture.reservations.items if picture.reservations is not None else (), at),
            (
                (EntityType.JOB, str(job.job_id), job_fields(job, at, self._options.queues))
                for job in jobs or ()
            ),
            self._queues(picture, jobs, at),
            self._tenants(picture, jobs),
            self._domain(picture, nodes, jobs),
        ]
        for part in parts:
            for entity_type, entity_id, fields in part:
                try:
                    told.append(self._fragment(entity_type, entity_id, fields, at))
                except FragmentInvalid as error:
                    warnings.append(f"a {entity_type.value} can't be told: {error.detail[:200]}")
        return Fragments(told, warnings[:20])

    def _fragment(
        self, entity_type: EntityType, entity_id: str, fields: dict[str, Any], at: datetime
    ) -> StateFragment:
        given = {
            name: value[:TEXT_MAX_CHARS] if isinstance(value, str) else value
            for name, value in fields.items()
            if value is not None and value != []
        }
        return StateFragment(
            source_type=SOURCE_TYPE,
            entity_type=entity_type,
            entity_id=entity_id,
            observed_at=at,
            fields={**given, "scheduler_domain": "slurm"},
            labels=self._labels,
            source=self._source,
        )

    def _nodes(
        self, nodes: Sequence[NodeSeen], reservations: Sequence[ReservationSeen], at: datetime
    ) -> Iterable[tuple[EntityType, str, dict[str, Any]]]:
        planned = _reserved(reservations, at)
        has_gpus = any(_has_gpu(node) for node in nodes)
        silent: dict[str, datetime] = {}
        for node in nodes:
            fields = node_fields(node, has_gpus=has_gpus, reasons=self._reasons)
            if "NOT_RESPONDING" in node.state.flags:
                # Slurm does not tell since when: at the last look it still answered, or we did not look yet.
                silent[node.name] = self._silent.get(node.name) or self._looked_at or at
                fields["heartbeat_at"] = silent[node.name]
            yield EntityType.NODE, node.name, fields | _planned_fields(planned.get(node.name, ()))
        if nodes:
            self._silent, self._looked_at = silent, at

    def _queues(
        self, picture: Picture, jobs: Sequence[JobSeen] | None, at: datetime
    ) -> Iterable[tuple[EntityType, str, dict[str, Any]]]:
        known: dict[str, PartitionSeen] = {}
        if self._options.queues == "partition" and picture.partitions is not None:
            known = {partition.name: partition for partition in picture.partitions.items}
        counts: dict[str, list[JobSeen]] = {name: [] for name in known}
        if self._options.queues == "qos":
            counts |= {name: [] for name in self._remembered("qos", (job.qos for job in jobs or ()))}
        for job in jobs or ():
            names = job.partitions if self._options.queues == "partition" else (job.qos,) if job.qos else ()
            for name in names:
                counts.setdefault(name, []).append(job)
        for name, members in counts.items():
            fields: dict[str, Any] = {}
            if jobs is not None:
                pending = sum(_tasks(job) for job in members if job.state.canonical == "pending")
                active = sum(1 for job in members if job.state.canonical in ("running", "completing"))
                suspended = sum(1 for job in members if job.state.canonical == "suspended")
                fields = {
                    "pending_jobs": pending,
                    "active_jobs": active,
                    "queue_depth": pending + active + suspended,
                    "avg_wait_seconds": _mean_wait_s(members, at),
                }
            if name in known:
                fields["queue_state"] = known[name].state
                fields["scheduler_state"] = known[name].state_text or None
                fields["total_nodes"] = known[name].node_count
                fields["time_limit_seconds"] = known[name].time_limit_s
            yield EntityType.QUEUE, name, fields

    def _tenants(
        self, picture: Picture, jobs: Sequence[JobSeen] | None
    ) -> Iterable[tuple[EntityType, str, dict[str, Any]]]:
        """Partitions and accounts: each with its type in its id, since a partition and an account of one name
        are two things."""
        quotas = {p.name: p.tres for p in picture.partitions.items} if picture.partitions is not None else {}
        shares: dict[tuple[str, str], list[JobSeen]] = {("partition", name): [] for name in quotas}
        for name in self._remembered("account", (job.account for job in jobs or ())):
            shares["account", name] = []
        for job in jobs or ():
            for name in job.partitions:
                shares.setdefault(("partition", name), []).append(job)
            if job.account is not None:
                shares.setdefault(("account", job.account), []).append(job)
        for (kind, name), members in shares.items():
            fields: dict[str, Any] = {"scope_type": kind, "scope_name": name}
            if kind == "partition" and quotas.get(name):
                fields["resource_quota"] = _resources([quotas[name]])
            if jobs is not None:
                running = [job for job in members if job.state.canonical in ("running", "completing")]
                fields["active_workloads"] = len(running)
                fields["resource_usage"] = _usage(running)
            yield EntityType.TENANT_SCOPE, f"{kind}:{name}", fields

    def _remembered(self, kind: str, names: Iterable[str | None]) -> Iterable[str]:
        """All names of a kind that jobs ever had, while there is room."""
        kept = self._named[kind]
        for name in names:
            if name is not None and len(kept) < NAMES_MAX:
                kept[name] = None
        return list(kept)

    def _domain(
        self, picture: Picture, nodes: Sequence[NodeSeen], jobs: Sequence[JobSeen] | None
    ) -> Iterable[tuple[EntityType, str, dict[str, Any]]]:
        fields: dict[str, Any] = {"domain_type": "slurm"}
        if picture.nodes is not None:
            there = [node for node in nodes if node.state.base != "FUTURE"]
            counts = [_gpus(node) for node in there]
            fields["total_nodes"] = len(there)
            fields["available_nodes"] = sum(1 for node in there if node.state.schedulable)
            if any(count is not None for count in counts):
                fields["total_gpus"] = sum(count or 0 for count in counts)
        if jobs is not None:
            fields["active_workloads"] = sum(
                1 for job in jobs if job.state.canonical in ("running", "completing")
            )
            fields["pending_workloads"] = sum(_tasks(job) for job in jobs if job.state.canonical == "pending")
        if (seen := picture.controller) is not None:
            fields |= {
                "version": seen.version,
                "up": seen.responding,
                "latency_ms": seen.latency_s * 1000 if seen.latency_s is not None else None,
                "cycle_seconds": seen.cycle_s,
                "server_threads": seen.threads,
                "agent_queue_size": seen.agent_queue,
                "database_queue_size": seen.dbd_queue,
            }
        yield EntityType.SCHEDULER_DOMAIN, self._scope or self._source, fields


def node_fields(node: NodeSeen, *, has_gpus: bool, reasons: tuple[str, ...]) -> dict[str, Any]:
    """A node's fields. `has_gpus`: whether this cluster counts GPUs, so that a node without any has none."""
    capacity = _gpus(node)
    if capacity is None and has_gpus and node.gres is not None and not _has_gpu(node):
        capacity = 0
    drained = gpus_of(node.gres_drained or ())
    usable = max(0, capacity - (drained or 0)) if capacity is not None else None
    used = gpus_of(node.gres_used or ())
    fields: dict[str, Any] = {
        "scheduler_state": node.state.text,
        "scheduler_flags": list(node.state.flags),
        "schedulable": node.state.schedulable,
        "hostname": node.hostname,
        "addresses": _addresses(node.address),
        "cpu_count": node.cpus,
        "cpus_allocated": node.cpus_allocated,
        "memory_total": node.memory,
        "memory_allocated": node.memory_allocated,
        "gpu_count": usable,
        "gpu_capacity": capacity,
        "gpus_allocated": used if capacity is not None else None,
        "mig_slices": slices_of(node.gres or ()),
        "mig_slices_allocated": slices_of(node.gres_used or ()),
        "partitions": list(node.partitions[:ITEMS_MAX]),
        "agent_version": node.version,
        "os": node.os,
        "instance_id": node.instance_id,
        "booted_at": node.booted_at,
        # What slurmd said last is not what is now, where nobody hears it.
        "load_1m": node.load if "NOT_RESPONDING" not in node.state.flags else None,
    }
    if node.reason is not None:
        fields["drain_reason"] = node.reason
        fields["drain_by"] = node.reason_by
        fields["drained_at"] = node.reason_at
        if "DRAIN" in node.state.flags or "FAIL" in node.state.flags or node.state.base == "DOWN":
            fields["drain_intent"] = drain_intent(node.reason, node.reason_by, reasons)
    return fields


def drain_intent(reason: str, by: str | None, reasons: tuple[str, ...]) -> str | None:
    """Whether a person (or an operation of ours) wants this, or a program found a fault; None where neither
    the words nor the user tell. `reasons`: how a program's begin, in lower case."""
    if reason.startswith(OUR_TAG):
        return "planned"
    if reason.lower().startswith(reasons):
        return "automatic"
    return "planned" if by is not None and by not in _DAEMONS and not by.isdigit() else None


def job_fields(job: JobSeen, at: datetime, queues: str = "partition") -> dict[str, Any]:
    """A job's fields at a time; `queues` says what a queue is. An id is used again one day: with the submit
    time it is one for ever."""
    canonical = job.state.canonical
    queue = job.partitions if queues == "partition" else (job.qos,) if job.qos else ()
    begun = job.started_at is not None and job.started_at <= at and canonical != "pending"
    end = job.ended_at if job.state.ended else at
    runtime = None
    if begun and end is not None and job.started_at is not None and canonical != "suspended":
        runtime = max(0.0, (min(end, at) - job.started_at).total_seconds())
    has = canonical in ("running", "completing", "suspended") or job.state.ended
    submitted = job.submitted_at
    return {
        "job_state": canonical,
        "scheduler_state": job.state.text or None,
        "state_reason": job.reason,
        "job_name": job.name,
        "owner": job.user,
        "account": job.account,
        "queue": queue[0] if len(queue) == 1 else None,
        "queues": list(queue[:ITEMS_MAX]) if len(queue) > 1 else None,
        "qos": job.qos,
        "priority": job.priority,
        "submitted_at": submitted,
        "uid": f"{job.job_id}@{int(submitted.timestamp())}" if submitted is not None else None,
        "started_at": job.started_at if begun else None,
        "ended_at": job.ended_at if job.state.ended else None,
        "runtime_seconds": runtime,
        "time_limit_seconds": job.time_limit_s,
        "node": job.nodes[0] if len(job.nodes) == 1 else None,
        "nodes": list(job.nodes[:ITEMS_MAX]),
        "node_count": job.node_count if has else None,
        "requested_node_count": job.node_count if not has else None,
        "assigned_gpu_count": job.gpus if has else None,
        "requested_gpu_count": job.gpus_requested,
        "exit_code": job.exit_code if job.state.ended else None,
        "restart_count": job.restarts,
        "array_job_id": str(job.array_job_id) if job.array_job_id else None,
        "array_tasks": job.array_tasks,
        "het_job_id": str(job.het_job_id) if job.het_job_id else None,
        "reservation": job.reservation,
    }


def _gpus(node: NodeSeen) -> int | None:
    return gpus_of(entry for entry in node.gres or () if not entry.is_slice)


def _has_gpu(node: NodeSeen) -> bool:
    return any(entry.name == "gpu" for entry in node.gres or ())


def _addresses(address: str | None) -> list[str] | None:
    """The address as one that identifies: no name, no loopback (nodes that are simulated on one machine)."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    return None if found.is_loopback or found.is_unspecified else [str(found)]


def _reserved(
    reservations: Sequence[ReservationSeen], at: datetime
) -> Mapping[str, Sequence[ReservationSeen]]:
    """Reservations that are not over, by node, the next one first."""
    found: dict[str, list[ReservationSeen]] = {}
    coming = [one for one in reservations if one.ends_at is None or one.ends_at > at]
    for reservation in sorted(coming, key=lambda one: (one.starts_at or at, one.name)):
        for node in reservation.nodes:
            found.setdefault(node, []).append(reservation)
    return found


def _planned_fields(reservations: Sequence[ReservationSeen]) -> dict[str, Any]:
    """What is planned for a node: maintenance before anything else, the next one."""
    if not reservations:
        return {}
    first = next((one for one in reservations if one.maintenance), reservations[0])
    return {
        "reservation": ",".join(one.name for one in reservations),
        "planned_reason": "maintenance" if first.maintenance else "reserved",
        "planned_at": first.starts_at,
        "planned_until": first.ends_at,
    }


def _tasks(job: JobSeen) -> int:
    """How many jobs one record stands for: the tasks of an array that wait."""
    if job.array_tasks is None:
        return 1
    count = 0
    for part in job.array_tasks.partition("%")[0].split(","):
        match = _TASKS.fullmatch(part.strip())
        if match is None:
            continue  # cut short with dots
        first, last, step = (int(number) if number else None for number in match.groups())
        count += 1 if last is None or first is None else max(0, (last - first) // max(1, step or 1) + 1)
    return min(max(1, count), TASKS_MAX)


def _mean_wait_s(jobs: Sequence[JobSeen], at: datetime) -> float | None:
    waits = [
        (job.started_at - job.submitted_at).total_seconds()
        for job in jobs
        if job.started_at is not None
        and job.submitted_at is not None
        and job.state.canonical != "pending"
        and 0 <= (at - job.started_at).total_seconds() <= WAITS_WITHIN_S
    ]
    return sum(max(0.0, wait) for wait in waits) / len(waits) if waits else None


def _resources(amounts: Iterable[dict[str, int]]) -> dict[str, float] | None:
    """Amounts together under canonical names: `memory` in bytes, `gpu` counted once."""
    names = {"cpu": "cpu", "mem": "memory", "node": "node"}
    total: dict[str, float] = {}
    for tres in amounts:
        for name, canonical in names.items():
            if name in tres:
                total[canonical] = total.get(canonical, 0) + tres[name]
        gpus = gpus_of_tres(tres)
        if gpus is not None:
            total["gpu"] = total.get("gpu", 0) + gpus
    return total or None


def _usage(running: Sequence[JobSeen]) -> dict[str, float] | None:
    """What jobs have, together; GPUs by their GRES where accounting does not track them."""
    total = dict(_resources(job.tres for job in running) or {})
    gpus = [job.gpus for job in running if job.gpus is not None]
    if gpus:
        total["gpu"] = sum(gpus)
    return total or None
