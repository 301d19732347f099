"""The names that a policy may read of one entity, and what each is now.

A name is known or it is not: what is missing, out of date, from a silent source, or older than the policy
allows is a `Lack` with its reason. It is never false and never zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from steersman.kernel.cel import Lack, Path
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Seen
from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.explanation import FieldExplanation
from steersman.kinds.fields import FIELDS
from steersman.kinds.policy import FactMissing, FactRead
from steersman.kinds.state import NodeState
from steersman.state.health.table import table_for

COMMON = (
    "id",
    "scope",
    "health",
    "health_reasons",
    "planned",
    "confidence",
    "freshness",
    "labels",
    "extra",
    "scheduler_domain",
    "workload_type",
)
"""Names that every entity has. `health_reasons` are the names of the health rules that spoke, `planned` the
planned states that hold."""
RESOURCE_FIELDS = (
    "status",
    "status_age_s",
    "desired_status",
    "desired_by",
    "desired_reason",
    "owner_id",
    "labels",
    "metadata",
    "holds",
    "operation",
    "converged",
)
"""What `resource.` has: the managed Node that stands for the entity, where there is one."""
GROUPS = ("entity", "resource", "conditions")
DEAD_SOURCE = ("failing", "silent", "unheard")


def names_of(entity_type: EntityType) -> frozenset[str]:
    """The first names that a policy for this type may use."""
    groups = GROUPS if entity_type is EntityType.NODE else ("entity",)
    return frozenset((*COMMON, *groups, *FIELDS[entity_type]))


def unknown_part(entity_type: EntityType, path: Path) -> tuple[str, Collection[str]] | None:
    """Where a path leads nowhere: the word that is no name, and the names there are; else None."""
    head, *rest = path
    fields = FIELDS[entity_type]
    if head == "entity":
        known = (*COMMON, *fields)
        return None if rest and rest[0] in known else (rest[0] if rest else "", known)
    if head == "resource":
        return None if rest and rest[0] in RESOURCE_FIELDS else (rest[0] if rest else "", RESOURCE_FIELDS)
    return None


class Signals:
    """One entity as an expression's lookup. `max_staleness_s` is the policy's bound on the age of what it
    reads."""

    def __init__(self, seen: Seen, now: datetime, max_staleness_s: float | None) -> None:
        self._seen = seen
        self._now = now
        self._max_staleness_s = max_staleness_s
        self._key = str(seen.entity.key)
        self._sources: dict[Path, tuple[str, float, str]] = {}

    def get(self, path: Path) -> Any:
        """The value at a path, or why there is none."""
        head, *rest = path
        if self._seen.explanation is None:
            return Lack(path, "absent", "the entity is gone")
        if head == "resource":
            return self._resource(path, rest)
        if head == "conditions":
            return self._condition(path, rest)
        if head == "entity":
            return self._entity(path, rest)
        return self._entity(path, [head, *rest])

    def fact(self, path: Path, value: Any) -> FactRead:
        """What was read, with its source and age."""
        source, age_s, unit = self._sources.get(path, ("", 0.0, ""))
        return FactRead(
            entity=self._key,
            field=".".join(path),
            value=value,
            unit=unit,
            source=source,
            age_s=max(0.0, age_s),
        )

    def lack(self, lack: Lack) -> FactMissing:
        """What could not be had, as a fact."""
        return FactMissing(entity=self._key, field=lack.name, why=lack.why, detail=lack.detail)

    def _entity(self, path: Path, rest: list[str]) -> Any:
        if not rest:
            return Lack(path, "error", "entity is read by one of its fields")
        name, inside = rest[0], rest[1:]
        if name == "labels" and inside:
            return self._label(path, inside)
        if name == "extra" and inside:
            return self._field(path, inside[0], inside[1:])
        if name in COMMON:
            return self._common(path, name)
        return self._field(path, name, inside)

    def _common(self, path: Path, name: str) -> Any:
        entity, explanation = self._seen.entity, self._seen.explanation
        assert explanation is not None  # noqa: S101 - `get` has looked
        age_s = explanation.freshness.age_s
        self._sources[path] = ("steersman", age_s, "")
        match name:
            case "health" | "health_reasons":
                if entity.health_state is HealthState.UNKNOWN:
                    why = "stale" if explanation.freshness.state != "fresh" else "absent"
                    reasons = "; ".join(reason.detail for reason in entity.health_reasons[:3])
                    return Lack(path, why, reasons or "its health is not known")
                self._sources[path] = (explanation.health.table or "steersman", age_s, "")
                if self._max_staleness_s is not None and age_s > self._max_staleness_s:
                    return Lack(path, "stale", f"the newest word about it is {age_s:.0f} s old")
                if name == "health":
                    return entity.health_state.value
                rules = explanation.health.unjudged.values()
                spoke = [one.rule for one in entity.health_reasons if one.health is not HealthState.UNKNOWN]
                return [*spoke, *self._outdated(path, {field for fields in rules for field in fields})]
            case "planned":
                states = table_for(entity.entity_type).planned
                hold = [condition.name for condition in explanation.health.conditions]
                return [*hold, *self._outdated(path, {field for one in states for field in one.fields()})]
            case "confidence":
                return entity.confidence_score
            case "freshness":
                return entity.freshness
            case "id":
                return entity.entity_id
            case "scope":
                return entity.scope
            case "labels":
                return dict(entity.labels)
            case "extra":
                lacks = self._outdated(path, entity.extra)
                return lacks[0] if lacks else dict(entity.extra)
            case _:
                word = str(getattr(entity, name))
                return Lack(path, "absent") if word == "unknown" else word

    def _outdated(self, path: Path, names: Iterable[str]) -> list[Lack]:
        """Which of these fields were known and can't be told now, as one lack: what a list was worked out
        from may have said more."""
        fields = self._seen.explanation.fields if self._seen.explanation is not None else {}
        for name in sorted(names):
            given = fields.get(name)
            lack = self._stale(path, given) if given is not None and given.value is not None else None
            if lack is not None:
                return [Lack(path, lack.why, f"{name}: {lack.detail}")]
        return []

    def _label(self, path: Path, rest: list[str]) -> Any:
        explanation = self._seen.explanation
        given = explanation.labels.get(".".join(rest)) if explanation is not None else None
        if given is None:
            return Lack(path, "absent", f"it has no label {'.'.join(rest)}")
        self._sources[path] = (given.source, (self._now - given.observed_at).total_seconds(), "")
        return given.value

    def _field(self, path: Path, name: str, inside: list[str]) -> Any:
        explanation = self._seen.explanation
        given = explanation.fields.get(name) if explanation is not None else None
        if given is None or given.value is None:
            cleared = given is not None and given.cleared
            return Lack(
                path, "absent", "its source says that it is no more" if cleared else "nobody reports it"
            )
        stale = self._stale(path, given)
        if stale is not None:
            return stale
        self._sources[path] = (given.source, given.age_s, given.unit)
        return _inside(path, given.value, inside)

    def _stale(self, path: Path, given: FieldExplanation) -> Lack | None:
        if given.freshness != "fresh":
            explanation = self._seen.explanation
            sources = explanation.sources if explanation is not None else ()
            dead = any(one.name == given.source and one.state in DEAD_SOURCE for one in sources)
            return Lack(
                path, "source_down" if dead else "stale", f"{given.source} said it {given.age_s:.0f} s ago"
            )
        if self._max_staleness_s is not None and given.age_s > self._max_staleness_s:
            return Lack(
                path,
                "stale",
                f"{given.age_s:.0f} s old; the policy takes nothing older than {self._max_staleness_s:g} s",
            )
        return None

    def _resource(self, path: Path, rest: list[str]) -> Any:
        node = self._seen.node
        if node is None:
            return Lack(path, "absent", "no managed node stands for it")
        if not rest:
            return Lack(path, "error", "resource is read by one of its fields")
        self._sources[path] = ("ledger", 0.0, "")
        return _inside(path, _resource_value(node, rest[0], self._now), rest[1:])

    def _condition(self, path: Path, rest: list[str]) -> Any:
        node = self._seen.node
        condition = node.condition(rest[0]) if node is not None and len(rest) == 1 else None
        if condition is None:
            return Lack(path, "absent", "nobody has reported it")
        self._sources[path] = (condition.source, (self._now - condition.observed_at).total_seconds(), "")
        if condition.status is Truth.UNKNOWN:
            return Lack(path, "stale", condition.message or condition.reason)
        return condition.status is Truth.TRUE


def _inside(path: Path, value: Any, parts: list[str]) -> Any:
    for part in parts:
        if not isinstance(value, Mapping) or part not in value:
            return Lack(path, "absent", f"it has no {part!r}")
        value = cast("Mapping[str, Any]", value)[part]
    return Lack(path, "absent") if value is None else value


def _resource_value(node: NodeState, name: str, now: datetime) -> Any:
    """Nobody's intent is the empty text: that nobody has said anything is known."""
    match name:
        case "status_age_s":
            return max(0.0, (now - node.status_since).total_seconds())
        case "desired_status":
            return node.desired_status or ""
        case "holds":
            return [hold.name for hold in node.holds if hold.is_alive(now)]
        case "operation":
            return node.operation.phase.value if node.operation is not None else "idle"
        case "converged":
            return node.is_converged()
        case "labels" | "metadata":
            return dict(getattr(node, name))
        case _:
            return getattr(node, name, None)
