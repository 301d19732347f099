"""What was begun at this site is looked after here, whosever the resource is.

A resource that is deleted has no turn any more, and one whose shard went to another replica has none here.
What was begun for them at this site goes on all the same, and only this site can end it, or say how it ended.
So this runs beside the turns: at the start (what an earlier life left), at each deletion, and now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from steersman.kernel.clock import Clock
from steersman.kernel.logging import get_logger
from steersman.kernel.redact import error_text
from steersman.kernel.tasks import Supervisor

TEND_S = 30.0
"""How often it is looked at although nobody was heard to be deleted."""

_log = get_logger("act.tending")


@runtime_checkable
class Tender(Protocol):
    """A manager that begins what may outlive its resource's turns here."""

    async def tend(self) -> int:
        """End what is over, hand over what is awaited elsewhere; how much it was. Twice does no harm."""
        ...


class Tending:
    """Calls the tenders. `run` is a task of the loop's."""

    def __init__(self, tenders: Iterable[Tender], clock: Clock) -> None:
        self._tenders = list(tenders)
        self._clock = clock
        self._wanted = False
        self._sleep: asyncio.Task[None] | None = None

    def want(self) -> None:
        """A resource was deleted: look soon."""
        self._wanted = True
        if self._sleep is not None:
            self._sleep.cancel()

    async def run(self, tasks: Supervisor) -> None:
        """Look until cancelled; `tasks` owns the sleep between."""
        while self._tenders:
            self._wanted = False
            for tender in self._tenders:
                try:
                    await tender.tend()
                except Exception as error:  # noqa: BLE001 - one that can't is asked again; the others are not held up
                    _log.warning("not_tended", error=error_text(error), retry_in_s=TEND_S)
            if self._wanted:
                continue
            self._sleep = tasks.spawn("tend-wait", self._clock.sleep(TEND_S))
            try:
                await asyncio.wait({self._sleep})
            finally:
                self._sleep.cancel()
                self._sleep = None
