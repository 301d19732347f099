"""How much history a store keeps: for a time, and at most so many revisions.

History is there for watchers that come back and for paging. Nobody needs all of it, and it would grow for
ever; the app runs one `Retention` a store.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from steersman.kernel.bounds import within
from steersman.kernel.clock import Clock
from steersman.kernel.logging import get_logger
from steersman.store.api import Store, StoreClosed, StoreUnavailable

STEPS_PER_PERIOD = 10
"""Compaction is looked at this often within `keep_s`; history is kept that much longer at most."""

STEP_MIN_S = 1.0
STEP_MAX_S = 300.0

_log = get_logger("store.retention")


class KeepHistory(Struct, frozen=True):
    """History younger than `keep_s` is kept, but never more than `keep_revisions` of it."""

    keep_s: float = 3600.0
    keep_revisions: int = 1_000_000

    def __post_init__(self) -> None:
        within("keep_s", self.keep_s, 1.0, 365 * 86_400.0)
        within("keep_revisions", self.keep_revisions, 1, 1_000_000_000)


class Retention:
    """Compacts a store as `keep` says. Give `run` to a supervisor."""

    def __init__(self, store: Store, keep: KeepHistory, *, clock: Clock) -> None:
        self._store = store
        self._keep = keep
        self._clock = clock
        # (when, the revision then): a revision here is at least that old. One each step, so it is bounded.
        self._seen: deque[tuple[float, int]] = deque()

    @property
    def step_s(self) -> float:
        """Seconds between two looks."""
        return min(max(self._keep.keep_s / STEPS_PER_PERIOD, STEP_MIN_S), STEP_MAX_S)

    async def run(self) -> None:
        """Look, compact, sleep, until cancelled. A store that can't be written now is tried again later."""
        while True:
            try:
                await self.step()
            except StoreClosed:
                return
            except StoreUnavailable as error:
                _log.warning("compaction_failed", error=error.detail, retry_in_s=self.step_s)
            await self._clock.sleep(self.step_s)

    async def step(self) -> int:
        """Look once; the revision before which history may be gone now (0 where all is kept)."""
        now_s = self._clock.monotonic()
        revision = await self._store.revision()
        self._seen.append((now_s, revision))
        before = max(0, revision - self._keep.keep_revisions)
        while len(self._seen) > 1 and now_s - self._seen[1][0] >= self._keep.keep_s:
            self._seen.popleft()
        old_s, old = self._seen[0]
        if now_s - old_s >= self._keep.keep_s:
            before = max(before, old)
        if before > 0:
            await self._store.compact(before)
        return before
