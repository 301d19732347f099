"""Text of `scontrol -o show ...` and `sdiag`, as the one picture.

A record is a line of `Key=value` words. A value may hold blanks (`OS=Linux 6.1 #1 SMP`, `Reason=bad disk
[root@2026-01-01T00:00:00]`) and equal signs, so a word is a key only where it looks like one of Slurm's. The
commands are run with TZ=UTC, since their times have no zone.
"""

from __future__ import annotations

import re
from typing import TypeVar

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
from steersman.drivers.slurm.shapes import LINES_MAX, read_gres, requested_gpus
from steersman.drivers.slurm.states import job_state, node_state, queue_state
from steersman.drivers.slurm.tres import gpus_of, gpus_of_tres, parse_gres, parse_tres

T = TypeVar("T")

RECORDS_MAX = 1_000_000
KEYS_MAX = 512
"""Keys of one record: the longest of 22.05 has some seventy."""

_KEY = re.compile(r"(?:^|(?<=\s))([A-Za-z][A-Za-z0-9_/:.]{0,63})=")
_REASON = re.compile(r"(.*?)\s*\[([^\[\]@\s]{1,64})@([0-9T:.\-]{10,32})\]\s*", re.DOTALL)
_FREE = frozenset({"Reason", "OS", "Comment", "Extra", "AdminComment", "SystemComment", "JobName", "Command"})
"""Values that people write: a word in them that looks like a key is text, unless it can follow there."""
_AFTER_FREE = frozenset(
    {
        "RealMemory", "BootTime", "UserId", "WorkDir", "StdErr", "StdIn", "StdOut", "HetJobIdSet",
        "Dependency",
        "Comment", "Extra", "AdminComment", "SystemComment", "Reason", "Power", "TresPerNode", "TresPerJob",
        "MailUser", "MailType", "NtasksPerTRES", "CpusPerTres", "SubmitLine", "ResumeAfterTime",
    }
)  # fmt: skip


def read_records(text: str, first_key: str) -> list[dict[str, str]]:
    """The records of a text: each begins with `first_key` at the start of a line; other lines are said before
    or after the list (`No jobs in the system`) and are no records."""
    records: list[dict[str, str]] = []
    for line in text.splitlines():
        if line.startswith(f"{first_key}=") and len(records) < RECORDS_MAX:
            records.append(read_record(line))
    return records


def read_record(line: str) -> dict[str, str]:
    """Keys and values of one line; of a key that comes twice (a job's nodes in detail) the first one."""
    marks: list[re.Match[str]] = []
    for match in _KEY.finditer(line):
        free = marks and marks[-1].group(1) in _FREE
        if free and match.group(1) not in _AFTER_FREE:
            continue
        marks.append(match)
        if len(marks) > KEYS_MAX:
            break
    record: dict[str, str] = {}
    for index, match in enumerate(marks):
        end = marks[index + 1].start() if index + 1 < len(marks) else len(line)
        record.setdefault(match.group(1), line[match.end() : end].strip())
    return record


def read_nodes(text: str) -> Listing[NodeSeen]:
    """Of `scontrol -d -o show node`."""
    found: Listing[NodeSeen] = Listing()
    for record in read_records(text, "NodeName"):
        name = values.text_of(record["NodeName"])
        if name is None:
            continue
        state = node_state(record.get("State", ""))
        found.drift += [f"node state: unknown word {word!r}" for word in state.odd]
        reason, by, at = _reason(record.get("Reason"))
        load = values.number_of(record.get("CPULoad"))
        found.items.append(
            NodeSeen(
                name=name,
                state=state,
                hostname=values.text_of(record.get("NodeHostName")),
                address=values.text_of(record.get("NodeAddr")),
                reason=reason,
                reason_by=by,
                reason_at=values.time_of(at),
                cpus=values.count_of(record.get("CPUTot")),
                cpus_allocated=values.count_of(record.get("CPUAlloc")),
                memory=values.memory_bytes(record.get("RealMemory")),
                memory_allocated=values.memory_bytes(record.get("AllocMem")),
                memory_free=values.memory_bytes(record.get("FreeMem")),
                load=values.finite(load),
                gres=read_gres(record.get("Gres"), found),
                gres_used=read_gres(record.get("GresUsed"), found),
                gres_drained=read_gres(record.get("GresDrain"), found),
                booted_at=values.time_of(record.get("BootTime")),
                partitions=values.words_of(record.get("Partitions")),
                version=values.text_of(record.get("Version")),
                os=values.text_of(record.get("OS")),
                instance_id=values.text_of(record.get("InstanceId")),
            )
        )
    return _bounded(found)


def read_jobs(text: str) -> Listing[JobSeen]:
    """Of `scontrol -d -o show job`."""
    found: Listing[JobSeen] = Listing()
    for record in read_records(text, "JobId"):
        job_id = values.count_of(record["JobId"])
        if job_id is None:
            found.warnings.append(f"a job can't be read: its id is {record['JobId'][:40]!r}")
            continue
        try:
            found.items.append(_job(job_id, record, found))
        except HostListInvalid as error:
            found.warnings.append(f"job {job_id} can't be read: {error.detail[:200]}")
    return _bounded(found)


def read_partitions(text: str) -> Listing[PartitionSeen]:
    """Of `scontrol -o show partition`."""
    found: Listing[PartitionSeen] = Listing()
    for record in read_records(text, "PartitionName"):
        state, said = queue_state(record.get("State", ""))
        if state == "unknown" and said:
            found.drift.append(f"partition state: unknown word {said!r}")
        try:
            found.items.append(
                PartitionSeen(
                    name=record["PartitionName"],
                    state=state,
                    state_text=said,
                    nodes=_hosts(record.get("Nodes")),
                    node_count=values.count_of(record.get("TotalNodes")),
                    cpus=values.count_of(record.get("TotalCPUs")),
                    tres=parse_tres(record.get("TRES")),
                    time_limit_s=values.finite(values.duration_s(record.get("MaxTime"))),
                )
            )
        except HostListInvalid as error:
            found.warnings.append(f"a partition can't be read: {error.detail[:200]}")
    return _bounded(found)


def read_reservations(text: str) -> Listing[ReservationSeen]:
    """Of `scontrol -o show reservation`."""
    found: Listing[ReservationSeen] = Listing()
    for record in read_records(text, "ReservationName"):
        try:
            found.items.append(
                ReservationSeen(
                    name=record["ReservationName"],
                    starts_at=values.time_of(record.get("StartTime")),
                    ends_at=values.time_of(record.get("EndTime")),
                    nodes=_hosts(record.get("Nodes")),
                    flags=tuple(sorted(word.upper() for word in values.words_of(record.get("Flags")))),
                    users=values.words_of(record.get("Users")),
                )
            )
        except HostListInvalid as error:
            found.warnings.append(f"a reservation can't be read: {error.detail[:200]}")
    return _bounded(found)


def read_controller(version: str, ping: str, sdiag: str) -> ControllerSeen:
    """Of `scontrol --version`, `scontrol ping` and `sdiag`."""
    number = re.search(r"(\d+\.\d+\.\d+\S{0,24})", version)
    answer = re.search(r"\(primary\).*?\bis\s+(UP|DOWN)\b", ping)
    cycle = _figure(sdiag, r"Mean cycle")
    return ControllerSeen(
        version=number.group(1) if number else None,
        responding=answer.group(1) == "UP" if answer else None,
        cycle_s=cycle / 1e6 if cycle is not None else None,
        threads=_figure(sdiag, "Server thread count"),
        agent_queue=_figure(sdiag, "Agent queue size"),
        dbd_queue=_figure(sdiag, "DBD Agent queue size"),
    )


def _figure(text: str, name: str) -> int | None:
    """The first figure of that name: sdiag tells of the main scheduler before the backfilling one."""
    match = re.search(rf"^\s*{name}:\s*(\d{{1,15}})\s*$", text, re.MULTILINE)
    return int(match.group(1)) if match else None


def _job(job_id: int, record: dict[str, str], found: Listing[JobSeen]) -> JobSeen:
    state = job_state(record.get("JobState", ""))
    found.drift += [f"job state: unknown word {word!r}" for word in state.odd]
    hosts = _hosts(record.get("NodeList"))
    count = values.count_of(record.get("NumNodes", "").partition("-")[0])
    given = parse_gres(record.get("JOB_GRES")).entries
    allocated = parse_tres(record.get("AllocTRES") or (record.get("TRES") if hosts else None))
    asked = record.get("ReqTRES") or (record.get("TRES") if not hosts else None)
    return JobSeen(
        job_id=job_id,
        state=state,
        name=values.text_of(record.get("JobName")),
        reason=_state_reason(record.get("Reason")),
        user=values.text_of(record.get("UserId", "").partition("(")[0]),
        account=values.text_of(record.get("Account")),
        partitions=values.words_of(record.get("Partition")),
        qos=values.text_of(record.get("QOS")),
        priority=values.count_of(record.get("Priority")),
        submitted_at=values.time_of(record.get("SubmitTime")),
        started_at=values.time_of(record.get("StartTime")),
        ended_at=values.time_of(record.get("EndTime")),
        time_limit_s=values.finite(values.duration_s(record.get("TimeLimit"))),
        nodes=hosts,
        node_count=count,
        gpus=gpus_of(given) if given else gpus_of_tres(allocated),
        gpus_requested=requested_gpus(asked, record.get("TresPerJob"), record.get("TresPerNode"), count),
        tres=allocated,
        exit_code=values.exit_code_of(record.get("ExitCode")),
        restarts=values.count_of(record.get("Restarts")),
        array_job_id=values.count_of(record.get("ArrayJobId")),
        array_tasks=values.text_of(record.get("ArrayTaskId")),
        het_job_id=values.count_of(record.get("HetJobId")),
        reservation=values.text_of(record.get("Reservation")),
        admin_comment=values.text_of(record.get("AdminComment")),
    )


def _state_reason(text: str | None) -> str | None:
    """The reason's own word: `ReqNodeNotAvail,_UnavailableNodes:n2` is that and a description."""
    return values.text_of((text or "").partition(",")[0])


def _reason(text: str | None) -> tuple[str | None, str | None, str | None]:
    """What is written, who wrote it, and when."""
    said = values.text_of(text)
    if said is None:
        return None, None, None
    match = _REASON.fullmatch(said)
    if match is None:
        return said, None, None
    return values.text_of(match.group(1)), match.group(2), match.group(3)


def _hosts(text: str | None) -> tuple[str, ...]:
    said = values.text_of(text)
    return expand_hosts(said) if said is not None else ()


def _bounded(found: Listing[T]) -> Listing[T]:
    found.drift = list(dict.fromkeys(found.drift))[:LINES_MAX]
    del found.warnings[LINES_MAX:]
    return found
