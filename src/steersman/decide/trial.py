"""What policies would say on the picture of this moment. Nothing comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from steersman.decide.rules import CompiledPolicy
from steersman.kinds.advice import PolicyVerdict
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Seen
from steersman.kinds.policy import Policy


def try_policies(
    policies: Sequence[Policy], seen: Iterable[Seen], now: datetime
) -> Iterator[tuple[PolicyVerdict, ...]]:
    """Evaluate without `for` and without consequence: for each entity as it is taken, what the policies say
    that match it. Raises what a policy that can't be compiled raises."""
    rules = [CompiledPolicy(policy) for policy in policies]
    return (_judge(rules, one, now) for one in seen)


def _judge(rules: list[CompiledPolicy], seen: Seen, now: datetime) -> tuple[PolicyVerdict, ...]:
    verdicts: list[PolicyVerdict] = []
    key = seen.entity.key
    for rule in rules:
        judged = rule.judge(seen, now)
        if not judged.matched:
            continue
        proposal = rule.recommend(seen, judged, now) if judged.truth is Truth.TRUE else None
        verdicts.append(
            PolicyVerdict(
                policy=rule.policy.name,
                entity_type=key.entity_type.value,
                entity_id=key.entity_id,
                scope=key.scope,
                truth=judged.truth,
                why=judged.why,
                reason="" if proposal is None else proposal.reason,
                action="" if proposal is None else proposal.action.name,
                facts_read=judged.facts_read,
                facts_missing=judged.facts_missing,
            )
        )
    return tuple(verdicts)
