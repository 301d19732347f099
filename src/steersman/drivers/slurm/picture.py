"""What was seen of a cluster, by whichever way: the one picture that REST, JSON and text of commands become.

Times are UTC, memory is in bytes, durations in seconds. None means that Slurm says nothing of it; an empty
tuple, that it says "none". What can't be understood becomes a line of `warnings` or `drift` of the list.
"""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

from msgspec import Struct, field

from steersman.drivers.slurm.states import JobState, NodeState
from steersman.drivers.slurm.tres import Gres

T = TypeVar("T")


class NodeSeen(Struct, frozen=True, kw_only=True):
    """One node. `load` is the load average over one minute as slurmd last said it."""

    name: str
    state: NodeState
    hostname: str | None = None
    address: str | None = None
    reason: str | None = None
    reason_by: str | None = None
    reason_at: datetime | None = None
    cpus: int | None = None
    cpus_allocated: int | None = None
    memory: int | None = None
    memory_allocated: int | None = None
    memory_free: int | None = None
    load: float | None = None
    gres: tuple[Gres, ...] | None = None
    gres_used: tuple[Gres, ...] | None = None
    gres_drained: tuple[Gres, ...] | None = None
    booted_at: datetime | None = None
    partitions: tuple[str, ...] = ()
    version: str | None = None
    os: str | None = None
    instance_id: str | None = None


class JobSeen(Struct, frozen=True, kw_only=True):
    """One record of a job. The tasks of an array that wait stand in one record (`array_tasks`: `1-5%2`); each
    part of a heterogeneous job has one of its own. `partitions` has several while it may start in any."""

    job_id: int
    state: JobState
    name: str | None = None
    reason: str | None = None
    user: str | None = None
    account: str | None = None
    partitions: tuple[str, ...] = ()
    qos: str | None = None
    priority: int | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    time_limit_s: float | None = None
    nodes: tuple[str, ...] = ()
    node_count: int | None = None
    gpus: int | None = None
    gpus_requested: int | None = None
    tres: dict[str, int] = field(default_factory=dict[str, int])
    exit_code: int | None = None
    restarts: int | None = None
    array_job_id: int | None = None
    array_tasks: str | None = None
    het_job_id: int | None = None
    reservation: str | None = None
    admin_comment: str | None = None


class PartitionSeen(Struct, frozen=True, kw_only=True):
    """One partition. `state` is canonical, `state_text` Slurm's own."""

    name: str
    state: str = "unknown"
    state_text: str = ""
    nodes: tuple[str, ...] = ()
    node_count: int | None = None
    cpus: int | None = None
    tres: dict[str, int] = field(default_factory=dict[str, int])
    time_limit_s: float | None = None


class ReservationSeen(Struct, frozen=True, kw_only=True):
    """One reservation. `flags` are upper case."""

    name: str
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    nodes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    @property
    def maintenance(self) -> bool:
        """Whether its nodes are reserved for maintenance."""
        return "MAINT" in self.flags


class ControllerSeen(Struct, frozen=True, kw_only=True):
    """slurmctld itself. `latency_s` is how long it took to answer a ping, `cycle_s` its mean main cycle."""

    version: str | None = None
    responding: bool | None = None
    latency_s: float | None = None
    cycle_s: float | None = None
    threads: int | None = None
    agent_queue: int | None = None
    dbd_queue: int | None = None


class Listing(Struct, Generic[T]):
    """All items of one kind. `last_update` is Slurm's own mark for asking what changed since; `unchanged`:
    nothing did, and `items` says nothing."""

    items: list[T] = field(default_factory=list[T])
    last_update: int | None = None
    unchanged: bool = False
    warnings: list[str] = field(default_factory=list[str])
    drift: list[str] = field(default_factory=list[str])


class Picture(Struct, kw_only=True):
    """A whole look. A list is None where it could not be had; `warnings` then say why."""

    nodes: Listing[NodeSeen] | None = None
    jobs: Listing[JobSeen] | None = None
    partitions: Listing[PartitionSeen] | None = None
    reservations: Listing[ReservationSeen] | None = None
    controller: ControllerSeen | None = None
    warnings: list[str] = field(default_factory=list[str])
