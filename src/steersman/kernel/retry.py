"""Trying again, with bounds.

`Backoff` says how long to wait after the nth failure; `retry` repeats a call by it. Both take time and
chance from outside, so a run on virtual time repeats to the millisecond. What may be retried is the
caller's knowledge: the exceptions to retry are named, everything else (and every cancellation) passes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng

T = TypeVar("T")

ATTEMPTS_MAX = 1000
"""No call is repeated more often than this, whatever was asked for."""


class Backoff(Struct, frozen=True):
    """Waits that grow: `first_s * factor^(n-1)`, never over `max_s`, less a random share up to `jitter`.

    Jitter only ever shortens a wait, so `max_s` holds; 0 means exact waits, 1 means anything from 0 up.
    """

    first_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    jitter: float = 0.3

    def __post_init__(self) -> None:
        if self.first_s < 0 or self.factor < 1 or self.max_s < self.first_s or not 0 <= self.jitter <= 1:
            raise ValueError(
                f"need first_s >= 0, factor >= 1, max_s >= first_s and 0 <= jitter <= 1, not {self}"
            )

    def ceiling_s(self, attempt: int) -> float:
        """The wait after failure number `attempt` (from 1) before jitter."""
        try:
            return min(self.max_s, self.first_s * self.factor ** max(0, attempt - 1))
        except OverflowError:
            return self.max_s

    def delay_s(self, attempt: int, rng: Rng) -> float:
        """The wait after failure number `attempt` (from 1)."""
        ceiling_s = self.ceiling_s(attempt)
        return ceiling_s - ceiling_s * self.jitter * rng.random()


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    clock: Clock,
    rng: Rng,
    backoff: Backoff | None = None,
    attempts: int = 3,
    deadline_s: float | None = None,
    on: type[Exception] | tuple[type[Exception], ...],
) -> T:
    """Answer of the first `call` that succeeds, of at most `attempts`.

    Only exceptions of `on` are retried. No wait is begun that would end after `deadline_s` (counted from
    now); then, and when the attempts are used up, the last error is raised as it is. A running call is not
    cut short: give it a time-out of its own.
    """
    backoff = backoff or Backoff()
    attempts = min(attempts, ATTEMPTS_MAX)
    began_s = clock.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except on:
            if attempt >= attempts:
                raise
            delay_s = backoff.delay_s(attempt, rng)
            if deadline_s is not None and clock.monotonic() - began_s + delay_s > deadline_s:
                raise
        await clock.sleep(delay_s)
