"""Policies and recommendations: what should be watched for, and what came of it.

A policy is a value that people write; `decide` compiles it. A recommendation is what one evaluation of one
policy on one entity said ought to be done, with everything it read, so that it can be explained and replayed
for ever. Its status moves on `RECOMMENDATION_LIFECYCLE`, through the Ledger like any other resource.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from steersman.kernel.clock import as_utc
from steersman.kernel.errors import InvalidInput
from steersman.kinds.axes import Truth
from steersman.kinds.entity import EntityType, HealthState, SchedulerDomainType, WorkloadType
from steersman.kinds.lifecycle import Lifecycle, LifecycleState, LifecycleTransition, StateClass

NAME_MAX_CHARS = 128
WHEN_MAX_CHARS = 8192
APPLYING_MAX_S = 26 * 3600.0
"""How long a recommendation may be in the state `applying` before it counts as failed: a drain may wait for
jobs for a day (the shipped node lifecycle gives it 25 hours)."""

ACTIONS = (
    "adjust_batching",
    "adjust_checkpoint_frequency",
    "adjust_concurrency",
    "adjust_priority_or_quota",
    "adjust_resource_limits",
    "change_priority_or_qos",
    "configure_autoscaler",
    "decrease_keep_warm_floor",
    "disable_scale_to_zero",
    "drain_and_replace_node",
    "drain_or_avoid_node",
    "enable_scale_to_zero",
    "enable_spot_fallback",
    "increase_keep_warm_floor",
    "move_workload_domain",
    "preempt_job",
    "quarantine_node",
    "rebalance_traffic",
    "recommend_no_action",
    "rollback_previous_action",
    "scale_replicas",
    "shift_traffic",
    "trigger_canary_rollback",
)
"""Actions that policies of other systems know by these names. A site may name others."""


class PolicyInvalid(InvalidInput, ValueError):
    """A policy that contradicts itself; `detail` names it and the key."""

    code = "policy_invalid"
    title = "Policy invalid"


class PolicyMode(StrEnum):
    """How far a policy may go."""

    OBSERVE_ONLY = "observe_only"  # it only says what it sees
    RECOMMEND_WITH_APPROVAL = "recommend_with_approval"  # it proposes, a person approves
    CONTROLLED_AUTO_ACT = "controlled_auto_act"  # it acts, within its guardrails


class Risk(StrEnum):
    """How much an action can break; approval is asked by it."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Guardrail(StrEnum):
    """What can stop an action, checked when it is proposed and again at the moment of acting."""

    MIN_CONFIDENCE = "min_confidence"
    MAX_STALENESS = "max_staleness"
    COOLDOWN = "cooldown"
    BLAST_RADIUS = "blast_radius"
    CAPACITY_FLOOR = "capacity_floor"
    CIRCUIT_BREAKER = "circuit_breaker"
    FREEZE_WINDOW = "freeze_window"
    APPROVAL = "approval"


class Verdict(StrEnum):
    """What a guardrail says. UNKNOWN stops like STOPPED does: it could not tell."""

    PASSED = "passed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


class GuardrailVerdict(Struct, frozen=True, kw_only=True):
    """What one guardrail said, when, and what it compared."""

    guardrail: Guardrail
    verdict: Verdict
    detail: str
    checked_at: datetime
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        force_setattr(self, "checked_at", as_utc(self.checked_at))


class PolicyMatch(Struct, frozen=True, kw_only=True):
    """Which entities a policy looks at: all that is given must fit; what is not given fits everything."""

    entity_type: EntityType
    labels: dict[str, str] = field(default_factory=dict[str, str])
    scope: str | None = None
    scheduler_domain: SchedulerDomainType | None = None
    workload_type: WorkloadType | None = None
    health: tuple[HealthState, ...] = ()


class PolicyAction(Struct, frozen=True, kw_only=True):
    """What a policy asks for: an action by name, with its parameters."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])


class PolicyLimits(Struct, frozen=True, kw_only=True):
    """How much a policy may do. None is no limit of its own; the plane's limits always hold too.

    `max_count` and `max_share` (0 to 1) bound how many entities of one failure domain may be acted on within
    `window_s`; `failure_domain` is the label that tells the domains. `capacity_floor` is the share (0 to 1)
    that must stay in service. `breaker_failures` in a row open the circuit.
    """

    cooldown_s: Annotated[float, Meta(ge=0)] | None = None
    window_s: Annotated[float, Meta(gt=0)] | None = None
    max_count: Annotated[int, Meta(ge=0)] | None = None
    max_share: Annotated[float, Meta(ge=0, le=1)] | None = None
    failure_domain: str | None = None
    capacity_floor: Annotated[float, Meta(ge=0, le=1)] | None = None
    breaker_failures: Annotated[int, Meta(ge=1)] | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """A rule: when something holds of an entity for a while, recommend or take an action. A value.

    - `when`: a CEL expression over the entity; a signal that is missing, stale or unsupported makes it
      unknown, never false.
    - `for_s`: how long it must hold without a break. `min_confidence`, `max_staleness_s`: of what it reads.
    - `reason`: a template for people; `{field}` is the value that was read.
    - `expires_after_s`: how long a recommendation of it stays open.
    """

    name: str
    version: Annotated[int, Meta(ge=1)] = 1
    description: str = ""
    match: PolicyMatch
    when: str
    for_s: Annotated[float, Meta(ge=0)] = 0.0
    min_confidence: Annotated[float, Meta(ge=0, le=1)] = 0.0
    max_staleness_s: Annotated[float, Meta(gt=0)] | None = None
    action: PolicyAction
    risk: Risk = Risk.MEDIUM
    priority: Annotated[int, Meta(ge=0, le=100)] = 50
    mode: PolicyMode = PolicyMode.OBSERVE_ONLY
    limits: PolicyLimits = PolicyLimits()
    approvals: Annotated[int, Meta(ge=0)] = 1
    reason: str = ""
    expires_after_s: Annotated[float, Meta(gt=0)] = 3600.0
    enabled: bool = True

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > NAME_MAX_CHARS:
            raise PolicyInvalid(f"a policy has a name of 1 to {NAME_MAX_CHARS} characters")
        if not self.when.strip() or len(self.when) > WHEN_MAX_CHARS:
            raise PolicyInvalid(f"policy {self.name}: when has 1 to {WHEN_MAX_CHARS} characters")
        if not self.action.name:
            raise PolicyInvalid(f"policy {self.name}: action has a name")
        bounded = self.limits.max_count is not None or self.limits.max_share is not None
        if bounded and self.limits.window_s is None:
            raise PolicyInvalid(f"policy {self.name}: limits max_count and max_share need window_s")
        if self.mode is PolicyMode.CONTROLLED_AUTO_ACT and not bounded:
            raise PolicyInvalid(
                f"policy {self.name}: mode controlled_auto_act needs limits.max_count or limits.max_share;"
                " nothing acts by itself without a bound on how much it may touch"
            )


APPROVALS_BY_RISK: Mapping[Risk, int] = {Risk.LOW: 1, Risk.MEDIUM: 1, Risk.HIGH: 1, Risk.CRITICAL: 2}
"""How many people must agree at least; a policy may ask for more."""
AUTO_RISK_MAX = Risk.HIGH
"""The highest risk that a policy may run by itself; beyond it people are asked in every mode."""


def places_of(policy: Policy, domain_size: int) -> int | None:
    """How many entities of a failure domain may be acted on within the window: the smaller of count and
    share, the share rounded down; None where the policy bounds neither."""
    bounds = [policy.limits.max_count] if policy.limits.max_count is not None else []
    if policy.limits.max_share is not None:
        bounds.append(math.floor(policy.limits.max_share * domain_size + 1e-9))
    return min(bounds) if bounds else None


def approvals_needed(policy: Policy) -> int:
    """How many people must agree before it is carried out, where it does not act by itself."""
    return max(policy.approvals, APPROVALS_BY_RISK[policy.risk])


def may_act_alone(policy: Policy) -> bool:
    """Whether its risk lets it run without people in the mode for it."""
    order = list(Risk)
    return order.index(policy.risk) <= order.index(AUTO_RISK_MAX)


class FactRead(Struct, frozen=True, kw_only=True):
    """A fact that a decision read: a field of an entity, its value, its source, and how old it was."""

    entity: str
    field: str
    value: Any
    unit: str = ""
    source: str
    age_s: Annotated[float, Meta(ge=0)]


class FactMissing(Struct, frozen=True, kw_only=True):
    """A fact that a decision wanted and could not have, and why: absent, stale, unsupported, source_down."""

    entity: str
    field: str
    why: str
    detail: str = ""


class RecommendationStatus(StrEnum):
    """Where a recommendation stands."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class Recommendation(Struct, frozen=True, kw_only=True):
    """What ought to be done, why, on what grounds, and what stands in the way. A value.

    - `entity`: the key of the entity it is about, as text. `policy`, `policy_version`: the rule that spoke.
    - `outcome`: what `when` came to; TRUE, or UNKNOWN where only missing facts stood against it.
    - `dedup_key`: two with the same key say the same thing; the later one supersedes the earlier.
    - `guardrails`: what each said when it was last asked.
    """

    id: str
    policy: str
    policy_version: Annotated[int, Meta(ge=1)] = 1
    entity: str
    entity_type: EntityType
    action: PolicyAction
    mode: PolicyMode = PolicyMode.OBSERVE_ONLY
    outcome: Truth = Truth.TRUE
    reason: str = ""
    facts_read: tuple[FactRead, ...] = ()
    facts_missing: tuple[FactMissing, ...] = ()
    confidence: Annotated[float, Meta(ge=0, le=1)] = 0.0
    risk: Risk = Risk.MEDIUM
    priority: Annotated[int, Meta(ge=0, le=100)] = 50
    guardrails: tuple[GuardrailVerdict, ...] = ()
    dedup_key: str = ""
    status: RecommendationStatus = RecommendationStatus.PROPOSED
    bus_revision: Annotated[int, Meta(ge=0)] = 0
    created_at: datetime
    expires_at: datetime

    def __post_init__(self) -> None:
        force_setattr(self, "created_at", as_utc(self.created_at))
        force_setattr(self, "expires_at", as_utc(self.expires_at))
        if not self.dedup_key:
            force_setattr(self, "dedup_key", f"{self.policy}:{self.entity}:{self.action.name}")

    def stopped_by(self) -> tuple[GuardrailVerdict, ...]:
        """The guardrails that do not let it pass: those that stopped it and those that could not tell."""
        return tuple(given for given in self.guardrails if given.verdict is not Verdict.PASSED)

    def is_expired(self, now: datetime) -> bool:
        """Whether it is too late to act on it; at `expires_at` it is."""
        return as_utc(now) >= self.expires_at


def _recommendation_lifecycle() -> Lifecycle:
    done = {"applied", "failed", "rejected", "expired", "superseded"}
    moves: tuple[tuple[str, tuple[str, ...], str, tuple[str, ...]], ...] = (
        ("approve", ("proposed",), "approved", ("operator", "admin", "policy")),
        ("reject", ("proposed", "approved"), "rejected", ("operator", "admin")),
        ("apply", ("approved",), "applying", ("engine",)),
        ("succeed", ("applying",), "applied", ("engine",)),
        ("fail", ("applying",), "failed", ("engine", "timer")),
        ("expire", ("proposed", "approved"), "expired", ("timer",)),
        ("supersede", ("proposed", "approved"), "superseded", ("policy",)),
        ("overtake", ("applying",), "superseded", ("engine",)),
    )
    return Lifecycle(
        name="recommendation",
        states=tuple(
            LifecycleState(
                name=status.value,
                state_class=StateClass.TERMINAL
                if status.value in done
                else StateClass.ACTIVE
                if status is RecommendationStatus.APPLYING
                else StateClass.STABLE,
                deadline_s=APPLYING_MAX_S if status is RecommendationStatus.APPLYING else None,
                on_timeout="fail" if status is RecommendationStatus.APPLYING else None,
            )
            for status in RecommendationStatus
        ),
        transitions=tuple(
            LifecycleTransition(event=event, sources=sources, to=to, by=by)
            for event, sources, to, by in moves
        ),
    )


RECOMMENDATION_LIFECYCLE = _recommendation_lifecycle()
"""How a recommendation moves: proposed → approved → applying → applied | failed, or rejected, expired,
superseded on the way. Once it is being applied it can no longer be withdrawn; `overtake` ends it where
somebody else has set another intent since, which is nobody's failure."""
