"""Backoff and retry on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.retry import Backoff, retry


def test_waits_double_up_to_the_cap_and_jitter_only_shortens() -> None:
    backoff = Backoff(first_s=1, factor=2, max_s=10, jitter=0.5)
    rng = seeded_rng(3)
    for attempt, ceiling in enumerate([1, 2, 4, 8, 10, 10], start=1):
        for _ in range(50):
            assert ceiling / 2 <= backoff.delay_s(attempt, rng) <= ceiling


def test_a_huge_attempt_number_is_just_the_cap() -> None:
    assert Backoff(jitter=0).delay_s(10**6, seeded_rng(1)) == 60


@pytest.mark.parametrize("bad", [{"first_s": -1}, {"factor": 0.5}, {"max_s": 0.1}, {"jitter": 2}])
def test_a_backoff_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need first_s"):
        Backoff(**bad)


class Flaky:
    """Fails `failures` times with `error`, then answers."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return "answer"


EXACT = Backoff(first_s=1, factor=2, max_s=60, jitter=0)


@pytest.mark.looptime
async def test_retry_answers_after_failures_and_waits_between() -> None:
    call = Flaky(2, OSError())
    answer = await retry(call, clock=SystemClock(), rng=seeded_rng(1), backoff=EXACT, attempts=3, on=OSError)
    assert answer == "answer"
    assert asyncio.get_running_loop().time() == 3


@pytest.mark.looptime
async def test_the_last_error_is_raised_as_it_is() -> None:
    error = OSError("down")
    call = Flaky(9, error)
    with pytest.raises(OSError, match="down") as caught:
        await retry(call, clock=SystemClock(), rng=seeded_rng(1), backoff=EXACT, attempts=3, on=OSError)
    assert caught.value is error
    assert call.calls == 3


@pytest.mark.looptime
async def test_no_wait_is_begun_that_would_pass_the_deadline() -> None:
    call = Flaky(99, OSError("down"))
    with pytest.raises(OSError, match="down"):
        await retry(
            call,
            clock=SystemClock(),
            rng=seeded_rng(1),
            backoff=EXACT,
            attempts=99,
            deadline_s=10,
            on=OSError,
        )
    assert asyncio.get_running_loop().time() == 7  # 1 + 2 + 4; the next wait of 8 would end at 15


async def test_other_errors_pass_at_once() -> None:
    call = Flaky(9, KeyError())
    with pytest.raises(KeyError):
        await retry(call, clock=SystemClock(), rng=seeded_rng(1), on=OSError)
    assert call.calls == 1
