"""Which resources are to be looked at, and in what order.

A key is in the queue once, however often it is woken. It is worked on by one at a time; woken meanwhile, it
is done again afterwards. Kinds take turns, so that ten thousand of one kind do not make another wait, and
what a person asked for goes first. The queue is bounded in keys; what does not fit is counted and the owner
told (`overflowed`), who then reads all resources again: a loop that is told *that*, never *what*, loses
nothing by it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from steersman.kernel.clock import Clock
from steersman.kinds.state import ResourceRef

QUEUE_KEYS_MAX = 1_000_000
"""Keys that wait at once; about 250 bytes each."""


class WorkQueue:
    """Keys that wait, keys in work, and keys in work that were woken again. One event loop, no locks."""

    def __init__(self, clock: Clock, *, keys_max: int = QUEUE_KEYS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._since: dict[ResourceRef, float] = {}  # waiting → since when (monotonic s)
        self._forced: deque[ResourceRef] = deque()
        self._by_kind: dict[str, deque[ResourceRef]] = {}
        self._turns: deque[str] = deque()  # kinds that have something waiting, the next one first
        self._working: dict[ResourceRef, float] = {}
        self._again: dict[ResourceRef, bool] = {}  # in work and woken; whether by a person
        self._news = asyncio.Event()
        self.overflowed = 0
        """Keys that did not fit since the start."""

    def add(self, ref: ResourceRef, *, forced: bool = False) -> bool:
        """Have the key looked at; `forced` puts it before the others. False where the queue is full."""
        if ref in self._working:
            self._again[ref] = forced or self._again.get(ref, False)
            return True
        if ref in self._since:
            if forced:
                self._forced.append(ref)  # its place among its kind is passed over when it comes up
                self._news.set()
            return True
        if len(self._since) >= self._keys_max:
            self.overflowed += 1
            return False
        self._since[ref] = self._clock.monotonic()
        if forced:
            self._forced.append(ref)
        else:
            self._line(ref.kind).append(ref)
        self._news.set()
        return True

    def take(self) -> ResourceRef | None:
        """The next key, which is in work from now on until `done`; None where none waits."""
        while self._forced:
            ref = self._forced.popleft()
            if ref in self._since:
                return self._start(ref)
        while self._turns:
            kind = self._turns.popleft()
            line = self._by_kind[kind]
            found: ResourceRef | None = None
            while line and found is None:
                ref = line.popleft()
                found = ref if ref in self._since else None
            if line:
                self._turns.append(kind)
            else:
                del self._by_kind[kind]
            if found is not None:
                return self._start(found)
        self._news.clear()
        return None

    async def next(self) -> ResourceRef:
        """The next key; waits for one."""
        while (ref := self.take()) is None:
            await self._news.wait()
        return ref

    def done(self, ref: ResourceRef) -> bool:
        """The work on the key has ended. Whether it was woken meanwhile and waits again."""
        self._working.pop(ref, None)
        forced = self._again.pop(ref, None)
        if forced is None:
            return False
        self.add(ref, forced=forced)
        return True

    def drop(self, unwanted: Callable[[ResourceRef], bool]) -> int:
        """Forget waiting keys (those of a shard that was lost); how many. Keys in work are not touched, but
        will not be done again."""
        gone = [ref for ref in self._since if unwanted(ref)]
        for ref in gone:
            del self._since[ref]  # its place in line is passed over when it comes up
        for ref in [ref for ref in self._again if unwanted(ref)]:
            del self._again[ref]
        return len(gone)

    def waits(self, ref: ResourceRef) -> bool:
        """Whether the key will be looked at: it waits, or is in work and was woken."""
        return ref in self._since or ref in self._again

    def works(self, ref: ResourceRef) -> bool:
        """Whether the key is in work."""
        return ref in self._working

    def working(self) -> list[ResourceRef]:
        """Keys in work."""
        return list(self._working)

    def __len__(self) -> int:
        """Keys that wait."""
        return len(self._since)

    def oldest_wait_s(self) -> float:
        """How long the key that waits longest has waited."""
        first = next(iter(self._since.values()), None)  # in order of arrival
        return 0.0 if first is None else max(0.0, self._clock.monotonic() - first)

    def _line(self, kind: str) -> deque[ResourceRef]:
        line = self._by_kind.get(kind)
        if line is None:
            line = self._by_kind[kind] = deque()
            self._turns.append(kind)
        return line

    def _start(self, ref: ResourceRef) -> ResourceRef:
        del self._since[ref]
        self._working[ref] = self._clock.monotonic()
        return ref
