"""What policies would have recommended: a picture that is played again, on a store and a clock of its own.

Whoever plays calls `step` after each entry. It is the very code that runs live, on a Ledger in memory, so the
same entries and the same policies give the same recommendations, to the byte. Nothing is approved or carried
out: a run is about what would have been said, and two runs are compared by that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from steersman.act.advice.acting import expires_at
from steersman.act.advice.api import Rules
from steersman.act.advice.book import OPEN
from steersman.act.advice.policies import LOADER
from steersman.act.advice.runner import Advice
from steersman.kernel.clock import ManualClock
from steersman.kinds.command import TIMER, Terms
from steersman.kinds.deciding import PolicyProblem
from steersman.kinds.entity import EntityType
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.bus import StateBus
from steersman.state.ledger import Ledger
from steersman.store.api import Store

NODE_TABLE, NODE_STATUS = "hpc-default", "in_service"
"""What a machine of the recording is taken for."""

_encode = msgspec.json.Encoder(order="deterministic").encode


class Said(Struct, frozen=True, kw_only=True):
    """A recommendation of a run: what matters when two runs are compared."""

    policy: str
    entity: str
    action: str
    at: datetime
    until: datetime | None
    ended: str
    reason: str


class Difference(Struct, frozen=True):
    """What two runs said of the same recording: by policy, entity and action. `later_s` is by how much the
    second said it later (earlier where it is negative)."""

    both: tuple[tuple[Said, Said, float], ...]
    only_first: tuple[Said, ...]
    only_second: tuple[Said, ...]


class Rerun:
    """One run. `bus` is on `clock`, and empty; `store` is empty too; `texts` are the policies by file
    name."""

    def __init__(
        self,
        bus: StateBus,
        clock: ManualClock,
        store: Store,
        ledger: Ledger,
        rules: Rules,
        texts: Mapping[str, str],
        lifecycle_of: Callable[[str], Lifecycle],
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._ledger = ledger
        self._looked_at = 0
        self._advice = Advice(store, ledger, bus, clock, rules, lifecycle_of=lifecycle_of, shipped=texts)

    async def open(self) -> tuple[PolicyProblem, ...]:
        """Load the policies; what is wrong with them."""
        await self._advice.open()
        self._advice.watching.look_at_all()
        return self._advice.policies.problems

    async def step(self) -> None:
        """Look at the picture as it is now. A machine that was not seen before counts as a node in service:
        a recording has the picture, not the inventory."""
        self._bus.flush()
        await self._enrol()
        await self._advice.tick()
        now = self._clock.now()
        for state in self._made():
            if state.status in OPEN and now >= expires_at(state):
                terms = Terms(reason="nobody acted on it in time", expected_version=state.version)
                ref = ResourceRef("Recommendation", state.id)
                written = await self._ledger.transition(ref, TIMER, event="expire", terms=terms)
                self._advice.book.note(written.state)

    async def _enrol(self) -> None:
        if len(self._bus) == self._looked_at:
            return
        self._looked_at = len(self._bus)
        for entity in self._bus.entities(EntityType.NODE):
            if self._advice.book.node(entity.scope, entity.entity_id) is None:
                node = NodeState(
                    id=f"{entity.entity_id}@{entity.scope}" if entity.scope else entity.entity_id,
                    scope=entity.scope,
                    labels=dict(entity.labels),
                    lifecycle_table=NODE_TABLE,
                    status=NODE_STATUS,
                    created_at=self._clock.now(),
                )
                self._advice.book.note((await self._ledger.create(node, LOADER)).state)

    def close(self) -> None:
        """Give up its place in the bus's changes."""
        self._advice.watching.close()

    def lines(self) -> list[bytes]:
        """Every recommendation with how it ended, a JSON object each, keys sorted, in order of time and
        id."""
        return [
            _encode({"recommendation": s.recommendation, "status": s.status, "since": s.status_since}) + b"\n"
            for s in self._made()
        ]

    def said(self) -> list[Said]:
        """The same in short."""
        return [said for state in self._made() if (said := _said(state)) is not None]

    def _made(self) -> list[RecommendationState]:
        return sorted(self._advice.book.recommendations(), key=lambda s: (s.created_at, s.id))


def compare(first: Sequence[Said], second: Sequence[Said]) -> Difference:
    """Hold two runs side by side: the n-th time that a policy says the same of an entity is one and the
    same."""
    mine, theirs = _numbered(first), _numbered(second)
    both = tuple(
        (said, theirs[key], (theirs[key].at - said.at).total_seconds())
        for key, said in mine.items()
        if key in theirs
    )
    return Difference(
        both,
        tuple(said for key, said in mine.items() if key not in theirs),
        tuple(said for key, said in theirs.items() if key not in mine),
    )


def _numbered(run: Sequence[Said]) -> dict[tuple[str, str, str, int], Said]:
    counts: dict[tuple[str, str, str], int] = {}
    found: dict[tuple[str, str, str, int], Said] = {}
    for said in run:
        name = (said.policy, said.entity, said.action)
        counts[name] = counts.get(name, 0) + 1
        found[*name, counts[name]] = said
    return found


def _said(state: RecommendationState) -> Said | None:
    value = state.recommendation
    if value is None:
        return None
    ended = state.status not in OPEN
    last = state.state_history[-1] if state.state_history else None
    return Said(
        policy=value.policy,
        entity=value.entity,
        action=value.action.name,
        at=value.created_at,
        until=state.status_since if ended else None,
        ended=(last.reason or "") if ended and last is not None else "",
        reason=value.reason,
    )
