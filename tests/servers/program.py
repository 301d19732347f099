"""One real server program: started with a bounded wait, stopped, frozen and thawed by its own process."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

START_TIMEOUT_S = 20.0
"""A loaded machine starts a server in a second or two."""
STOP_TIMEOUT_S = 10.0
_TURN_S = 0.05


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class Program:
    """A program that listens on `port`. Its output goes to `log`, whose end is told if it does not start."""

    def __init__(self, argv: Sequence[str], port: int, log: Path) -> None:
        self._argv = list(argv)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        for _ in range(round(START_TIMEOUT_S / _TURN_S)):
            if process.poll() is not None:
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(_TURN_S)
            else:
                writer.close()
                return
        await self.stop()
        raise AssertionError(f"{self._argv[0]} did not start: {self._log.read_text()[-2000:]}")

    async def stop(self) -> None:
        """End it, by force where it takes too long. Repeating it does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def freeze(self) -> None:
        """Let it hang: it keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
