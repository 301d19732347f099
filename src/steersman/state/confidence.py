"""How far an entity's picture can be trusted: 0 to 1, in four items that multiply (decision 0010).

- *freshness*: mean over the fields that count (the expected ones that are known; where none is, all):
  fresh 1, stale 0.5, expired 0.
- *coverage*: expected fields that are known, of all expected ones; whatever else is known (events apart)
  counts as one more that was expected and is there. A type that expects none has 1.
- *sources*: mean over the sources that hold a field: alive 1, last attempt failed 0.7, dead 0.
- *agreement*: of the fields that at least two living sources speak of, the share on which they agree; those
  in which each source speaks of its own (`own` in `kinds.entity`) are left out.

The same fragments, sources and time give the same score: nothing is learned and nothing is random.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from steersman.kinds.entity import EVENT, EntityType
from steersman.kinds.explanation import Confidence, ConfidenceItem
from steersman.kinds.fields import FIELDS, REFERENCES, spec_of
from steersman.state.freshness import FRESH, STALE, judge_field, pace_of
from steersman.state.layer import CLEARED, Arrival, Layer, Stamp, Written, beats, said_fields

Refer = Callable[[EntityType, str], str]
"""The id of the entity that a name of that type means."""

WEIGHTS = {FRESH: 1.0, STALE: 0.5}
FAILING_SCORE = 0.7
"""One failed attempt costs less than a stale value: what was said last still stands."""
TOLERANCE = 0.05
"""Two numbers within 5 % of the larger one agree: two samplers never look at the same instant."""
TIME_NEAR = timedelta(seconds=5)
"""Two machines whose clocks NTP keeps, and a time that is worked out from an age, differ by less."""
_DIGITS = 4
SCORES_MAX = 4096
"""Scores that are remembered, of sets of fields and their classes."""

_EXPECTED = {
    entity_type: tuple(spec.name for spec in specs.values() if spec.expected)
    for entity_type, specs in FIELDS.items()
}


def confidence_of(
    entity_type: EntityType,
    layers: tuple[Layer, ...],
    now: Arrival,
    fields: dict[str, Written],
    states: Mapping[str, str] | None = None,
    refer: Refer | None = None,
) -> Confidence:
    """The score of an entity. `states` are the classes of its fields, where the caller has them already;
    `refer` tells which entity a reference means, where things have several names."""
    known = {name: w for name, w in fields.items() if w.value is not CLEARED}
    if states is None:
        states = {n: judge_field(w, pace_of(entity_type, n), now)[0] for n, w in known.items()}
    items = (
        _freshness(entity_type, known, states),
        _coverage(entity_type, known),
        _sources(known, layers, now),
        _agreement(entity_type, layers, now, refer),
    )
    score = 1.0
    for item in items:
        score *= item.score
    return Confidence(round(score, _DIGITS), items)


def score_of_one(
    entity_type: EntityType, layer: Layer, states: Mapping[str, str] | None, now: Arrival, *, fresh: float
) -> float:
    """The score alone, for the common entity that one source knows; equal to `confidence_of(...).score`.
    `states` is None where all fields are fresh; `fresh` is `score_of_fresh` of them."""
    score = fresh
    if states is not None:
        score = _score_of_fields(entity_type, tuple(states), tuple(states.values()))
    return round(score * round(_trust(layer, now), _DIGITS), _DIGITS)


def score_of_fresh(entity_type: EntityType, names: tuple[str, ...]) -> float:
    """Freshness by coverage of an entity of which these fields are known, all of them fresh."""
    return _score_of_fields(entity_type, names, (FRESH,) * len(names))


@lru_cache(maxsize=SCORES_MAX)
def _score_of_fields(entity_type: EntityType, names: tuple[str, ...], states: tuple[str, ...]) -> float:
    """Freshness by coverage, which hang on nothing but the names of the fields and their classes. A source
    says the same of all its entities, so most of a fleet shares a few of them."""
    by_name = dict(zip(names, states, strict=True))
    expected = _EXPECTED[entity_type]
    known = [name for name in expected if name in by_name]
    counted = known or [name for name in names if pace_of(entity_type, name) != EVENT]
    total = 0.0
    for name in counted:
        total += WEIGHTS.get(by_name[name], 0.0)
    score = round(total / len(counted), _DIGITS) if counted else 0.0
    return score * _share(entity_type, by_name) if expected else score


def _freshness(
    entity_type: EntityType, known: dict[str, Written], states: Mapping[str, str]
) -> ConfidenceItem:
    counted = [name for name in _EXPECTED[entity_type] if name in known]
    of = "expected fields"
    if not counted:
        counted = [name for name in known if pace_of(entity_type, name) != EVENT]
        of = "fields"
    if not counted:
        return ConfidenceItem("freshness", 0.0, "nothing is known")
    score = sum(WEIGHTS.get(states[name], 0.0) for name in counted) / len(counted)
    fresh = sum(states[name] == FRESH for name in counted)
    late = [f"{name} {states[name]}" for name in counted if states[name] != FRESH]
    detail = f"{fresh} of {len(counted)} {of} are fresh" + (f" ({', '.join(late)})" if late else "")
    return ConfidenceItem("freshness", round(score, _DIGITS), detail)


def _coverage(entity_type: EntityType, known: dict[str, Written]) -> ConfidenceItem:
    expected = _EXPECTED[entity_type]
    if not expected:
        return ConfidenceItem("coverage", 1.0, "no field is expected of this type")
    missing = [name for name in expected if name not in known]
    detail = f"{len(expected) - len(missing)} of {len(expected)} expected fields are known"
    detail += f" (missing: {', '.join(missing)})" if missing else ""
    detail += ", and others are" if _has_others(entity_type, known) else ""
    return ConfidenceItem("coverage", _share(entity_type, known), detail)


def _share(entity_type: EntityType, known: Collection[str]) -> float:
    """The score of coverage. That a service is up is worth something where its latency is not known."""
    expected = _EXPECTED[entity_type]
    there = sum(name in known for name in expected)
    others = _has_others(entity_type, known)
    return round((there + others) / (len(expected) + others), _DIGITS)


def _has_others(entity_type: EntityType, known: Collection[str]) -> bool:
    expected = _EXPECTED[entity_type]
    return any(name not in expected and pace_of(entity_type, name) != EVENT for name in known)


def _sources(known: dict[str, Written], layers: tuple[Layer, ...], now: Arrival) -> ConfidenceItem:
    holders = {w.layer.source.name: w.layer for w in known.values()}
    if not holders:
        holders = {layer.source.name: layer for layer in layers}
    scores = {name: _trust(layer, now) for name, layer in sorted(holders.items())}
    if not scores:
        return ConfidenceItem("sources", 0.0, "no source speaks of it")
    detail = ", ".join(f"{name} {_WORDS[score]}" for name, score in scores.items())
    return ConfidenceItem("sources", round(sum(scores.values()) / len(scores), _DIGITS), detail)


_WORDS = {0.0: "silent", FAILING_SCORE: "failing", 1.0: "alive"}


def _trust(layer: Layer, now: Arrival) -> float:
    source = layer.source
    if source.is_dead(now):
        return 0.0
    return FAILING_SCORE if source.failures else 1.0


def _agreement(
    entity_type: EntityType, layers: tuple[Layer, ...], now: Arrival, refer: Refer | None
) -> ConfidenceItem:
    references = REFERENCES.get(entity_type, {}) if refer is not None else {}
    said: dict[str, dict[str, tuple[Any, Stamp | Layer]]] = {}
    for layer in layers:
        source = layer.source
        if source.is_dead(now):
            continue
        for name, word in said_fields(layer):
            by = said.setdefault(name, {})
            stamp = layer.stamp(name)
            known = by.get(source.name)  # it may have several layers, and several names for the thing
            if known is None or beats(stamp, source.rank, known[1], source.rank):
                value = referred(word, references[name], refer) if refer and name in references else word
                by[source.name] = (value, stamp)
    shared = {
        name: [value for value, _ in by.values()]
        for name, by in said.items()
        if len(by) > 1 and not is_own(entity_type, name)
    }
    if not shared:
        return ConfidenceItem("agreement", 1.0, "no field has two living sources")
    split = [name for name, by in shared.items() if not agree(by, near_of(entity_type, name))]
    score = (len(shared) - len(split)) / len(shared)
    detail = f"{len(shared) - len(split)} of {len(shared)} shared fields agree"
    detail += f" (not: {', '.join(sorted(split))})" if split else ""
    return ConfidenceItem("agreement", round(score, _DIGITS), detail)


def referred(value: Any, refers: EntityType, refer: Refer) -> Any:
    """A reference, or a list of them, with entity ids in place of other names."""
    if isinstance(value, str):
        return refer(refers, value)
    if isinstance(value, (list, tuple)):
        return [refer(refers, one) if isinstance(one, str) else one for one in cast("list[Any]", value)]
    return value


def is_own(entity_type: EntityType, name: str) -> bool:
    """Whether each source speaks of its own in that field, so that there is nothing to agree on."""
    spec = spec_of(entity_type, name)
    return spec is not None and spec.own


def near_of(entity_type: EntityType, name: str) -> float:
    """How far apart two numbers of that field may be at least and say the same."""
    spec = spec_of(entity_type, name)
    return spec.near if spec is not None else 0.0


def agree(values: list[Any], near: float = 0.0) -> bool:
    """Whether these say the same: numbers within `TOLERANCE` or `near`, times within `TIME_NEAR`, mappings in
    what they share, lists in any order, all else exactly."""
    first = values[0]
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        low, high = min(values), max(values)
        return high - low <= max(near, TOLERANCE * max(abs(low), abs(high)))
    if all(isinstance(value, datetime) for value in values):
        return max(values) - min(values) <= TIME_NEAR
    if all(isinstance(value, dict) for value in values):
        shared = set[str](first).intersection(*values[1:])
        return bool(shared) and all(agree([value[key] for value in values], near) for key in shared)
    if all(isinstance(value, (list, tuple)) for value in values):
        return all(sorted(value, key=str) == sorted(first, key=str) for value in values)
    return all(value == first and isinstance(value, bool) == isinstance(first, bool) for value in values)
