"""What guardrails compare: how often a policy acted, how its failure domain stands, who agreed; and the
places in budgets that an action must get in its commit.

The numbers here come from the index and tell early why something will not pass. What makes the bounds hold
whatever happens is the draws: the Ledger counts them in the commit that begins the action.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta

from steersman.act.advice.book import Book, key_of
from steersman.act.advice.past import Past
from steersman.act.advice.tally import Tally, began_at
from steersman.kernel.clock import Clock, iso_utc
from steersman.kernel.errors import SteersmanError
from steersman.kinds.command import Draw
from steersman.kinds.deciding import Standing
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.policy import Policy, Recommendation, places_of
from steersman.kinds.state import NodeState

ACCOUNT_MAX_CHARS = 200
COOLDOWN, BLAST, CAPACITY = "cooldown", "blast", "capacity"
"""The first word of the accounts that actions draw on."""
CAPACITY_PACE_S = 5.0
"""Where a floor must hold, one action of a domain at a time: so much later every replica knows of the one
before, and counts without it."""


RECOUNT_S = 60.0
"""How often all is counted anew although nothing that counts was told of: a lifecycle table may have been
loaded since."""
SET_BACK_S = 1.0
"""A wall clock that is set back by more than this makes for a new count: what had left a window is in it
again."""


class Standings:
    """Works out standings and draws. `labels` are those of each entity that policies look at, by key;
    `lifecycle_of` gives a table by name."""

    def __init__(
        self,
        book: Book,
        clock: Clock,
        labels: Mapping[EntityKey, Mapping[str, str]],
        lifecycle_of: Callable[[str], Lifecycle],
    ) -> None:
        self._book = book
        self._clock = clock
        self._labels = labels
        self._lifecycle_of = lifecycle_of
        self._past = Past(clock)
        self._tallies: dict[str, Tally] = {}
        self.counted = 0
        """Entities and recommendations that were counted since the start, over all policies."""
        book.on_count(self._changed)

    def keep(self, policies: Mapping[str, Policy]) -> None:
        """Forget the numbers of all other policies."""
        for name in [name for name in self._tallies if name not in policies]:
            del self._tallies[name]

    def touch(self, key: EntityKey) -> None:
        """An entity came, went, or has other labels."""
        for tally in self._tallies.values():
            tally.touched[key] = None

    def of(self, policy: Policy, value: Recommendation, key: EntityKey, approvals: int) -> Standing:
        """The standing of a recommendation now."""
        domain, tally = self.domain(policy, key), self._tally(policy)
        frozen = self._book.frozen()
        serving = tally.serving.get(domain, frozenset[EntityKey]())
        now = self._clock.now()
        since = now - timedelta(seconds=policy.limits.window_s or 0.0)
        return Standing(
            now=now,
            frozen=f"frozen by {frozen.by} since {iso_utc(frozen.since)}: {frozen.reason}" if frozen else "",
            failures=self._book.failures_in_a_row(policy.name),
            acted_at=tally.began.get(key),
            domain=domain,
            domain_acted=tally.acted_on(domain, since, beside=key),
            domain_size=self.domain_size(policy, key),
            domain_serving=len(serving),
            domain_leaving=key in serving,
            approvals=approvals,
        )

    def draws(self, policy: Policy, value: Recommendation, key: EntityKey) -> tuple[Draw, ...]:
        """The places that beginning to act must get. A bound of no place is a draw of limit 0, which the
        Ledger refuses."""
        limits, domain = policy.limits, self.domain(policy, key)
        found: list[Draw] = []
        if limits.cooldown_s:
            budget = account(COOLDOWN, policy.name, value.entity)
            found.append(Draw(budget=budget, holder=value.id, limit=1, window_s=limits.cooldown_s))
        places = places_of(policy, self.domain_size(policy, key))
        if places is not None and limits.window_s is not None:
            budget, holder = account(BLAST, policy.name, domain), account("", value.entity)
            found.append(Draw(budget=budget, holder=holder, limit=places, window_s=limits.window_s))
        if limits.capacity_floor:
            budget = account(CAPACITY, policy.limits.failure_domain or "", domain)
            found.append(Draw(budget=budget, holder=value.id, limit=1, window_s=CAPACITY_PACE_S))
        return tuple(found)

    def domain(self, policy: Policy, key: EntityKey) -> str:
        """The failure domain of an entity; empty where the policy names no label, or it has none: all those
        together are one domain."""
        label = policy.limits.failure_domain
        if label is None:
            return ""
        return self._label(key, label)

    def domain_size(self, policy: Policy, key: EntityKey) -> int:
        """How many entities of that type are in the entity's domain, one at least: itself."""
        size = self._tally(policy).size.get(self.domain(policy, key), 0)
        return max(1, size + (key not in self._labels))

    def _label(self, key: EntityKey, label: str) -> str:
        node = self._book.node(key.scope, key.entity_id) if key.entity_type is EntityType.NODE else None
        if node is not None and label in node.labels:
            return node.labels[label]
        return self._labels.get(key, {}).get(label, "")

    def _changed(self, key: EntityKey | None, acting: RecommendationState | None) -> None:
        if key is None:
            self._tallies.clear()
            return
        self.touch(key)
        if acting is None or acting.recommendation is None:
            return
        tally = self._tallies.get(acting.recommendation.policy)
        if tally is not None:
            self._act(tally, key, acting)

    def _tally(self, policy: Policy) -> Tally:
        """The numbers now. Only what was told of since the last time is counted again."""
        tally, now = self._tallies.get(policy.name), self._clock.now()
        at = (policy.match.entity_type, policy.limits.failure_domain)
        if (
            tally is None
            or (tally.kind, tally.label) != at
            or self._clock.monotonic() - tally.counted_s >= RECOUNT_S
            or now < tally.looked_at - timedelta(seconds=SET_BACK_S)
        ):
            tally = self._tallies[policy.name] = self._count(policy)
        while tally.touched:
            self._place(policy, tally, tally.touched.popitem()[0])
        tally.looked_at = now
        return tally

    def _count(self, policy: Policy) -> Tally:
        kind = policy.match.entity_type
        tally = Tally(kind, policy.limits.failure_domain, self._clock.now(), self._clock.monotonic())
        tally.touched.update(dict.fromkeys(key for key in self._labels if key.entity_type is kind))
        if kind is EntityType.NODE:
            tally.touched.update(dict.fromkeys(self._book.nodes()))
        while tally.touched:
            self._place(policy, tally, tally.touched.popitem()[0])
        for state in (*self._book.ended(policy.name), *self._book.open_ones(policy.name)):
            self._act(tally, key_of(state), state)
        tally.sort()
        return tally

    def _place(self, policy: Policy, tally: Tally, key: EntityKey) -> None:
        """Count one entity where it belongs now."""
        self.counted += 1
        if key.entity_type is not tally.kind:
            return
        node = self._book.node(key.scope, key.entity_id) if key.entity_type is EntityType.NODE else None
        known = key in self._labels
        domain = self.domain(policy, key) if known or node is not None else None
        serves = node is not None and not self._book.is_applying(key) and self._serves(node)
        tally.place(key, domain, counts=known, serves=serves)

    def _act(self, tally: Tally, key: EntityKey, state: RecommendationState) -> None:
        """Count that it was acted on."""
        self.counted += 1
        began = began_at(state)
        if began is None:
            return
        domain = tally.homes.get(key)
        if domain is None:
            domain = self._label(key, tally.label) if tally.label is not None else ""
        tally.act(key, domain, self._past.at(f"{state.id} began", began))

    def _serves(self, node: NodeState) -> bool:
        try:
            lifecycle = self._lifecycle_of(node.lifecycle_table)
            here = lifecycle.state(node.status).schedulable
            return here and (node.desired_status is None or lifecycle.state(node.desired_status).schedulable)
        except SteersmanError:
            return False  # a table that is not loaded: what can't be judged does not count as capacity


def account(*parts: str) -> str:
    """A name for a budget or a holder; long ones end in a digest."""
    name = "/".join(part for part in parts if part) or "all"
    if len(name) <= ACCOUNT_MAX_CHARS:
        return name
    return f"{name[:ACCOUNT_MAX_CHARS]}~{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
