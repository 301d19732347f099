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
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.plane_resources import FREEZE_ID, FROZEN, FreezeState, PolicyState, RecommendationState
from steersman.kinds.policy import RecommendationStatus
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.state.ledger.keys import RESOURCES, ref_of, resources_prefix
from steersman.state.ledger.reading import read_state
from steersman.store.api import (
    Compacted,
    Event,
    FutureRevision,
    Record,
    Store,
    StoreClosed,
    StoreUnavailable,
)

OPEN = frozenset(
    {RecommendationStatus.PROPOSED, RecommendationStatus.APPROVED, RecommendationStatus.APPLYING}
)
"""Where a recommendation is not yet at an end."""
_ACTS = frozenset[str | None](
    {RecommendationStatus.APPLYING, RecommendationStatus.APPLIED, RecommendationStatus.FAILED}
)
KINDS = ("Freeze", "Node", "Policy", "Recommendation")
PAGE_RECORDS = 500
RETRY_S = 1.0
"""So long after the store could not be read it is asked again."""

_log = get_logger("act.advice.book")


class Frozen(Struct, frozen=True):
    """Since when acting is frozen, by whom and why."""

    since: datetime
    by: str
    reason: str


Told = Callable[[ResourceRef, ResourceState | None], None]
Counted = Callable[[EntityKey | None, RecommendationState | None], None]


class Book:
    """The index. `load` once, then `follow` in a task; `note` takes what the runner itself just wrote."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._states: dict[ResourceRef, ResourceState] = {}
        self._meanings: dict[str, dict[str, RecommendationState]] = defaultdict(dict)  # meaning: by id
        self._newest: dict[str, RecommendationState] = {}  # meaning: the one made last
        self._open_meanings: dict[str, dict[str, RecommendationState]] = defaultdict(dict)
        self._open: dict[str, set[str]] = defaultdict(set)  # policy: ids
        self._applying: dict[EntityKey, dict[str, RecommendationState]] = {}
        self._ended: dict[str, dict[str, RecommendationState]] = defaultdict(dict)  # policy: as they ended
        self._runs: dict[str, int] = {}  # policy: how many failed in a row; counted where it is not in here
        self._nodes: dict[EntityKey, NodeState] = {}
        self._policies: dict[str, PolicyState] = {}
        self._told: list[Told] = []
        self._counted: list[Counted] = []
        self._lost = False  # whether the store has gone back to before what is known here
        self.revision = 0
        """The store's revision up to which it has read everything."""

    def on_change(self, told: Told) -> None:
        """Also tell this one of each change that came in: the reference, and the state or None where it is
        gone."""
        self._told.append(told)

    def on_count(self, counted: Counted) -> None:
        """Also tell this one where something changed that guardrails count: an entity whose Node came, went,
        or has another status, intent, table or labels; an entity and the recommendation that began or ended
        acting on it; or neither, where all is to be counted anew."""
        self._counted.append(counted)

    async def load(self) -> None:
        """Read all. Raises the store's errors; a damaged record is logged and left out."""
        seen: set[ResourceRef] = set()
        revision: int | None = None
        for kind in KINDS:
            after: str | None = None
            records: list[Record] = []
            while True:
                page = await self._store.list(resources_prefix(kind), PAGE_RECORDS, after, revision)
                revision = page.revision
                records += page.records
                after = page.after
                await self._clock.sleep(0)
                if after is None:
                    break
            # In the order in which they were written: the wall clock, which may have been set, does not say
            # which recommendation ended last.
            for record in sorted(records, key=lambda record: record.revision):
                seen.add(ref_of(record.key))
                self._take(record, newest=self._lost)
        for ref in [ref for ref in self._states if ref not in seen]:
            self._drop(ref)
        self._lost = False
        self._runs.clear()
        self.revision = revision or 0

    async def follow(self) -> None:
        """Keep up with the store until cancelled, or the store is closed. Where its history is gone, or it
        was put back to an older state, all is read again; while it can't be read it is asked again, and
        nothing of what happened meanwhile is left out."""
        behind = False
        while True:
            try:
                if behind:
                    await self.load()
                    behind = False
                async with self._store.watch(RESOURCES, self.revision) as events:
                    async for event in events:
                        self._see(event)
                return
            except StoreClosed:
                return
            except Compacted:
                behind = True
            except FutureRevision:
                behind = self._lost = True
            except StoreUnavailable as error:
                _log.warning("watch_interrupted", error=error.detail, retry_in_s=RETRY_S)
                await self._clock.sleep(RETRY_S)

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
        for meaning in list(self._meanings.values()):
            yield from list(meaning.values())

    def open_of(self, dedup_key: str) -> RecommendationState | None:
        """The open one that means this; the newest, should there be two."""
        return max(self._open_meanings.get(dedup_key, {}).values(), key=_made, default=None)

    def last_of(self, dedup_key: str) -> RecommendationState | None:
        """The newest that means this, open or not."""
        return self._newest.get(dedup_key)

    def open_count(self, policy: str) -> int:
        """How many of this policy are open."""
        return len(self._open.get(policy, ()))

    def open_ones(self, policy: str) -> list[RecommendationState]:
        """Those of this policy that are open, oldest first."""
        found = [self.recommendation(name) for name in self._open.get(policy, ())]
        return sorted((state for state in found if state is not None), key=_made)

    def applying_on(self, key: EntityKey) -> list[RecommendationState]:
        """Those of all policies whose action on this entity is under way."""
        return list(self._applying.get(key, {}).values())

    def is_applying(self, key: EntityKey) -> bool:
        """Whether an action on this entity is under way, of any policy."""
        return key in self._applying

    def ended(self, policy: str) -> list[RecommendationState]:
        """Those of this policy that are at an end, the one that ended last at the end."""
        return list(self._ended.get(policy, {}).values())

    def policy(self, name: str) -> PolicyState | None:
        """A policy's resource."""
        return self._policies.get(name)

    def policies(self) -> list[PolicyState]:
        """All policies' resources, by name."""
        return sorted(self._policies.values(), key=lambda state: state.id)

    def node(self, scope: str, name: str) -> NodeState | None:
        """The Node that an observed node is."""
        return self._nodes.get(EntityKey(EntityType.NODE, scope, name))

    def nodes(self) -> Mapping[EntityKey, NodeState]:
        """All Nodes by the entity that each is; not to be changed."""
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
        run = self._runs.get(policy)
        if run is None:
            run = 0
            for ended in reversed(self._ended.get(policy, {}).values()):
                if self._was_forgiven(policy, ended) or ended.status == RecommendationStatus.APPLIED:
                    break
                run += ended.status == RecommendationStatus.FAILED
            self._runs[policy] = run
        return run

    # ---- inside

    def _see(self, event: Event) -> None:
        if event.record is not None:
            self._take(event.record)
        else:
            self._drop(ref_of(event.key))
        self.revision = event.revision - 1  # the rest of its commit may still come

    def _take(self, record: Record, *, newest: bool = False) -> None:
        """A record of the store. `newest`: also where it is older than what is known, for the store itself
        is."""
        ref = ref_of(record.key)
        if ref.kind not in KINDS:
            return
        try:
            state = read_state(record)
        except SteersmanError as error:
            _log.warning("resource_left_out", resource=str(ref), code=error.code, detail=error.detail)
            return
        held = self._states.get(ref)
        if held is None or newest or held.version <= state.version:
            self._put(ref, state)

    def _put(self, ref: ResourceRef, state: ResourceState) -> None:
        before = self._states.get(ref)
        self._states[ref] = state
        if isinstance(state, RecommendationState) and state.recommendation is not None:
            self._index(state)
            was = before.status if before is not None else None
            if was != state.status and not _ACTS.isdisjoint({was, state.status}):
                self._count(key_of(state), state)
        elif isinstance(state, NodeState):
            self._put_node(before, state)
        elif isinstance(state, PolicyState):
            self._policies[state.id] = state
            if before is None:
                self._runs.pop(state.id, None)
            elif before.status != state.status:
                self._runs[state.id] = 0
        self._tell(ref, state)

    def _put_node(self, before: ResourceState | None, state: NodeState) -> None:
        key = node_key(state)
        self._nodes[key] = state
        if not isinstance(before, NodeState):
            self._count(key)
            return
        if (old := node_key(before)) != key:
            self._nodes.pop(old, None)
            self._count(old)
        elif _counts_as(before) == _counts_as(state):
            return
        self._count(key)

    def _drop(self, ref: ResourceRef) -> None:
        state = self._states.pop(ref, None)
        if state is None:
            return
        if isinstance(state, RecommendationState):
            self._forget_recommendation(state)
        elif isinstance(state, NodeState):
            key = node_key(state)
            if self._nodes.get(key) is state:
                del self._nodes[key]
            self._count(key)
        elif isinstance(state, PolicyState):
            self._policies.pop(state.id, None)
            self._runs.pop(state.id, None)
        self._tell(ref, None)

    def _index(self, state: RecommendationState) -> None:
        value = state.recommendation
        if value is None:
            return
        meaning, key = value.dedup_key, key_of(state)
        self._meanings[meaning][state.id] = state
        newest = self._newest.get(meaning)
        if newest is None or _made(newest) <= _made(state):
            self._newest[meaning] = state
        if state.status == RecommendationStatus.APPLYING:
            self._applying.setdefault(key, {})[state.id] = state
        else:
            self._end_applying(key, state.id)
        if state.status in OPEN:
            self._open_meanings[meaning][state.id] = state
            self._open[value.policy].add(state.id)
            if self._ended[value.policy].pop(state.id, None) is not None:
                self._runs.pop(value.policy, None)
            return
        self._open_meanings[meaning].pop(state.id, None)
        self._open[value.policy].discard(state.id)
        ended = self._ended[value.policy]
        if state.id not in ended and value.policy in self._runs:
            if state.status == RecommendationStatus.APPLIED:
                self._runs[value.policy] = 0
            elif state.status == RecommendationStatus.FAILED and not self._was_forgiven(value.policy, state):
                self._runs[value.policy] += 1
        ended[state.id] = state

    def _forget_recommendation(self, state: RecommendationState) -> None:
        value = state.recommendation
        if value is None:
            return
        meaning, key = value.dedup_key, key_of(state)
        same = self._meanings[meaning]
        same.pop(state.id, None)
        self._open_meanings[meaning].pop(state.id, None)
        if not same:
            del self._meanings[meaning]
            self._newest.pop(meaning, None)
            self._open_meanings.pop(meaning, None)
        elif self._newest[meaning].id == state.id:
            self._newest[meaning] = max(same.values(), key=_made)
        self._open[value.policy].discard(state.id)
        self._end_applying(key, state.id)
        if self._ended[value.policy].pop(state.id, None) is not None:
            self._runs.pop(value.policy, None)
        if state.status in _ACTS:
            self._count(None)

    def _end_applying(self, key: EntityKey, name: str) -> None:
        here = self._applying.get(key)
        if here is not None:
            here.pop(name, None)
            if not here:
                del self._applying[key]

    def _was_forgiven(self, policy: str, ended: RecommendationState) -> bool:
        """Whether a person has set the policy's mode since. A time that is still to come was of a clock that
        has been set back: nothing is known by it, and the circuit stays open."""
        state = self._policies.get(policy)
        return state is not None and ended.status_since < state.status_since <= self._clock.now()

    def _tell(self, ref: ResourceRef, state: ResourceState | None) -> None:
        for told in self._told:
            told(ref, state)

    def _count(self, key: EntityKey | None, acting: RecommendationState | None = None) -> None:
        for counted in self._counted:
            counted(key, acting)


def key_of(state: RecommendationState) -> EntityKey:
    """The entity that a recommendation is about. Its text alone would not tell a scope from an id with a
    slash in it; the resource's label `scope` does."""
    value = state.recommendation
    if value is None:
        raise ValueError(f"{state.id} holds no recommendation")
    scope = state.labels.get("scope", "")
    prefix = f"{value.entity_type.value}/{scope}/" if scope else f"{value.entity_type.value}/"
    return EntityKey(value.entity_type, scope, value.entity.removeprefix(prefix))


def node_key(state: NodeState) -> EntityKey:
    """The observed node that a Node is."""
    return EntityKey(EntityType.NODE, state.scope, observed_id(state))


def _counts_as(state: NodeState) -> tuple[object, ...]:
    """What guardrails count a Node by; its conditions, which change often, are none of it."""
    return (state.status, state.desired_status, state.lifecycle_table, state.labels)


def _made(state: RecommendationState) -> tuple[datetime, str]:
    return (state.created_at, state.id)
