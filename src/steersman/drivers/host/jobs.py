"""From the process table to jobs: who belongs together, how much they use, and when they have ended.

A job that ended is told as `completed` for a while, then it is gone. Steersman is not the parent of these
processes, so how they ended is seldom known: `completed` says that it ended, `failed` only where the kernel
showed us a bad exit status.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, field

from steersman.drivers.host.options import JobRule
from steersman.drivers.host.processes import ProcessReading, ProcessTable

JOBS_PER_RULE_MAX = 256
ENDED_MAX = 1024
"""Ended jobs that are remembered at once; the oldest are gone first."""
DEPTH_MAX = 1024

_STOPPED = frozenset("Tt")
_DEAD = frozenset("ZXx")


class JobFacts(Struct):
    """What is to be told of one job. A job that runs has no exit code, whatever its last run had."""

    entity_id: str
    fields: dict[str, Any]
    labels: dict[str, str]

    @property
    def clear(self) -> tuple[str, ...]:
        """Fields that are no more."""
        return () if "exit_code" in self.fields else ("exit_code",)


class JobPicture(Struct):
    """All jobs, those that are gone for good, and which job a process belongs to."""

    jobs: list[JobFacts] = field(default_factory=list[JobFacts])
    gone: list[str] = field(default_factory=list[str])
    by_pid: dict[int, str] = field(default_factory=dict[int, str])
    warnings: list[str] = field(default_factory=list[str])


class _Track(Struct):
    """A job that has been seen: its rule, its last facts, and when it was found to have ended."""

    rule: JobRule
    facts: JobFacts
    last_exit: int | None = None
    ended_s: float | None = None


class JobTracker:
    """Follows jobs from one table to the next."""

    def __init__(self, rules: list[JobRule], node: str) -> None:
        self._rules = rules
        self._node = node
        self._tracks: dict[str, _Track] = {}
        self._cpu: dict[tuple[int, int], float] = {}
        self._last_s: float | None = None

    def begin(self, table: ProcessTable) -> None:
        """Take a table that the next one is measured against, and that is not told."""
        self._cpu = {(p.pid, p.start_ticks): p.cpu_s for p in table.processes.values()}
        self._last_s = table.uptime_s

    def picture(self, table: ProcessTable, booted_at: datetime | None) -> JobPicture:
        """The jobs of this table. Tables must come in order."""
        seen = JobPicture(warnings=list(table.warnings))
        children: dict[int, list[ProcessReading]] = {}
        for process in table.processes.values():
            children.setdefault(process.parent, []).append(process)
        alive: set[str] = set()
        for at, rule in enumerate(self._rules):
            groups = _groups(at, rule, table, children)
            if len(groups) > JOBS_PER_RULE_MAX:
                seen.warnings.append(
                    f"job {rule.name}: {len(groups)} matches; the first {JOBS_PER_RULE_MAX} are reported"
                )
            for root, members in groups[:JOBS_PER_RULE_MAX]:
                track = self._follow(rule, root, members, table, booted_at)
                alive.add(track.facts.entity_id)
                seen.jobs.append(track.facts)
                seen.by_pid.update({member.pid: track.facts.entity_id for member in members})
        self._end_others(alive, table.uptime_s, seen)
        self.begin(table)
        return seen

    def _follow(
        self,
        rule: JobRule,
        root: ProcessReading,
        members: list[ProcessReading],
        table: ProcessTable,
        booted_at: datetime | None,
    ) -> _Track:
        entity_id = f"{self._node}/{rule.name}"
        if rule.per == "process":
            digest = hashlib.sha256(f"{table.boot_id}:{root.start_ticks}".encode()).hexdigest()[:8]
            entity_id = f"{entity_id}/{root.pid}-{digest}"
        started = min(member.start_s for member in members)
        fields: dict[str, Any] = {
            "job_state": _state(root, members),
            "runtime_seconds": max(0.0, table.uptime_s - started),
            "started_at": booted_at + timedelta(seconds=started) if booted_at is not None else None,
            "cpu_utilization": self._cpu_utilization(root, members, table),
            "memory_used": sum(member.memory_bytes for member in members),
            "process_count": len(members),
            "command": root.program,
            "node": self._node,
            "pid": root.pid,
        }
        facts = JobFacts(entity_id, fields, {"job": rule.name, "node": self._node})
        exit_status = root.exit_status if root.state in _DEAD and root.exit_status else None
        track = self._tracks[entity_id] = _Track(rule, facts, exit_status)
        return track

    def _cpu_utilization(
        self, root: ProcessReading, members: list[ProcessReading], table: ProcessTable
    ) -> float | None:
        """CPU time used since the last table, by the cores it may run on; None without a last table."""
        if self._last_s is None or table.uptime_s <= self._last_s:
            return None
        used_s = 0.0
        for member in members:
            before_s = self._cpu.get((member.pid, member.start_ticks), 0.0)
            # A process that is older than the last table and was not in it was hidden then: no base for it.
            if before_s or member.start_s >= self._last_s or (member.pid, member.start_ticks) in self._cpu:
                used_s += max(0.0, member.cpu_s - before_s)
        return used_s / (table.uptime_s - self._last_s) / table.cpus.get(root.pid, 1)

    def _end_others(self, alive: set[str], now_s: float, seen: JobPicture) -> None:
        """Tell of the jobs that are no longer among the living."""
        ended = [(entity_id, track) for entity_id, track in self._tracks.items() if entity_id not in alive]
        for position, (entity_id, track) in enumerate(ended):
            if track.ended_s is None:
                track.ended_s = now_s
                track.facts = JobFacts(entity_id, _ended_fields(track), track.facts.labels)
            elif now_s - track.ended_s >= track.rule.keep_ended or len(ended) - position > ENDED_MAX:
                del self._tracks[entity_id]
                seen.gone.append(entity_id)
                continue
            seen.jobs.append(track.facts)


def _groups(
    at: int, rule: JobRule, table: ProcessTable, children: dict[int, list[ProcessReading]]
) -> list[tuple[ProcessReading, list[ProcessReading]]]:
    """The rule's jobs: a root process and all members, oldest root first."""
    chosen = {pid: process for pid, process in table.processes.items() if at in process.rules}
    if not chosen:
        return []
    roots = [p for p in chosen.values() if not (rule.children and _has_ancestor(p, chosen, table))]
    roots.sort(key=lambda process: (process.start_ticks, process.pid))
    groups = [(root, _family(root, children) if rule.children else [root]) for root in roots]
    if rule.per == "process":
        return groups
    members = {member.pid: member for _, family in groups for member in family}
    return [(roots[0], list(members.values()))]


def _has_ancestor(process: ProcessReading, chosen: dict[int, ProcessReading], table: ProcessTable) -> bool:
    parent = process.parent
    for _ in range(DEPTH_MAX):
        if parent == process.pid:
            return False  # a circle, as two readings of a changing table can show
        if parent in chosen:
            return True
        above = table.processes.get(parent)
        if above is None or above.parent == parent:
            return False
        parent = above.parent
    return False


def _family(root: ProcessReading, children: dict[int, list[ProcessReading]]) -> list[ProcessReading]:
    members = {root.pid: root}
    todo = [root.pid]
    while todo:
        for child in children.get(todo.pop(), ()):
            if child.pid not in members:
                members[child.pid] = child
                todo.append(child.pid)
    return list(members.values())


def _state(root: ProcessReading, members: list[ProcessReading]) -> str:
    if root.state in _DEAD:
        return "completing"
    return "suspended" if all(member.state in _STOPPED for member in members) else "running"


def _ended_fields(track: _Track) -> dict[str, Any]:
    """The last facts of a job that has ended: nothing in use, and how it ended where that is known."""
    fields = {**track.facts.fields, "job_state": "completed", "process_count": 0, "memory_used": 0}
    fields["cpu_utilization"] = 0.0
    if track.last_exit is not None:
        # wait(2): the low seven bits are the signal, the next byte is the exit code; a shell adds 128.
        signal = track.last_exit & 0x7F
        fields["exit_code"] = 128 + signal if signal else track.last_exit >> 8
        fields["job_state"] = "failed"
    return fields
