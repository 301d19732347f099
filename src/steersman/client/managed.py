"""What the API answers about managed things, as the client reads it. Unknown members are ignored.

The nouns of resources, their histories and their lifecycles are those of `kinds`; a test holds the rest to
what the API sends.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from steersman.client.errors import UNREADABLE, BadAnswer
from steersman.kinds.axes import Condition, Hold, Operation, Truth
from steersman.kinds.command import HistoryEntry
from steersman.kinds.explanation import Confidence, Freshness, HealthVerdict
from steersman.kinds.machine import Option, PathStep
from steersman.kinds.plane_resources import KINDS
from steersman.kinds.policy import FactMissing, FactRead, Policy
from steersman.kinds.state import ResourceState, Retry
from steersman.kinds.work import WorkVerdict

T = TypeVar("T")


class Managed:
    """A resource, of the class of its kind (`ResourceState` for a kind that this client does not know); and
    whether it may take work (None: its lifecycle is not loaded)."""

    __slots__ = ("state", "work")

    def __init__(self, state: ResourceState, work: WorkVerdict | None = None) -> None:
        self.state = state
        self.work = work

    def __repr__(self) -> str:
        return f"Managed({self.state.resource_type}/{self.state.id}, {self.state.status})"

    def to_dict(self) -> dict[str, Any]:
        """As the API has it: the state's members, and `work`."""
        plain: dict[str, Any] = msgspec.to_builtins(self.state)
        return plain if self.work is None else {**plain, "work": msgspec.to_builtins(self.work)}


class Changed(Struct, frozen=True):
    """What came of a change: the resource after it and its history row. `unchanged`: nothing was to do."""

    resource: Managed
    entry: HistoryEntry
    revision: int = 0
    replayed: bool = False
    dry_run: bool = False
    unchanged: bool = False


class Applied(Struct, frozen=True):
    """What applying came to. `outcome`: created, changed, unchanged; `changed`: what differed."""

    resource: Managed
    outcome: str
    changed: tuple[str, ...] = ()
    entries: tuple[HistoryEntry, ...] = ()
    dry_run: bool = False


class KindCount(Struct, frozen=True):
    """A kind of resource and how many there are; `more`: at least so many."""

    kind: str
    count: int
    more: bool = False
    plane_owned: bool = False


class KindCounts(Struct, frozen=True):
    """All kinds of resources."""

    items: list[KindCount]


class ManagedPage(Struct, frozen=True):
    """One page of resources; `cursor` continues, None ends."""

    items: list[Managed]
    cursor: str | None = None
    revision: int = 0


class HistoryPage(Struct, frozen=True):
    """A page of history rows."""

    items: list[HistoryEntry]
    cursor: str | None = None
    problems: tuple[str, ...] = ()


class Allowed(Struct, frozen=True):
    """Where it is, and what could be asked."""

    status: str
    items: tuple[Option, ...] = ()


class Way(Struct, frozen=True):
    """The way to a state; no steps where it is there."""

    status: str
    to: str
    steps: tuple[PathStep, ...] = ()


class StoryPlace(Struct, frozen=True, kw_only=True):
    """Its lifecycle state, since when, and what the table says of it."""

    status: str
    since: datetime
    lifecycle: str
    state_class: str = ""
    schedulable: bool = False
    stands_for: str = ""
    description: str = ""
    deadline: datetime | None = None
    on_timeout: str | None = None
    phase: str | None = None


class StoryGoing(Struct, frozen=True, kw_only=True):
    """Where it is meant to be, who said so and why, and how it gets there."""

    desired_status: str | None = None
    converged: bool = True
    by: str = ""
    reason: str = ""
    path: tuple[PathStep, ...] = ()
    no_path: str = ""
    set_by: HistoryEntry | None = None


class StoryLoop(Struct, frozen=True, kw_only=True):
    """What came of the loop's last look."""

    outcome: str = ""
    reason: str = ""
    needs: str = ""
    at: datetime | None = None
    next_at: datetime | None = None
    failures: int = 0
    budget: int = 0
    frozen: bool = False
    queued: bool = False
    working: bool = False


class StoryFrozen(Struct, frozen=True):
    """Acting is frozen."""

    since: datetime
    by: str = ""
    reason: str = ""


class StoryObserved(Struct, frozen=True, kw_only=True):
    """What is observed of it."""

    entity: str
    health: HealthVerdict
    freshness: Freshness
    confidence: Confidence


class Story(Struct, frozen=True, kw_only=True):
    """The whole story of a resource."""

    resource: Managed
    place: StoryPlace
    going: StoryGoing
    operation: Operation | None = None
    conditions: tuple[Condition, ...] = ()
    holds: tuple[Hold, ...] = ()
    work: WorkVerdict | None = None
    loop: StoryLoop | None = None
    retry: Retry | None = None
    frozen: StoryFrozen | None = None
    history: tuple[HistoryEntry, ...] = ()
    recommendations: tuple[Managed, ...] = ()
    observed: StoryObserved | None = None


class StepTaken(Struct, frozen=True):
    """How far the phase is, with the answer taken in."""

    resource: str
    phase: str | None = None
    status: str = ""
    detail: str = ""
    step: str | None = None


class TableFinding(Struct, frozen=True):
    """What the linter says of a lifecycle."""

    code: str
    severity: str
    message: str
    fix: str = ""
    file: str = ""
    line: int = 0
    column: int = 0


class TableInfo(Struct, frozen=True):
    """A loaded lifecycle in short."""

    name: str
    version: str
    digest: str = ""
    place: str = ""
    in_force: bool = True
    findings: tuple[TableFinding, ...] = ()


class TableInfos(Struct, frozen=True):
    """All loaded lifecycles."""

    items: list[TableInfo]


class Linted(Struct, frozen=True):
    """What the linter says of a text. `ok`: it may be used."""

    ok: bool
    name: str = ""
    findings: tuple[TableFinding, ...] = ()


class PolicyInfo(Struct, frozen=True):
    """A policy, its mode, and what came of it."""

    name: str
    mode: str
    policy: Policy | None = None
    carried_out: bool = True
    open: int = 0
    failures: int = 0
    place: str = ""
    version: int = 0


class PolicyFault(Struct, frozen=True):
    """Why a policy, or a file of them, was left out."""

    file: str
    detail: str
    line: int = 0
    column: int = 0
    policy: str = ""


class PolicyBook(Struct, frozen=True):
    """All policies, and what could not be read."""

    items: tuple[PolicyInfo, ...] = ()
    problems: tuple[PolicyFault, ...] = ()


class ModeSet(Struct, frozen=True):
    """A policy and its mode now. `changed`: it had another before."""

    policy: PolicyInfo
    changed: bool = True


class PolicyVerdict(Struct, frozen=True):
    """What a policy says of one entity now."""

    policy: str
    entity_type: str
    entity_id: str
    scope: str = ""
    truth: Truth = Truth.UNKNOWN
    why: str = ""
    reason: str = ""
    action: str = ""
    facts_read: tuple[FactRead, ...] = ()
    facts_missing: tuple[FactMissing, ...] = ()


class PolicyCount(Struct, frozen=True):
    """A policy over all entities that match it."""

    policy: str
    entity_type: str = ""
    matched: int = 0
    true: int = 0
    false: int = 0
    unknown: int = 0
    for_s: float = 0.0
    whys: dict[str, int] = field(default_factory=dict[str, int])


class DryRun(Struct, frozen=True):
    """What policies would say now; or, of loaded ones, what they can tell (`verdicts` is empty then)."""

    entities: int
    policies: tuple[PolicyCount, ...] = ()
    verdicts: tuple[PolicyVerdict, ...] = ()
    problems: tuple[PolicyFault, ...] = ()
    cut: bool = False


class RecommendationInfo(Struct, frozen=True):
    """A recommendation, and how many people must agree."""

    resource: Managed
    needed: int = 0


class FreezeInfo(Struct, frozen=True):
    """The freeze switch."""

    frozen: bool
    since: datetime
    by: str = ""
    reason: str = ""
    version: int = 0


class _Head(Struct):
    resource_type: str = ""
    work: WorkVerdict | None = None


def read_answer(kind: type[T]) -> Callable[[bytes], T]:
    """What reads an answer as `kind`, resources within it too. Raises `BadAnswer`."""
    decoder = msgspec.json.Decoder(kind, dec_hook=_hook)

    def read(body: bytes) -> T:
        try:
            return decoder.decode(body)
        except (*UNREADABLE, ValueError) as error:
            raise BadAnswer(f"the answer is not what this client expects: {error}") from None

    return read


def plain_answer(value: Any) -> Any:
    """An answer as plain data, for JSON and YAML."""
    return msgspec.to_builtins(value, enc_hook=lambda one: one.to_dict())


def _hook(kind: type, value: Any) -> Any:
    head = msgspec.convert(value, _Head)
    known = KINDS.get(head.resource_type)
    return kind(msgspec.convert(value, ResourceState if known is None else known.STATE), head.work)
