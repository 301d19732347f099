"""What may be asked of the Ledger, and what it answers: the nouns of every durable change.

Each request names the resource, who asks, and why. All of them are checked in one order: idempotency key →
fence → expected version → edge, guards and requirements → budgets; then state, history row and event are
written in one commit. A request that is refused changes nothing, and says what would have been allowed
(`kinds.refusal`).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from steersman.kernel.clock import as_utc
from steersman.kinds.policy import FactRead
from steersman.kinds.state import ResourceRef, ResourceState

REASON_MAX_CHARS = 2048
NAME_MAX_CHARS = 256
IDEMPOTENCY_KEY_MAX_CHARS = 255
EVIDENCE_MAX = 32
DRAWS_MAX = 16


class Actor(Struct, frozen=True):
    """Who asks: a name that history keeps, and the classes of initiator that a lifecycle's `by` lists.

    Names say what kind of actor it is: `user:alice`, `policy:node-pressure`, `engine:pipeline`, `timer`,
    `loop`, `callback:temporal`. Classes in use: operator, admin, policy, engine, timer, monitor, importer.
    """

    name: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    roles: tuple[str, ...] = ()


LOOP = Actor("loop", ("engine",))
"""The reconcile loop, walking a resource to where it is meant to be."""
TIMER = Actor("timer", ("timer",))
"""A deadline that passed."""


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that backs a change: a test's result, a ticket, a step's outcome. `kind` is what a
    transition's `require.evidence` names."""

    kind: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    ref: Annotated[str, Meta(max_length=2048)] = ""
    detail: Annotated[str, Meta(max_length=4096)] = ""
    observed_at: datetime | None = None
    data: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.observed_at is not None:
            force_setattr(self, "observed_at", as_utc(self.observed_at))


class Draw(Struct, frozen=True, kw_only=True):
    """A place in a budget that a change must get, in its own commit, or it is refused.

    `budget` names the account, `holder` who takes the place (one holder never takes two). With `window_s` the
    place is given back when that time has passed since the draw (a rate: blast radius, cooldown); without it,
    when the resource comes to a schedulable or terminal state, or is deleted (a stock: nodes under firmware
    update). `limit` is how many places there are now.
    """

    budget: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    holder: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    limit: Annotated[int, Meta(ge=0)]
    window_s: Annotated[float, Meta(gt=0)] | None = None


class Terms(Struct, frozen=True, kw_only=True):
    """What every request may carry besides what it asks for.

    - `expected_version`: the resource's version that the asker saw; another one refuses.
    - `fence`: the epoch that the asker was granted; any other than the resource's own refuses.
    - `idempotency_key`: the same key and body give the same answer, also after a restart.
    - `on_behalf_of`: whose intent the asker carries out; history names them as the actor, and the asker as
      who carried it out.
    - `cause`: what led to this: a recommendation's id, a parent's history entry.
    - `operation`: the id of the operation that it belongs to.
    - `facts`: what was read to decide it. `evidence`: what backs it. `approvals`: who agreed.
    - `acting`: True for what the plane does by itself; a freeze refuses it.
    - `dry_run`: judge and answer, write nothing.
    """

    reason: Annotated[str, Meta(max_length=REASON_MAX_CHARS)] = ""
    expected_version: Annotated[int, Meta(ge=0)] | None = None
    fence: Annotated[int, Meta(ge=0)] | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=IDEMPOTENCY_KEY_MAX_CHARS)] | None = None
    on_behalf_of: Annotated[str, Meta(max_length=NAME_MAX_CHARS)] = ""
    cause: str = ""
    operation: str = ""
    facts: tuple[FactRead, ...] = ()
    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=EVIDENCE_MAX)] = ()
    approvals: tuple[str, ...] = ()
    draws: Annotated[tuple[Draw, ...], Meta(max_length=DRAWS_MAX)] = ()
    acting: bool = False
    dry_run: bool = False


NO_TERMS = Terms()


class ChangeAction(StrEnum):
    """What a change did. One history row and one event each; the event's type is
    `steersman.resource.<action>.v1`."""

    CREATED = "created"
    TRANSITIONED = "transitioned"
    INTENT_SET = "intent_set"
    INTENT_OBSERVED = "intent_observed"
    SPEC_CHANGED = "spec_changed"
    HOLD_PLACED = "hold_placed"
    HOLD_LIFTED = "hold_lifted"
    CONDITIONS_CHANGED = "conditions_changed"
    OPERATION_CHANGED = "operation_changed"
    PROGRESS_MADE = "progress_made"
    RETRY_CHANGED = "retry_changed"
    CLAIMED = "claimed"
    MIGRATED = "migrated"
    DELETED = "deleted"


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One row of a resource's history: append-only, and chained by hash to the row before it.

    `actor` is whose doing it is; `carried_out_by` names who did it for them, where that is another (the loop
    walks a node for the policy that wants it elsewhere). `seq` is also the resource's `version` after the
    change, and goes on counting where an id is deleted and made again. `from_state` and `to_state` differ for
    created (None → first), transitioned and migrated only; `event` is the lifecycle's. `lifecycle` names the
    table that it was judged by, as `name@version`. `data` is what the action adds: the hold, the conditions,
    the step and its outcome. `state_hash` is the SHA-256 of the resource as it was stored with this row;
    empty for deleted. `hash` covers all other fields, `previous` among them; `previous` of the first row is
    empty.
    """

    kind: str
    id: str
    seq: Annotated[int, Meta(ge=1)]
    at: datetime
    action: ChangeAction
    actor: str
    carried_out_by: str = ""
    event: str | None = None
    from_state: str | None = None
    to_state: str | None = None
    reason: str = ""
    cause: str = ""
    operation: str = ""
    fence: int = 0
    lifecycle: str = ""
    facts: tuple[FactRead, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    approvals: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    state_hash: str = ""
    previous: str = ""
    hash: str = ""

    @property
    def ref(self) -> ResourceRef:
        """The resource that it is about."""
        return ResourceRef(self.kind, self.id)


class ResourceEvent(Struct, frozen=True, kw_only=True):
    """What the outbox holds and subscribers get: one for each history row, in the same commit.

    `id` is `Kind/id/seq`, the same for every delivery. `sequence` is the row's `seq`: a subscriber that has
    seen a higher one of this resource drops it, one that misses one reads the history. `type` is
    `steersman.resource.<action>.v1`. `data` holds kind, id, action, event, from, to, status, desired_status,
    version, actor, reason, cause, operation, labels, and what the action adds.
    """

    id: str
    type: str
    subject: str
    sequence: int
    time: datetime
    data: dict[str, Any] = field(default_factory=dict[str, Any])


class Written(Struct, frozen=True):
    """The answer to a request: the resource after it, the history row, and the store's revision.

    `replayed`: this is the kept answer to an earlier request with the same idempotency key.
    `dry_run`: nothing was written; `entry` is the row as it would have been, without hashes.
    `unchanged`: there was nothing to do, so nothing was written; `entry` is the last row there is.
    """

    state: ResourceState
    entry: HistoryEntry
    revision: int
    replayed: bool = False
    dry_run: bool = False
    unchanged: bool = False
