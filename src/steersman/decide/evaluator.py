"""The compiled policies, and since when what holds of whom.

Only what is handed in is evaluated: entities that changed, and those whose time has come. A condition must
hold without a break for its `for`; an answer that can't be told is a break. So a rule whose source stutters
fires later, and never on time in which nobody knew.

Pure: time comes in as an argument, and what is kept can be handed out and in again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from steersman.decide import guardrails
from steersman.decide.rules import CompiledPolicy, Judgement
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Finding, Recheck, Seen, Standing
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.policy import Policy, Recommendation

SINCE_MAX = 2_000_000
"""Pairs of policy and entity for which something holds at one time."""

_Place = tuple[str, EntityKey]


class PolicyEvaluator:
    """Evaluates policies on entities; see `kinds.deciding` for what goes in and out."""

    def __init__(self, policies: Sequence[Policy], before: PolicyEvaluator | None = None) -> None:
        self._rules = {policy.name: CompiledPolicy(policy) for policy in policies}
        self._by_type: dict[EntityType, list[CompiledPolicy]] = {}
        for rule in self._rules.values():
            self._by_type.setdefault(rule.policy.match.entity_type, []).append(rule)
        self._since: dict[_Place, datetime] = {}
        self._waiting: list[tuple[datetime, int, _Place]] = []
        self._order = 0
        if before is not None:
            self._inherit(before)

    def look(self, seen: Iterable[Seen], now: datetime) -> Sequence[Finding]:
        """What each policy says of each entity of its type."""
        return [
            self._find(rule, one, now)
            for one in seen
            for rule in self._by_type.get(one.entity.entity_type, ())
        ]

    def judge(self, policy: str, seen: Seen, now: datetime) -> Judgement | None:
        """One policy on one entity, without `for`; None where there is no such policy."""
        rule = self._rules.get(policy)
        return None if rule is None else rule.judge(seen, now)

    def due_at(self) -> datetime | None:
        """When the next `for` is over; None for never."""
        while self._waiting and not self._still_waits(self._waiting[0]):
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def due(self, now: datetime) -> Sequence[EntityKey]:
        """The entities of which a `for` is over by now; each is told once."""
        keys: dict[EntityKey, None] = {}
        while self._waiting and self._waiting[0][0] <= now:
            entry = heapq.heappop(self._waiting)
            if self._still_waits(entry):
                keys[entry[2][1]] = None
        return list(keys)

    def forget(self, key: EntityKey) -> None:
        """The entity is gone: nothing holds of it."""
        for rule in self._by_type.get(key.entity_type, ()):
            self._since.pop((rule.policy.name, key), None)

    def recheck(self, recommendation: Recommendation, seen: Seen | None, standing: Standing) -> Recheck:
        """The condition and the guardrails on the facts of this moment."""
        rule = self._rules.get(recommendation.policy)
        if rule is None:
            return Recheck(truth=Truth.UNKNOWN, why=f"policy {recommendation.policy} is not evaluated")
        if seen is None:
            judged = Judgement(truth=Truth.UNKNOWN, why="the entity is not known any more")
        else:
            judged = rule.judge(seen, standing.now)
        return Recheck(
            truth=judged.truth,
            verdicts=guardrails.check(rule.policy, judged, seen, standing),
            facts_read=judged.facts_read,
            facts_missing=judged.facts_missing,
            why=judged.why,
        )

    def save(self, now: datetime) -> Mapping[str, Any]:
        """For how long what has held, as plain data."""
        return {
            "held": [
                [name, *key, (now - since).total_seconds()]
                for (name, key), since in sorted(self._since.items())
            ]
        }

    def restore(self, saved: Mapping[str, Any], now: datetime) -> None:
        """Go on from what was saved: what had held for so long has held for so long now. What has been looked
        at since is known better and stays.

        Raises KeyError, TypeError, ValueError for what is no saved state.
        """
        for name, entity_type, scope, entity_id, held_s in saved["held"]:
            key = EntityKey(EntityType(entity_type), str(scope), str(entity_id))
            place = (str(name), key)
            if place[0] in self._rules and place not in self._since:
                # No longer than `for` is needed, and a saved number may be anything.
                held_s = min(max(0.0, float(held_s)), self._rules[place[0]].policy.for_s)
                self._begin(place, now - timedelta(seconds=held_s))

    def _find(self, rule: CompiledPolicy, seen: Seen, now: datetime) -> Finding:
        policy, key = rule.policy, seen.entity.key
        place = (policy.name, key)
        judged = rule.judge(seen, now)
        if judged.truth is not Truth.TRUE:
            self._since.pop(place, None)
            return Finding(policy=policy.name, key=key, truth=judged.truth, why=judged.why)
        since = self._since.get(place) or self._begin(place, now)
        held_s = (now - since).total_seconds()
        if held_s < policy.for_s:
            why = f"it has held for {max(0.0, held_s):.0f} s of {policy.for_s:g} s"
            return Finding(policy=policy.name, key=key, truth=Truth.TRUE, why=why)
        recommendation = rule.recommend(seen, judged, now)
        return Finding(
            policy=policy.name, key=key, truth=Truth.TRUE, recommendation=recommendation, why=judged.why
        )

    def _begin(self, place: _Place, since: datetime) -> datetime:
        if len(self._since) >= SINCE_MAX:
            return since  # it is begun anew at the next look: late, and never early
        self._since[place] = since
        self._wait(place, since)
        return since

    def _wait(self, place: _Place, since: datetime) -> None:
        for_s = self._rules[place[0]].policy.for_s
        if for_s > 0:
            self._order += 1
            heapq.heappush(self._waiting, (since + timedelta(seconds=for_s), self._order, place))

    def _still_waits(self, entry: tuple[datetime, int, _Place]) -> bool:
        at, _, place = entry
        since = self._since.get(place)
        return since is not None and since + timedelta(seconds=self._rules[place[0]].policy.for_s) == at

    def _inherit(self, before: PolicyEvaluator) -> None:
        """Keep since-times of policies that still mean the same."""
        for (name, key), since in before._since.items():
            mine, theirs = self._rules.get(name), before._rules.get(name)
            if mine is None or theirs is None:
                continue
            if _meaning(mine.policy) == _meaning(theirs.policy):
                self._begin((name, key), since)


def _meaning(policy: Policy) -> tuple[object, ...]:
    """What an unbroken time of true was true of."""
    return policy.when, policy.match, policy.max_staleness_s
