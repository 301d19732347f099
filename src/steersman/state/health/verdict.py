"""From an entity's signals to its health, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from msgspec import Struct

from steersman.kinds.entity import EntityType, HealthReason, HealthState
from steersman.state.health.table import Check, Planned, Rule, Signals, Table, check_of, table_for

_SEVERITY = {
    HealthState.HEALTHY: 0,
    HealthState.UNKNOWN: 1,
    HealthState.WARNING: 2,
    HealthState.DEGRADED: 3,
    HealthState.CRITICAL: 4,
}


class Condition(Struct, frozen=True):
    """A planned state that holds: its name and why."""

    name: str
    detail: str


class HealthVerdict(Struct, frozen=True):
    """An entity's health.

    - `reasons`: the rules that spoke, worst first; where none did, what it rests on or what is missing.
    - `conditions`: planned states that hold.
    - `unjudged`: rules that could not be judged, each with the signals that are missing or out of date.
    - `table`: the table and its version.
    """

    health: HealthState
    reasons: tuple[HealthReason, ...]
    conditions: tuple[Condition, ...]
    unjudged: dict[str, tuple[str, ...]]
    table: str


class _Compiled:
    """A table with its checks."""

    __slots__ = ("planned", "rules", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rules: list[tuple[Rule, Check]] = [(rule, check_of(rule)) for rule in table.rules]
        self.planned: list[tuple[Planned, Check]] = [(entry, check_of(entry)) for entry in table.planned]


@cache
def _compiled(entity_type: EntityType) -> _Compiled:
    return _Compiled(table_for(entity_type))


def health_of(
    entity_type: EntityType, signals: Signals, now: datetime, outdated: Mapping[str, str] | None = None
) -> HealthVerdict:
    """The verdict. `signals` are the current fields; `outdated` names those that are known but stale or
    expired, for the reasons."""
    outdated = outdated or {}
    compiled = _compiled(entity_type)
    table = compiled.table
    conditions = tuple(
        Condition(entry.name, _fill(entry.detail, signals))
        for entry, check in compiled.planned
        if check(signals, now) is True
    )
    if conditions:
        hidden = {entry.name for entry in table.planned if entry.unknown}
        for condition in conditions:
            if condition.name in hidden:
                reason = HealthReason(condition.name, HealthState.UNKNOWN, condition.detail)
                return HealthVerdict(HealthState.UNKNOWN, (reason,), conditions, {}, table.name)
    reasons: list[HealthReason] = []
    unjudged: dict[str, tuple[str, ...]] = {}
    for rule, check in compiled.rules:
        if conditions and rule.unless_planned:
            continue
        answer = check(signals, now)
        if answer is True:
            reasons.append(HealthReason(rule.name, rule.health, _fill(rule.detail, signals)))
        elif answer is None:
            unjudged[rule.name] = tuple(name for name in rule.fields() if name not in signals)
    if reasons:
        reasons.sort(
            key=lambda reason: -_SEVERITY[reason.health]
        )  # stable: the table's order within a health
        health = reasons[0].health
    else:
        health, reason = _without_rule(table, signals, outdated)
        reasons = [reason]
    planned = (HealthReason(c.name, HealthState.HEALTHY, c.detail) for c in conditions)
    return HealthVerdict(health, (*reasons, *planned), conditions, unjudged, table.name)


def _without_rule(
    table: Table, signals: Signals, outdated: Mapping[str, str]
) -> tuple[HealthState, HealthReason]:
    """No rule speaks: healthy where the evidence is there, else unknown; which signals decides it."""
    for group in table.evidence:
        if not any(name in signals for name in group):
            old = [f"{name} is {outdated[name]}" for name in group if name in outdated]
            said = "; ".join(old) if old else f"no current {' or '.join(group)}"
            return HealthState.UNKNOWN, HealthReason("no_evidence", HealthState.UNKNOWN, said)
    seen = sorted({name for group in table.evidence for name in group if name in signals})
    detail = f"no rule speaks against it; seen: {', '.join(seen)}" if seen else "no rule speaks against it"
    return HealthState.HEALTHY, HealthReason("no_fault_seen", HealthState.HEALTHY, detail)


def _fill(detail: str, signals: Signals) -> str:
    """The detail with `{field}` replaced; a plain replacement, so that a value is never read as a format."""
    if "{" not in detail:
        return detail
    parts: list[str] = []
    for chunk in detail.split("{"):
        name, closed, rest = chunk.partition("}")
        parts.append(_shown(signals.get(name)) + rest if closed else chunk)
    return "".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
