"""Steps of a coroutine are timed, and nothing else about it changes."""

from __future__ import annotations

import asyncio

import pytest

from steersman.kernel.steps import Stepped


async def test_the_longest_step_is_kept() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    # Begin and end of three steps: 1 s, 5 s, 2 s.
    times = iter([0.0, 1.0, 10.0, 15.0, 20.0, 22.0])
    steps = Stepped(work(), measure=lambda: next(times))
    assert await asyncio.create_task(steps) == "done"
    assert steps.longest_step_s == 5.0


async def test_errors_and_cancellation_pass_through() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await asyncio.create_task(Stepped(fail()))
    cleaned: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("up")

    task = asyncio.create_task(Stepped(wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["up"]


async def test_it_may_be_awaited_or_closed_like_any_coroutine() -> None:
    async def work() -> int:
        return 5

    assert await Stepped(work()) == 5
    Stepped(work()).close()
