"""kill -9 for tests: a program that works on a file until it is killed, and what it got told before.

The program calls `serve` with its work. For each line `path run seed` on its input it forks a child that
works until it is killed. Forking saves the start of a Python interpreter for each of hundreds of kills; what
is killed is a whole process. The child tells what was acknowledged with `tell`, after it was, in one
unbuffered write: a line that arrives whole was acknowledged before the kill.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import Rng
from steersman.testing.store_expect import equal, true

CLOSE_TIMEOUT_S = 30.0
EARLY_KILL_MAX_S = 0.03
"""Kills before the program said that it is open come within this."""

Work = Callable[[Path, int, int], Awaitable[None]]
"""Works on the path for ever: path, number of the run, seed."""


def tell(line: str) -> None:
    """One line to whoever kills, at once."""
    os.write(1, line.encode() + b"\n")


def serve(work: Work) -> None:
    """Fork a child for each line of input; say its pid, and when it is dead."""
    for line in sys.stdin:
        path, run, seed = line.split()
        pid = os.fork()
        if pid == 0:
            asyncio.run(_awaited(work(Path(path), int(run), int(seed))))
            os._exit(0)
        tell(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        tell(f"dead {status}")


class Worker:
    """The program to kill; its child's first line is `open ...`."""

    def __init__(self, program: Path) -> None:
        self._clock = SystemClock()
        self._process = subprocess.Popen(  # noqa: S603 - a test names its own program
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("a program without pipes")
        self._input, self._output = self._process.stdin, self._process.stdout
        self._pending = b""

    def close(self) -> None:
        """End the program."""
        self._input.close()
        self._process.wait(timeout=CLOSE_TIMEOUT_S)
        self._output.close()

    def run_and_kill(
        self, path: Path, run: int, rng: Rng, *, run_max_s: float, early: float = 0.0
    ) -> list[list[str]]:
        """Let it work on the file for a random while, kill it; the words of the lines that it got out.

        `early` is the share of kills that fall into opening: migration, recovery, the first commits.
        """
        self._input.write(f"{path} {run} {int(rng.random() * 1e6)}\n".encode())
        self._input.flush()
        pid = int(self._line()[1])
        lines: list[list[str]] = []
        if rng.random() < early:
            deadline_s = self._clock.monotonic() + rng.uniform(0, EARLY_KILL_MAX_S)
        else:
            lines.append(self._line())
            true(lines[0][0] == "open", f"the first line is open: {lines[0]}")
            deadline_s = self._clock.monotonic() + rng.uniform(0, run_max_s)
        while self._has_line(deadline_s):  # read all the while: a full pipe would hold it up
            line = self._line()
            true(line[0] != "dead", f"the worker does not end by itself: {line}")
            lines.append(line)
        os.kill(pid, signal.SIGKILL)
        while (line := self._line())[0] != "dead":
            lines.append(line)
        equal(line, ["dead", str(int(signal.SIGKILL))], "the end")
        return lines

    def _has_line(self, deadline_s: float) -> bool:
        """Whether a line is there before the deadline."""
        while b"\n" not in self._pending:
            wait_s = deadline_s - self._clock.monotonic()
            if wait_s <= 0 or not select.select([self._output], [], [], wait_s)[0]:
                return False
            self._read()
        return self._clock.monotonic() < deadline_s

    def _line(self) -> list[str]:
        """The next line's words."""
        while b"\n" not in self._pending:
            self._read()
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode().split()

    def _read(self) -> None:
        data = os.read(self._output.fileno(), 1 << 16)
        true(bool(data), "the worker is there")
        self._pending += data


async def _awaited(work: Awaitable[None]) -> None:
    await work
