"""What guardrails compare: how often a policy acted, how its failure domain stands, who agreed; and the
places in budgets that an action must get in its commit.

The numbers here come from the index and tell early why something will not pass. What makes the bounds hold
whatever happens is the draws: the Ledger counts them in the commit that begins the action.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from steersman.act.advice.book import Book
from steersman.kernel.clock import Clock, iso_utc
from steersman.kernel.errors import SteersmanError
from steersman.kinds.command import Draw
from steersman.kinds.deciding import Standing
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.policy import Policy, Recommendation, RecommendationStatus, places_of
from steersman.kinds.state import NodeState

ACCOUNT_MAX_CHARS = 200
COOLDOWN, BLAST, CAPACITY = "cooldown", "blast", "capacity"
"""The first word of the accounts that actions draw on."""
CAPACITY_PACE_S = 5.0
"""Where a floor must hold, one action of a domain at a time: so much later every replica knows of the one
before, and counts without it."""


class _Tally:
    """A policy's numbers at one moment, counted once for all of its recommendations."""

    def __init__(self) -> None:
        self.failures = 0
        self.began: dict[str, datetime] = {}  # entity: when the policy last began to act on it
        self.acted: dict[str, set[str]] = defaultdict(set)  # domain: entities acted on within the window
        self.size: dict[str, int] = defaultdict(int)  # domain: its entities
        self.serving: dict[str, set[EntityKey]] = defaultdict(set)  # domain: nodes in service, meant to stay


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
        self._tallies: dict[str, tuple[tuple[object, ...], _Tally]] = {}

    def of(self, policy: Policy, value: Recommendation, key: EntityKey, approvals: int) -> Standing:
        """The standing of a recommendation now."""
        domain, tally = self.domain(policy, key), self._tally(policy)
        frozen = self._book.frozen()
        serving = tally.serving.get(domain, frozenset[EntityKey]())
        return Standing(
            now=self._clock.now(),
            frozen=f"frozen by {frozen.by} since {iso_utc(frozen.since)}: {frozen.reason}" if frozen else "",
            failures=tally.failures,
            acted_at=tally.began.get(value.entity),
            domain=domain,
            domain_acted=len(tally.acted.get(domain, set[str]()) - {value.entity}),
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

    def _tally(self, policy: Policy) -> _Tally:
        """The numbers now; counted anew once something that counts has changed, and each second."""
        at = (policy, self._book.changes, len(self._labels), int(self._clock.monotonic()))
        kept = self._tallies.get(policy.name)
        if kept is not None and kept[0] == at:
            return kept[1]
        tally = self._count(policy)
        self._tallies[policy.name] = (at, tally)
        return tally

    def _count(self, policy: Policy) -> _Tally:
        tally, kind = _Tally(), policy.match.entity_type
        tally.failures = self._book.failures_in_a_row(policy.name)
        since = self._clock.now() - timedelta(seconds=policy.limits.window_s or 0.0)
        for state in (*self._book.ended(policy.name), *self._book.open_ones(policy.name)):
            began, value = _began(state), state.recommendation
            if began is None or value is None:
                continue
            tally.began[value.entity] = max(began, tally.began.get(value.entity, began))
            if began > since:
                tally.acted[self.domain(policy, key_of(state))].add(value.entity)
        for key in self._labels:
            if key.entity_type is kind:
                tally.size[self.domain(policy, key)] += 1
        if kind is EntityType.NODE:
            leaving = {key_of(state) for state in self._book.applying()}
            for (scope, name), node in self._book.nodes().items():
                key = EntityKey(EntityType.NODE, scope, name)
                if self._serves(node) and key not in leaving:
                    tally.serving[self.domain(policy, key)].add(key)
        return tally

    def _serves(self, node: NodeState) -> bool:
        try:
            lifecycle = self._lifecycle_of(node.lifecycle_table)
            here = lifecycle.state(node.status).schedulable
            return here and (node.desired_status is None or lifecycle.state(node.desired_status).schedulable)
        except SteersmanError:
            return False  # a table that is not loaded: what can't be judged does not count as capacity


def key_of(state: RecommendationState) -> EntityKey:
    """The entity that a recommendation is about. Its text alone would not tell a scope from an id with a
    slash in it; the resource's label `scope` does."""
    value = state.recommendation
    if value is None:
        raise ValueError(f"{state.id} holds no recommendation")
    scope = state.labels.get("scope", "")
    prefix = f"{value.entity_type.value}/{scope}/" if scope else f"{value.entity_type.value}/"
    return EntityKey(value.entity_type, scope, value.entity.removeprefix(prefix))


def account(*parts: str) -> str:
    """A name for a budget or a holder; long ones end in a digest."""
    name = "/".join(part for part in parts if part) or "all"
    if len(name) <= ACCOUNT_MAX_CHARS:
        return name
    return f"{name[:ACCOUNT_MAX_CHARS]}~{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"


def _began(state: RecommendationState) -> datetime | None:
    """When its action began; None where it never did."""
    for move in reversed(state.state_history):
        if move.to_state == RecommendationStatus.APPLYING:
            return move.transitioned_at
    return None
