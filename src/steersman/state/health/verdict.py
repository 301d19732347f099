"""From an entity's signals to its health, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, cast

from steersman.kernel.clock import iso_utc
from steersman.kinds.entity import EntityType, HealthReason, HealthState
from steersman.kinds.explanation import HealthVerdict, PlannedState
from steersman.kinds.fields import FIELDS
from steersman.state.health.table import (
    FIELD_IN_DETAIL,
    OPTIONAL_PART,
    REPORTED_HEALTH,
    Planned,
    Signals,
    Table,
    check_of,
    may_hold,
    table_for,
)

SHARE_UNIT = "1"
"""UCUM's unit of a share: 0.985 is shown as 98.5 %."""
SHOWN_MAX_CHARS = 120
SHORTLISTS_MAX = 1024
"""Sets of field names for each type of which the rules that may speak are remembered."""
_EXPONENT_FROM = 10_000.0

_SEVERITY = {
    HealthState.HEALTHY: 0,
    HealthState.UNKNOWN: 1,
    HealthState.WARNING: 2,
    HealthState.DEGRADED: 3,
    HealthState.CRITICAL: 4,
}


class _Shortlist:
    """What of a table can speak of an entity of which these fields are known. Most rules are about fields
    that it does not have; `no_fault` is what is said where none of the others speaks, None where the evidence
    for that is not there."""

    __slots__ = ("no_fault", "planned", "rules")

    def __init__(self, compiled: _Compiled, given: tuple[str, ...]) -> None:
        names = frozenset(given)
        self.rules = [entry for entry in compiled.rules if may_hold(entry[0], names)]
        self.planned = [entry for entry in compiled.planned if may_hold(entry[0], names)]
        groups = compiled.table.evidence
        enough = REPORTED_HEALTH in names or not any(names.isdisjoint(group) for group in groups)
        seen = tuple(name for group in (*groups, (REPORTED_HEALTH,)) for name in group if name in names)
        self.no_fault = (_no_fault(seen),) if enough else None


class _Compiled:
    """A table with its checks."""

    __slots__ = ("_shortlists", "planned", "rules", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rules = [(rule, check_of(rule), frozenset(rule.fields())) for rule in table.rules]
        self.planned = [(entry, check_of(entry)) for entry in table.planned]
        self._shortlists: dict[tuple[str, ...], _Shortlist] = {}

    def shortlist(self, signals: Signals) -> _Shortlist:
        """Those entries that can hold by these signals' names; remembered, because a source says the same of
        all its entities."""
        names = tuple(signals)
        found = self._shortlists.get(names)
        if found is None:
            if len(self._shortlists) >= SHORTLISTS_MAX:
                self._shortlists.clear()
            found = self._shortlists[names] = _Shortlist(self, names)
        return found


def forget_tables() -> None:
    """Read tables anew: what they say was changed."""
    _compiled.cache_clear()
    is_timed.cache_clear()


@cache
def _compiled(entity_type: EntityType) -> _Compiled:
    return _Compiled(table_for(entity_type))


def judge_health(
    entity_type: EntityType, signals: Signals, now: datetime, outdated: Mapping[str, str], known: Signals
) -> tuple[HealthState, tuple[HealthReason, ...]]:
    """Health and reasons. `signals` are the current fields; `outdated` gives the class of those that are
    known but stale or expired; `known` has the current values, and the last words of those who no longer
    speak of the entity."""
    compiled = _compiled(entity_type)
    shortlist = compiled.shortlist(signals)
    conditions = _planned(shortlist, entity_type, signals, now) if shortlist.planned else ()
    for entry, condition in conditions:
        if entry.unknown:
            return HealthState.UNKNOWN, (HealthReason(entry.name, HealthState.UNKNOWN, condition.detail),)
    reasons: list[HealthReason] = []
    planned = {condition.name for _, condition in conditions}
    for rule, check, _ in shortlist.rules:
        if check(signals, now) is True and planned.isdisjoint(rule.unless_planned):
            reasons.append(HealthReason(rule.name, rule.health, fill(rule.detail, entity_type, signals)))
    if not reasons:
        if shortlist.no_fault is not None and not outdated and not conditions:
            return HealthState.HEALTHY, shortlist.no_fault
        reasons += shortlist.no_fault or (_no_evidence(compiled.table, signals, outdated),)
    lingering = _last_fault(compiled, now, outdated, known) if outdated else None
    if lingering is not None:
        reasons = [reason for reason in reasons if reason.health is not HealthState.HEALTHY]
        reasons.append(lingering)
    reasons.sort(key=_by_severity)  # stable: the table's order within a health
    health = reasons[0].health
    reasons += [HealthReason(c.name, HealthState.HEALTHY, c.detail) for _, c in conditions]
    return health, tuple(reasons)


def health_of(
    entity_type: EntityType,
    signals: Signals,
    now: datetime,
    outdated: Mapping[str, str] | None = None,
    known: Signals | None = None,
) -> HealthVerdict:
    """The whole verdict, with what could not be judged. See `judge_health`; where nothing is out of date,
    the last two may be left out."""
    compiled = _compiled(entity_type)
    health, reasons = judge_health(entity_type, signals, now, outdated or {}, known or signals)
    conditions = _planned(compiled.shortlist(signals), entity_type, signals, now)
    planned = {condition.name for _, condition in conditions}
    unjudged: dict[str, tuple[str, ...]] = {}
    for rule, check, _ in compiled.rules:
        if planned.isdisjoint(rule.unless_planned) and check(signals, now) is None:
            unjudged[rule.name] = tuple(name for name in rule.fields() if name not in signals)
    return HealthVerdict(health, reasons, tuple(c for _, c in conditions), unjudged, compiled.table.name)


@cache
def is_timed(entity_type: EntityType) -> bool:
    """Whether a rule of that type reads the clock, so that health may change with no field changing."""
    table = table_for(entity_type)
    tests = (t for entry in (*table.rules, *table.planned) for t in (*entry.all, *entry.any, *entry.unless))
    return any(test.timed for test in tests)


def _planned(
    shortlist: _Shortlist, entity_type: EntityType, signals: Signals, now: datetime
) -> tuple[tuple[Planned, PlannedState], ...]:
    return tuple(
        (entry, PlannedState(entry.name, fill(entry.detail, entity_type, signals)))
        for entry, check in shortlist.planned
        if check(signals, now) is True
    )


def _by_severity(reason: HealthReason) -> int:
    return -_SEVERITY[reason.health]


def _no_evidence(table: Table, signals: Signals, outdated: Mapping[str, str]) -> HealthReason:
    """No rule speaks, and the signals that would let it be called healthy are not there, or not current."""
    group = next(group for group in table.evidence if not any(name in signals for name in group))
    old = [f"{name} is {outdated[name]}" for name in group if name in outdated]
    said = "; ".join(old) if old else f"no current {' or '.join(group)}"
    return HealthReason("no_evidence", HealthState.UNKNOWN, said)


@lru_cache(maxsize=1024)
def _no_fault(seen: tuple[str, ...]) -> HealthReason:
    said = (
        f"no rule speaks against it; seen: {', '.join(sorted(set(seen)))}" if seen else "nothing is expected"
    )
    return HealthReason("no_fault_seen", HealthState.HEALTHY, said)


def _last_fault(
    compiled: _Compiled, now: datetime, outdated: Mapping[str, str], known: Signals
) -> HealthReason | None:
    """The worst fault that was last said by signals that are out of date now. That its source fell silent
    does not end a fault: nobody knows whether it is over, however healthy the rest looks."""
    shortlist, entity_type = compiled.shortlist(known), compiled.table.entity_type
    planned = {condition.name for _, condition in _planned(shortlist, entity_type, known, now)}
    spoke = [
        rule
        for rule, check, fields in shortlist.rules
        if not fields.isdisjoint(outdated)
        and planned.isdisjoint(rule.unless_planned)
        and check(known, now) is True
    ]
    if not spoke:
        return None
    worst = max(spoke, key=lambda rule: _SEVERITY[rule.health])
    old = ", ".join(f"{name} is {outdated[name]}" for name in worst.fields() if name in outdated)
    said = fill(worst.detail, entity_type, known)
    return HealthReason("fault_not_seen_gone", HealthState.UNKNOWN, f"{old}; its last word: {said}")


def fill(detail: str, entity_type: EntityType, signals: Signals) -> str:
    """The detail of an entry with `{field}` replaced by its value, for people. `[...]` is left out where a
    field in it has no value. A plain replacement, so that a value is never read as a format."""
    if "{" not in detail:
        return detail
    parts: list[str] = []
    for part in OPTIONAL_PART.split(detail):
        optional = part.startswith("[")
        chunks = FIELD_IN_DETAIL.split(part[1:-1] if optional else part)
        if optional and any(signals.get(name) is None for name in chunks[1::2]):
            continue
        specs = FIELDS[entity_type]
        for place, chunk in enumerate(chunks):
            spec = specs.get(chunk) if place % 2 else None
            parts.append(_shown(signals.get(chunk), spec.unit if spec else "") if place % 2 else chunk)
    return "".join(parts)


def _shown(value: Any, unit: str) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if unit == SHARE_UNIT:
            return f"{_number(value * 100.0)} %"
        return str(value) if isinstance(value, int) else _number(value)
    if isinstance(value, datetime):
        return iso_utc(value)
    text = ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= SHOWN_MAX_CHARS else f"{text[: SHOWN_MAX_CHARS - 3]}..."


def _number(value: float) -> str:
    """Four digits, without an exponent where people would not write one."""
    return f"{value:.4g}" if abs(value) < _EXPONENT_FROM else f"{value:.0f}"
