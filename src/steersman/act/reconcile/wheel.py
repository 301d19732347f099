"""One timer for all keys that are to be looked at later.

There are two kinds of later and they are not mixed. A *delay* ("again in 5 s") is monotonic time. A *due
time* ("the window opens at 12:00") is the wall clock's, which people and NTP set: it is compared with what
the wall clock says at the moment, and never turned into a delay that a step of the clock would make wrong. A
step forward makes due what it passes, a step back makes the rest wait; what was handed out is gone, so
nothing fires twice.

Two heaps with lazy deletion. A hashed wheel saves the logarithm (17 comparisons at 100,000 keys, below a
microsecond) and pays for it with a tick, rounding, and a cascade; and with two clocks there would be two
wheels, one of which the clock may push backwards. The heap has none of these, and an idle loop does not tick.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from datetime import datetime

from steersman.kernel.clock import Clock, as_utc
from steersman.kernel.tasks import Supervisor
from steersman.kinds.state import ResourceRef

DELAYED_KEYS_MAX = 1_000_000
"""Keys that may wait for a time at once."""
WALL_LOOK_S = 5.0
"""While a due time is set the wall clock is looked at this often: a step of it is noticed that soon."""
LATE_S = 1.0
"""A key handed out so long after its time counts as late."""
_SLACK = 64
"""Outdated entries kept before a heap is cleared of them."""


class _Heap:
    """Keys by time; one time each, the last one set."""

    def __init__(self) -> None:
        self.times: dict[ResourceRef, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, ResourceRef]] = []
        self._order = itertools.count()

    def set(self, ref: ResourceRef, at: float) -> None:
        known = self.times.get(ref)
        if known is not None and known[0] == at:
            return
        entry = (at, next(self._order))
        self.times[ref] = entry
        heapq.heappush(self._heap, (*entry, ref))
        if len(self._heap) > 2 * len(self.times) + _SLACK:
            self._heap = [(when, order, key) for key, (when, order) in self.times.items()]
            heapq.heapify(self._heap)

    def clear(self, ref: ResourceRef) -> None:
        self.times.pop(ref, None)

    def first(self) -> float:
        """The earliest time; infinite where there is none."""
        while self._heap:
            at, order, ref = self._heap[0]
            if self.times.get(ref) == (at, order):
                return at
            heapq.heappop(self._heap)
        return math.inf

    def pop(self, now: float) -> tuple[ResourceRef, float] | None:
        """A key whose time has come, and when that was."""
        if self.first() > now:
            return None
        at, _, ref = heapq.heappop(self._heap)
        del self.times[ref]
        return ref, at

    def __len__(self) -> int:
        return len(self.times)


class TimerWheel:
    """Keys that wait for a time. A key may have a delay and a due time; each is handed out by itself.

    `set_after` and `set_due` answer False where the bound is reached; the owner then looks at once, which
    is too often and never too late.
    """

    def __init__(self, clock: Clock, *, keys_max: int = DELAYED_KEYS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._delays = _Heap()
        self._dues = _Heap()
        self._changed = asyncio.Event()
        self._sleep: asyncio.Task[None] | None = None
        self._sleep_until_s = math.inf
        self.late = 0
        """Keys handed out more than `LATE_S` after their time, since the start."""

    def set_after(self, ref: ResourceRef, seconds: float) -> bool:
        """Hand the key out in `seconds` of monotonic time, instead of at the delay it had."""
        return self._put(self._delays, ref, self._clock.monotonic() + max(0.0, seconds))

    def set_due(self, ref: ResourceRef, when: datetime) -> bool:
        """Hand the key out when the wall clock says `when` or later, instead of at the due time it had."""
        return self._put(self._dues, ref, as_utc(when).timestamp())

    def clear_after(self, ref: ResourceRef) -> None:
        """Forget the key's delay."""
        self._delays.clear(ref)

    def clear_due(self, ref: ResourceRef) -> None:
        """Forget the key's due time."""
        self._dues.clear(ref)

    def clear(self, ref: ResourceRef) -> None:
        """Forget the key."""
        self._delays.clear(ref)
        self._dues.clear(ref)

    def has(self, ref: ResourceRef) -> bool:
        """Whether the key waits for a time."""
        return ref in self._delays.times or ref in self._dues.times

    def waiting(self) -> set[ResourceRef]:
        """All keys that wait."""
        return {*self._delays.times, *self._dues.times}

    def pop(self) -> ResourceRef | None:
        """A key whose time has come; None where there is none."""
        now_s = self._clock.monotonic()
        found = self._delays.pop(now_s)
        if found is None:
            now_s = self._clock.now().timestamp()
            found = self._dues.pop(now_s)
        if found is None:
            return None
        if now_s - found[1] > LATE_S:
            self.late += 1
        return found[0]

    def wait_s(self) -> float:
        """Seconds until there may be something to hand out, by both clocks; infinite where nothing waits."""
        delay_s = self._delays.first() - self._clock.monotonic()
        due = self._dues.first()
        if due < math.inf:
            delay_s = min(delay_s, due - self._clock.now().timestamp(), WALL_LOOK_S)
        return max(0.0, delay_s)

    async def next(self, tasks: Supervisor) -> ResourceRef:
        """The next key whose time has come; waits for it. `tasks` owns the one sleep."""
        while (ref := self.pop()) is None:
            wait_s = self.wait_s()
            self._changed.clear()
            if wait_s == math.inf:
                await self._changed.wait()
            else:
                await self._sleep_s(tasks, wait_s)
        return ref

    def __len__(self) -> int:
        return len(self._delays) + len(self._dues)

    async def _sleep_s(self, tasks: Supervisor, wait_s: float) -> None:
        """Sleep, or until an earlier time is set."""
        self._sleep_until_s = self._clock.monotonic() + wait_s
        self._sleep = tasks.spawn("timer", self._clock.sleep(wait_s))
        try:
            await asyncio.wait({self._sleep})
        finally:
            self._sleep.cancel()
            self._sleep = None

    def _put(self, heap: _Heap, ref: ResourceRef, at: float) -> bool:
        if ref not in heap.times and len(self) >= self._keys_max:
            return False
        heap.set(ref, at)
        self._changed.set()
        if self._sleep is not None and self._clock.monotonic() + self.wait_s() < self._sleep_until_s:
            self._sleep.cancel()
        return True
