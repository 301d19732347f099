"""Foreign drivers in an event loop of their own.

The drivers of this package keep blocking work in lanes. A driver of somebody else may not, and one
`time.sleep` in it would stop everything: other sources, the API, the checkpoint. So it gets a loop and a
thread, at the price of a context switch an observation; if it blocks, it blocks itself.
"""

from __future__ import annotations

from steersman.drivers.api import Driver, Observation, SourceError
from steersman.kernel.ownloop import LoopBusy, OwnedLoop


class Isolated:
    """A driver over there; its methods may be called over here like any driver's."""

    def __init__(self, driver: Driver, source: str) -> None:
        self._driver = driver
        self._loop = OwnedLoop(f"source-{source}")

    async def observe(self) -> Observation:
        """Observe over there. Raises `SourceError` also where an earlier observation still blocks."""
        try:
            return await self._loop.run(self._driver.observe)
        except LoopBusy:
            raise SourceError(
                "the driver blocks: an earlier observation has not ended; not asked again until it has"
            ) from None

    async def close(self) -> None:
        """Close the driver over there, then loop and thread. Raises `TasksLeft` where it blocks."""
        try:
            await self._loop.run(self._driver.close)
        except LoopBusy:
            pass  # what blocks can't be closed; the thread's end says so
        finally:
            await self._loop.aclose()
