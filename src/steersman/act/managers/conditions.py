"""What is observed of a machine, as conditions of its resource: health, reachable, fresh.

The bus changes many times a minute; a resource's history must not. A condition is written when it has been
different for `DEBOUNCE_S`, and only where its status or its reason differs from what the resource says. Only
the replica that holds the resource's shard writes.

- `health`: true where it is healthy or only warned of, false where degraded or critical, else unknown.
- `reachable`: true while some source hears of it, false where its sources say that it is gone; where they
  have fallen silent nobody can tell, and that is unknown, not false.
- `fresh`: whether what is known of it is current.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct

from steersman.act.managers.sights import NODE, NodeSight, NodeSights, find_node, node_refs, observed_id
from steersman.act.managers.telling import not_before
from steersman.kernel.clock import Clock
from steersman.kernel.errors import SteersmanError
from steersman.kernel.ids import Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.axes import Condition, Truth
from steersman.kinds.command import Actor
from steersman.kinds.entity import HealthState
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.ledger import Ledger
from steersman.store.api import Held

DEBOUNCE_S = 5.0
"""How long something must have been different until it is written."""
LOOK_S = 1.0
"""How often what is about to be written is looked at."""
STRANGER_LOOK_S = 30.0
"""How often a machine without a resource is asked for anew."""
MESSAGE_MAX_CHARS = 500

OBSERVER = Actor("observer", ("monitor",))
"""Who reports them."""

_HEALTH = {
    HealthState.HEALTHY: Truth.TRUE,
    HealthState.WARNING: Truth.TRUE,
    HealthState.DEGRADED: Truth.FALSE,
    HealthState.CRITICAL: Truth.FALSE,
    HealthState.UNKNOWN: Truth.UNKNOWN,
}
Verdict = tuple[str, Truth, str]
"""A condition's type, status and reason: what is compared."""
_Key = tuple[str, str]

_log = get_logger("act.conditions")


def verdicts_of(sight: NodeSight | None) -> tuple[Verdict, ...]:
    """What the sight says of the three conditions."""
    if sight is None:
        return tuple((kind, Truth.UNKNOWN, "NotObserved") for kind in ("health", "reachable", "fresh"))
    expired = sight.freshness == "expired"
    health = Truth.UNKNOWN if sight.gone else _HEALTH[sight.health]
    if sight.gone:
        reachable, why = Truth.FALSE, "Gone"
    elif expired:
        reachable, why = Truth.UNKNOWN, "SourcesSilent"
    else:
        reachable, why = Truth.TRUE, "Heard"
    fresh = Truth.TRUE if sight.freshness == "fresh" and not sight.gone else Truth.FALSE
    return (
        ("health", health, "Gone" if sight.gone else sight.health.value.capitalize()),
        ("reachable", reachable, why),
        ("fresh", fresh, "Gone" if sight.gone else sight.freshness.capitalize()),
    )


class _Pending(Struct):
    verdicts: tuple[Verdict, ...]
    since_s: float


class NodeConditions:
    """Reports the conditions of nodes. Give `run` to a supervisor with restart.

    `held`, `owns` and `hint` are the loop's: the condition for our writes, whether the resource is ours, and
    that something was observed which a guard may wait for.
    """

    def __init__(
        self,
        ledger: Ledger,
        sights: NodeSights,
        *,
        clock: Clock,
        rng: Rng,
        held: Callable[[ResourceRef], Held | None],
        owns: Callable[[ResourceRef], bool],
        hint: Callable[[ResourceRef], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._sights = sights
        self._clock = clock
        self._rng = rng
        self._held = held
        self._owns = owns
        self._hint = hint
        self._told: dict[_Key, tuple[Verdict, ...]] = {}
        self._pending: dict[_Key, _Pending] = {}
        self._strangers: dict[_Key, float] = {}
        self._news = asyncio.Event()

    def expect(self, ref: ResourceRef) -> None:
        """A resource was made: its machine is no stranger any more."""
        if ref.kind == NODE:
            for key in [key for key in self._told if ref in node_refs(*key)]:
                del self._told[key]  # what was told, was told of one that is gone
                self.note(self._sights.look(*key), key)
            for key in [key for key in self._strangers if ref in node_refs(*key)]:
                del self._strangers[key]
                self.note(self._sights.look(*key), key)

    async def run(self) -> None:
        """Report until cancelled."""
        async with Supervisor(self._clock, self._rng, name="node-conditions") as tasks:
            tasks.start("hear", self._hear, ALWAYS)
            tasks.start("tell", self._tell, ALWAYS)
            await tasks.wait()

    def note(self, sight: NodeSight | None, key: _Key | None = None) -> None:
        """A machine was seen, or (with `key`) is not seen any more."""
        if key is None:
            if sight is None:
                return
            key = (sight.id, sight.scope)
        if self._hint is not None:
            for ref in node_refs(*key):
                self._hint(ref)
        verdicts = verdicts_of(sight)
        if self._told.get(key) == verdicts:
            self._pending.pop(key, None)
            return
        again_s = self._strangers.get(key)
        now_s = self._clock.monotonic()
        if again_s is not None and now_s < again_s:
            return
        pending = self._pending.get(key)
        if pending is None or pending.verdicts != verdicts:
            # What was never told is told at once: there is nothing that it could flap between.
            since_s = now_s - DEBOUNCE_S if key not in self._told else now_s
            self._pending[key] = _Pending(verdicts, since_s)
            self._news.set()

    async def step(self) -> int:
        """Write what has been different for long enough; how many resources were written to."""
        now_s = self._clock.monotonic()
        due = [key for key, pending in self._pending.items() if now_s - pending.since_s >= DEBOUNCE_S]
        written = 0
        for key in due:
            pending = self._pending.pop(key)
            try:
                written += await self._report(key, pending.verdicts)
            except SteersmanError as error:
                _log.warning("conditions_not_reported", node=key[0], scope=key[1], error=error.detail)
                self._pending.setdefault(key, _Pending(pending.verdicts, now_s))  # tried again after a wait
        return written

    async def _report(self, key: _Key, verdicts: tuple[Verdict, ...]) -> bool:
        state = await find_node(self._ledger, *key)
        if state is None:
            self._told.pop(key, None)
            self._strangers[key] = self._clock.monotonic() + STRANGER_LOOK_S
            return False
        self._strangers.pop(key, None)
        ref = ResourceRef(NODE, state.id)
        if not self._owns(ref):
            self._told.pop(key, None)  # should it become ours, it is reported anew
            self._strangers[key] = self._clock.monotonic() + STRANGER_LOOK_S
            return False
        if _said(state) != verdicts:
            conditions = self._conditions(key, verdicts, state)
            held = self._held(ref)
            written = await self._ledger.report_conditions(ref, OBSERVER, conditions, held=held)
        else:
            written = None
        self._told[key] = verdicts
        return written is not None

    def _conditions(self, key: _Key, verdicts: tuple[Verdict, ...], state: NodeState) -> Sequence[Condition]:
        sight = self._sights.look(*key)
        message = "; ".join(sight.reasons)[:MESSAGE_MAX_CHARS] if sight is not None else ""
        now = self._clock.now()
        return [
            Condition(
                type=kind,
                status=status,
                source="bus",
                observed_at=not_before(state, kind, now),
                reason=reason,
                message=message if kind == "health" else "",
            )
            for kind, status, reason in verdicts
        ]

    async def _hear(self) -> None:
        changes = self._sights.subscribe()
        try:
            for sight in self._sights.all():
                self.note(sight)
            await self._miss()
            while True:
                for sight in await changes.next():
                    self.note(sight)
        finally:
            changes.close()

    async def _miss(self) -> None:
        """Nodes that nobody has seen since the start: what is said of them may not stand."""
        after: str | None = None
        while True:
            page = await self._ledger.list(NODE, limit=1000, after=after)
            for state in page.items:
                if isinstance(state, NodeState):
                    key = (observed_id(state), state.scope)
                    if self._sights.look(*key) is None and key not in self._pending:
                        # After the debounce only: the sources have just been started.
                        self._pending[key] = _Pending(verdicts_of(None), self._clock.monotonic())
                        self._news.set()
            after = page.after
            if after is None:
                return

    async def _tell(self) -> None:
        while True:
            if not self._pending:
                self._news.clear()
                await self._news.wait()
            await self.step()
            await self._clock.sleep(LOOK_S)


def _said(state: NodeState) -> tuple[Verdict, ...]:
    found = (state.condition(kind) for kind in ("health", "reachable", "fresh"))
    return tuple((one.type, one.status, one.reason) for one in found if one is not None)
