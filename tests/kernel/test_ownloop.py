"""A loop of its own: what blocks in it blocks nobody else. Threads live in real time, so do these tests."""

from __future__ import annotations

import asyncio
import threading

import pytest

from steersman.kernel.ownloop import LoopBusy, OwnedLoop
from steersman.kernel.tasks import TasksLeft, stuck_threads


async def test_a_piece_runs_in_another_thread_and_loop() -> None:
    there = OwnedLoop("there")

    async def where() -> tuple[str, bool]:
        await asyncio.sleep(0)
        return threading.current_thread().name, asyncio.get_running_loop() is here

    here = asyncio.get_running_loop()
    assert await there.run(where) == ("there", False)
    assert await there.run(where) == ("there", False)
    await there.aclose()
    await there.aclose()
    assert not [thread for thread in threading.enumerate() if thread.name == "there"]


async def test_errors_pass_as_they_are() -> None:
    there = OwnedLoop("there")

    async def fail() -> None:
        raise KeyError("x")

    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(KeyError):
        await there.run(fail)
    piece = asyncio.ensure_future(there.run(cancel_itself))
    await asyncio.wait({piece})
    assert piece.cancelled()
    assert not there.busy
    await there.aclose()


async def test_cancelling_the_caller_cancels_the_piece() -> None:
    there = OwnedLoop("there")
    began, cleaned = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    piece = asyncio.ensure_future(there.run(wait))
    assert await asyncio.to_thread(began.wait, 10)
    piece.cancel()
    with pytest.raises(asyncio.CancelledError):
        await piece
    assert await asyncio.to_thread(cleaned.wait, 10)
    await there.aclose()


async def test_a_piece_cancelled_before_it_began_leaves_the_loop_free() -> None:
    there = OwnedLoop("there")

    async def never() -> None:
        await asyncio.Event().wait()

    for _ in range(20):
        piece = asyncio.ensure_future(there.run(never))
        while not there.busy:
            await asyncio.sleep(0)
        piece.cancel()
        await asyncio.wait({piece})
        while there.busy:
            await asyncio.sleep(0.001)
    await there.aclose()


async def test_a_blocking_piece_frees_its_caller_and_is_not_piled_upon() -> None:
    there = OwnedLoop("there")
    began, release = threading.Event(), threading.Event()

    async def block() -> None:
        began.set()
        release.wait()

    piece = asyncio.ensure_future(there.run(block))
    assert await asyncio.to_thread(began.wait, 10)
    piece.cancel()
    with pytest.raises(asyncio.CancelledError):
        await piece
    assert there.busy
    with pytest.raises(LoopBusy, match="there has not ended an earlier piece"):
        await there.run(block)
    with pytest.raises(TasksLeft):
        await there.aclose(timeout_s=0.01)
    assert stuck_threads() == ["there"]
    release.set()
    while stuck_threads():
        await asyncio.sleep(0.001)


async def test_two_that_begin_at_once_share_the_loop_and_one_beside_refuses_none() -> None:
    own = OwnedLoop("both")

    async def here() -> int:
        return threading.get_ident()

    async def wait() -> None:
        await asyncio.Event().wait()

    waiting = asyncio.ensure_future(own.run(wait))
    beside = [asyncio.ensure_future(own.run(here, beside=True)) for _ in range(3)]
    try:
        assert len({await one for one in beside}) == 1
        assert own.busy
        with pytest.raises(LoopBusy):
            await own.run(here)
        waiting.cancel()
        await asyncio.wait({waiting})
    finally:
        await own.aclose()
    assert await own.run(here), "it may be used again"
    await own.aclose()
