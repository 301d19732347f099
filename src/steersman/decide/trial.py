"""What policies would say: on the picture of this moment, and against one another over a history. Nothing
comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from steersman.decide.evaluator import PolicyEvaluator
from steersman.decide.rules import CompiledPolicy
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Seen
from steersman.kinds.policy import FactMissing, FactRead, Policy, Recommendation


class TrialResult(Struct, frozen=True, kw_only=True):
    """What one policy says of one entity now. `recommendation` is what it would propose once its `for` is
    over."""

    policy: str
    entity: str
    truth: Truth
    why: str
    facts_read: tuple[FactRead, ...] = ()
    facts_missing: tuple[FactMissing, ...] = ()
    recommendation: Recommendation | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """A moment at which one of two sets proposes what the other does not. `side`: before or after."""

    at: datetime
    side: str
    policy: str
    entity: str
    action: str


def try_policies(policies: Sequence[Policy], seen: Iterable[Seen], now: datetime) -> list[TrialResult]:
    """Evaluate without `for` and without consequence; entities of other types are left out."""
    rules = [CompiledPolicy(policy) for policy in policies]
    results: list[TrialResult] = []
    for one in seen:
        for rule in rules:
            if rule.policy.match.entity_type is not one.entity.entity_type:
                continue
            judged = rule.judge(one, now)
            proposal = rule.recommend(one, judged, now) if judged.truth is Truth.TRUE else None
            results.append(
                TrialResult(
                    policy=rule.policy.name,
                    entity=str(one.entity.key),
                    truth=judged.truth,
                    why=judged.why,
                    facts_read=judged.facts_read,
                    facts_missing=judged.facts_missing,
                    recommendation=proposal,
                )
            )
    return results


def compare(
    before: Sequence[Policy], after: Sequence[Policy], history: Iterable[tuple[datetime, Sequence[Seen]]]
) -> list[Difference]:
    """Run both over one history of snapshots; what only one of them proposes, each when it first does."""
    evaluators = {"before": PolicyEvaluator(before), "after": PolicyEvaluator(after)}
    open_now: dict[str, set[tuple[str, str, str]]] = {"before": set(), "after": set()}
    found: list[Difference] = []
    told: set[tuple[str, str, str, str]] = set()
    for at, seen in history:
        for side, evaluator in evaluators.items():
            for finding in evaluator.look(seen, at):
                proposal = finding.recommendation
                entity = str(finding.key)
                kept = {one for one in open_now[side] if one[:2] != (finding.policy, entity)}
                if proposal is not None:
                    kept.add((finding.policy, entity, proposal.action.name))
                open_now[side] = kept
        for side, other in (("before", "after"), ("after", "before")):
            for policy, entity, action in sorted(open_now[side] - open_now[other]):
                if (side, policy, entity, action) not in told:
                    told.add((side, policy, entity, action))
                    found.append(Difference(at=at, side=side, policy=policy, entity=entity, action=action))
    return found
