"""How current a field is, and an entity as a whole (decision 0010).

A field is *fresh*, *stale* or *expired* by its age against the cadence of the source that has it, and by its
pace. What was said by a source that speaks only of changes holds while that source lives.
"""

from __future__ import annotations

from msgspec import Struct

from steersman.kinds.entity import EVENT, SLOW, STATIC, VOLATILE, EntityType
from steersman.kinds.fields import FIELDS
from steersman.state.layer import CLEARED, Arrival, Layer, Written, age_s, written_fields
from steersman.state.sources import DEAD_AFTER_CADENCES

FRESH = "fresh"
STALE = "stale"
EXPIRED = "expired"

FRESH_CADENCES = 2.0
STALE_CADENCES = 5.0
SLOW_FACTOR = 10.0
"""A slow field ages ten times more slowly: a replica count seen five minutes ago is still a good one at a
cadence of 15 s, where a latency is long out of date."""

_NO_CHANGE = float("inf")


class FieldFreshness(Struct, frozen=True):
    """One field: its age, its class, and what it was judged by."""

    age_s: float
    state: str
    pace: str
    source: str


class Freshness(Struct, frozen=True):
    """An entity: `age_s` is that of its newest observation.

    `state`: expired where nothing is still current; fresh where every expected field that is known is fresh;
    stale between the two. Fields of pace `event` do not count.
    """

    state: str
    age_s: float
    fields: dict[str, FieldFreshness]


def pace_of(entity_type: EntityType, name: str) -> str:
    """A field's pace; an undeclared field is taken as volatile, the cautious guess."""
    spec = FIELDS[entity_type].get(name)
    if spec is not None:
        return spec.pace
    return STATIC if name in _STATIC_COMMON else VOLATILE


_STATIC_COMMON = frozenset({"scheduler_domain", "workload_type"})
_EXPECTED = {
    entity_type: frozenset(spec.name for spec in specs.values() if spec.expected)
    for entity_type, specs in FIELDS.items()
}


def judge_field(written: Written, pace: str, now: Arrival) -> tuple[str, float]:
    """A field's class now, and in how many seconds it changes if nothing is heard (infinite: not by time)."""
    source = written.layer.source
    cadence, lag = source.cadence_s, source.lag_s
    if pace in (STATIC, EVENT):
        left = DEAD_AFTER_CADENCES * cadence + lag - source.silence_s(now)
        return (FRESH, left) if left >= 0 else (EXPIRED, _NO_CHANGE)
    age = age_s(written.stamp, now)
    if not source.info.repeats:
        age = min(age, source.silence_s(now))
    if pace == SLOW:
        cadence *= SLOW_FACTOR
    if age <= FRESH_CADENCES * cadence + lag:
        return FRESH, FRESH_CADENCES * cadence + lag - age
    if age <= STALE_CADENCES * cadence + lag:
        return STALE, STALE_CADENCES * cadence + lag - age
    return EXPIRED, _NO_CHANGE


def roll_up(
    entity_type: EntityType, layers: tuple[Layer, ...], now: Arrival, fields: dict[str, Written] | None = None
) -> tuple[str, float]:
    """An entity's class now, and in how many seconds it may change if nothing is heard."""
    if fields is None:
        fields = written_fields(layers)
    expected = _EXPECTED[entity_type]
    specs = FIELDS[entity_type]
    counted = 0
    any_current = any_expected = False
    all_expired = expected_fresh = True
    change_s = _NO_CHANGE
    for name, written in fields.items():
        spec = specs.get(name)
        pace = spec.pace if spec is not None else pace_of(entity_type, name)
        if written.value is CLEARED or pace == EVENT:
            continue
        counted += 1
        state, left_s = judge_field(written, pace, now)
        change_s = min(change_s, left_s)
        any_current = any_current or state == FRESH
        all_expired = all_expired and state == EXPIRED
        if name in expected:
            any_expected = True
            expected_fresh = expected_fresh and state == FRESH
    if not counted:
        return _by_word(layers, now)
    if all_expired:
        return EXPIRED, change_s
    if expected_fresh if any_expected else any_current:
        return FRESH, change_s
    return STALE, change_s


def _by_word(layers: tuple[Layer, ...], now: Arrival) -> tuple[str, float]:
    """An entity of which only events, or nothing but its existence, is known: is it still spoken of?"""
    best, change_s = EXPIRED, _NO_CHANGE
    for layer in layers:
        state, left_s = judge_field(Written(None, layer, layer), VOLATILE, now)
        change_s = min(change_s, left_s)
        if state == FRESH or best == EXPIRED:
            best = state
    return best, change_s


def freshness_of(entity_type: EntityType, layers: tuple[Layer, ...], now: Arrival) -> Freshness:
    """The whole report for one entity."""
    fields = written_fields(layers)
    state, _ = roll_up(entity_type, layers, now, fields)
    report: dict[str, FieldFreshness] = {}
    for name, written in fields.items():
        if written.value is CLEARED:
            continue
        pace = pace_of(entity_type, name)
        field_state, _ = judge_field(written, pace, now)
        report[name] = FieldFreshness(age_s(written.stamp, now), field_state, pace, written.layer.source.name)
    return Freshness(state, min((age_s(layer, now) for layer in layers), default=0.0), report)
