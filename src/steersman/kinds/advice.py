"""What the API answers about policies, recommendations and the freeze switch.

The API sends these and the client reads them back into the same types. A later version may say more: what may
be missing from an older one's answer has a default.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field

from steersman.kinds.axes import Truth
from steersman.kinds.deciding import PolicyProblem
from steersman.kinds.managed import Managed
from steersman.kinds.policy import FactMissing, FactRead, Policy


class PolicyInfo(Struct, frozen=True, kw_only=True):
    """A policy and what came of it. `policy` is None where it is no longer loaded. `carried_out`: whether its
    action can be. `open`: recommendations of it that wait; `failures`: in a row."""

    name: str
    mode: str
    policy: Policy | None = None
    carried_out: bool = True
    open: int = 0
    failures: int = 0
    place: str = ""
    version: int = 0


class PolicyBook(Struct, frozen=True, kw_only=True):
    """All policies, and what could not be read."""

    items: tuple[PolicyInfo, ...] = ()
    problems: tuple[PolicyProblem, ...] = ()


class ModeSet(Struct, frozen=True, kw_only=True):
    """A policy and its mode now. `changed`: whether it had another before."""

    policy: PolicyInfo
    changed: bool = True


class PolicyVerdict(Struct, frozen=True, kw_only=True):
    """What a policy says of one entity now, without its `for`. `action` and `reason` are what it would
    propose where it holds; `why` says what it comes to."""

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


class PolicyCount(Struct, frozen=True, kw_only=True):
    """A policy over all entities that match it: how many it holds of, does not, and can't be told of; `whys`
    are the commonest reasons why not."""

    policy: str
    entity_type: str = ""
    matched: int = 0
    true: int = 0
    false: int = 0
    unknown: int = 0
    for_s: float = 0.0
    whys: dict[str, int] = field(default_factory=dict[str, int])


class PolicySignals(Struct, frozen=True, kw_only=True):
    """The signals that a policy reads, and those of them that nobody collects (`missing`): no source reports
    them of any entity of its type now. `blind`: it can never hold, because it needs one of those, or because
    there is no such entity."""

    policy: str
    entity_type: str
    reads: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    blind: bool = False


class PolicyCoverage(Struct, frozen=True, kw_only=True):
    """What the loaded policies can tell: over how many entities, and which signals nobody collects."""

    entities: int
    policies: tuple[PolicyCount, ...] = ()
    signals: tuple[PolicySignals, ...] = ()


class DryRun(PolicyCoverage, frozen=True, kw_only=True):
    """What policies would say now. Nothing is loaded and nothing is proposed. `entities`: how many were
    looked at; `verdicts`: those it holds of or that can't be told, up to a bound (`cut`)."""

    verdicts: tuple[PolicyVerdict, ...] = ()
    problems: tuple[PolicyProblem, ...] = ()
    cut: bool = False


class RecommendationInfo(Struct, frozen=True, kw_only=True):
    """A recommendation as a resource, and how many people must agree to it."""

    resource: Managed
    needed: int = 0


class FreezeInfo(Struct, frozen=True, kw_only=True):
    """The freeze switch: whether acting is frozen; since when, by whom and why it is as it is."""

    frozen: bool
    since: datetime
    by: str = ""
    reason: str = ""
    version: int = 0
