"""The program between Steersman and a command: it outlives Steersman, keeps the time, and says how it ended.

    python -I -S wrapper.py FOLDER LOCK_FD < spec.json           a run: detaches itself, writes FOLDER/exit
    python -I -S wrapper.py FOLDER LOCK_FD --attached < spec.json   a service: ends with its standard input

Standard library only, and little of it, so that it is there in a few milliseconds; it imports nothing of
Steersman. The lock (a flock on the descriptor that it was given) is held until it is dead: who can take it
knows so. The command waits behind a pipe until `started` is on the disk, and dies with this program, so
"started but no exit, and the lock free" is the only state in which nobody knows how far it came.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TICK_S = 1.0
KILL_ROUNDS_MAX = 50
KILL_PAUSE_S = 0.02
CHUNK_BYTES = 65_536
DRAIN_S = 0.2
"""How long output is read on when the command has ended and something else still holds the pipe."""


def write_atomic(folder: str, name: str, data: dict[str, Any]) -> None:
    """A file that is there whole or not at all, and stays after a power cut. Mode 0600."""
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, json.dumps(data).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, os.path.join(folder, name))
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def process_facts(pid: int) -> tuple[int, int] | None:
    """(parent, start in clock ticks after boot) of a process; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return int(fields[1]), int(fields[19])


def descendants(root: int) -> list[int]:
    """All processes below one, zombies left out, as /proc shows them now."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rsplit(b")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Output:
    """One stream: its beginning goes to a file at once, its end when it is over; the rest is counted."""

    def __init__(self, path: str, head_max: int, tail_max: int) -> None:
        self.total = 0
        self.open = True
        self._head_left = head_max
        self._tail_max = tail_max
        self._tail = b""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def add(self, data: bytes) -> None:
        """Take what was read."""
        self.total += len(data)
        head, rest = data[: self._head_left], data[self._head_left :]
        if head:
            os.write(self._file, head)
            self._head_left -= len(head)
        if rest:
            self._tail = (self._tail + rest)[-self._tail_max :]

    def finish(self) -> int:
        """Write the end; how many bytes are left out before it."""
        os.write(self._file, self._tail)
        kept = os.fstat(self._file).st_size
        os.close(self._file)
        return self.total - kept

    @property
    def tail_bytes(self) -> int:
        """How much of the file is the end of a longer stream."""
        return len(self._tail)


class Run:
    """One command under way."""

    def __init__(self, folder: str, spec: dict[str, Any], attached: bool) -> None:
        self.folder = folder
        self.spec = spec
        self.attached = attached
        self.pid = 0
        self.asked = ""
        self.status: int | None = None
        self.libc = ctypes.CDLL(None, use_errno=True)
        limits = (int(spec["head_bytes"]), int(spec["tail_bytes"]))
        self.outputs = {name: Output(os.path.join(folder, name), *limits) for name in ("stdout", "stderr")}

    def begin(self) -> str:
        """Start the command, written down before it runs; what went wrong, or nothing."""
        self.libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        gate_read, gate_write = os.pipe()
        fault_read, fault_write = os.pipe()
        pipes = {name: os.pipe() for name in self.outputs}
        self.pid = os.fork()
        if self.pid == 0:
            os.close(gate_write)
            self._become(gate_read, fault_write, pipes)
        for end in (gate_read, fault_write, *(write for _, write in pipes.values())):
            os.close(end)
        facts = process_facts(self.pid)
        mine = process_facts(os.getpid())
        write_atomic(
            self.folder,
            "started",
            {
                "pid": self.pid,
                "pid_start": facts[1] if facts else 0,
                "wrapper": os.getpid(),
                "wrapper_start": mine[1] if mine else 0,
                "boot_id": self.spec["boot_id"],
                "at": time.time(),
            },
        )
        os.write(gate_write, b"x")
        os.close(gate_write)
        fault = b""
        while chunk := os.read(fault_read, 4096):
            fault += chunk
        os.close(fault_read)
        self.readers = {read: self.outputs[name] for name, (read, _) in pipes.items()}
        for reader in self.readers:
            os.set_blocking(reader, False)
        return fault.decode(errors="replace")

    def _become(self, gate: int, fault: int, pipes: dict[str, tuple[int, int]]) -> None:
        """In the child: wait for the gate, then be the command. Never returns."""
        try:
            self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            os.setpgid(0, 0)
            if os.read(gate, 1) != b"x":
                os._exit(127)  # the wrapper died before it could say that this began
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            empty = os.open(os.devnull, os.O_RDONLY)
            os.dup2(empty, 0)
            os.dup2(pipes["stdout"][1], 1)
            os.dup2(pipes["stderr"][1], 2)
            if self.spec.get("uid") is not None:
                os.setgroups(self.spec["groups"])
                os.setgid(self.spec["gid"])
                os.setuid(self.spec["uid"])
                self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user clears it
            os.umask(0o077)
            os.chdir(self.spec["cwd"])
            os.execvpe(self.spec["argv"][0], self.spec["argv"], self.spec["env"])
        except BaseException as error:  # whatever it is, the parent must hear of it
            number = getattr(error, "errno", None)
            word = errno.errorcode.get(number, type(error).__name__) if number else type(error).__name__
            os.write(fault, f"{word}: {os.strerror(number) if number else error}".encode())
        os._exit(127)

    def watch(self, wake: int) -> None:
        """Read and wait until the command has ended, in its time or out of it."""
        began_s = time.monotonic()
        limit_s = self.spec.get("timeout_s")
        poll = select.poll()
        for descriptor in (*self.readers, wake, *((0,) if self.attached else ())):
            poll.register(descriptor, select.POLLIN)
        kill_at_s: float | None = None
        drain_until_s: float | None = None
        while True:
            self.reap()
            now_s = time.monotonic()
            if self.status is not None:
                drain_until_s = drain_until_s or now_s + DRAIN_S
                if not any(out.open for out in self.readers.values()) or now_s >= drain_until_s:
                    return
            elif not self.asked and limit_s is not None and now_s - began_s >= limit_s:
                self.asked = "timeout"
            if self.asked and self.status is None:
                if kill_at_s is None:
                    kill_at_s = now_s + float(self.spec["grace_s"])
                    self.signal_all(signal.SIGTERM)
                elif now_s >= kill_at_s:
                    self.kill_all()
            for descriptor, _ in poll.poll(self._wait_ms(now_s, began_s, limit_s, kill_at_s, drain_until_s)):
                self._on(poll, descriptor, wake)

    def _wait_ms(self, now_s: float, began_s: float, limit_s: float | None, *others: float | None) -> float:
        times = [at for at in others if at is not None]
        if limit_s is not None and not self.asked:
            times.append(began_s + limit_s)
        return max(1.0, min(TICK_S, *(at - now_s for at in (*times, now_s + TICK_S))) * 1000)

    def _on(self, poll: select.poll, descriptor: int, wake: int) -> None:
        if descriptor == wake:
            numbers = os.read(wake, 512)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                self.asked = self.asked or "cancelled"
            return
        try:
            data = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return
        if descriptor in self.readers and data:
            self.readers[descriptor].add(data)
        elif not data:
            poll.unregister(descriptor)
            if descriptor in self.readers:
                self.readers[descriptor].open = False
            else:
                self.asked = self.asked or "cancelled"  # standard input of a service: its owner has gone

    def reap(self) -> None:
        """Take in every child that has ended, ours or one that was left to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def signal_all(self, number: int) -> None:
        """Send a signal to the group and to all that descends from it."""
        targets = descendants(os.getpid())
        if self.status is None:  # afterwards its number may belong to somebody else
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass
        for pid in targets:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    def kill_all(self) -> bool:
        """End everything: stopped first, so that nothing goes on making new ones. Whether nothing is left."""
        for _ in range(KILL_ROUNDS_MAX):
            self.reap()
            if not descendants(os.getpid()):
                return True
            seen: set[int] = set()
            for _ in range(KILL_ROUNDS_MAX):
                now = set(descendants(os.getpid()))
                if now <= seen:
                    break
                seen |= now
                self.signal_all(signal.SIGSTOP)
            self.signal_all(signal.SIGKILL)
            time.sleep(KILL_PAUSE_S)
        return not descendants(os.getpid())


def _noted(number: int, frame: Any) -> None:
    """A handler, so that the signal comes through the wake-up descriptor and ends nothing."""


def run(folder: str, spec: dict[str, Any], attached: bool) -> None:
    """Run the command to its end and write how it ended."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, _noted)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    work = Run(folder, spec, attached)
    began = time.time()
    began_s = time.monotonic()
    fault = work.begin()
    work.watch(wake_read)
    leave = spec["children"] == "leave" and not work.asked
    left = [] if leave else descendants(os.getpid())
    if left:
        work.signal_all(signal.SIGTERM)
        deadline_s = time.monotonic() + min(1.0, float(spec["grace_s"]))
        while descendants(os.getpid()) and time.monotonic() < deadline_s:
            work.reap()
            time.sleep(KILL_PAUSE_S)
        work.kill_all()
    status = work.status or 0
    omitted = {name: output.finish() for name, output in work.outputs.items()}
    write_atomic(
        folder,
        "exit",
        {
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "fault": fault,
            "asked": work.asked,
            "left": len(left),
            "began_at": began,
            "duration_s": time.monotonic() - began_s,
            "bytes": {name: output.total for name, output in work.outputs.items()},
            "omitted": omitted,
            "tail": {name: output.tail_bytes for name, output in work.outputs.items()},
        },
    )


def main(arguments: list[str]) -> None:
    """Read the spec from standard input, detach, run."""
    folder, lock = arguments[0], int(arguments[1])
    attached = "--attached" in arguments
    os.set_inheritable(lock, False)
    if attached:
        line = b""
        while not line.endswith(b"\n"):
            chunk = os.read(0, 1)
            if not chunk:
                return
            line += chunk
        spec = json.loads(line)
    else:
        parts: list[bytes] = []
        while chunk := os.read(0, CHUNK_BYTES):
            parts.append(chunk)
        spec = json.loads(b"".join(parts))
        if os.fork():
            os._exit(0)
    os.setsid()
    os.chdir("/")
    run(folder, spec, attached)


if __name__ == "__main__":
    main(sys.argv[1:])
