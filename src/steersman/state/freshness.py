"""How current a field is, and an entity as a whole (decision 0010).

A field is *fresh*, *stale* or *expired* by its age against the cadence of the source that has it, and by its
pace. What was said by a source that speaks only of changes holds while that source lives, and nothing that a
dead source said is fresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from types import MappingProxyType
from typing import Any, NamedTuple

from steersman.kinds.entity import EVENT, SLOW, STATIC, VOLATILE, EntityType
from steersman.kinds.explanation import FieldFreshness, Freshness
from steersman.kinds.fields import FIELDS
from steersman.state.layer import CLEARED, Arrival, Layer, Written, age_s, written_fields
from steersman.state.sources import DEAD_AFTER_CADENCES, FRESH_CADENCES

FRESH = "fresh"
STALE = "stale"
EXPIRED = "expired"

STALE_CADENCES = 5.0
SLOW_FACTOR = 10.0
"""A slow field ages ten times more slowly: a replica count seen five minutes ago is still a good one at a
cadence of 15 s, where a latency is long out of date."""

_NO_CHANGE = float("inf")
_NONE_LATE: Mapping[str, str] = MappingProxyType({})


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
    alive_s = DEAD_AFTER_CADENCES * cadence + lag - source.silence_s(now)
    if pace in (STATIC, EVENT):
        return (FRESH, alive_s) if alive_s >= 0 else (EXPIRED, _NO_CHANGE)
    age = age_s(written.stamp, now)
    if not source.info.repeats:
        age = min(age, source.silence_s(now))
    if pace == SLOW:
        cadence *= SLOW_FACTOR
    if age <= FRESH_CADENCES * cadence + lag and alive_s >= 0:
        return FRESH, min(FRESH_CADENCES * cadence + lag - age, alive_s)
    if age <= STALE_CADENCES * cadence + lag:
        return STALE, STALE_CADENCES * cadence + lag - age
    return EXPIRED, _NO_CHANGE


class Standing(NamedTuple):
    """Where an entity stands: its values, the class of each, and the class of the whole.

    `values` is not to be changed: it may be a fragment's own dict. `classes` are those of its values, None
    where all are fresh; `late` has those that are not. `change_s` is in how many seconds a class
    may change if nothing is heard, or earlier; infinite where time changes nothing. `lingering` are the
    fields that are out of date because their source no longer speaks of the entity at all. One that goes on
    speaking and leaves a field out says that there is no such value now; from silence nothing follows.
    """

    values: Mapping[str, Any]
    classes: Mapping[str, str] | None
    state: str
    change_s: float
    late: Mapping[str, str] = _NONE_LATE
    lingering: frozenset[str] = frozenset()

    @property
    def states(self) -> Mapping[str, str]:
        """The class of each value. Made when asked for where all are fresh, as nearly always."""
        return self.classes if self.classes is not None else dict.fromkeys(self.values, FRESH)

    @property
    def signature(self) -> str:
        """All classes in one word: what silence may change, and what subscribers are then told of. Equal to
        `state` where every field is fresh."""
        if not self.late:
            return self.state
        late = [
            f"{name} {state}{' lingers' if name in self.lingering else ''}"
            for name, state in self.late.items()
        ]
        return intern(f"{self.state}: {', '.join(late)}")


def standing_of(
    entity_type: EntityType, layers: tuple[Layer, ...], now: Arrival, fields: dict[str, Written] | None = None
) -> Standing:
    """Judge all fields and the whole. `fields` is `written_fields(layers)`, where the caller has it."""
    if len(layers) == 1 and layers[0].stamps is None and not layers[0].fragment.clear:
        # All fields are of one age. If a volatile one would be fresh then every pace is: the others allow
        # more, and a source was heard no earlier than its fragment came.
        layer = layers[0]
        state, left_s = judge_field(Written(None, layer, layer), VOLATILE, now)
        if state == FRESH:
            values = layer.fragment.fields
            return Standing(values, None, FRESH, left_s)
    if fields is None:
        fields = written_fields(layers)
    expected = _EXPECTED[entity_type]
    values: dict[str, Any] = {}
    states: dict[str, str] = {}
    counted = 0
    any_current = any_expected = False
    all_expired = expected_fresh = True
    change_s = _NO_CHANGE
    for name, written in fields.items():
        if written.value is CLEARED:
            continue
        pace = pace_of(entity_type, name)
        state, left_s = judge_field(written, pace, now)
        values[name] = written.value
        states[name] = state
        change_s = min(change_s, left_s)
        if pace == EVENT:
            continue
        counted += 1
        any_current = any_current or state == FRESH
        all_expired = all_expired and state == EXPIRED
        if name in expected:
            any_expected = True
            expected_fresh = expected_fresh and state == FRESH
    if not counted:
        state, left_s = _by_word(layers, now)
        change_s = min(change_s, left_s)
    elif all_expired:
        state = EXPIRED
    elif expected_fresh if any_expected else any_current:
        state = FRESH
    else:
        state = STALE
    late = {name: state for name, state in states.items() if state != FRESH}
    if not late:
        return Standing(values, states, state, change_s)
    speaking, left_s = _speaking(layers, now)
    lingering = frozenset(name for name in late if fields[name].layer.source.name not in speaking)
    return Standing(values, states, state, min(change_s, left_s), late, lingering)


def _speaking(layers: tuple[Layer, ...], now: Arrival) -> tuple[set[str], float]:
    """The sources that still speak of the entity, and in how many seconds the first of them may no longer."""
    names: set[str] = set()
    change_s = _NO_CHANGE
    for layer in layers:
        state, left_s = judge_field(Written(None, layer, layer), VOLATILE, now)
        if state == FRESH:
            names.add(layer.source.name)
            change_s = min(change_s, left_s)
    return names, change_s


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
    state = standing_of(entity_type, layers, now, fields).state
    report: dict[str, FieldFreshness] = {}
    for name, written in fields.items():
        if written.value is CLEARED:
            continue
        pace = pace_of(entity_type, name)
        field_state, _ = judge_field(written, pace, now)
        report[name] = FieldFreshness(age_s(written.stamp, now), field_state, pace, written.layer.source.name)
    return Freshness(state, min((age_s(layer, now) for layer in layers), default=0.0), report)
