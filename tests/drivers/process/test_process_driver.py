"""The process driver: what it tells of processes, when it starts them again, and that it ends them all."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steersman.drivers.api import DriverContext
from steersman.drivers.process import ProcessDriver, ProcessOptions
from steersman.drivers.process.fake import FakeLauncher
from steersman.drivers.process.options import ProcessRule
from steersman.kernel.clock import Clock, ManualClock, SystemClock
from steersman.kernel.ids import seeded_rng

SECONDS_MAX = 20.0


def driver(clock: Clock, *rules: ProcessRule, launcher: Any = None) -> ProcessDriver:
    context = DriverContext("helpers", "here", clock, seeded_rng(1), 1.0, 5.0)
    return ProcessDriver(ProcessOptions(processes=list(rules), node="n1"), context, launcher)


@asynccontextmanager
async def real(*rules: ProcessRule) -> AsyncIterator[ProcessDriver]:
    made = driver(SystemClock(), *rules)
    try:
        yield made
    finally:
        await made.close()


async def jobs(made: ProcessDriver) -> dict[str, dict[str, Any]]:
    return {fragment.entity_id: fragment.fields for fragment in (await made.observe()).fragments}


async def until(made: ProcessDriver, condition: Callable[[dict[str, Any]], bool], job: str = "n1:a") -> Any:
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            fields = (await jobs(made))[job]
            if condition(fields):
                return fields
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] != b"Z"
    except OSError:
        return False


async def test_a_process_is_a_job_with_what_it_uses() -> None:
    async with real(ProcessRule(name="a", argv=["sh", "-c", "sleep 60 & wait"])) as made:
        fields = await until(made, lambda fields: fields.get("process_count") == 2)
        assert fields["job_state"] == "running"
        assert fields["command"] == "sh"
        assert fields["memory_used"] > 0
        assert fields["restarts"] == 0
        assert await asyncio.to_thread(is_alive, fields["pid"])
    assert not await asyncio.to_thread(is_alive, fields["pid"])


async def test_one_that_fails_is_started_again_and_says_why() -> None:
    rule = ProcessRule(
        name="a", argv=["sh", "-c", "echo no config >&2; exit 3"], backoff=0.05, max_backoff=0.05
    )
    async with real(rule) as made:
        fields = await until(made, lambda fields: fields["restarts"] >= 2 and "exit_code" in fields)
        assert (fields["job_state"], fields["exit_code"]) == ("failed", 3)
        async with asyncio.timeout(SECONDS_MAX):
            while not (warnings := (await made.observe()).warnings):
                pass
        assert warnings == ["a: exit code 3: no config"]


@pytest.mark.parametrize(
    ("argv", "code", "state"),
    [
        (["true"], 0, "completed"),
        (["/no/such"], 127, "failed"),
        (["sh", "-c", "kill -TERM $$"], 143, "failed"),
    ],
)
async def test_one_that_is_not_to_be_started_again(argv: list[str], code: int, state: str) -> None:
    async with real(ProcessRule(name="a", argv=argv, restart="never")) as made:
        fields = await until(made, lambda fields: "exit_code" in fields)
        assert (fields["exit_code"], fields["job_state"], fields["process_count"]) == (code, state, 0)


async def test_closing_ends_all_with_their_children_at_once(tmp_path: Path) -> None:
    script = f"trap '' TERM; setsid sleep 60 & echo $! > {tmp_path}/$0; sleep 60; sleep 60"
    rules = [ProcessRule(name=n, argv=["sh", "-c", script, n], stop_grace=0.5) for n in ("a", "b", "c")]
    made = driver(SystemClock(), *rules)
    pids = [fields["pid"] for fields in (await jobs(made)).values()]
    strays: list[int] = []
    async with asyncio.timeout(SECONDS_MAX):
        while len(strays) < 3:
            files = await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
            texts = [await asyncio.to_thread(path.read_text) for path in files]
            strays = [int(text) for text in texts if text.strip()]
    await made.close()
    left = await asyncio.to_thread(lambda: [pid for pid in (*pids, *strays) if is_alive(pid)])
    assert left == []


HOST = """
import asyncio
from steersman.drivers.api import DriverContext
from steersman.drivers.process import ProcessDriver, ProcessOptions
from steersman.drivers.process.options import ProcessRule
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng

async def main():
    context = DriverContext("helpers", "", SystemClock(), seeded_rng(1), 1.0, 5.0)
    made = ProcessDriver(ProcessOptions(processes=[ProcessRule(name="a", argv=["sleep", "60"])]), context)
    (job,) = (await made.observe()).fragments
    print(job.fields["pid"], flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_host_that_is_killed_takes_them_along() -> None:
    with subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        assert is_alive(pid)
        host.send_signal(signal.SIGKILL)
        host.wait()
    for _ in range(1000):
        if not is_alive(pid):
            return
        time.sleep(0.01)
    raise AssertionError("it is still there")


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_waits_grow_and_start_anew_after_a_steady_run() -> None:
    clock = ManualClock()
    launcher = FakeLauncher(clock)
    rule = ProcessRule(name="a", argv=["x"], backoff=1, max_backoff=4, steady=60)
    made = driver(clock, rule, launcher=launcher)
    await made.observe()
    lives = launcher.services["a"]
    waits = [1.0, 2.0, 4.0, 4.0]
    for number, wait_s in enumerate(waits, start=1):
        lives[-1].end(1)
        await settle()
        clock.advance(wait_s * 0.69)  # jitter takes at most 30 %
        await settle()
        assert len(lives) == number, "not before its time"
        clock.advance(wait_s * 0.31)
        await settle()
        assert len(lives) == number + 1
    clock.advance(60)
    lives[-1].end(1)
    await settle()
    clock.advance(1.0)
    await settle()
    assert len(lives) == len(waits) + 2
    await made.close()
    assert all(life.stopped for life in lives)


async def test_one_that_can_not_be_started_is_told_of_and_tried_again() -> None:
    clock = ManualClock()
    launcher = FakeLauncher(clock)
    launcher.refusing.add("a")
    made = driver(
        clock, ProcessRule(name="a", argv=["x"]), ProcessRule(name="b", argv=["x"]), launcher=launcher
    )
    seen = await jobs(made)
    assert (seen["n1:a"]["job_state"], seen["n1:a"]["exit_code"]) == ("failed", 126)
    assert seen["n1:b"]["job_state"] == "running"
    launcher.refusing.clear()
    clock.advance(1.0)
    await settle()
    assert (await jobs(made))["n1:a"]["job_state"] == "running"
    await made.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"argv": []},
        {"argv": [""]},
        {"argv": ["x"], "backoff": 10, "max_backoff": 5},
    ],
)
def test_what_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(
            {"name": "a", **wrong}, ProcessRule, strict=False, dec_hook=lambda kind, value: kind(value)
        )


def test_names_are_of_a_kind() -> None:
    with pytest.raises(ValueError, match="names of their own"):
        ProcessOptions(processes=[ProcessRule(name="a", argv=["x"]), ProcessRule(name="a", argv=["y"])])
