"""Which policies can never say anything, because nobody collects what they read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from steersman.decide.rules import CompiledPolicy
from steersman.decide.signals import COMMON, GROUPS
from steersman.kinds.entity import EntityType
from steersman.kinds.policy import Policy


class Coverage(Struct, frozen=True, kw_only=True):
    """One policy: the signals it reads, and those that no source reports of any entity of its type now.

    `blind`: nothing of its type is known at all, or each of its signals is missing. A policy with some
    missing signals may still speak, where the others decide.
    """

    policy: str
    entity_type: EntityType
    reads: tuple[str, ...]
    missing: tuple[str, ...]
    blind: bool


def coverage(policies: Sequence[Policy], collected: Mapping[EntityType, Collection[str]]) -> list[Coverage]:
    """The report. `collected` are the fields that are reported now, by entity type; a type that is not there
    has no entity."""
    report: list[Coverage] = []
    for policy in policies:
        kind = policy.match.entity_type
        known = collected.get(kind)
        fields = {_field(*path) for path in CompiledPolicy(policy).when.paths}
        signals = sorted(field for field in fields if field)
        missing = [name for name in signals if known is None or name not in known]
        report.append(
            Coverage(
                policy=policy.name,
                entity_type=kind,
                reads=tuple(signals),
                missing=tuple(missing),
                blind=known is None
                or (bool(signals) and len(missing) == len(signals) and len(fields) == len(signals)),
            )
        )
    return report


def _field(head: str, *rest: str) -> str:
    """The entity's field that a path reads; empty for what every entity has."""
    name = rest[0] if head == "entity" and rest else head
    return "" if name in COMMON or head in GROUPS[1:] else name
