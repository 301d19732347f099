"""A tap: what passes the inlet, held for a recorder that takes it away.

The inlet never waits for a recorder. A tap holds so many fragments; what comes on top is counted and left
out, and the recording has a `Dropped` entry where they would have been.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from steersman.kernel.clock import Clock
from steersman.kinds.settings import RECORD_QUEUE_MAX
from steersman.observe.entries import Dropped, Entry, weight
from steersman.observe.inlet import Inlet
from steersman.observe.recformat import FRAME_FRAGMENTS_MAX


class Tap:
    """One listener's queue. Open it with `with`; belongs to the loop's thread."""

    def __init__(self, inlet: Inlet, clock: Clock, *, queue_max: int = RECORD_QUEUE_MAX) -> None:
        self.dropped = 0
        self._inlet = inlet
        self._clock = clock
        self._queue_max = queue_max
        self._queue: deque[Entry] = deque()
        self._held = 0
        self._gap: Dropped | None = None
        self._wake = asyncio.Event()
        self._end = _nothing

    def __enter__(self) -> Tap:
        self._end = self._inlet.listen(self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more; what is held can still be taken. Repeating it does nothing."""
        end, self._end = self._end, _nothing
        end()
        self._wake.set()

    @property
    def open(self) -> bool:
        """Whether it listens."""
        return self._end is not _nothing

    @property
    def waiting(self) -> int:
        """Fragments that wait to be taken."""
        return self._held

    async def take(self) -> list[Entry]:
        """The next entries, as many as make a good frame; waits for the first. Empty once it is closed and
        everything was taken."""
        while not self._queue and self._gap is None and self.open:
            self._wake.clear()
            await self._wake.wait()
        return self.take_now()

    def take_now(self) -> list[Entry]:
        """What is held now, as many entries as make a good frame; perhaps none."""
        taken: list[Entry] = []
        fragments = 0
        while self._queue and fragments < FRAME_FRAGMENTS_MAX:
            entry = self._queue.popleft()
            size = weight(entry)
            self._held -= size
            fragments += size
            taken.append(entry)
        if not self._queue and self._gap is not None:
            taken.append(self._gap)
            self._gap = None
        return taken

    def _hear(self, entry: Entry) -> None:
        size = weight(entry)
        # Behind a gap everything waits for the queue to empty, or the gap would be in the wrong place.
        if self._gap is not None or self._held + size > self._queue_max:
            self.dropped += size
            before = self._gap.count if self._gap is not None else 0
            self._gap = Dropped(entry.at, entry.elapsed_s, before + size)
        else:
            self._queue.append(entry)
            self._held += size
        self._wake.set()


def _nothing() -> None:
    return None
