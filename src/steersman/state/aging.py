"""When to look at an entity again: a wheel of one-second buckets.

An entity is on the wheel once, at a moment no later than the next one at which its freshness can change
without a word from anybody. Being heard only moves that moment back, so a write leaves the wheel alone; when
the bucket comes round, the true moment is worked out and the entity goes there. So the wheel costs a few
looks for each entity a minute, whatever the rate of writes.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

from steersman.state.cell import NEVER, Cell


class Wheel:
    """Cells by the second in which they are due."""

    def __init__(self) -> None:
        self._buckets: dict[int, deque[Cell]] = {}
        self._seconds: list[int] = []  # a heap of the buckets' seconds

    def put(self, cell: Cell, at: float) -> None:
        """Have the cell come up in that monotonic second (rounded up) or before: where it is due earlier
        already it stays there, so that writes do not fill the wheel. NEVER takes it off."""
        if at == NEVER:
            cell.alarm = NEVER
            return
        second = math.ceil(at)
        if second >= cell.alarm:
            return
        cell.alarm = second
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = deque()
            heapq.heappush(self._seconds, second)
        bucket.append(cell)

    def due_at(self) -> float:
        """The first second in which something may be due; infinite where the wheel is empty."""
        return self._seconds[0] if self._seconds else NEVER

    def pop(self, now: float) -> Cell | None:
        """A cell that is due, off the wheel; None where none is."""
        while self._seconds and self._seconds[0] <= now:
            second = self._seconds[0]
            bucket = self._buckets[second]
            while bucket:
                cell = bucket.popleft()
                if cell.alarm == second:  # else it was moved meanwhile
                    cell.alarm = NEVER
                    return cell
            del self._buckets[second]
            heapq.heappop(self._seconds)
        return None
