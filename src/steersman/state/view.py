"""Building what readers see: the canonical entity, and the explanation of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import structs

from steersman.kinds.drift import WRONG_TYPE
from steersman.kinds.entity import (
    ENTITY_CLASSES,
    CanonicalEntity,
    EntityKey,
    EntityType,
    HealthReason,
    HealthState,
    SchedulerDomainType,
    WorkloadType,
)
from steersman.kinds.explanation import (
    AGREE,
    AMBIGUOUS,
    CONFLICT,
    LOST_BY_AGE,
    LOST_BY_ARRIVAL,
    LOST_BY_PRIORITY,
    Alias,
    Ambiguity,
    Explanation,
    FieldExplanation,
    IdentityReport,
    LabelExplanation,
    OtherWord,
    PlannedState,
)
from steersman.kinds.fields import COMMON_FIELDS, FIELDS, REFERENCES, domain_of, workload_of
from steersman.state.confidence import (
    Refer,
    agree,
    confidence_of,
    is_own,
    near_of,
    referred,
    score_of_fresh,
    score_of_one,
)
from steersman.state.freshness import FRESH, Standing, freshness_of, judge_field, pace_of, standing_of
from steersman.state.health.verdict import health_of, judge_health
from steersman.state.layer import (
    CLEARED,
    Arrival,
    Layer,
    Written,
    age_s,
    merged_labels,
    said_fields,
    written_fields,
    written_labels,
)

Drift = Callable[[EntityType, str, str], None]
"""Told of a value that its field can't have: type, field, what was wrong."""

UNKNOWN_WORD = "unknown"

SHAPES_MAX = 1024
"""Sets of names that entities have values of, and of which the shape is kept. A source says the same of all
its entities, so a fleet has some dozens."""

_ACCEPTED: dict[EntityType, dict[str, tuple[type, ...]]] = {
    entity_type: {
        name: (float, int) if spec.type is float else (list, tuple) if spec.type is list else (spec.type,)
        for name, spec in specs.items()
    }
    for entity_type, specs in FIELDS.items()
}
_WORDS: dict[EntityType, dict[str, frozenset[str]]] = {
    entity_type: {name: frozenset(spec.words) | {UNKNOWN_WORD} for name, spec in specs.items() if spec.words}
    for entity_type, specs in FIELDS.items()
}


class Picture(NamedTuple):
    """What of a cell the view is made from: taken at one moment, so that it is consistent."""

    key: EntityKey
    layers: tuple[Layer, ...]
    revision: int
    deleted_at: datetime | None
    merged_into: str = ""
    """The id of the entity that this name was found to be one of; on a tombstone."""
    aliases: tuple[Alias, ...] = ()
    ambiguities: tuple[Ambiguity, ...] = ()
    refer: Refer | None = None
    """Gives the entity id that a reference means; None where every name is an id."""


def entity_of(picture: Picture, now: Arrival, drift: Drift) -> CanonicalEntity:
    """The canonical entity."""
    key, layers, revision, deleted_at = picture[:4]
    entity_type = key.entity_type
    if not layers:  # deleted, and nothing was ever known of it
        return ENTITY_CLASSES[entity_type](
            entity_id=key.entity_id,
            entity_type=entity_type,
            scope=key.scope,
            observed_at=deleted_at or now.wall,
            deleted_at=deleted_at,
            merged_into=picture.merged_into,
            revision=revision,
        )
    standing = standing_of(entity_type, layers, now)
    values = standing.values
    shape = shape_of(entity_type, tuple(values))
    signals, outdated = _signals(standing)
    health, reasons = judge_health(entity_type, signals, now.wall, outdated, _known(standing))
    if picture.ambiguities:
        reasons = (
            *reasons,
            *(HealthReason(AMBIGUOUS, HealthState.HEALTHY, str(a)) for a in picture.ambiguities),
        )
    if len(layers) == 1:
        score = score_of_one(entity_type, layers[0], standing.classes, now, fresh=shape.score)
    else:
        fields = written_fields(layers)
        score = confidence_of(entity_type, layers, now, fields, standing.states, picture.refer).score
    labels = merged_labels(layers)
    declared, extra = split_values(shape, values, drift)
    if picture.refer is not None and entity_type in REFERENCES:
        for name, refers in REFERENCES[entity_type].items():
            if name in declared:
                declared[name] = referred(declared[name], refers, picture.refer)
    domain, workload = domain_of(values, labels), workload_of(values, labels)
    if domain is SchedulerDomainType.UNKNOWN:
        _note_common(entity_type, "scheduler_domain", values, labels, drift)
    if workload is WorkloadType.UNKNOWN:
        _note_common(entity_type, "workload_type", values, labels, drift)
    newest = layers[0]
    sources: tuple[str, ...] = (newest.source.name,)
    if len(layers) > 1:
        newest = max(layers, key=lambda layer: (layer.observed_at, layer.source.rank, layer.revision))
        sources = tuple(sorted({layer.source.name for layer in layers}))
    return ENTITY_CLASSES[entity_type](
        entity_id=key.entity_id,
        entity_type=entity_type,
        scope=key.scope,
        source_type=newest.fragment.source_type,
        scheduler_domain=domain,
        workload_type=workload,
        health_state=health,
        health_reasons=reasons,
        confidence_score=score if deleted_at is None else 0.0,
        freshness=standing.state,
        observed_at=newest.observed_at,
        deleted_at=deleted_at,
        merged_into=picture.merged_into,
        labels=labels,
        sources=sources,
        revision=revision,
        extra=extra,
        **declared,
    )


def snapshot_of(
    entity_type: EntityType, layers: tuple[Layer, ...], now: Arrival
) -> tuple[Mapping[str, Any], HealthState]:
    """The values and the health, without the rest: for history."""
    standing = standing_of(entity_type, layers, now)
    signals, outdated = _signals(standing)
    health, _ = judge_health(entity_type, signals, now.wall, outdated, _known(standing))
    return standing.values, health


def explanation_of(picture: Picture, now: Arrival) -> Explanation:
    """All of it, with reasons."""
    key, layers, revision, deleted_at = picture[:4]
    entity_type = key.entity_type
    fields = written_fields(layers)
    standing = standing_of(entity_type, layers, now, fields)
    signals, outdated = _signals(standing)
    labels = {
        name: LabelExplanation(w.value, w.layer.source.name, w.stamp.observed_at)
        for name, w in written_labels(layers).items()
        if w.value is not CLEARED
    }
    sources = {layer.source.name: layer.source for layer in layers}
    health = health_of(entity_type, signals, now.wall, outdated, _known(standing))
    if picture.ambiguities:
        doubts = tuple(PlannedState(AMBIGUOUS, str(one)) for one in picture.ambiguities)
        health = structs.replace(health, conditions=(*health.conditions, *doubts))
    return Explanation(
        key=key,
        revision=revision,
        deleted_at=deleted_at,
        fields={name: _explain_field(picture, name, w, now) for name, w in fields.items()},
        labels=labels,
        freshness=freshness_of(entity_type, layers, now),
        health=health,
        confidence=confidence_of(entity_type, layers, now, fields, standing.states, picture.refer),
        sources=tuple(sources[name].status(now) for name in sorted(sources)),
        identity=IdentityReport(picture.aliases, picture.ambiguities),
    )


class Shape:
    """What follows from the names of an entity's values alone. `declared` are those that its type declares,
    each with the types and words that it may have, in the order in which the class has them: an entity with
    a hundred fields is made three times as fast from values in their order. `others` are those that no type
    declares. `score` is that of the fields where all of them are fresh."""

    __slots__ = ("declared", "entity_type", "others", "score")

    def __init__(self, entity_type: EntityType, names: tuple[str, ...]) -> None:
        accepted, words = _ACCEPTED[entity_type], _WORDS[entity_type]
        there = frozenset(names)
        ordered = [name for name in ENTITY_CLASSES[entity_type].__struct_fields__ if name in there]
        self.entity_type = entity_type
        self.declared = tuple((n, accepted[n], words.get(n)) for n in ordered if n in accepted)
        self.others = tuple(n for n in names if n not in accepted and n not in COMMON_FIELDS)
        self.score = score_of_fresh(entity_type, names)


@lru_cache(maxsize=SHAPES_MAX)
def shape_of(entity_type: EntityType, names: tuple[str, ...]) -> Shape:
    """The shape of an entity with values of these names; the same for all that have it."""
    return Shape(entity_type, names)


def split_values(
    shape: Shape, values: Mapping[str, Any], drift: Drift
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Declared fields and the rest. A value of another type than its field's goes to the rest, so that the
    entity keeps to its schema and nothing is lost; an unknown word becomes `unknown`. Both are drift."""
    declared: dict[str, Any] = {}
    extra: dict[str, Any] = {name: values[name] for name in shape.others} if shape.others else {}
    for name, types, words in shape.declared:
        value = values[name]
        if type(value) not in types:
            drift(shape.entity_type, name, f"{WRONG_TYPE} {type(value).__name__}")
            extra[name] = value
            continue
        if words is not None and value not in words:
            drift(shape.entity_type, name, f"unknown word {value!r:.60}")
            value = UNKNOWN_WORD
        declared[name] = value
    return declared, extra


def _note_common(
    entity_type: EntityType, name: str, values: Mapping[str, Any], labels: Mapping[str, str], drift: Drift
) -> None:
    word = values.get(name) or labels.get(name)
    if word and word != UNKNOWN_WORD:
        drift(entity_type, name, f"unknown word {word!r:.60}")


def _signals(standing: Standing) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """What rules may read (the current values), and the classes of those that are not current."""
    outdated = standing.late
    if not outdated:
        return standing.values, outdated
    return {name: v for name, v in standing.values.items() if name not in outdated}, outdated


def _known(standing: Standing) -> Mapping[str, Any]:
    """The current values, and the last words of sources that no longer speak of the entity."""
    if len(standing.lingering) == len(standing.late):
        return standing.values
    states, lingering = standing.states, standing.lingering
    return {n: v for n, v in standing.values.items() if states[n] == FRESH or n in lingering}


def _explain_field(picture: Picture, name: str, written: Written, now: Arrival) -> FieldExplanation:
    entity_type = picture.key.entity_type
    pace = pace_of(entity_type, name)
    layer, stamp = written.layer, written.stamp
    spec = FIELDS[entity_type].get(name)
    cleared = written.value is CLEARED
    others, agreement = _others(picture, name, written, now)
    return FieldExplanation(
        value=None if cleared else _meant(picture, name, written.value),
        source=layer.source.name,
        source_type=layer.fragment.source_type,
        observed_at=stamp.observed_at,
        received_at=stamp.arrival.wall,
        age_s=age_s(stamp, now),
        freshness=judge_field(written, pace, now)[0],
        pace=pace,
        unit=spec.unit if spec is not None else "",
        skewed=stamp is layer and layer.fragment.observed_at > layer.observed_at,
        cleared=cleared,
        others=others,
        agreement=agreement,
    )


def _others(picture: Picture, name: str, written: Written, now: Arrival) -> tuple[tuple[OtherWord, ...], str]:
    """What other sources say of the field, why each lost, and whether the living ones agree."""
    layer, stamp = written.layer, written.stamp
    words: list[OtherWord] = []
    agreement = ""
    for other in picture.layers:
        if other.source is layer.source:
            continue
        said = dict(said_fields(other))
        if name not in said:
            continue
        value, theirs = _meant(picture, name, said[name]), other.stamp(name)
        agrees = agree([_meant(picture, name, written.value), value], near_of(picture.key.entity_type, name))
        if theirs.observed_at != stamp.observed_at:
            lost_by = LOST_BY_AGE
        elif other.source.rank != layer.source.rank:
            lost_by = LOST_BY_PRIORITY
        else:
            lost_by = LOST_BY_ARRIVAL
        shown = None if said[name] is CLEARED else value
        words.append(OtherWord(other.source.name, shown, theirs.observed_at, agrees, lost_by))
        silent = other.source.is_dead(now) or layer.source.is_dead(now)
        if not (silent or is_own(picture.key.entity_type, name)) and agreement != CONFLICT:
            agreement = AGREE if agrees else CONFLICT
    return tuple(words), agreement


def _meant(picture: Picture, name: str, value: Any) -> Any:
    """The value, with the entity id where it names an entity by another of its names."""
    refers = REFERENCES.get(picture.key.entity_type, {}).get(name)
    if refers is None or picture.refer is None:
        return value
    return referred(value, refers, picture.refer)
