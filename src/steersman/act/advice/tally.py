"""The numbers of one policy that its guardrails compare, kept in step with each single change.

A thousand nodes that fail together make thousands of changes, and each of them asks for these numbers: so a
change is counted by itself, and what did not change is not looked at again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime

from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.policy import RecommendationStatus


class Tally:
    """Numbers over the entities of one type, by the failure domains of one label."""

    def __init__(self, kind: EntityType, label: str | None, now: datetime, now_s: float) -> None:
        self.kind = kind
        self.label = label
        self.looked_at = now
        self.counted_s = now_s
        self.touched: dict[EntityKey, None] = {}
        """Entities that are to be counted again before the next look."""
        self.homes: dict[EntityKey, str] = {}
        """Each entity that is known, and its domain."""
        self.began: dict[EntityKey, datetime] = {}
        """When the policy last began to act on an entity."""
        self.size: Counter[str] = Counter()
        """How many entities a domain has."""
        self.serving: dict[str, set[EntityKey]] = defaultdict(set)
        """The nodes of a domain that are in service and meant to stay so."""
        self._counts: set[EntityKey] = set()
        self._acted: dict[str, dict[EntityKey, datetime]] = defaultdict(dict)  # domain: the oldest first
        self._acted_in: dict[EntityKey, str] = {}

    def place(self, key: EntityKey, domain: str | None, *, counts: bool, serves: bool) -> None:
        """Count an entity in its domain (None: it is gone), among those that `counts` and those that
        `serves`, instead of where it was."""
        old = self.homes.get(key)
        if old is not None:
            if key in self._counts:
                self.size[old] -= 1
                self._counts.discard(key)
            self.serving[old].discard(key)
        if domain is None:
            self.homes.pop(key, None)
            return  # what was done to it still counts where it was
        self.homes[key] = domain
        if counts:
            self.size[domain] += 1
            self._counts.add(key)
        if serves:
            self.serving[domain].add(key)
        before = self._acted_in.get(key)
        if before is not None and before != domain:
            self._acted[domain][key] = self._acted[before].pop(key)
            self._acted_in[key] = domain
            self._sort(domain)

    def act(self, key: EntityKey, domain: str, began: datetime) -> None:
        """Count that the policy began to act on an entity of that domain."""
        if key in self.began and began <= self.began[key]:
            return
        self.began[key] = began
        before = self._acted_in.pop(key, None)
        if before is not None:
            self._acted[before].pop(key, None)
        self._acted[domain][key] = began
        self._acted_in[key] = domain

    def acted_on(self, domain: str, since: datetime, *, beside: EntityKey) -> int:
        """How many entities of a domain it began to act on after `since`, that one not counted."""
        acted = self._acted.get(domain)
        if acted is None:
            return 0
        while acted:
            first = next(iter(acted))
            if acted[first] > since:
                break
            del acted[first], self._acted_in[first]
        return len(acted) - (beside in acted)

    def sort(self) -> None:
        """After acting was counted in no order."""
        for domain in self._acted:
            self._sort(domain)

    def _sort(self, domain: str) -> None:
        acted = self._acted[domain]
        self._acted[domain] = dict(sorted(acted.items(), key=lambda item: item[1]))


def began_at(state: RecommendationState) -> datetime | None:
    """When its action began; None where it never did."""
    for move in reversed(state.state_history):
        if move.to_state == RecommendationStatus.APPLYING:
            return move.transitioned_at
    return None
