"""Supervised tasks and owned threads: born, restarted and ended with nothing left behind."""

from __future__ import annotations

import asyncio
import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from steersman.kernel.clock import ManualClock, SystemClock, current_now, using_clock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import (
    ALWAYS,
    NEVER,
    OwnedThread,
    Restart,
    Stopping,
    Supervisor,
    TaskFailed,
    TasksLeft,
)

pytestmark = pytest.mark.looptime


def supervisor(name: str = "test") -> Supervisor:
    return Supervisor(SystemClock(), seeded_rng(1), name=name)


async def forever() -> None:
    await asyncio.Event().wait()


def our_threads() -> set[str]:
    """Names of live threads, without the idle workers that asyncio keeps for `to_thread`."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_an_hour_of_failing_leaves_no_task_thread_or_file() -> None:
    """Goal: crash loops, hangs, short units and a thread, for a virtual hour; then nothing may be left."""
    tasks_before, threads_before, files_before = len(asyncio.all_tasks()), our_threads(), open_files()
    clock = SystemClock()
    lives = 0

    async def crash() -> None:
        nonlocal lives
        lives += 1
        with Path(__file__).open("rb"):
            await clock.sleep(7)
            raise OSError("disk on fire")

    wake = threading.Event()
    thread = OwnedThread("test-owned", wake.wait, wake.set).start()
    async with supervisor() as tasks:
        for number in range(20):
            tasks.start(f"crash-{number}", crash, ALWAYS)
        tasks.start("idle", forever)
        for _ in range(60):
            unit = tasks.spawn("unit", clock.sleep(1))
            await unit
            await clock.sleep(59)
        states = {state.name: state for state in tasks.snapshot()}
        assert states["idle"].state == "running"
        assert states["crash-0"].restarts > 20
        assert states["crash-0"].last_error == "OSError: disk on fire"
    await thread.aclose()
    assert lives > 20 * 20
    assert len(asyncio.all_tasks()) == tasks_before
    assert our_threads() == threads_before
    assert open_files() <= files_before


async def test_restart_waits_grow_and_are_capped() -> None:
    loop = asyncio.get_running_loop()
    births: list[float] = []

    async def crash() -> None:
        births.append(loop.time())
        raise ValueError("no")

    async with supervisor() as tasks:
        tasks.start("crash", crash, Restart(first_delay_s=1, max_delay_s=8, max_restarts=None))
        await asyncio.sleep(60)
    waits = [b - a for a, b in pairwise(births)]
    for wait, ceiling in zip(waits, [1, 2, 4, 8, 8, 8], strict=False):
        assert 0.7 * ceiling <= wait <= ceiling


async def test_too_many_restarts_in_the_window_fail_the_supervisor() -> None:
    async def crash() -> None:
        raise ValueError("password=hunter2 was wrong")

    with pytest.raises(TaskFailed) as caught:  # noqa: PT012 - leaving the context is what raises
        async with supervisor() as tasks:
            tasks.start("idle", forever)
            tasks.start("crash", crash, Restart(first_delay_s=1, max_restarts=3))
            await tasks.wait()
    assert caught.value.facts["task"] == "crash"
    assert "hunter2" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


async def test_restarts_spread_over_more_than_the_window_go_on() -> None:
    lives = 0

    async def crash() -> None:
        nonlocal lives
        lives += 1
        await asyncio.sleep(100)
        raise ValueError

    async with supervisor() as tasks:
        tasks.start("crash", crash, Restart(first_delay_s=1, max_restarts=2, window_s=150))
        await asyncio.sleep(1000)
    assert lives >= 8


async def test_a_failure_nobody_waited_for_is_raised_on_leaving() -> None:
    async def crash() -> None:
        raise ValueError("once")

    with pytest.raises(TaskFailed):  # noqa: PT012 - leaving the context is what raises
        async with supervisor() as tasks:
            tasks.start("crash", crash, NEVER)
            await asyncio.sleep(1)


async def test_the_bodys_own_error_is_not_hidden_by_a_tasks() -> None:
    async def crash() -> None:
        raise ValueError

    with pytest.raises(KeyError):  # noqa: PT012 - leaving the context is what raises
        async with supervisor() as tasks:
            tasks.start("crash", crash)
            await asyncio.sleep(1)
            raise KeyError("mine")


async def test_wait_returns_when_all_have_ended() -> None:
    async with supervisor() as tasks:
        tasks.start("short", lambda: asyncio.sleep(5))
        await tasks.wait()
        assert asyncio.get_running_loop().time() == 5
        assert [s.state for s in tasks.snapshot()] == ["ended"]


async def test_stop_ends_newest_first_and_one_by_one() -> None:
    ended: list[str] = []

    def closing(name: str) -> object:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1)  # an orderly end takes time; the older one must still be up
                ended.append(name)

        return run

    async with supervisor() as tasks:
        for name in ("store", "bus", "api"):
            tasks.start(name, closing(name))  # type: ignore[arg-type]
        await asyncio.sleep(1)
    assert ended == ["api", "bus", "store"]
    assert asyncio.get_running_loop().time() == 4


async def test_a_task_that_ignores_cancellation_is_named_at_the_deadline() -> None:
    release = asyncio.Event()
    ended: list[str] = []

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def orderly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("orderly")

    tasks = supervisor("plane")
    tasks.start("orderly", orderly)
    tasks.start("stubborn", stubborn)
    await asyncio.sleep(1)
    with pytest.raises(TasksLeft, match="stubborn of plane did not end within 10 s") as caught:
        await tasks.stop(10)
    assert caught.value.facts["tasks"] == ["stubborn"]
    assert ended == ["orderly"]
    assert asyncio.get_running_loop().time() <= 11
    assert {s.name: s.state for s in tasks.snapshot()} == {"orderly": "ended", "stubborn": "stuck"}
    release.set()
    await asyncio.sleep(0.1)


async def test_cancelling_whoever_stops_is_not_swallowed_and_still_cancels_all() -> None:
    ended: list[str] = []

    def slow(name: str) -> object:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(3)
                ended.append(name)

        return run

    tasks = supervisor()
    for name in ("a", "b"):
        tasks.start(name, slow(name))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    stop = asyncio.ensure_future(tasks.stop(100))
    await asyncio.sleep(1)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    await asyncio.sleep(4)
    assert sorted(ended) == ["a", "b"]


async def test_a_cancellation_nobody_asked_for_is_a_failure() -> None:
    """Goal: a service whose awaited future is cancelled by somebody else must not end in silence."""
    lives = 0

    async def awaits_a_cancelled_future() -> None:
        nonlocal lives
        lives += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with supervisor() as tasks:
        tasks.start("stray", awaits_a_cancelled_future, Restart(first_delay_s=1, max_restarts=None))
        await asyncio.sleep(30)
        assert lives > 3


async def test_a_stopped_supervisor_refuses_new_work() -> None:
    tasks = supervisor()
    await tasks.stop()
    with pytest.raises(Stopping):
        tasks.start("late", forever)
    with pytest.raises(Stopping):
        tasks.spawn("late", forever())


async def test_a_name_may_be_used_again_after_its_end_only() -> None:
    async with supervisor() as tasks:
        tasks.start("one", forever)
        with pytest.raises(ValueError, match="already runs a task named 'one'"):
            tasks.start("one", forever)
        await tasks.end("one")
        await tasks.end("never there")
        tasks.start("one", forever)


async def test_a_spawned_units_error_is_its_callers() -> None:
    async def fail() -> None:
        raise KeyError("x")

    async with supervisor() as tasks:
        with pytest.raises(KeyError):
            await tasks.spawn("unit", fail())
        lasting = tasks.spawn("lasting", forever())
    assert lasting.cancelled()


async def test_an_error_is_logged_once_with_its_task(caplog: pytest.LogCaptureFixture) -> None:
    async def crash() -> None:
        raise ValueError("once only")

    with pytest.raises(TaskFailed):  # noqa: PT012 - leaving the context is what raises
        async with supervisor() as tasks:
            tasks.start("crash", crash)
            await tasks.wait()
    assert len([r for r in caplog.records if "task_failed" in r.getMessage()]) == 1


def test_a_threads_error_reaches_whoever_closes_it_once() -> None:
    def fail() -> None:
        raise OSError("full")

    thread = OwnedThread("failing", fail, lambda: None).start()
    with pytest.raises(OSError, match="full"):
        thread.close()
    thread.close()
    assert not thread.alive


def test_a_thread_that_will_not_end_is_named() -> None:
    release = threading.Event()
    thread = OwnedThread("stubborn", release.wait, lambda: None).start()  # type: ignore[arg-type]
    with pytest.raises(TasksLeft, match="stubborn"):
        thread.close(timeout_s=0.01)
    release.set()
    thread.close()


def test_a_thread_takes_over_the_current_clock() -> None:
    seen: list[object] = []
    clock = ManualClock()
    with using_clock(clock):
        thread = OwnedThread("context", lambda: seen.append(current_now()), lambda: None)
    thread.start().close()
    assert seen == [clock.now()]


def test_a_thread_never_started_closes() -> None:
    OwnedThread("idle", lambda: None, lambda: None).close()


class Mute(Exception):
    """An error of foreign code that fails to tell its own text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_an_error_that_cannot_tell_its_text_is_a_failure_like_any_other() -> None:
    async def run() -> None:
        raise Mute

    async with supervisor() as tasks:
        tasks.start("mute", run)
        with pytest.raises(TaskFailed):
            await tasks.wait()
        (task,) = tasks.snapshot()
        assert (task.state, task.last_error) == ("failed", "Mute: (it can't tell its text)")


async def test_an_error_that_carries_a_whole_body_is_told_shortly() -> None:
    async def run() -> None:
        raise ValueError("x" * 10_000_000)

    async with supervisor() as tasks:
        tasks.start("garbage", run)
        with pytest.raises(TaskFailed) as caught:
            await tasks.wait()
        assert len(caught.value.detail) < 3000


async def test_an_end_of_the_program_asked_for_in_a_task_is_its_failure_too() -> None:
    """What comes out of a task without being caught must not leave it looking alive."""

    class Quit(BaseException):
        pass

    async def run() -> None:
        raise Quit("now")

    async with supervisor() as tasks:
        tasks.start("quits", run)
        with pytest.raises(TaskFailed, match="Quit: now"):
            await tasks.wait()
        assert tasks.snapshot()[0].state == "failed"


def test_a_task_started_without_a_loop_leaves_nothing_half_started() -> None:
    tasks = supervisor()
    with pytest.raises(RuntimeError, match="event loop"):
        tasks.start("early", forever)
    assert tasks.snapshot() == []
