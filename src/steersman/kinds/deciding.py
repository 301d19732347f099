"""The nouns between deciding and acting: what a decision looks at, and what it comes to.

Deciding is pure and acting is not, and neither imports the other: they speak in these. All are values.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from steersman.kinds.axes import Truth
from steersman.kinds.entity import CanonicalEntity, EntityKey
from steersman.kinds.explanation import Explanation
from steersman.kinds.policy import FactMissing, FactRead, GuardrailVerdict, Policy, Recommendation
from steersman.kinds.state import NodeState


class Seen(Struct, frozen=True):
    """One entity as it is now: what the bus shows of it, with provenance; and its Node, where it is one.

    `explanation` is None for a tombstone. `node` is None where nothing in the inventory stands for it.
    """

    entity: CanonicalEntity
    explanation: Explanation | None
    node: NodeState | None = None


class Standing(Struct, frozen=True, kw_only=True):
    """What guardrails compare besides the entity's own facts.

    - `frozen`: why acting is frozen; empty where it is not.
    - `failures`: how many of the policy's recommendations failed in a row.
    - `acted_at`: when the policy last acted on this entity.
    - `domain`: the failure domain, by the policy's label. `domain_acted`: the entities in it that the policy
      acted on within its window. `domain_size`, `domain_serving`: its nodes, and those that are in service
      and meant to stay so. `domain_leaving`: whether acting takes one of those away.
    - `approvals`: how many agreed.
    """

    now: datetime
    frozen: str = ""
    failures: int = 0
    acted_at: datetime | None = None
    domain: str = ""
    domain_acted: int = 0
    domain_size: int = 0
    domain_serving: int = 0
    domain_leaving: bool = True
    approvals: int = 0


class Finding(Struct, frozen=True, kw_only=True):
    """What one policy says of one entity now.

    `truth` is of its match and `when` together, without `for`. `recommendation` is there when it has held for
    long enough: a proposal, whose id, expiry and verdicts the runner fills in. `why` is a sentence for
    people.
    """

    policy: str
    key: EntityKey
    truth: Truth
    recommendation: Recommendation | None = None
    why: str = ""


class Recheck(Struct, frozen=True, kw_only=True):
    """What an open recommendation comes to on the facts of this moment."""

    truth: Truth
    verdicts: tuple[GuardrailVerdict, ...] = ()
    facts_read: tuple[FactRead, ...] = ()
    facts_missing: tuple[FactMissing, ...] = ()
    why: str = ""


class LoadedPolicy(Struct, frozen=True, kw_only=True):
    """A policy as it was read: where, and the digest of its text."""

    policy: Policy
    digest: str
    file: str
    line: int = 1

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


class PolicyProblem(Struct, frozen=True, kw_only=True):
    """Why a policy, or a file of them, is left out."""

    file: str
    detail: str
    line: int = 0
    column: int = 0
    policy: str = ""


class PolicyReading(Struct, frozen=True):
    """What a text came to: its policies, and what is wrong with the others."""

    policies: tuple[LoadedPolicy, ...] = ()
    problems: tuple[PolicyProblem, ...] = ()
