"""One run of a system's own command: bounded in time and output, and ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from steersman.drivers.api import SourceError
from steersman.drivers.program import STDERR_MAX_BYTES, ProgramNotBegun, Ran, run_program

ENV = {"PATH": os.environ["PATH"], "GIVEN": "yes"}


async def sh(text: str, timeout_s: float = 10.0, max_bytes: int = 1_000_000) -> Ran:
    return await run_program(["sh", "-c", text], env=ENV, timeout_s=timeout_s, max_bytes=max_bytes)


async def test_what_it_wrote_and_how_it_ended() -> None:
    ran = await sh("echo out; echo bad >&2; exit 3")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (3, b"out\n", "bad")


async def test_it_has_just_the_environment_it_is_given_and_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_OURS", "secret")
    ran = await sh("echo $GIVEN-$OF_OURS; cat")
    assert ran.stdout == b"yes-\n"


async def test_a_signal_is_a_negative_exit_code() -> None:
    assert (await sh("kill -9 $$")).exit_code == -9


@pytest.mark.parametrize("program", ["/nowhere/at-all", "/etc/passwd", "a\0b"])
async def test_what_can_not_be_begun_says_so(program: str) -> None:
    with pytest.raises(ProgramNotBegun):
        await run_program([program], env=ENV, timeout_s=5, max_bytes=10)


async def test_complaints_are_kept_up_to_a_bound_and_never_block_it() -> None:
    ran = await sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo done")
    assert ran.stdout == b"done\n"
    assert len(ran.stderr) == STDERR_MAX_BYTES


async def test_output_over_the_bound_ends_it() -> None:
    with pytest.raises(SourceError, match="max_bytes"):
        await sh("while :; do echo xxxxxxxxxxxxxxxx; done", max_bytes=10_000)


async def ended(pid: int) -> bool:
    """Whether that process is gone, or dead and not yet collected by its parent."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        await asyncio.sleep(0.02)
    return False


async def test_time_that_runs_out_ends_it_with_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"within 0\.5 s"):
        await sh(f"sleep 60 & echo $! > {tmp_path}/pid; wait", timeout_s=0.5)
    assert await ended(int((tmp_path / "pid").read_text()))


async def test_a_cancelled_caller_leaves_nothing_running(tmp_path: Path) -> None:
    task = asyncio.ensure_future(sh(f"sleep 60 & echo $! > {tmp_path}/pid; wait", timeout_s=60))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ended(int((tmp_path / "pid").read_text()))


async def test_what_it_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    ran = await sh(f"sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/pid")
    assert ran.exit_code == 0
    assert await ended(int((tmp_path / "pid").read_text()))
