"""A real `steersman up` in a process of its own, on a free port, with a state folder of its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pressure import SmallDisk, require_small_disk

START_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """One `steersman up` and the commands typed against it."""

    def __init__(
        self,
        home: Path,
        port: int | None,
        *options: str,
        env: dict[str, str] | None = None,
        file_max_bytes: int | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.home = home
        self.port = port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "STEERSMAN_HOME": str(home),
            "STEERSMAN_SERVER": self.url,
            **(env or {}),
        }
        # Files, not pipes: a pipe that nobody reads would fill up with logs and stop the program.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            self._out, self._err = os.dup(out.fileno()), os.dup(err.fileno())
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "steersman", "up", "--port", str(port), *options],
            cwd=home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            preexec_fn=None if file_max_bytes is None else lambda: _limit_files(file_max_bytes),
        )

    @property
    def out(self) -> str:
        """What it has written to stdout so far."""
        return _read(self._out)

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return _read(self._err)

    def close(self) -> None:
        """Kill it if it still runs, and let its output go."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._out)
        os.close(self._err)

    def healthy(self) -> bool:
        """Whether /healthz answers 200 now."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_healthy(self) -> Running:
        """Wait for the first healthy answer; fails with the program's own words where it ends instead."""
        self.until(self.healthy, "a healthy answer")
        return self

    def until(self, holds: Callable[[], Any], what: str, within_s: float = START_TIMEOUT_S) -> Any:
        """Poll until `holds` gives something true; returns it."""
        deadline = time.monotonic() + within_s
        while True:
            value = holds()
            if value:
                return value
            if self.process.poll() is not None:
                pytest.fail(f"ended with {self.process.returncode} before {what}\n{self.out}\n{self.err}")
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} within {within_s:g} s\n{self.out}\n{self.err}")
            time.sleep(POLL_S)

    def get(self, path: str) -> Any:
        """A JSON answer of the API."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        """Post JSON; the JSON answer."""
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def type(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command against this server."""
        return subprocess.run(
            [sys.executable, "-m", "steersman", *words],
            cwd=self.home,
            env=self.env | (env or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def ended(self) -> tuple[int, str, str]:
        """Wait for the process to end by itself: exit code, stdout, stderr."""
        try:
            code = self.process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"did not end within {STOP_TIMEOUT_S:g} s\n{self.out}\n{self.err}")
        return code, self.out, self.err

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.ended()


@pytest.fixture(scope="session")
def running_class() -> type[Running]:
    """`Running`, for fixtures of other scopes: a test's module can't import conftest by name."""
    return Running


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `steersman up` as often as a test likes; whatever still runs at its end is killed."""
    started: list[Running] = []

    def start(
        *options: str,
        home: Path | None = None,
        port: int | None = None,
        file_max_bytes: int | None = None,
        prefix: tuple[str, ...] = (),
        **env: str,
    ) -> Running:
        folder = home or tmp_path / "state"
        folder.mkdir(mode=0o700, exist_ok=True)
        running = Running(folder, port, *options, env=env, file_max_bytes=file_max_bytes, prefix=prefix)
        started.append(running)
        return running

    yield start
    for running in started:
        running.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    require_small_disk()
    disk = SmallDisk(tmp_path / "pressure")
    yield disk
    disk.close()


def _limit_files(n_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def _read(descriptor: int) -> str:
    """All that was written to a file that the child appends to by the same offset."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")
