"""What the runner knows of its own resources without asking the store each time: an index that is never
trusted.

It follows the store's records of recommendations, policies, nodes and the freeze switch, and answers which
recommendation of a meaning is open, which was the last, how many failed in a row, and who is in service.
Every decision that matters is made again by the Ledger in its commit; what is old in here only costs a
refusal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from steersman.act.managers.sights import observed_id
from steersman.kernel.clock import Clock
from steersman.kernel.errors import SteersmanError
from steersman.kernel.logging import get_logger
from steersman.kinds.plane_resources import FREEZE_ID, FROZEN, FreezeState, PolicyState, RecommendationState
from steersman.kinds.policy import RecommendationStatus
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.state.ledger.keys import RESOURCES, ref_of, resources_prefix
from steersman.state.ledger.reading import read_state
from steersman.store.api import Compacted, Event, Record, Store

OPEN = frozenset(
    {RecommendationStatus.PROPOSED, RecommendationStatus.APPROVED, RecommendationStatus.APPLYING}
)
"""Where a recommendation is not yet at an end."""
_ACTS = frozenset[str | None](
    {RecommendationStatus.APPLYING, RecommendationStatus.APPLIED, RecommendationStatus.FAILED}
)
KINDS = ("Freeze", "Node", "Policy", "Recommendation")
PAGE_RECORDS = 500

_log = get_logger("act.advice.book")


class Frozen(Struct, frozen=True):
    """Since when acting is frozen, by whom and why."""

    since: datetime
    by: str
    reason: str


class Book:
    """The index. `load` once, then `follow` in a task; `note` takes what the runner itself just wrote.

    `told` is called with each change that came in: the reference, and the state or None where it is gone.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._states: dict[ResourceRef, ResourceState] = {}
        self._by_meaning: dict[str, dict[str, RecommendationState]] = defaultdict(dict)
        self._open: dict[str, set[str]] = defaultdict(set)  # policy: ids
        self._applying: dict[str, RecommendationState] = {}
        self._ended: dict[str, dict[str, RecommendationState]] = defaultdict(dict)  # policy: those at an end
        self._nodes: dict[tuple[str, str], NodeState] = {}
        self._told: list[Callable[[ResourceRef, ResourceState | None], None]] = []
        self.changes = 0
        """Grows with each change of a node or a policy, and where a recommendation begins or ends acting."""
        self.revision = 0
        """The store's revision up to which it has read."""

    def on_change(self, told: Callable[[ResourceRef, ResourceState | None], None]) -> None:
        """Also tell this one."""
        self._told.append(told)

    async def load(self) -> None:
        """Read all. Raises the store's errors; a damaged record is logged and left out."""
        seen: set[ResourceRef] = set()
        revision: int | None = None
        for kind in KINDS:
            after: str | None = None
            while True:
                page = await self._store.list(resources_prefix(kind), PAGE_RECORDS, after, revision)
                revision = page.revision
                for record in page.records:
                    seen.add(ref_of(record.key))
                    self._take(record)
                after = page.after
                await self._clock.sleep(0)
                if after is None:
                    break
        for ref in [ref for ref in self._states if ref not in seen]:
            self._drop(ref)
        self.revision = revision or 0

    async def follow(self) -> None:
        """Keep up with the store until cancelled; where its history is gone, read all again."""
        while True:
            try:
                async with self._store.watch(RESOURCES, self.revision) as events:
                    async for event in events:
                        self._see(event)
            except Compacted:
                await self.load()
            else:
                return  # the store was closed

    def note(self, state: ResourceState) -> None:
        """Take in what was just written, or read; an older version than the one held is left."""
        ref = ResourceRef(state.resource_type, state.id)
        held = self._states.get(ref)
        if held is None or held.version <= state.version:
            self._put(ref, state)

    def forget(self, ref: ResourceRef) -> None:
        """Take in that a resource was just deleted."""
        self._drop(ref)

    # ---- reading

    def find(self, ref: ResourceRef) -> ResourceState | None:
        """The resource as last seen."""
        return self._states.get(ref)

    def recommendation(self, name: str) -> RecommendationState | None:
        """A recommendation by id."""
        state = self._states.get(ResourceRef("Recommendation", name))
        return state if isinstance(state, RecommendationState) else None

    def recommendations(self) -> Iterator[RecommendationState]:
        """All of them, in no order."""
        for meaning in list(self._by_meaning.values()):
            yield from list(meaning.values())

    def open_of(self, dedup_key: str) -> RecommendationState | None:
        """The open one that means this; the newest, should there be two."""
        found = [s for s in self._by_meaning.get(dedup_key, {}).values() if s.status in OPEN]
        return max(found, key=_made, default=None)

    def last_of(self, dedup_key: str) -> RecommendationState | None:
        """The newest that means this, open or not."""
        return max(self._by_meaning.get(dedup_key, {}).values(), key=_made, default=None)

    def open_count(self, policy: str) -> int:
        """How many of this policy are open."""
        return len(self._open.get(policy, ()))

    def open_ones(self, policy: str) -> list[RecommendationState]:
        """Those of this policy that are open, oldest first."""
        found = [self.recommendation(name) for name in self._open.get(policy, ())]
        return sorted((state for state in found if state is not None), key=_made)

    def applying(self) -> list[RecommendationState]:
        """Those of all policies whose action is under way."""
        return list(self._applying.values())

    def ended(self, policy: str) -> list[RecommendationState]:
        """Those of this policy that are at an end, the one that ended last at the end."""
        return sorted(self._ended.get(policy, {}).values(), key=lambda s: (s.status_since, s.id))

    def policy(self, name: str) -> PolicyState | None:
        """A policy's resource."""
        state = self._states.get(ResourceRef("Policy", name))
        return state if isinstance(state, PolicyState) else None

    def policies(self) -> list[PolicyState]:
        """All policies' resources, by name."""
        found = [state for state in self._states.values() if isinstance(state, PolicyState)]
        return sorted(found, key=lambda state: state.id)

    def node(self, scope: str, name: str) -> NodeState | None:
        """The Node that an observed node is."""
        return self._nodes.get((scope, name))

    def nodes(self) -> Mapping[tuple[str, str], NodeState]:
        """All Nodes by scope and id; not to be changed."""
        return self._nodes

    def frozen(self) -> Frozen | None:
        """Whether acting is frozen, as last seen."""
        state = self._states.get(ResourceRef("Freeze", FREEZE_ID))
        if not isinstance(state, FreezeState) or state.status != FROZEN:
            return None
        last = state.state_history[-1] if state.state_history else None
        return Frozen(
            state.status_since,
            last.triggered_by if last is not None else "",
            (last.reason if last is not None else "") or "",
        )

    def failures_in_a_row(self, policy: str) -> int:
        """How many recommendations of this policy failed since one was applied, or since a person last set
        its mode: both close the circuit."""
        state = self.policy(policy)
        since = state.status_since if state is not None else None
        count = 0
        for ended in reversed(self.ended(policy)):
            if since is not None and ended.status_since < since:
                break
            if ended.status == RecommendationStatus.APPLIED:
                break
            count += ended.status == RecommendationStatus.FAILED
        return count

    # ---- inside

    def _see(self, event: Event) -> None:
        self.revision = event.revision
        if event.record is not None:
            self._take(event.record)
        else:
            self._drop(ref_of(event.key))

    def _take(self, record: Record) -> None:
        ref = ref_of(record.key)
        if ref.kind not in KINDS:
            return
        try:
            state = read_state(record)
        except SteersmanError as error:
            _log.warning("resource_left_out", resource=str(ref), code=error.code, detail=error.detail)
            return
        held = self._states.get(ref)
        if held is None or held.version <= state.version:
            self._put(ref, state)

    def _put(self, ref: ResourceRef, state: ResourceState) -> None:
        before = self._states.get(ref)
        self._states[ref] = state
        if isinstance(state, RecommendationState):
            self.changes += _counts(before, state)
            self._index(state)
        elif isinstance(state, NodeState):
            self.changes += 1
            self._nodes[state.scope, observed_id(state)] = state
        elif isinstance(state, PolicyState):
            self.changes += 1
        self._tell(ref, state)

    def _drop(self, ref: ResourceRef) -> None:
        state = self._states.pop(ref, None)
        self.changes += 1
        if isinstance(state, RecommendationState) and state.recommendation is not None:
            meaning, policy = state.recommendation.dedup_key, state.recommendation.policy
            self._by_meaning[meaning].pop(state.id, None)
            if not self._by_meaning[meaning]:
                del self._by_meaning[meaning]
            self._open[policy].discard(state.id)
            self._applying.pop(state.id, None)
            self._ended[policy].pop(state.id, None)
        elif isinstance(state, NodeState):
            self._nodes.pop((state.scope, observed_id(state)), None)
        if state is not None:
            self._tell(ref, None)

    def _index(self, state: RecommendationState) -> None:
        value = state.recommendation
        if value is None:
            return
        self._by_meaning[value.dedup_key][state.id] = state
        if state.status == RecommendationStatus.APPLYING:
            self._applying[state.id] = state
        else:
            self._applying.pop(state.id, None)
        if state.status in OPEN:
            self._open[value.policy].add(state.id)
            self._ended[value.policy].pop(state.id, None)
        else:
            self._open[value.policy].discard(state.id)
            self._ended[value.policy][state.id] = state

    def _tell(self, ref: ResourceRef, state: ResourceState | None) -> None:
        for told in self._told:
            told(ref, state)


def _counts(before: ResourceState | None, state: RecommendationState) -> bool:
    """Whether it began to act, or ended acting: what budgets and the circuit breaker count."""
    was = before.status if before is not None else None
    return was != state.status and not _ACTS.isdisjoint({was, state.status})


def _made(state: RecommendationState) -> tuple[datetime, str]:
    return (state.created_at, state.id)
