"""A cluster's objects put together, and the facts that follow from them, kept up to date change by change.

An object of the cluster is a unit (a node, a job, a pool of devices), and each unit comes to some facts. What
a unit rests on (a node on its pods, a job on its Workload, a pool on claims) marks it to be worked out anew,
so a change of one pod costs its node, its owner and its services, and not the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct

from steersman.drivers.kubernetes.bundles import Bundles, Told, View, is_active
from steersman.drivers.kubernetes.devices import GPU_DRIVERS
from steersman.drivers.kubernetes.drift import drift_lines
from steersman.drivers.kubernetes.fact import Fact, Keep
from steersman.drivers.kubernetes.indexes import Indexes, Unit
from steersman.kinds.entity import EntityType

FactKey = tuple[EntityType, str]
DRIFT_MAX = 100
"""Lines of drift between two looks: as many as intake keeps."""


class PictureRules(Struct, frozen=True):
    """What the options say of how objects are read."""

    keep: Keep = Keep()
    dedicated: frozenset[str] = frozenset()
    gpu_drivers: tuple[str, ...] = GPU_DRIVERS


class ClusterPicture:
    """All facts of a cluster by their key."""

    def __init__(self, rules: PictureRules) -> None:
        self._indexes = Indexes()
        self._bundles = Bundles(self._indexes, rules.keep, rules.dedicated, rules.gpu_drivers)
        self._of_unit: dict[Unit, tuple[FactKey, ...]] = {}
        self._dirty: dict[Unit, None] = {}
        self._view = View()
        self.facts: dict[FactKey, Told] = {}
        self.changed: dict[FactKey, None] = {}
        """Facts that changed since the last look that was told."""
        self.gone: dict[FactKey, None] = {}
        """Entities that are no more since then."""
        self.drift: dict[str, None] = {}
        self.incomplete: dict[str, None] = {}
        """Pools of devices that are being written anew."""

    def apply(self, kind: str, path: str, value: Any | None) -> None:
        """An object as it is now; None: it is no more."""
        if value is not None and len(self.drift) < DRIFT_MAX:
            self.drift |= dict.fromkeys(drift_lines(kind, value))
        self._dirty |= dict.fromkeys(self._indexes.put(kind, path, value))

    def put_fact(self, fact: Fact, kind: str) -> None:
        """A fact that comes of no object that is held, under a kind of its own."""
        self._replace(Unit(kind, ""), [Told(fact, Unit(kind, ""), kind)])

    def paths(self, kind: str) -> list[str]:
        """Of all objects of that kind that are here."""
        return list(self._indexes.objects(kind))

    def look(self, now: datetime, view: View) -> Iterator[None]:
        """Work out what changed, one unit a step; a caller may stop at any step and begin again."""
        if view != self._view:  # what rests on a kind that came, went, or fell silent is another fact now
            self._dirty |= dict.fromkeys(self._bundles.units())
            self._view = view
        self._dirty |= dict.fromkeys(self._bundles.timed(now))
        while self._dirty:
            unit = next(iter(self._dirty))
            self._replace(unit, self._bundles.facts(unit, now, view))
            self._dirty.pop(unit, None)
            self._dirty |= self._bundles.touched
            self._bundles.touched.clear()
            yield
        domain = Unit("Domain", "")
        self._replace(domain, self._bundles.facts(domain, now, view))
        self.incomplete = dict.fromkeys(self._bundles.incomplete)

    def settled(self) -> None:
        """What changed was told."""
        self.changed, self.gone, self.drift = {}, {}, {}

    def _replace(self, unit: Unit, told: list[Told]) -> None:
        """What a unit comes to now, in place of what it came to before."""
        fresh = {(one.fact.entity_type, one.fact.entity_id): one for one in told}
        for key in self._of_unit.get(unit, ()):
            was = self.facts.get(key)
            if key not in fresh and was is not None and was.unit == unit:
                del self.facts[key]
                self._bundles.count(was.fact, -1)
                self._dirty |= dict.fromkeys(self._bundles.counted_in(was.fact))
                self.changed.pop(key, None)
                self.gone[key] = None
        for key, one in fresh.items():
            was = self.facts.get(key)
            if was == one:
                continue
            if was is not None:
                self._bundles.count(was.fact, -1)
            self._bundles.count(one.fact, +1)
            if was is None or is_active(was.fact) != is_active(one.fact):
                self._dirty |= dict.fromkeys(self._bundles.counted_in(one.fact))
            self.facts[key] = one
            self.changed[key] = None
            self.gone.pop(key, None)
        if fresh:
            self._of_unit[unit] = tuple(fresh)
        else:
            self._of_unit.pop(unit, None)
