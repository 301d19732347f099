"""Which policies can never say anything, because nobody collects what they read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from steersman.decide.rules import CompiledPolicy
from steersman.decide.signals import COMMON, GROUPS
from steersman.kernel.cel import Path
from steersman.kinds.advice import PolicySignals
from steersman.kinds.entity import EntityType
from steersman.kinds.policy import Policy


def coverage(
    policies: Sequence[Policy], collected: Mapping[EntityType, Collection[str]]
) -> list[PolicySignals]:
    """The report. `collected` are the fields that are reported now, by entity type; a type that is not there
    has no entity. A policy with missing signals may still speak, where others decide."""
    report: list[PolicySignals] = []
    for policy in policies:
        kind = policy.match.entity_type
        known = collected.get(kind)
        when = CompiledPolicy(policy).when
        signals = _fields(when.paths)
        missing = signals.difference(known or ())
        report.append(
            PolicySignals(
                policy=policy.name,
                entity_type=kind.value,
                reads=tuple(sorted(signals)),
                missing=tuple(sorted(missing)),
                blind=known is None or not missing.isdisjoint(_fields(when.needed)),
            )
        )
    return report


def _fields(paths: Iterable[Path]) -> set[str]:
    """The entity's fields that paths read, without what every entity has."""
    return {field for path in paths if (field := _field(*path))}


def _field(head: str, *rest: str) -> str:
    """The entity's field that a path reads; empty for what every entity has."""
    name = rest[0] if head == "entity" and rest else head
    return "" if name in COMMON or head in GROUPS[1:] else name
