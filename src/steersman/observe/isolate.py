"""Foreign drivers in an event loop of their own.

The drivers of this package keep blocking work in lanes. A driver of somebody else may not, and one
`time.sleep` in it would stop everything: other sources, the API, the checkpoint. So it gets a loop and a
thread, at the price of a context switch an observation; if it blocks, it blocks itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steersman.drivers.api import ActingDriver, Driver, Observation, SourceError
from steersman.kernel.ownloop import LoopBusy, OwnedLoop
from steersman.kinds.step import KeptAttempt, StepCall, StepHandler, StepResult


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

    def operations(self) -> Mapping[str, StepHandler]:
        """What the driver can do, each done over there, beside its observations."""
        if not isinstance(self._driver, ActingDriver):
            return {}
        return {name: _Isolated(handler, self._loop) for name, handler in self._driver.operations().items()}

    async def close(self) -> None:
        """Close the driver over there, then loop and thread. Raises `TasksLeft` where it blocks."""
        try:
            await self._loop.run(self._driver.close)
        except LoopBusy:
            pass  # what blocks can't be closed; the thread's end says so
        finally:
            await self._loop.aclose()


class _Isolated:
    """A step handler over there."""

    def __init__(self, handler: StepHandler, loop: OwnedLoop) -> None:
        self._handler = handler
        self._loop = loop

    async def site(self) -> str:
        return await self._loop.run(self._handler.site, beside=True)

    def check(self, inputs: dict[str, Any]) -> None:
        self._handler.check(inputs)

    async def run(self, call: StepCall) -> StepResult:
        return await self._loop.run(lambda: self._handler.run(call), beside=True)

    async def observe(self, call: StepCall) -> StepResult | None:
        return await self._loop.run(lambda: self._handler.observe(call), beside=True)

    async def cancel(self, call: StepCall) -> None:
        await self._loop.run(lambda: self._handler.cancel(call), beside=True)

    async def settle(self, call: StepCall) -> None:
        await self._loop.run(lambda: self._handler.settle(call), beside=True)

    async def kept(self) -> Sequence[KeptAttempt]:
        return await self._loop.run(self._handler.kept, beside=True)
