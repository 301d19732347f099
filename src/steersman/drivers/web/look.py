"""One look at a system that speaks JSON over HTTP: the time it has left, and answers read item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Raw

from steersman.drivers.api import DriverContext, SourceError
from steersman.drivers.lane import Lane
from steersman.drivers.web.client import Answer

T = TypeVar("T")

INLINE_MAX_BYTES = 64 * 1024
"""A larger answer is read in a thread, so that the event loop stays free."""
ODD_TOLD_MAX = 3
"""Items of an odd shape that are told one by one: thousands would all say the same."""


class Look:
    """Made for one call of `observe`; `lane` is the driver's. `warnings` is what it could not read."""

    def __init__(self, context: DriverContext, timeout_s: float, place: str, lane: Lane) -> None:
        self._monotonic = context.clock.monotonic
        self._until_s = self._monotonic() + timeout_s
        self._place = place
        self._lane = lane
        self.warnings: list[str] = []

    def left_s(self) -> float:
        """Seconds that are left. Raises `SourceError` where there are none."""
        left_s = self._until_s - self._monotonic()
        if left_s <= 0:
            raise SourceError(f"{self._place}: one look did not end in the source's time-out")
        return left_s

    async def read(self, answer: Answer, shape: type[T]) -> T:
        """The whole answer. Raises `SourceError` where it is no JSON of that shape."""
        if len(answer.body) <= INLINE_MAX_BYTES and not self._lane.busy:
            return answer.json(shape)
        return await self._lane.run(lambda: answer.json(shape), self.left_s())

    async def items(self, raw: Sequence[Raw], shape: type[T], what: str) -> list[T]:
        """Each item by itself, so that one of another shape costs only itself, and a warning."""
        size = sum(memoryview(item).nbytes for item in raw)
        if size <= INLINE_MAX_BYTES and not self._lane.busy:
            return read_items(raw, shape, self.warnings, what)
        warnings: list[str] = []
        items = await self._lane.run(lambda: read_items(raw, shape, warnings, what), self.left_s())
        self.warnings += warnings
        return items


def read_items(items: Sequence[Raw], shape: type[T], warnings: list[str], what: str) -> list[T]:
    """Each item by itself; those of another shape are left out with a warning."""
    read: list[T] = []
    odd = 0
    for item in items:
        try:
            read.append(msgspec.json.decode(item, type=shape))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            odd += 1
            if odd <= ODD_TOLD_MAX:
                where = str(error) if isinstance(error, msgspec.ValidationError) else "not JSON"
                warnings.append(f"{what} of another shape is left out: {where}")
    if odd > ODD_TOLD_MAX:
        warnings.append(f"{odd - ODD_TOLD_MAX} more of another shape are left out ({what})")
    return read
