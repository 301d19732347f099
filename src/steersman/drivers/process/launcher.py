"""Starting processes that are kept: each under a wrapper of its own, which ends it whole when we are gone.

The wrapper's standard input is our life: closing it, also by dying, ends the process with all its children.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast

import msgspec
import psutil
from msgspec import Struct

from steersman.drivers.lane import Lane
from steersman.drivers.process.command import Command, read_command, user_numbers
from steersman.drivers.process.folder import WRAPPER, RunFolder, boot_id
from steersman.drivers.process.options import ProcessRule
from steersman.kernel.clock import Clock
from steersman.kernel.redact import redact_text, shortened_middle
from steersman.kernel.tasks import uninterrupted

T = TypeVar("T")

KEPT_BYTES = 8 * 1024
"""What is kept of each end of a stream of a process: enough to say why it died."""
START_TIMEOUT_S = 10.0
END_MARGIN_S = 10.0
"""How much longer than its grace a process may take to end, until its wrapper is killed, and it with that."""
BLOCKING_TIMEOUT_S = 10.0
POLL_S = 0.01


class ServiceEnd(Struct, frozen=True):
    """How a process ended. `code` is its exit code, 128 and the signal's number for one that was killed."""

    code: int
    detail: str = ""


class Usage(Struct, frozen=True):
    """What a process and its children use now. `cpu_s`: processor time so far."""

    processes: int
    memory_bytes: int
    cpu_s: float


class Service(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int:
        """Its process id; 0 where that is not known."""
        ...

    async def ended(self) -> ServiceEnd:
        """Wait for its end. May be cancelled; the process goes on."""
        ...

    async def stop(self) -> None:
        """End it with all its children; returns when they have ended."""
        ...


class Launcher(Protocol):
    """The seam to the machine."""

    async def start(self, rule: ProcessRule) -> Service:
        """Start a process. Raises OSError, `CommandInvalid`."""
        ...

    async def usage(self, pids: list[int], timeout_s: float) -> dict[int, Usage]:
        """What processes use, by pid; those that have ended are left out. Raises OSError, `SourceError`."""
        ...

    async def close(self) -> None:
        """Release what it holds. Repeating it does nothing."""
        ...


class LocalLauncher:
    """This machine."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._clock = clock
        self._lane = Lane(f"{name}-processes", "this machine")
        self._folder: Path | None = None
        self._count = 0

    async def start(self, rule: ProcessRule) -> Service:
        made: list[LocalService] = []

        def start() -> None:
            popen, folder, command = self._start(rule)
            made.append(LocalService(self, popen, folder, command, rule))

        try:
            # A start that was begun is finished, also where nobody waits any more: else it is nobody's.
            await uninterrupted(self.run(start), _nothing)
            await made[0].begin()
        except BaseException:
            for service in made:
                await service.stop()
            raise
        return made[0]

    async def usage(self, pids: list[int], timeout_s: float) -> dict[int, Usage]:
        def read() -> dict[int, Usage]:
            found = {pid: _usage(pid) for pid in pids}
            return {pid: usage for pid, usage in found.items() if usage is not None}

        return await self._lane.run(read, timeout_s)

    async def close(self) -> None:
        folder, self._folder = self._folder, None
        try:
            if folder is not None:
                await self.run(lambda: shutil.rmtree(folder, ignore_errors=True))
        finally:
            await self._lane.close()

    async def run(self, work: Callable[[], T]) -> T:
        """Do something that blocks."""
        return await self._lane.run(work, BLOCKING_TIMEOUT_S)

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self._clock

    def _start(self, rule: ProcessRule) -> tuple[subprocess.Popen[bytes], RunFolder, Command]:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="steersman-processes-"))
        self._count += 1
        run = RunFolder(self._folder, f"{rule.name}/{self._count}")
        run.path.mkdir(mode=0o700, parents=True)
        inputs: dict[str, Any] = {
            "argv": rule.argv,
            "cwd": rule.cwd,
            "env": {name: value.reveal() for name, value in rule.env.items()},
            "environment": rule.environment,
            "user": rule.user,
            "grace": float(rule.stop_grace),
        }
        command = read_command({key: value for key, value in inputs.items() if value is not None}, os.environ)
        spec = {
            "argv": list(command.argv),
            "cwd": command.cwd,
            "env": command.env,
            "timeout_s": None,
            "grace_s": command.grace_s,
            "children": "end",
            "head_bytes": KEPT_BYTES,
            "tail_bytes": KEPT_BYTES,
            "boot_id": boot_id(),
            **user_numbers(command.user),
        }
        lock = os.open(run.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            popen = subprocess.Popen(  # noqa: S603 - our own program, by its path
                [sys.executable, "-I", "-S", str(WRAPPER), str(run.path), str(lock), "--attached"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(lock,),
                env={},
            )
        finally:
            os.close(lock)
        stdin = cast("IO[bytes]", popen.stdin)
        stdin.write(msgspec.json.encode(spec) + b"\n")
        stdin.flush()
        return popen, run, command


class LocalService:
    """One process under its wrapper."""

    def __init__(
        self,
        launcher: LocalLauncher,
        popen: subprocess.Popen[bytes],
        folder: RunFolder,
        command: Command,
        rule: ProcessRule,
    ) -> None:
        self._launcher = launcher
        self._popen = popen
        self._folder = folder
        self._command = command
        self._rule = rule
        self._pid = 0
        self._over = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    @property
    def pid(self) -> int:
        return self._pid

    async def begin(self) -> None:
        """Watch the wrapper, and wait until the process is there. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: _End(self._over), self._popen.stdout)
        async with asyncio.timeout(START_TIMEOUT_S):
            while not self._over.is_set():
                started = await self._launcher.run(lambda: self._folder.read("started"))
                if started is not None:
                    self._pid = int(started["pid"])
                    return
                await self._launcher.clock.sleep(POLL_S)

    async def ended(self) -> ServiceEnd:
        await self._over.wait()
        return await self._launcher.run(self._read_end)

    async def stop(self) -> None:
        stdin = cast("IO[bytes]", self._popen.stdin)
        with suppress(OSError):
            stdin.close()
        if self._transport is not None:
            try:
                async with asyncio.timeout(float(self._rule.stop_grace) + END_MARGIN_S):
                    await self._over.wait()
            except TimeoutError:
                self._popen.kill()  # the process is killed with it
            self._transport.close()
            await self._launcher.clock.sleep(0)  # a turn of the loop, in which the transport closes its pipe
        else:
            cast("IO[bytes]", self._popen.stdout).close()
        await self._launcher.run(self._remove)

    def _read_end(self) -> ServiceEnd:
        self._popen.wait(BLOCKING_TIMEOUT_S)
        end = self._folder.read("exit")
        if end is None:
            return ServiceEnd(137, "its wrapper was killed")
        if end["fault"]:
            return ServiceEnd(127, f"could not be run: {end['fault']}")
        text = self._folder.stream("stderr", end["omitted"]["stderr"], end["tail"]["stderr"])
        detail = shortened_middle(self._command.masked(redact_text(text.strip())), 400)
        return ServiceEnd(end["code"] if end["code"] is not None else 128 + int(end["signal"] or 0), detail)

    def _remove(self) -> None:
        self._popen.wait(BLOCKING_TIMEOUT_S)
        shutil.rmtree(self._folder.path, ignore_errors=True)


class _End(asyncio.Protocol):
    """Told when the wrapper's output ends, which is when it does: it writes nothing there."""

    def __init__(self, over: asyncio.Event) -> None:
        self._over = over

    def connection_lost(self, exc: Exception | None) -> None:
        self._over.set()


def _nothing() -> None:
    """A start can't be told to end; it is soon over."""


def _usage(pid: int) -> Usage | None:
    """What a process and its descendants use; None where it has ended."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    memory, cpu_s, count = 0, 0.0, 0
    for process in family:
        try:
            with process.oneshot():
                memory += int(process.memory_info().rss)
                times = process.cpu_times()
                cpu_s += times.user + times.system
                count += 1
        except psutil.Error:
            continue
    return Usage(count, memory, cpu_s)
