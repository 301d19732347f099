"""One run of a system's own command for a driver: bounded in time and output, and ended with all it started.

The command is a list and meets no shell. It runs in a process group of its own; when the caller is cancelled,
when time or room runs out, and when the command has ended, whatever is left of the group is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

from msgspec import Struct

from steersman.drivers.api import SourceError
from steersman.kernel.bounds import KIB

STDERR_MAX_BYTES = 16 * KIB
"""What is kept of a command's complaints; more is read and dropped."""
_CHUNK_BYTES = 256 * KIB


class ProgramNotBegun(SourceError):
    """It is not there, or may not be run: nothing of it took effect."""

    code = "program_not_begun"
    title = "A program could not be begun"


class Ran(Struct, frozen=True):
    """A run that came to its end. `exit_code` is negative where a signal ended it."""

    exit_code: int
    stdout: bytes
    stderr: str


async def run_program(
    argv: Sequence[str], *, env: Mapping[str, str], timeout_s: float, max_bytes: int
) -> Ran:
    """Run it with exactly this environment, no input. Raises `ProgramNotBegun`, or `SourceError`: it takes
    longer than `timeout_s`, or it writes more than `max_bytes`. Any exit code is an answer."""
    name = os.path.basename(argv[0])
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(env),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "a NUL in it"
        raise ProgramNotBegun(f"{name} can't be run: {why}") from None
    stdout, stderr = process.stdout, process.stderr
    if stdout is None or stderr is None:
        raise SourceError(f"{name} was begun without pipes")  # they were asked for: for the type's sake
    try:
        async with asyncio.timeout(timeout_s):
            output, complaint = await asyncio.gather(_collect(stdout, max_bytes, name), _head(stderr))
            code = await process.wait()
    except TimeoutError:
        raise SourceError(f"{name} gave no whole answer within {timeout_s:g} s") from None
    finally:
        await _end(process)
    return Ran(code, output, complaint.decode(errors="replace").strip())


async def _collect(stream: asyncio.StreamReader, max_bytes: int, name: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := await stream.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise SourceError(f"{name} wrote more than {max_bytes} bytes (max_bytes)", limit=max_bytes)
        parts.append(chunk)
    return b"".join(parts)


async def _head(stream: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        kept += chunk[: STDERR_MAX_BYTES - len(kept)]
    return bytes(kept)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the group. Its leader dies at once, so waiting for that is short."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # all gone, or the leader changed its user: then it is killed below
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            pass
        await process.wait()
