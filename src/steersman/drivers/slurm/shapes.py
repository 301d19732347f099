"""JSON of slurmrestd and of `--json`, in the shapes of v0.0.37 to v0.0.45, as the one picture.

The Structs name what is read, of all versions together; each value is of any type, because that is what
differs: a text in one version is a list, a number, or an object in the next. What is read of them is lenient,
item by item: an odd one costs itself and a warning, not the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct, field

from steersman.drivers.slurm import values
from steersman.drivers.slurm.hostlist import HostListInvalid, expand_hosts
from steersman.drivers.slurm.picture import (
    ControllerSeen,
    JobSeen,
    Listing,
    NodeSeen,
    PartitionSeen,
    ReservationSeen,
)
from steersman.drivers.slurm.states import job_state, node_state, queue_state
from steersman.drivers.slurm.tres import Gres, gpus_of, gpus_of_tres, parse_gres, parse_tres

T = TypeVar("T")

NO_CHANGE = 1900
"""slurm_errno.h: SLURM_NO_CHANGE_IN_DATA."""
LINES_MAX = 20
"""Warnings and drift of one list: an answer full of oddities says so often enough."""


class Said(Struct):
    """The frame of every answer; each list is of any shape until it is looked at."""

    meta: Any = None
    errors: Any = None
    warnings: Any = None
    last_update: Any = None
    nodes: list[msgspec.Raw] | None = None
    jobs: list[msgspec.Raw] | None = None
    partitions: list[msgspec.Raw] | None = None
    reservations: list[msgspec.Raw] | None = None
    pings: Any = None
    statistics: Any = None
    sinfo: list[msgspec.Raw] | None = None


class _Node(Struct):
    name: str
    hostname: Any = None
    address: Any = None
    state: Any = None
    state_flags: Any = None
    reason: Any = None
    reason_set_by_user: Any = None
    reason_changed_at: Any = None
    cpus: Any = None
    alloc_cpus: Any = None
    real_memory: Any = None
    alloc_memory: Any = None
    free_mem: Any = None
    free_memory: Any = None
    cpu_load: Any = None
    gres: Any = None
    gres_used: Any = None
    gres_drained: Any = None
    boot_time: Any = None
    partitions: Any = None
    version: Any = None
    slurmd_version: Any = None
    operating_system: Any = None
    instance_id: Any = None


class _Job(Struct):
    job_id: int
    job_state: Any = None
    name: Any = None
    state_reason: Any = None
    user_name: Any = None
    account: Any = None
    partition: Any = None
    qos: Any = None
    priority: Any = None
    submit_time: Any = None
    start_time: Any = None
    end_time: Any = None
    time_limit: Any = None
    nodes: Any = None
    node_count: Any = None
    job_resources: Any = None
    gres_detail: Any = None
    tres_alloc_str: Any = None
    tres_req_str: Any = None
    tres_per_node: Any = None
    tres_per_job: Any = None
    exit_code: Any = None
    restart_cnt: Any = None
    array_job_id: Any = None
    array_task_id: Any = None
    array_task_string: Any = None
    het_job_id: Any = None
    resv_name: Any = None
    admin_comment: Any = None


class _Partition(Struct):
    name: str
    state: Any = None
    partition: Any = None
    nodes: Any = None
    total_nodes: Any = None
    total_cpus: Any = None
    cpus: Any = None
    tres: Any = None
    max_time_limit: Any = None
    maximums: Any = None


class _Reservation(Struct):
    name: str
    start_time: Any = None
    end_time: Any = None
    node_list: Any = None
    flags: Any = None
    users: Any = None


class _Row(Struct):
    """One row of `sinfo --json` since 23.02: nodes that are alike."""

    node: Any = None
    nodes: Any = None
    reason: Any = None
    cpus: Any = None
    partition: Any = field(default=None)


def read_said(body: bytes) -> Said:
    """The frame of an answer. Raises msgspec's errors where it is none."""
    return msgspec.json.decode(body, type=Said)


def unchanged(said: Said) -> bool:
    """Whether it says that nothing changed since the time that was asked for."""
    for error in _objects(said.errors):
        if values.count_of(error.get("error_number", error.get("errno"))) == NO_CHANGE:
            return True
    for warning in _objects(said.warnings):
        text = f"{warning.get('description', '')} {warning.get('warning', '')}".lower()
        if "no " in text and "change" in text and "update_time" in text:
            return True
    return False


class Fault(Struct, frozen=True):
    """An error that an answer tells. `number` is Slurm's, None where it has none."""

    text: str
    number: int | None


def errors_of(said: Said) -> list[Fault]:
    """Errors that it tells; not that nothing changed."""
    told: list[Fault] = []
    for error in _objects(said.errors):
        number = values.count_of(error.get("error_number", error.get("errno")))
        if number in (0, NO_CHANGE):
            continue
        texts = [error.get("description"), error.get("error")]
        words = dict.fromkeys(str(text) for text in texts if text)
        told.append(Fault(": ".join(words)[:200] or "an error without words", number))
    return told


def faults(said: Said) -> list[str]:
    """Errors that it tells, in words; not that nothing changed."""
    told = [
        fault.text if fault.number is None else f"{fault.text} ({fault.number})" for fault in errors_of(said)
    ]
    return told[:LINES_MAX]


def nodes_of(said: Said) -> Listing[NodeSeen]:
    """Its nodes: of a list of nodes, or of sinfo's rows."""
    if said.nodes is None and said.sinfo is not None:
        return _rows(said)
    return _listing(said, said.nodes, _Node, _node, "node")


def jobs_of(said: Said) -> Listing[JobSeen]:
    """Its jobs."""
    return _listing(said, said.jobs, _Job, _job, "job")


def partitions_of(said: Said) -> Listing[PartitionSeen]:
    """Its partitions."""
    return _listing(said, said.partitions, _Partition, _partition, "partition")


def reservations_of(said: Said) -> Listing[ReservationSeen]:
    """Its reservations."""
    return _listing(said, said.reservations, _Reservation, _reservation, "reservation")


def controller_of(ping: Said | None, diag: Said | None) -> ControllerSeen:
    """slurmctld by its ping and its figures; either may be missing."""
    pings = _objects(ping.pings) if ping is not None else []
    first = next((one for one in pings if one.get("primary") is True or one.get("mode") == "primary"), None)
    first = first or (pings[0] if pings else _object(None))
    answer = first.get("responding")
    if answer is None and isinstance(
        word := first.get("pinged", first.get("ping", first.get("status"))), str
    ):
        answer = word.upper() == "UP"
    figures = _object(diag.statistics if diag is not None else None)
    latency, cycle = (
        values.number_of(first.get("latency")),
        values.number_of(figures.get("schedule_cycle_mean")),
    )
    said = ping or diag
    return ControllerSeen(
        version=version_of(said) if said is not None else None,
        responding=answer if isinstance(answer, bool) else None,
        latency_s=values.finite(latency / 1e6) if latency is not None else None,
        cycle_s=values.finite(cycle / 1e6) if cycle is not None else None,
        threads=values.count_of(figures.get("server_thread_count")),
        agent_queue=values.count_of(figures.get("agent_queue_size")),
        dbd_queue=values.count_of(figures.get("dbd_agent_queue_size")),
    )


def version_of(said: Said) -> str | None:
    """Slurm's release. `meta.Slurm` until v0.0.39, `meta.slurm` after."""
    meta = _object(said.meta)
    slurm = _object(meta.get("slurm", meta.get("Slurm")))
    return values.text_of(slurm.get("release"))


def _listing(
    said: Said,
    raws: list[msgspec.Raw] | None,
    shape: type[Any],
    read: Callable[[Any, Listing[Any]], T],
    what: str,
) -> Listing[T]:
    found: Listing[T] = Listing(last_update=values.count_of(said.last_update), unchanged=unchanged(said))
    decoder = msgspec.json.Decoder(shape)
    odd = 0
    for raw in raws or ():
        try:
            found.items.append(read(decoder.decode(raw), found))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, HostListInvalid) as error:
            odd += 1
            if odd <= LINES_MAX:
                found.warnings.append(f"a {what} can't be read: {str(error)[:200]}")
    if odd > LINES_MAX:
        found.warnings.append(f"{odd - LINES_MAX} more of {what} can't be read")
    found.drift = list(dict.fromkeys(found.drift))[:LINES_MAX]
    return found


def _node(node: _Node, found: Listing[Any]) -> NodeSeen:
    state = node_state(_texts(node.state), _texts(node.state_flags))
    found.drift += [f"node state: unknown word {word!r}" for word in state.odd]
    load = values.count_of(node.cpu_load)
    return NodeSeen(
        name=node.name,
        state=state,
        hostname=values.text_of(node.hostname),
        address=values.text_of(node.address),
        reason=values.text_of(node.reason),
        reason_by=values.text_of(node.reason_set_by_user),
        reason_at=values.time_of(node.reason_changed_at),
        cpus=values.count_of(node.cpus),
        cpus_allocated=values.count_of(node.alloc_cpus),
        memory=values.memory_bytes(node.real_memory),
        memory_allocated=values.memory_bytes(node.alloc_memory),
        memory_free=values.memory_bytes(node.free_mem if node.free_mem is not None else node.free_memory),
        load=load / 100 if load is not None else None,
        gres=read_gres(node.gres, found),
        gres_used=read_gres(node.gres_used, found),
        gres_drained=read_gres(node.gres_drained, found),
        booted_at=values.time_of(node.boot_time),
        partitions=values.words_of(node.partitions),
        version=values.text_of(node.version) or values.text_of(node.slurmd_version),
        os=values.text_of(node.operating_system),
        instance_id=values.text_of(node.instance_id),
    )


def _job(job: _Job, found: Listing[Any]) -> JobSeen:
    state = job_state(_texts(job.job_state))
    found.drift += [f"job state: unknown word {word!r}" for word in state.odd]
    array_job = values.count_of(job.array_job_id) or None
    tasks = values.text_of(job.array_task_string)
    task = values.count_of(job.array_task_id)
    if tasks is None and array_job is not None and task is not None:
        tasks = str(task)
    entries = [entry for text in _texts(job.gres_detail) for entry in parse_gres(text).entries]
    allocated = parse_tres(job.tres_alloc_str)
    nodes = _job_nodes(job)
    count = values.count_of(job.node_count)
    return JobSeen(
        job_id=job.job_id,
        state=state,
        name=values.text_of(job.name),
        reason=values.text_of(job.state_reason),
        user=values.text_of(job.user_name),
        account=values.text_of(job.account),
        partitions=values.words_of(job.partition),
        qos=values.text_of(job.qos),
        priority=values.count_of(job.priority),
        submitted_at=values.time_of(job.submit_time),
        started_at=values.time_of(job.start_time),
        ended_at=values.time_of(job.end_time),
        time_limit_s=values.finite(values.minutes_s(job.time_limit)),
        nodes=nodes,
        node_count=count if count is not None else len(nodes) or None,
        gpus=gpus_of(entries) if entries else gpus_of_tres(allocated),
        gpus_requested=requested_gpus(job.tres_req_str, job.tres_per_job, job.tres_per_node, count),
        tres=allocated,
        exit_code=values.exit_code_of(job.exit_code),
        restarts=values.count_of(job.restart_cnt),
        array_job_id=array_job,
        array_tasks=tasks,
        het_job_id=values.count_of(job.het_job_id) or None,
        reservation=values.text_of(job.resv_name),
        admin_comment=values.text_of(job.admin_comment),
    )


def _job_nodes(job: _Job) -> tuple[str, ...]:
    """The hosts of a job: its own text, else what its resources say in one of their shapes."""
    text = values.text_of(job.nodes)
    if text is None:
        resources = _object(job.job_resources)
        nodes = resources.get("nodes")
        text = values.text_of(nodes) or values.text_of(_object(nodes).get("list"))
        if text is None:
            parts: Any = _object(nodes).get("allocation", resources.get("allocated_nodes"))
            if isinstance(parts, Mapping):  # 21.08: "0": {...}, "1": {...}
                parts = list(cast("Mapping[str, Any]", parts).values())
            names = [one.get("nodename", one.get("name")) for one in _objects(parts)]
            text = ",".join(name for name in names if isinstance(name, str)) or None
    return expand_hosts(text) if text is not None else ()


def requested_gpus(req: Any, per_job: Any, per_node: Any, node_count: int | None) -> int | None:
    """GPUs that a job asks for: by what accounting tracks, else as it was written."""
    tracked = gpus_of_tres(parse_tres(req))
    if tracked is not None:
        return tracked
    whole = gpus_of(parse_gres(per_job).entries)
    if whole is not None:
        return whole
    each = gpus_of(parse_gres(per_node).entries)
    return each * max(1, node_count or 1) if each is not None else None


def _partition(partition: _Partition, found: Listing[Any]) -> PartitionSeen:
    state, text = queue_state(_texts(_object(partition.partition).get("state", partition.state)))
    if state == "unknown" and text:
        found.drift.append(f"partition state: unknown word {text!r}")
    nodes = _object(partition.nodes)
    hosts = values.text_of(nodes.get("configured")) or values.text_of(partition.nodes)
    tres = _object(partition.tres)
    limit = values.minutes_s(_object(partition.maximums).get("time", partition.max_time_limit))
    count = values.count_of(nodes.get("total", partition.total_nodes))
    return PartitionSeen(
        name=partition.name,
        state=state,
        state_text=text,
        nodes=expand_hosts(hosts) if hosts is not None else (),
        node_count=count,
        cpus=values.count_of(_object(partition.cpus).get("total", partition.total_cpus)),
        tres=parse_tres(tres.get("configured", partition.tres)),
        time_limit_s=values.finite(limit),
    )


def _reservation(reservation: _Reservation, _found: Listing[Any]) -> ReservationSeen:
    hosts = values.text_of(reservation.node_list)
    return ReservationSeen(
        name=reservation.name,
        starts_at=values.time_of(reservation.start_time),
        ends_at=values.time_of(reservation.end_time),
        nodes=expand_hosts(hosts) if hosts is not None else (),
        flags=tuple(sorted(word.upper() for word in values.words_of(reservation.flags))),
        users=values.words_of(reservation.users),
    )


def _rows(said: Said) -> Listing[NodeSeen]:
    """Nodes of sinfo's rows: names, states and reasons. Its sums are over a row, so no figure is told."""
    found: Listing[NodeSeen] = Listing(last_update=None, unchanged=unchanged(said))
    seen: dict[str, NodeSeen] = {}
    places: dict[str, list[str]] = {}
    for raw in said.sinfo or ():
        try:
            row = msgspec.json.decode(raw, type=_Row)
        except msgspec.MsgspecError as error:
            found.warnings.append(f"a row of sinfo can't be read: {str(error)[:200]}")
            continue
        state = node_state(_texts(_object(row.node).get("state")))
        found.drift += [f"node state: unknown word {word!r}" for word in state.odd]
        reason = _object(row.reason)
        pool = values.text_of(_object(row.partition).get("name"))
        for name in values.words_of(_object(row.nodes).get("nodes")):
            places.setdefault(name, []).extend([pool] if pool else [])
            seen[name] = NodeSeen(
                name=name,
                state=state,
                reason=values.text_of(reason.get("description")),
                reason_by=values.text_of(reason.get("user")),
                reason_at=values.time_of(reason.get("time")),
                partitions=tuple(dict.fromkeys(places[name])),
            )
    found.items = list(seen.values())
    return found


def read_gres(text: Any, found: Listing[Any]) -> tuple[Gres, ...] | None:
    """The entries of a GRES text; None where the answer has none such. An odd entry becomes drift."""
    if not isinstance(text, str):
        return None
    parsed = parse_gres(text)
    found.drift += [f"gres: can't read {item!r}" for item in parsed.odd]
    return parsed.entries


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return (
        [item for item in cast("list[Any]", value) if isinstance(item, str)]
        if isinstance(value, list)
        else []
    )


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        return []
    return [cast("Mapping[str, Any]", item) for item in cast("list[Any]", value) if isinstance(item, Mapping)]
