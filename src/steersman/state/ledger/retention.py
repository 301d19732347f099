"""What the Ledger forgets: events that everybody has read, and recommendations that are long over.

History rows are never deleted. Kept answers need no sweep: they hang on leases (`idempotency`). An event goes
when it is old and every reader has passed it. In the same commit it is noted how far events are gone
(`state.tail`), so that a reader that comes back from before is told that it has missed some.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct

from steersman.kernel.bounds import within
from steersman.kernel.clock import Clock
from steersman.kernel.errors import Refused
from steersman.kernel.logging import get_logger
from steersman.kinds.command import Actor, Terms
from steersman.kinds.lifecycle import StateClass
from steersman.kinds.policy import RECOMMENDATION_LIFECYCLE
from steersman.kinds.state import ResourceRef
from steersman.state.ledger import keys, rows
from steersman.state.ledger.commit import delete_events
from steersman.state.ledger.ledger import Ledger
from steersman.state.ledger.reading import Selection
from steersman.state.ledger.rows import RecordDamaged
from steersman.store.api import Record, Store, StoreClosed, StoreUnavailable

STEP_S = 600.0
"""Time between two sweeps."""
BATCH = 500
"""Records of one page, and events of one commit."""
KEEPER = Actor("retention", ("engine",))
OVER = tuple(
    state.name for state in RECOMMENDATION_LIFECYCLE.states if state.state_class is StateClass.TERMINAL
)

_log = get_logger("ledger.retention")


class KeepLedger(Struct, frozen=True):
    """Events are kept for `events_s` at least, recommendations that are over for `recommendations_s`."""

    events_s: float = 7 * 86_400.0
    recommendations_s: float = 30 * 86_400.0

    def __post_init__(self) -> None:
        within("events_s", self.events_s, 0.0, 3650 * 86_400.0)
        within("recommendations_s", self.recommendations_s, 0.0, 3650 * 86_400.0)


class Swept(Struct, frozen=True):
    """What a sweep deleted."""

    events: int = 0
    recommendations: int = 0


class LedgerRetention:
    """Sweeps. `passed` says up to which store revision every reader of events has read; give `run` to a
    supervisor."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        clock: Clock,
        *,
        passed: Callable[[], int],
        keep: KeepLedger | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._passed = passed
        self._keep = keep or KeepLedger()

    async def run(self) -> None:
        """Sweep, sleep, until cancelled. A store that can't be written now is tried again later."""
        while True:
            try:
                await self.step()
            except StoreClosed:
                return
            except StoreUnavailable as error:
                _log.warning("sweep_failed", error=error.detail, retry_in_s=STEP_S)
            await self._clock.sleep(STEP_S)

    async def step(self) -> Swept:
        """Sweep once."""
        now = self._clock.now()
        events = await self._sweep_events(now - timedelta(seconds=self._keep.events_s))
        over = await self._sweep_recommendations(now - timedelta(seconds=self._keep.recommendations_s))
        return Swept(events=events, recommendations=over)

    async def _sweep_events(self, before: datetime) -> int:
        passed = self._passed()
        after: str | None = None
        gone = 0
        while True:
            page = await self._store.list(keys.OUTBOX, limit=BATCH, after=after)
            old = [record for record in page.records if record.revision <= passed and _is_old(record, before)]
            if old:
                await delete_events(self._store, old)
                gone += len(old)
            after = page.after
            if after is None:
                return gone

    async def _sweep_recommendations(self, before: datetime) -> int:
        after: str | None = None
        gone = 0
        while True:
            page = await self._ledger.list(
                "Recommendation", limit=BATCH, after=after, selection=Selection(status=OVER)
            )
            for state in page.items:
                if state.status_since >= before:
                    continue
                terms = Terms(reason="over, and older than is kept", expected_version=state.version)
                try:
                    await self._ledger.delete(ResourceRef("Recommendation", state.id), KEEPER, terms)
                except Refused as refusal:
                    _log.info("recommendation_kept", id=state.id, why=refusal.detail)
                else:
                    gone += 1
            after = page.after
            if after is None:
                return gone


def _is_old(record: Record, before: datetime) -> bool:
    """A damaged event tells nobody anything: it goes as soon as it was passed."""
    try:
        return rows.decode_event(record).time < before
    except RecordDamaged:
        return True
