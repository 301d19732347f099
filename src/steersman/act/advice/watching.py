"""From the picture to findings: only what changed, and what is due, is evaluated.

A tick takes the bus's changes, the changes of Nodes and what has come due, and evaluates each entity once.
Ticks are short and often; nothing waits in a queue of its own: the bus's change log and the evaluator's
timers are the queues, and both coalesce.

Since when something holds is kept in the store as soft state. Over a restart it goes on where it was, without
the time in which nobody looked, and only where that was short: so a `for` may be over later than it would
have been, and never earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice

import msgspec

from steersman.act.advice.api import Evaluator, SavedSince
from steersman.act.advice.book import Book, node_key
from steersman.act.advice.recommending import Recommending
from steersman.kernel.clock import Clock
from steersman.kernel.logging import get_logger
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Finding, Seen
from steersman.kinds.entity import CanonicalEntity, EntityKey, EntityType
from steersman.kinds.policy import Policy
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.state.bus import StateBus
from steersman.state.feed import EntityFilter, Subscription
from steersman.store.api import Put, Store

TICK_S = 0.25
DELTAS_MAX = 20
"""Deltas of the bus that one tick takes; the next one takes the rest."""
LOOK_MAX = 500
"""Entities evaluated between two moments in which others may run."""
WAITING_MAX = 200
"""Meanings that could not be recommended yet and are looked at again in one tick."""
WAITING_GAP_S = 5.0
SAVE_GAP_S = 15.0
RESUME_MAX_S = 120.0
"""Over a restart that took longer, every `for` begins anew: nobody knows what was in between."""
SINCE_KEY = "soft/advice/since"
PRUNE_GAP_S = 600.0

_log = get_logger("act.advice.watching")
_decode = msgspec.msgpack.Decoder(SavedSince).decode
_encode = msgspec.msgpack.Encoder().encode


class Watching:
    """Looks at what changed. `evaluator` is asked for at each tick: loading policies makes a new one."""

    def __init__(
        self,
        bus: StateBus,
        book: Book,
        store: Store,
        clock: Clock,
        recommending: Recommending,
        evaluator: Callable[[], Evaluator],
        policies: Mapping[str, Policy],
    ) -> None:
        self._bus = bus
        self._book = book
        self._store = store
        self._clock = clock
        self._recommending = recommending
        self._evaluator = evaluator
        self._policies = policies
        self._subscription: Subscription | None = None
        self._types: frozenset[EntityType] = frozenset()
        self._dirty: dict[EntityKey, None] = {}
        self._began = (clock.now(), clock.monotonic())
        self._waited_s = self._saved_s = self._pruned_s = clock.monotonic()
        self.labels: dict[EntityKey, Mapping[str, str]] = {}
        """Labels of each entity that policies look at: the failure domains."""
        self.placed: Callable[[EntityKey], None] = _nobody
        """Told of each entity that came, went or has other labels; whoever counts them sets it."""
        self.looked = 0
        """Entities evaluated since the start."""
        book.on_change(self._node_changed)

    def seen(self, key: EntityKey) -> Seen | None:
        """An entity as it is now; None where nobody knows it."""
        entity = self._bus.get(key.entity_type, key.entity_id, key.scope)
        if entity is None:
            return None
        return Seen(
            entity,
            self._bus.explain(key.entity_type, key.entity_id, key.scope),
            self._book.node(key.scope, key.entity_id) if key.entity_type is EntityType.NODE else None,
        )

    def look_at_all(self) -> None:
        """Look at everything again: other policies, or a lost place in the changes."""
        types = frozenset(policy.match.entity_type for policy in self._policies.values())
        if self._subscription is not None:
            self._subscription.close()
        self._types = types
        self._subscription = self._bus.subscribe(EntityFilter(types=types)) if types else None
        for key in [key for key in self.labels if key.entity_type not in types]:
            del self.labels[key]
            self.placed(key)
        for entity_type in sorted(types):
            for entity in self._bus.entities(entity_type):
                self._mark(entity)

    async def pause(self) -> None:
        """Until the next tick."""
        await self._clock.sleep(TICK_S)

    def close(self) -> None:
        """Give up the place in the bus's changes."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    async def tick(self) -> int:
        """Take what changed and what is due, and make the findings last; how many entities were looked at.

        Raises `StoreUnavailable`: what was found then is found again.
        """
        self._take_changes()
        evaluator = self._evaluator()
        now_s = self._clock.monotonic()
        for key in evaluator.due(self._steady()):
            self._dirty[key] = None
        if now_s - self._waited_s >= WAITING_GAP_S:
            self._waited_s = now_s
            for key in self._recommending.next_waiting(WAITING_MAX):
                self._dirty[key] = None
        count = 0
        while self._dirty:
            keys = list(islice(self._dirty, LOOK_MAX))
            for key in keys:
                del self._dirty[key]  # before the look: what changes while it is written is looked at again
            try:
                await self._look(evaluator, keys)
            except BaseException:
                self._dirty.update(dict.fromkeys(keys))  # what can't be written is looked at again
                raise
            count += len(keys)
            await self._clock.sleep(0)
        self.looked += count
        if now_s - self._pruned_s >= PRUNE_GAP_S:
            self._pruned_s = now_s
            await self._recommending.prune()
        if now_s - self._saved_s >= SAVE_GAP_S:
            await self.save()
        return count

    async def save(self) -> None:
        """Keep since when what holds. Raises the store's errors."""
        self._saved_s = self._clock.monotonic()
        saved = SavedSince(self._clock.now(), dict(self._evaluator().save(self._steady())))
        await self._store.commit([], [Put(SINCE_KEY, _encode(saved))])

    async def restore(self) -> bool:
        """Go on from what was kept; whether there was something that can be gone on from."""
        record = await self._store.get(SINCE_KEY)
        if record is None:
            return False
        try:
            saved = _decode(record.value)
        except msgspec.MsgspecError as error:
            _log.warning("since_times_left_out", detail=str(error))
            return False
        now = self._clock.now()
        # A wall clock that was set back shows as no time at all: then nothing is known of it.
        if not timedelta() <= now - saved.saved_at <= timedelta(seconds=RESUME_MAX_S):
            return False
        try:
            self._evaluator().restore(saved.data, self._steady())
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("since_times_left_out", detail=str(error))
            return False
        return True

    def _steady(self) -> datetime:
        """The time by which a `for` is measured: a wall clock that is set neither shortens nor stretches
        it."""
        wall, monotonic = self._began
        return wall + timedelta(seconds=self._clock.monotonic() - monotonic)

    def _take_changes(self) -> None:
        if self._subscription is None:
            return
        for _ in range(DELTAS_MAX):
            delta = self._subscription.poll()
            if delta is None:
                return
            if delta.resync:
                self.look_at_all()
                return
            for entity in delta.entities:
                self._mark(entity)

    def _mark(self, entity: CanonicalEntity) -> None:
        key = entity.key
        self._dirty[key] = None
        before = self.labels.get(key)
        if entity.deleted_at is None:
            self.labels[key] = entity.labels
        elif before is not None:
            del self.labels[key]
        if before != self.labels.get(key):
            self.placed(key)

    async def _look(self, evaluator: Evaluator, keys: Iterable[EntityKey]) -> None:
        present: list[Seen] = []
        findings: list[Finding] = []
        for key in keys:
            seen = self.seen(key)
            if seen is not None:
                present.append(seen)
                continue
            evaluator.forget(key)
            findings += [
                Finding(policy=policy.name, key=key, truth=Truth.FALSE, why=f"{key} is gone")
                for policy in self._policies.values()
                if policy.match.entity_type is key.entity_type
            ]
        findings += evaluator.look(present, self._steady())
        await self._recommending.take(findings)

    def _node_changed(self, ref: ResourceRef, state: ResourceState | None) -> None:
        if EntityType.NODE in self._types and isinstance(state, NodeState):
            key = node_key(state)
            if key in self.labels:
                self._dirty[key] = None


def _nobody(key: EntityKey) -> None:
    """Nobody counts."""
