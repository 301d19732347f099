"""The handler `process`, with real commands: how they end, what is kept of them, and what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from steersman.drivers.process import CommandInvalid, ProcessSteps
from steersman.drivers.process.folder import RunFolder, Standing, start_ticks, sweep
from steersman.drivers.process.site import ForeignSite
from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import Later, StepCall, StepOutcome, StepResult

SECONDS_MAX = 20.0


def call(argv: Any, *, key: str = "op-1/step/1", timeout_s: float = 10.0, **inputs: Any) -> StepCall:
    return StepCall(
        key=key,
        resource=ResourceRef("Node", "n1"),
        operation="op-1",
        epoch=3,
        phase="drain",
        step="step",
        attempt=1,
        timeout_s=timeout_s,
        inputs={"argv": argv, "grace": 0.3, **inputs},
    )


def python(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", textwrap.dedent(text)]


@pytest.fixture
def steps(tmp_path: Path) -> ProcessSteps:
    return ProcessSteps(tmp_path, SystemClock())


async def until(condition: Any) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


def pid_in(path: Path) -> int:
    return int(path.read_text())


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0]
    except OSError:
        return False
    return state != b"Z"


async def test_a_command_that_succeeds(steps: ProcessSteps, tmp_path: Path) -> None:
    result = await steps.run(call(["sh", "-c", "echo out; echo err >&2; pwd"], cwd=str(tmp_path)))
    assert result.outcome is StepOutcome.SUCCEEDED
    assert result.outputs["exit_code"] == 0
    assert result.outputs["stdout"] == f"out\n{tmp_path}\n"
    assert result.outputs["stderr"] == "err\n"
    assert result.evidence[0].kind == "process_exit"


@pytest.mark.parametrize(
    ("argv", "inputs", "outcome", "words"),
    [
        (["sh", "-c", "exit 3"], {}, StepOutcome.PERMANENT, "exit code 3"),
        (["sh", "-c", "exit 3"], {"success_codes": [0, 3]}, StepOutcome.SUCCEEDED, ""),
        (["sh", "-c", "exit 75"], {}, StepOutcome.TRANSIENT, "exit code 75"),
        (["sh", "-c", "kill -9 $$"], {}, StepOutcome.UNCERTAIN, "signal 9"),
        (["/no/such/program"], {}, StepOutcome.PERMANENT, "ENOENT"),
        (["/etc/passwd"], {}, StepOutcome.PERMANENT, "EACCES"),
    ],
)
async def test_how_it_ended_decides(
    steps: ProcessSteps, argv: list[str], inputs: dict[str, Any], outcome: StepOutcome, words: str
) -> None:
    result = await steps.run(call(argv, **inputs))
    assert result.outcome is outcome
    assert words in result.detail


async def test_the_same_key_runs_once(steps: ProcessSteps, tmp_path: Path) -> None:
    ask = call(["sh", "-c", f"echo x >> {tmp_path}/effects"])
    assert await steps.observe(ask) is None, "it certainly never began"
    results = await asyncio.gather(*(steps.run(ask) for _ in range(4)))
    again = await ProcessSteps(tmp_path, SystemClock()).run(ask)
    assert {result.outcome for result in (*results, again)} == {StepOutcome.SUCCEEDED}
    assert (tmp_path / "effects").read_text() == "x\n"
    seen = await steps.observe(ask)
    assert seen is not None
    assert seen.outcome is StepOutcome.SUCCEEDED


async def test_a_key_is_for_one_command(steps: ProcessSteps) -> None:
    await steps.run(call(["true"]))
    other = await steps.run(call(["false"]))
    assert other.outcome is StepOutcome.PERMANENT
    assert "another command" in other.detail


async def test_the_time_is_kept_and_the_whole_group_ends(steps: ProcessSteps, tmp_path: Path) -> None:
    """Also a child that ignores TERM and one that left the group and the session."""
    script = f"""
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            open({str(tmp_path / "stray")!r}, "w").write(str(os.getpid()))
            time.sleep(60)
        open({str(tmp_path / "main")!r}, "w").write(str(os.getpid()))
        time.sleep(60)
    """
    result = await steps.run(call(python(script), timeout_s=1.0))
    assert result.outcome is StepOutcome.UNCERTAIN, "how much of it took effect is not known"
    assert "longer than it may" in result.detail
    assert not is_alive(pid_in(tmp_path / "main"))
    assert not is_alive(pid_in(tmp_path / "stray"))


async def test_what_a_command_leaves_behind_is_ended_unless_it_says_otherwise(
    steps: ProcessSteps, tmp_path: Path
) -> None:
    for children in ("end", "leave"):
        argv = ["sh", "-c", f"sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/{children}"]
        result = await steps.run(call(argv, key=f"op/{children}/1", children=children))
        assert result.outcome is StepOutcome.SUCCEEDED
    assert not is_alive(pid_in(tmp_path / "end"))
    left = pid_in(tmp_path / "leave")
    assert is_alive(left)
    os.kill(left, signal.SIGKILL)


async def test_many_children_that_make_children_are_ended(steps: ProcessSteps, tmp_path: Path) -> None:
    """A small bomb: 50 processes at a time, made anew as they go, for five seconds at most."""
    script = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end = time.monotonic() + 5
        for _ in range(5):
            if os.fork() == 0:
                while time.monotonic() < end:
                    for _ in range(10):
                        if os.fork() == 0:
                            os.setsid()
                            time.sleep(0.2)
                            os._exit(0)
                    time.sleep(0.2)
                    while True:
                        try:
                            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                                break
                        except ChildProcessError:
                            break
                os._exit(0)
        time.sleep(60)
    """
    marker = f"bomb-{os.getpid()}"
    argv = [*python(script), marker]
    result = await steps.run(call(argv, timeout_s=0.7))
    assert result.outcome is StepOutcome.UNCERTAIN
    listed = subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True).stdout.split()
    assert [pid for pid in listed if is_alive(int(pid))] == []


async def test_output_is_bounded_and_its_size_told(steps: ProcessSteps, tmp_path: Path) -> None:
    script = "import os\nos.write(1, b'first' + b'x' * 3_000_000 + b'last')"
    result = await steps.run(call(python(script)))
    assert result.outcome is StepOutcome.SUCCEEDED
    text = result.outputs["stdout"]
    assert result.outputs["stdout_bytes"] == 3_000_009
    assert text.startswith("first")
    assert text.endswith("last")
    assert len(text) < 5_000
    sizes = [path.stat().st_size for path in tmp_path.rglob("stdout")]
    assert sizes == [64 * 1024]


async def test_nothing_of_our_environment_leaks(tmp_path: Path) -> None:
    own = {"PATH": os.environ["PATH"], "HOME": "/root", "STEERSMAN_TOKEN": "hunter2-own", "WANTED": "w"}
    steps = ProcessSteps(tmp_path, SystemClock(), environment=own)
    result = await steps.run(call(["env"], env={"MINE": "m"}, environment=["WANTED"]))
    names = {line.split("=")[0] for line in result.outputs["stdout"].splitlines()}
    assert names - {"LC_CTYPE"} == {
        "PATH", "MINE", "WANTED", "STEERSMAN_STEP_KEY", "STEERSMAN_RESOURCE", "STEERSMAN_OPERATION",
        "STEERSMAN_EPOCH", "STEERSMAN_ATTEMPT", "STEERSMAN_RUN",
    }  # fmt: skip


async def test_a_secret_is_in_no_result_and_in_no_file_of_ours(steps: ProcessSteps, tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo the value is $API_TOKEN; exit 4"]
    result = await steps.run(call(argv, env={"API_TOKEN": "hunter2-abcdef"}))
    assert "hunter2" not in repr(result)
    assert "***" in result.outputs["stdout"]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "stdout":
            assert b"hunter2" not in path.read_bytes(), path


async def test_files_are_for_their_owner_alone(steps: ProcessSteps, tmp_path: Path) -> None:
    await steps.run(call(["true"]))
    (run,) = (tmp_path / "runs").iterdir()
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in run.iterdir()} == {0o600}


async def test_cancel_ends_it_and_one_that_never_began_never_does(
    steps: ProcessSteps, tmp_path: Path
) -> None:
    ask = call(["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"], timeout_s=60)
    task = asyncio.ensure_future(steps.run(ask))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    await steps.cancel(ask)
    result = await task
    assert result.outcome is StepOutcome.CANCELLED
    assert not is_alive(pid_in(tmp_path / "pid"))
    await steps.cancel(ask)
    later = call(["sh", "-c", f"echo x > {tmp_path}/effect"], key="op/later/1")
    await steps.cancel(later)
    assert (await steps.run(later)).outcome is StepOutcome.CANCELLED
    assert not (tmp_path / "effect").exists()


HOST = """
import asyncio, sys
from pathlib import Path
from steersman.drivers.process import ProcessSteps
from steersman.kernel.clock import SystemClock
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import StepCall

folder, key, timeout_s, script = sys.argv[1:]
call = StepCall(key=key, resource=ResourceRef("Node", "n1"), operation="op-1", epoch=3, phase="drain",
                step="step", attempt=1, timeout_s=float(timeout_s),
                inputs={"argv": ["sh", "-c", script], "grace": 0.3})
asyncio.run(ProcessSteps(Path(folder), SystemClock()).run(call))
"""


async def killed_host(folder: Path, script: str, timeout_s: float, *, ready: Any) -> StepCall:
    """A program that runs the step, killed with -9 once `ready` holds."""
    key = "op-1/step/1"
    arguments = [sys.executable, "-c", HOST, str(folder), key, str(timeout_s), script]
    host = await asyncio.to_thread(subprocess.Popen, arguments)
    try:
        await until(ready)
    finally:
        host.kill()
        await asyncio.to_thread(host.wait)
    return call(["sh", "-c", script], key=key, timeout_s=timeout_s)


async def test_a_run_outlives_its_host_and_is_adopted(tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/effects; sleep 1; echo done"
    ask = await killed_host(tmp_path, script, 30, ready=(tmp_path / "effects").exists)
    seen: StepResult | None = await ProcessSteps(tmp_path, SystemClock()).observe(ask)
    assert seen is not None
    assert seen.outcome is StepOutcome.SUCCEEDED
    assert seen.outputs["stdout"] == "done\n"
    assert (tmp_path / "effects").read_text() == "x\n"


async def test_the_time_is_kept_when_the_host_is_gone(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; sleep 60"
    await killed_host(tmp_path, script, 1.0, ready=(tmp_path / "pid").exists)
    await until(lambda: not is_alive(pid_in(tmp_path / "pid")))
    run = RunFolder(tmp_path, "op-1/step/1")
    await until(lambda: run.standing() is Standing.ENDED)
    end = await asyncio.to_thread(run.read, "exit")
    assert end is not None
    assert end["asked"] == "timeout"


async def test_a_wrapper_that_was_killed_leaves_an_uncertain_run_and_nothing_alive(
    steps: ProcessSteps, tmp_path: Path
) -> None:
    script = f"setsid sleep 60 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/pid; sleep 60"
    ask = call(["sh", "-c", script], timeout_s=60)
    task = asyncio.ensure_future(steps.run(ask))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    started = await asyncio.to_thread(RunFolder(tmp_path, ask.key).read, "started")
    assert started is not None
    assert await asyncio.to_thread(start_ticks, started["wrapper"]) == started["wrapper_start"]
    os.kill(started["wrapper"], signal.SIGKILL)
    assert (await task).outcome is StepOutcome.UNCERTAIN
    seen = await steps.observe(ask)
    assert seen is not None
    assert seen.outcome is StepOutcome.UNCERTAIN
    assert (await steps.run(ask)).outcome is StepOutcome.UNCERTAIN, "it is never run a second time"
    await until(lambda: not is_alive(pid_in(tmp_path / "pid")))
    await until(lambda: not is_alive(pid_in(tmp_path / "child")))


@pytest.mark.parametrize("made", [(), ("lock",), ("lock", "begun")])
async def test_dying_before_the_command_was_there_is_never_begun(
    steps: ProcessSteps, tmp_path: Path, made: tuple[str, ...]
) -> None:
    ask = call(["sh", "-c", f"echo x >> {tmp_path}/effects"])
    run = RunFolder(tmp_path, ask.key)
    run.path.mkdir(parents=True)
    for name in made:
        (run.path / name).write_text("{}")
    assert await steps.observe(ask) is None
    assert (await steps.run(ask)).outcome is StepOutcome.SUCCEEDED
    assert (tmp_path / "effects").read_text() == "x\n"


async def test_a_run_goes_only_once_its_end_is_on_record(steps: ProcessSteps, tmp_path: Path) -> None:
    asks = [call(["true"], key=f"op/s{number}/1") for number in range(4)]
    for ask in asks:
        await steps.run(ask)
    for ask in asks[1:]:
        await steps.settle(ask)
    (tmp_path / "runs" / "nothing").mkdir()
    runs = RunFolder(tmp_path, asks[0].key)
    now_s = (RunFolder(tmp_path, asks[1].key).path / "told").stat().st_mtime
    bounds: dict[str, Any] = {"told_s": 10, "empty_s": 100, "runs_max": 10}
    assert await asyncio.to_thread(lambda: sweep(tmp_path, now_s=now_s + 5, **bounds)) == 0
    assert await asyncio.to_thread(lambda: sweep(tmp_path, now_s=now_s + 50, **bounds)) == 3
    assert await asyncio.to_thread(lambda: sweep(tmp_path, now_s=now_s + 500, **bounds)) == 1
    few = {**bounds, "runs_max": 0}
    assert await asyncio.to_thread(lambda: sweep(tmp_path, now_s=now_s + 1e9, **few)) == 0
    assert list((tmp_path / "runs").iterdir()) == [runs.path], "its end is on record nowhere else"


async def test_a_plane_that_was_down_for_long_repeats_nothing(tmp_path: Path) -> None:
    """It died between the end of the command and its own record of it."""
    ask = call(["sh", "-c", f"echo x >> {tmp_path}/effects"])
    await ProcessSteps(tmp_path, SystemClock()).run(ask)
    later = ManualClock(SystemClock().now() + timedelta(days=400))
    after = ProcessSteps(tmp_path, later)
    other = asyncio.ensure_future(after.run(call(["true"], key="op-2/other/1")))  # it begins with a clean-up
    while not other.done():
        later.advance(1)
        await asyncio.sleep(0.01)
    seen = await after.observe(ask)
    assert seen is not None
    assert seen.outcome is StepOutcome.SUCCEEDED
    assert (tmp_path / "effects").read_text() == "x\n"


async def test_another_site_never_says_that_it_never_began(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    one, two = ProcessSteps(here, SystemClock()), ProcessSteps(there, SystemClock())
    ask = replace(call(["sh", "-c", f"echo x >> {tmp_path}/effects"]), site=await one.site())
    assert await one.observe(ask) is None
    for told in (await two.observe(ask), await two.run(ask)):
        assert told is not None
        assert told.outcome is StepOutcome.UNCERTAIN
        assert await one.site() in told.detail
    with pytest.raises(ForeignSite):
        await two.cancel(ask)
    assert not (tmp_path / "effects").exists()
    assert (await one.run(ask)).outcome is StepOutcome.SUCCEEDED


async def test_a_site_outlives_restarts_and_is_the_machine_and_the_folder(tmp_path: Path) -> None:
    for machine in ("a", "b"):
        (tmp_path / machine).write_text(f"{machine}\n")

    async def site(folder: str, machine: str) -> str:
        steps = ProcessSteps(tmp_path / folder, SystemClock(), machine_id=tmp_path / machine)
        return await steps.site()

    first = await site("x", "a")
    assert await site("x", "a") == first
    assert len({first, await site("x", "b"), await site("y", "a"), await site("x", "none")}) == 4
    assert stat.S_IMODE((tmp_path / "x" / "site").stat().st_mode) == 0o600
    (tmp_path / "x" / "site").write_text("")
    with pytest.raises(ValueError, match="no name of a site"):
        await site("x", "a")


async def test_what_is_kept_is_what_was_begun_and_not_settled(steps: ProcessSteps, tmp_path: Path) -> None:
    over, alive = call(["true"], key="op-1/over/1"), call(["sleep", "60"], key="op-1/alive/1", timeout_s=60)
    await steps.run(over)
    task = asyncio.ensure_future(steps.run(alive))
    await until(lambda: RunFolder(tmp_path, alive.key).read("started"))
    kept = {one.call.key: one for one in await ProcessSteps(tmp_path, SystemClock()).kept()}
    assert {key: one.alive for key, one in kept.items()} == {over.key: False, alive.key: True}
    told = kept[over.key].call
    assert (told.resource, told.operation, told.epoch, told.phase) == (over.resource, "op-1", 3, "drain")
    await steps.settle(over)
    await steps.settle(alive)
    assert [one.call.key for one in await steps.kept()] == [alive.key], "what is alive is ended first"
    await asyncio.gather(steps.cancel(alive), steps.cancel(alive), steps.cancel(alive))
    await task
    await steps.settle(alive)
    assert await steps.kept() == []
    await steps.settle(call(["true"], key="op-9/never/1"))
    assert not RunFolder(tmp_path, "op-9/never/1").path.exists()


async def test_json_output(steps: ProcessSteps) -> None:
    good = await steps.run(call(["echo", '{"a": [1, 2]}'], stdout_format="json"))
    assert good.outputs["json"] == {"a": [1, 2]}
    bad = await steps.run(call(["echo", "{"], key="op/bad/1", stdout_format="json"))
    assert bad.outcome is StepOutcome.PERMANENT


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "argv is needed"),
        ({"argv": "rm -rf /"}, "there is no shell"),
        ({"argv": []}, "a list"),
        ({"argv": ["a\0b"]}, "text"),
        ({"argv": [["true"]]}, "text"),
        ({"argv": ["true"], "cmd": 1}, "'cmd' is no input"),
        ({"argv": ["true"], "cwd": "relative"}, "absolute"),
        ({"argv": ["true"], "env": {"A=B": "x"}}, "variable"),
        ({"argv": ["true"], "environment": "PATH"}, "list of names"),
        ({"argv": ["true"], "success_codes": [256]}, "exit codes"),
        ({"argv": ["true"], "grace": "1y"}, "grace"),
        ({"argv": ["true"], "children": "keep"}, "end or leave"),
        ({"argv": ["x"] * 300}, "at most"),
    ],
)
def test_inputs_that_cannot_be_right_are_refused(
    steps: ProcessSteps, inputs: dict[str, Any], words: str
) -> None:
    with pytest.raises(CommandInvalid, match=words):
        steps.check(inputs)


def test_what_is_filled_in_later_is_right_for_now(steps: ProcessSteps) -> None:
    steps.check({"argv": Later("${resource.metadata.x}"), "cwd": Later("${inputs.cwd}")})
    steps.check({"argv": ["echo", Later("${resource.id}")]})


async def test_a_cwd_or_user_that_is_not_there_is_refused_before_anything_runs(
    steps: ProcessSteps, tmp_path: Path
) -> None:
    for inputs in ({"cwd": "/no/such/folder"}, {"user": "no-such-user"}):
        result = await steps.run(call(["true"], **inputs))
        assert result.outcome is StepOutcome.PERMANENT
    assert not (tmp_path / "runs").exists()
