"""What wakes a store when its next lease ends.

Every operation of a store first ends the leases whose time is over, so no answer depends on this alarm. It
is there for the quiet hours: without it a lease that ends while nobody calls would keep its keys, and
watchers would hear of it late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from steersman.kernel.clock import Clock
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import Stopping, Supervisor
from steersman.store.api import StoreClosed, StoreUnavailable
from steersman.store.rules import US_PER_S

RETRY_S = 1.0
"""How soon an expiry that could not be written (a full disk) is tried again."""

_log = get_logger("store.leases")


class LeaseAlarm:
    """Calls `expire` when the time set has come. `age_us` tells the store's own time (decision 0009)."""

    def __init__(
        self,
        clock: Clock,
        tasks: Supervisor,
        age_us: Callable[[], int],
        expire: Callable[[], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._age_us = age_us
        self._expire = expire
        self._due_us: int | None = None
        self._set = asyncio.Event()
        self._sleep: asyncio.Task[None] | None = None
        self._sleep_until_us = 0

    @property
    def due_us(self) -> int | None:
        """When it will ring, in the store's time; None while nothing is set."""
        return self._due_us

    def set(self, due_us: int | None) -> None:
        """Ring at `due_us`; None for never. A later time than before costs nothing now."""
        self._due_us = due_us
        if due_us is None:
            return
        self._set.set()
        if self._sleep is not None and due_us < self._sleep_until_us:
            self._sleep.cancel()

    async def run(self) -> None:
        """Wait and ring until the store closes: the body of a supervised task."""
        try:
            while True:
                due_us = self._due_us
                if due_us is None:
                    self._set.clear()
                    await self._set.wait()
                elif (wait_us := due_us - self._age_us()) > 0:
                    await self._sleep_us(wait_us, due_us)
                else:
                    await self._ring()
        except (Stopping, StoreClosed):
            pass  # the store is closing, and has told the sleep before us

    async def _ring(self) -> None:
        try:
            await self._expire()
        except StoreClosed:
            raise
        except StoreUnavailable as error:
            _log.warning("lease_expiry_failed", error=error.detail, retry_in_s=RETRY_S)
            await self._clock.sleep(RETRY_S)

    async def _sleep_us(self, wait_us: int, until_us: int) -> None:
        """Sleep, or until `set` names an earlier time."""
        self._sleep_until_us = until_us
        self._sleep = self._tasks.spawn("lease-sleep", self._clock.sleep(wait_us / US_PER_S))
        try:
            await asyncio.wait({self._sleep})
        finally:
            self._sleep.cancel()
            self._sleep = None
