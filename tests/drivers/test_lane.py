"""A lane: blocking work beside the loop, one piece at a time, with nothing left behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from steersman.drivers.api import SourceError
from steersman.drivers.lane import Lane
from steersman.kernel.tasks import TasksLeft


async def test_work_is_done_in_a_named_thread_and_its_answer_comes_back() -> None:
    lane = Lane("test-lane", "a place")
    assert await lane.run(lambda: threading.current_thread().name, 5) == "test-lane"
    await lane.close()
    assert "test-lane" not in {thread.name for thread in threading.enumerate()}


async def test_an_error_of_the_work_passes_as_it_is() -> None:
    def work() -> None:
        raise TimeoutError("the work's own")

    lane = Lane("test-lane", "a place")
    with pytest.raises(TimeoutError, match="own"):
        await lane.run(work, 5)
    await lane.close()


async def test_what_hangs_is_refused_in_time_and_later_calls_wait_for_it() -> None:
    ended = threading.Event()
    lane = Lane("test-lane", "the disk")
    with pytest.raises(SourceError, match="the disk gave no answer"):
        await lane.run(ended.wait, 0.02)
    with pytest.raises(SourceError, match="still hangs"):
        await lane.run(lambda: 1, 0.02)
    asyncio.get_running_loop().call_later(0.02, ended.set)
    assert await lane.run(lambda: 2, 5) == 2
    await lane.close()


async def test_a_cancelled_caller_leaves_the_lane_usable() -> None:
    ended = threading.Event()
    lane = Lane("test-lane", "a place")
    caller = asyncio.create_task(lane.run(ended.wait, 5))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert lane.busy
    ended.set()
    assert await lane.run(lambda: 3, 5) == 3
    await lane.close()


async def test_closing_names_a_piece_that_hangs_and_does_not_wait_for_ever() -> None:
    ended = threading.Event()
    lane = Lane("stuck-lane", "a place")
    with pytest.raises(SourceError):
        await lane.run(ended.wait, 0.01)
    with pytest.raises(TasksLeft, match="stuck-lane"):
        await lane.close(0.02)
    ended.set()


async def test_a_closed_lane_refuses_and_closing_again_does_nothing() -> None:
    lane = Lane("test-lane", "a place")
    await lane.run(lambda: 1, 5)
    await lane.close()
    await lane.close()
    with pytest.raises(SourceError, match="closed"):
        await lane.run(lambda: 1, 5)
