"""From what policies find to recommendations on record: each meaning once, however often it is found.

Two recommendations mean the same where their dedup key is the same (policy, entity, action). Of one meaning
there is at most one open. Its id is derived from the meaning and the minute in which it was made, so a commit
whose answer was lost and that is made again makes no second one. Nothing is written for a finding that says
what an open recommendation says already.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from steersman.act.advice.book import OPEN, Book
from steersman.act.advice.past import Past
from steersman.kernel.clock import Clock
from steersman.kernel.logging import get_logger
from steersman.kinds.axes import Truth
from steersman.kinds.command import Actor, Evidence, Terms
from steersman.kinds.deciding import Finding
from steersman.kinds.entity import EntityKey
from steersman.kinds.plane_resources import DISABLED, RecommendationState
from steersman.kinds.policy import (
    GuardrailVerdict,
    Policy,
    PolicyMode,
    Recommendation,
    RecommendationStatus,
)
from steersman.kinds.refusal import (
    NotAllowed,
    ResourceExists,
    ResourceNotFound,
    TerminalState,
    VersionConflict,
)
from steersman.kinds.state import ResourceRef
from steersman.state.ledger import Ledger

KIND = "Recommendation"
OPEN_MAX = 2_000
"""Open recommendations of one policy; further ones wait until some are closed."""
RENEW_GAP_S = 60.0
"""Between two recommendations of one meaning at least so much time passes, or the policy's cooldown where
that is shorter: what flaps is not told each time."""
REJECTED_QUIET_S = 3600.0
"""After a person said no, nobody is asked the same again for so long."""
ENDED_QUIET_S = 300.0
"""After one was applied or failed, the same is not recommended again for so long, where its policy gives no
cooldown: the picture needs time to show what the action did."""
KEPT_S = 30 * 86_400.0
"""How long a recommendation that is at an end is kept."""
PRUNE_MAX = 200
"""Of those, how many are deleted in one go."""

_log = get_logger("act.advice.recommending")
_PLAIN = re.compile(r"[^A-Za-z0-9_.\-]+")
_LOST = (NotAllowed, ResourceNotFound, TerminalState, VersionConflict)


class AdviceLimits(Struct, frozen=True):
    """The bounds of recommending; the module's constants say what each is for."""

    open_max: int = OPEN_MAX
    renew_gap_s: float = RENEW_GAP_S
    rejected_quiet_s: float = REJECTED_QUIET_S
    ended_quiet_s: float = ENDED_QUIET_S
    kept_s: float = KEPT_S


def id_of(policy: str, dedup_key: str, at: datetime, last: str = "") -> str:
    """The id of a recommendation of that meaning, made at that time: readable, derived, one for a minute.
    `last` is the id of the one before it, so that two within a minute differ."""
    digest = hashlib.blake2b(dedup_key.encode(), digest_size=6).hexdigest()
    name = f"{_PLAIN.sub('-', policy)[:48]}-{digest}-"
    minute = int(at.timestamp() // 60)
    if last.startswith(name):
        minute = max(minute, int(last.removeprefix(name), 16) + 1)
    return f"{name}{minute:x}"


class Recommending:
    """Writes recommendations. `verdicts` says what the guardrails say of a proposal as it is made."""

    def __init__(
        self,
        ledger: Ledger,
        book: Book,
        clock: Clock,
        limits: AdviceLimits,
        verdicts: Callable[[Recommendation, EntityKey], tuple[GuardrailVerdict, ...]],
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._clock = clock
        self._limits = limits
        self._verdicts = verdicts
        self._past = Past(clock)
        self.policies: Mapping[str, Policy] = {}
        """The loaded policies by name; whoever loads them sets this."""
        self.waiting: dict[str, EntityKey] = {}
        """Meanings that were found and could not be recommended yet: too soon, or too many are open."""
        self.counts = {"proposed": 0, "superseded": 0, "pruned": 0}

    async def take(self, findings: Iterable[Finding]) -> None:
        """Make them last. Raises `StoreUnavailable`; a finding that the Ledger refuses is logged."""
        for finding in findings:
            if finding.recommendation is not None:
                await self._propose(finding.recommendation, finding.key)
            elif finding.truth is Truth.FALSE:
                await self._withdraw(finding)

    def next_waiting(self, count: int) -> list[EntityKey]:
        """The entities of those that have waited longest, at most so many; what is found of them again waits
        again, behind the others."""
        first = list(islice(self.waiting, count))
        return [self.waiting.pop(meaning) for meaning in first]

    async def withdraw_all(self, policy: str, reason: str) -> int:
        """Supersede what is open of a policy that no longer speaks: disabled, gone, or changed."""
        done = 0
        for state in self._book.open_ones(policy):
            done += await self._supersede(state, reason)
        for meaning in [m for m in self.waiting if m.startswith(f"{policy}:")]:
            del self.waiting[meaning]
        return done

    async def prune(self) -> int:
        """Delete what has been at an end for longer than it is kept; at most `PRUNE_MAX` at a time."""
        before = self._clock.now() - timedelta(seconds=self._limits.kept_s)
        old = [s for s in self._book.recommendations() if s.status not in OPEN and s.status_since < before]
        for state in sorted(old, key=lambda s: (s.status_since, s.id))[:PRUNE_MAX]:
            terms = Terms(reason="kept for long enough", expected_version=state.version)
            try:
                await self._ledger.delete(
                    ResourceRef(KIND, state.id), Actor("timer", ("timer",)), terms=terms
                )
            except _LOST:
                continue  # somebody else was quicker
            self._book.forget(ResourceRef(KIND, state.id))
            self.counts["pruned"] += 1
        return min(len(old), PRUNE_MAX)

    def is_too_soon(self, value: Recommendation) -> bool:
        """Whether the last of this meaning was so short a time ago that there is none of it again yet."""
        last = self._book.last_of(value.dedup_key)
        if last is None:
            return False
        limits, now = self._limits, self._clock.now()
        ended_s = (now - self._past.at(f"{last.id} ended", last.status_since)).total_seconds()
        policy = self.policies.get(value.policy)
        cooldown_s = policy.limits.cooldown_s if policy is not None else None
        match last.status:
            case RecommendationStatus.REJECTED:
                return ended_s < limits.rejected_quiet_s
            case RecommendationStatus.APPLIED | RecommendationStatus.FAILED:
                return ended_s < (limits.ended_quiet_s if cooldown_s is None else cooldown_s)
            case _:
                gap_s = limits.renew_gap_s if cooldown_s is None else min(limits.renew_gap_s, cooldown_s)
                return (now - self._past.at(f"{last.id} made", last.created_at)).total_seconds() < gap_s

    async def _propose(self, value: Recommendation, key: EntityKey) -> None:
        meaning = value.dedup_key
        state = self._book.open_of(meaning)
        if state is not None:
            if not _differs(state, value) or self.is_too_soon(value):
                self.waiting.pop(meaning, None)
                return
            if not await self._supersede(state, "the policy now says something else"):
                return
        elif self.is_too_soon(value) or self._book.open_count(value.policy) >= self._limits.open_max:
            self.waiting[meaning] = key
            return
        self.waiting.pop(meaning, None)
        await self._create(value, key)

    async def _create(self, value: Recommendation, key: EntityKey) -> None:
        now = self._clock.now()
        policy = self.policies.get(value.policy)
        mode = self._mode(value.policy, value.mode)
        if mode is None:
            return  # disabled meanwhile
        last = self._book.last_of(value.dedup_key)
        expires_s = policy.expires_after_s if policy is not None else 3600.0
        value = replace(
            value,
            id=id_of(value.policy, value.dedup_key, now, last.id if last is not None else ""),
            mode=mode,
            guardrails=self._verdicts(value, key),
            created_at=now,
            expires_at=now + timedelta(seconds=expires_s),
        )
        state = RecommendationState(
            id=value.id,
            lifecycle_table="recommendation",
            recommendation=value,
            guardrails=value.guardrails,
            labels=_labels(value, key),
            created_at=now,
        )
        terms = Terms(
            reason=value.reason[:2048],
            facts=value.facts_read,
            evidence=(Evidence(kind="policy", ref=f"{value.policy}@{value.policy_version}"),),
        )
        try:
            written = await self._ledger.create(state, actor_of(value.policy), terms=terms)
        except ResourceExists:
            found = await self._ledger.find(ResourceRef(KIND, value.id))
            if found is not None:
                self._book.note(found)
            return
        self._book.note(written.state)
        self.counts["proposed"] += 1

    def _mode(self, policy: str, otherwise: PolicyMode) -> PolicyMode | None:
        state = self._book.policy(policy)
        if state is None:
            return otherwise
        return None if state.status == DISABLED else PolicyMode(state.status)

    async def _withdraw(self, finding: Finding) -> None:
        policy = self.policies.get(finding.policy)
        if policy is None:
            return
        meaning = f"{finding.policy}:{finding.key}:{policy.action.name}"
        self.waiting.pop(meaning, None)
        state = self._book.open_of(meaning)
        if state is None:
            return
        await self._supersede(state, f"it no longer holds{': ' + finding.why if finding.why else ''}")

    async def _supersede(self, state: RecommendationState, reason: str) -> bool:
        """Whether it is out of the way. What is being applied is not: it runs to its end."""
        if state.status == RecommendationStatus.APPLYING:
            return False
        policy = state.recommendation.policy if state.recommendation is not None else "?"
        terms = Terms(reason=reason[:2048], expected_version=state.version)
        ref = ResourceRef(KIND, state.id)
        try:
            written = await self._ledger.transition(ref, actor_of(policy), event="supersede", terms=terms)
        except _LOST:
            found = await self._ledger.find(ref)
            if found is not None:
                self._book.note(found)
            return False
        self._book.note(written.state)
        self.counts["superseded"] += 1
        return True


def actor_of(policy: str) -> Actor:
    """The policy as the one who asks."""
    return Actor(f"policy:{policy}", ("policy",))


def _labels(value: Recommendation, key: EntityKey) -> dict[str, str]:
    labels = {"policy": value.policy, "entity": value.entity, "entity_type": key.entity_type.value}
    return {**labels, "scope": key.scope} if key.scope else labels


def _differs(state: RecommendationState, value: Recommendation) -> bool:
    """Whether an open recommendation no longer says what the policy says now. What was read, and how sure it
    is, may differ: those are looked at again at the moment of acting."""
    open_one = state.recommendation
    if open_one is None:
        return True
    return (open_one.policy_version, open_one.action, open_one.risk) != (
        value.policy_version,
        value.action,
        value.risk,
    )
