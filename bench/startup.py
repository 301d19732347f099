"""Start-up: how long `steersman --help` takes, and how long `steersman up` takes to its first healthy answer.

Both are the median of several processes started from nothing (warm file cache). The bare interpreter is
measured in the same run, interleaved, so that the ratio holds on a loaded machine as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import statistics
import sys
import tempfile
import time

from bench.figure import Figure

RUNS = 9
UP_RUNS = 3
UP_TIMEOUT_S = 30.0
PROBE_INTERVAL_S = 0.01
PROGRAM = (sys.executable, "-m", "steersman")


async def measure() -> list[Figure]:
    """All figures of start-up."""
    bare: list[float] = []
    help_page: list[float] = []
    command_help: list[float] = []
    for _ in range(RUNS):
        bare.append(await _time_of(sys.executable, "-c", "pass"))
        help_page.append(await _time_of(*PROGRAM, "--help"))
        command_help.append(await _time_of(*PROGRAM, "get", "--help"))
    ups = [await _time_to_healthy() for _ in range(UP_RUNS)]
    bare_s, help_s, get_s = (statistics.median(times) for times in (bare, help_page, command_help))
    return [
        Figure("steersman --help", help_s, "s", "<=0.15", f"median of {RUNS} processes, exec to exit"),
        Figure("steersman get --help", get_s, "s", "<=0.15", "the same, with the command's own options"),
        Figure(
            "steersman --help over a bare interpreter",
            help_s / bare_s,
            "x",
            "",
            f"python -c pass took {bare_s * 1000:.1f} ms in this run",
        ),
        Figure(
            "steersman up to first healthy answer",
            statistics.median(ups),
            "s",
            "<=1.5",
            f"exec to GET /healthz answering 200, empty state folder, median of {UP_RUNS}; "
            f"{statistics.median(ups) / bare_s:.0f} x a bare interpreter",
        ),
    ]


async def _time_of(*command: str) -> float:
    """Seconds from exec to exit."""
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    code = await process.wait()
    if code != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {code}")
    return time.perf_counter() - start


async def _time_to_healthy() -> float:
    """Seconds from the exec of `steersman up` to its first healthy answer; it is then stopped."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "STEERSMAN_HOME": home}
        start = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            "up",
            "--port",
            str(port),
            cwd=home,
            env=env,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            while not await _healthy(port):
                if process.returncode is not None or time.perf_counter() - start > UP_TIMEOUT_S:
                    raise RuntimeError(
                        f"steersman up gave no healthy answer (exit code {process.returncode})"
                    )
                await asyncio.sleep(PROBE_INTERVAL_S)
            return time.perf_counter() - start
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            await process.wait()


async def _healthy(port: int) -> bool:
    """Whether /healthz answers 200 now. A plain socket: a client library would cost more than the answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
    try:
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
