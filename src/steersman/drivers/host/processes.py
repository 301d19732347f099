"""The client of the process table: which processes a configuration selects, read from /proc.

One process is (pid, start time), because the kernel gives a pid again. The start is taken in clock ticks
since boot as the kernel keeps it: a time of day would move when the clock is corrected.

Command lines are read here, matched here and forgotten here: they carry secrets, and nothing that leaves
this module holds an argument.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, field

from steersman.drivers.host.options import JobRule
from steersman.drivers.host.patterns import SUBJECT_MAX_CHARS, compile_pattern, found
from steersman.drivers.watch.files import open_regular

PROCESSES_MAX = 131_072
STAT_MAX_BYTES = 4096
PID_FILE_MAX_BYTES = 64
PID_FILE_SLACK_S = 5.0
"""A daemon may write its pid file this long before the process that it names shows as started (re-exec)."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessReading(Struct, frozen=True):
    """One process. `start_ticks` since boot; `state` is the kernel's letter; `exit_status` is a wait status,
    known only of a zombie. `rules` are the positions of the rules that select it."""

    pid: int
    start_ticks: int
    parent: int
    program: str
    state: str
    cpu_s: float
    memory_bytes: int
    exit_status: int = 0
    rules: frozenset[int] = frozenset()

    @property
    def start_s(self) -> float:
        """Seconds after boot at which it started."""
        return self.start_ticks / _TICKS_PER_S


class ProcessTable(Struct):
    """Every process by pid, at `uptime_s` seconds after boot, and how many CPUs a pid may use."""

    uptime_s: float
    boot_id: str = ""
    processes: dict[int, ProcessReading] = field(default_factory=dict[int, ProcessReading])
    cpus: dict[int, int] = field(default_factory=dict[int, int])
    warnings: list[str] = field(default_factory=list[str])


class _Compiled(Struct):
    rule: JobRule
    process: re.Pattern[str] | None
    cmdline: re.Pattern[str] | None
    uid: int | None = None


class Processes:
    """Reads the table and applies the rules. `proc` is where the kernel's tree is mounted."""

    def __init__(self, rules: list[JobRule], proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._rules = [
            _Compiled(
                rule,
                compile_pattern(rule.process) if rule.process else None,
                compile_pattern(rule.cmdline) if rule.cmdline else None,
            )
            for rule in rules
        ]
        # What a rule said of a process, so that a costly pattern is tried once for each program it runs.
        self._verdicts: dict[tuple[int, int, str], dict[int, bool]] = {}

    def read(self, wall_s: float) -> ProcessTable:
        """The table now, `wall_s` being the time of day. Blocks. Raises OSError where there is no /proc."""
        table = ProcessTable(uptime_s=float((self._proc / "uptime").read_text().split()[0]))
        try:
            table.boot_id = (self._proc / "sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            pass
        for compiled in self._rules:
            self._resolve_user(compiled, table)
        pid_files = {
            at: self._pid_of(c.rule, table, wall_s) for at, c in enumerate(self._rules) if c.rule.pid_file
        }
        verdicts: dict[tuple[int, int, str], dict[int, bool]] = {}
        for pid in self._pids():
            if len(table.processes) >= PROCESSES_MAX:
                table.warnings.append(f"more than {PROCESSES_MAX} processes; the rest is not looked at")
                break
            process = self._read_process(pid)
            if process is None:
                continue
            key = (pid, process.start_ticks, process.program)
            known = verdicts[key] = self._verdicts.get(key, {})
            chosen = frozenset(
                at
                for at, compiled in enumerate(self._rules)
                if self._selects(at, compiled, process, pid_files, known)
            )
            table.processes[pid] = with_rules(process, chosen) if chosen else process
            if chosen:
                table.cpus[pid] = _cpus_of(pid)
        self._verdicts = verdicts
        return table

    def _pids(self) -> Iterator[int]:
        with os.scandir(self._proc) as entries:
            pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
        yield from sorted(pids)

    def _read_process(self, pid: int) -> ProcessReading | None:
        try:
            with (self._proc / str(pid) / "stat").open("rb") as file:
                return parse_stat(file.read(STAT_MAX_BYTES))
        except (OSError, ValueError, IndexError):
            return None  # it ended while we looked

    def _selects(
        self,
        at: int,
        compiled: _Compiled,
        process: ProcessReading,
        pid_files: dict[int, tuple[int, float] | None],
        known: dict[int, bool],
    ) -> bool:
        """Whether all conditions of a rule hold; the cheap ones are asked first."""
        rule = compiled.rule
        if rule.pid_file is not None:
            named = pid_files.get(at)
            if named is None or named[0] != process.pid or process.start_s > named[1] + PID_FILE_SLACK_S:
                return False
        if compiled.process is not None and not found(compiled.process, process.program):
            return False
        folder = self._proc / str(process.pid)
        try:
            if rule.user is not None and folder.stat().st_uid != compiled.uid:
                return False
            if rule.cgroup is not None and not _in_cgroup(folder, rule.cgroup):
                return False
        except OSError:
            return False
        if compiled.cmdline is None:
            return True
        if at not in known:
            known[at] = found(compiled.cmdline, _read_cmdline(folder))
        return known[at]

    def _resolve_user(self, compiled: _Compiled, table: ProcessTable) -> None:
        if compiled.rule.user is None or compiled.uid is not None:
            return
        try:
            compiled.uid = pwd.getpwnam(compiled.rule.user).pw_uid
        except KeyError:
            table.warnings.append(f"job {compiled.rule.name}: there is no user {compiled.rule.user!r}")

    def _pid_of(self, rule: JobRule, table: ProcessTable, wall_s: float) -> tuple[int, float] | None:
        """The pid that a pid file names, and when it was written, in seconds after boot.

        A process that started after its pid file was written is another one with the same number.
        """
        path = Path(rule.pid_file or "")
        try:
            with os.fdopen(open_regular(str(path)), "rb") as file:
                words = file.read(PID_FILE_MAX_BYTES).split()
                age_s = max(0.0, wall_s - os.fstat(file.fileno()).st_mtime)
            return int(words[0]), table.uptime_s - age_s
        except FileNotFoundError:
            return None  # the daemon is not running
        except (OSError, ValueError, IndexError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no process id in it"
            table.warnings.append(f"job {rule.name}: pid file {rule.pid_file} can't be read: {reason}")
            return None


def parse_stat(line: bytes) -> ProcessReading:
    """One line of /proc/PID/stat (proc_pid_stat(5)). Raises ValueError or IndexError where it is cut short.

    The program's name stands in parentheses and may itself hold spaces and parentheses.
    """
    head, _, tail = line.rpartition(b")")
    pid, _, program = head.partition(b" (")
    words = tail.split()
    state = words[0].decode("ascii", "replace")
    return ProcessReading(
        pid=int(pid),
        start_ticks=int(words[19]),
        parent=int(words[1]),
        program=program.decode("utf-8", "replace"),
        state=state,
        cpu_s=(int(words[11]) + int(words[12])) / _TICKS_PER_S,
        memory_bytes=max(0, int(words[21])) * _PAGE_BYTES,
        exit_status=int(words[49]) if state == "Z" and len(words) > 49 else 0,
    )


def with_rules(process: ProcessReading, rules: frozenset[int]) -> ProcessReading:
    """The same process with the rules that select it."""
    return ProcessReading(
        process.pid,
        process.start_ticks,
        process.parent,
        process.program,
        process.state,
        process.cpu_s,
        process.memory_bytes,
        process.exit_status,
        rules,
    )


def _read_cmdline(folder: Path) -> str:
    try:
        with (folder / "cmdline").open("rb") as file:
            return file.read(4 * SUBJECT_MAX_CHARS).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _in_cgroup(folder: Path, prefix: str) -> bool:
    for line in (folder / "cgroup").read_text().splitlines():
        path = line.split(":", 2)[-1]
        if path == prefix.rstrip("/") or path.startswith(prefix.rstrip("/") + "/"):
            return True
    return False


def _cpus_of(pid: int) -> int:
    try:
        return len(os.sched_getaffinity(pid)) or 1
    except OSError:
        return os.cpu_count() or 1
