"""What each field of each entity type is: the one reader of the annotations in `kinds.entity`.

Two questions are answered here. *What is this field?* `FIELDS` and `expected_fields`, for freshness,
coverage, units and the published schemas. *May this value stand in it?* `clean_fields`, which every edge
that takes fragments from outside calls once before they reach the bus; it is on the push path, so plain
numbers pass by one lookup and two comparisons, and a dict that needs no change is handed back as it is.

How values are read, for all declared fields:

- float takes an int; int takes a whole float (text formats know only floats); bool is never a number;
- text is at most `TEXT_MAX_CHARS`; where a field has a vocabulary, case does not matter, known synonyms are
  put right, and a word that nobody knows becomes `unknown` and is reported as drift, never refused;
- a datetime is a datetime or an ISO 8601 text; naive is UTC. A bare number is refused, because nothing says
  whether it counts seconds or milliseconds;
- names that the type does not declare are kept as they are (they end up in `extra`), if they can be stored.

`scheduler_domain` and `workload_type` are common to all entities. A source may give them among the fields
(which win) or as labels of the same name; `domain_of` and `workload_of` read them. The other common names
(`health_state`, `confidence_score`, ...) are the bus's to set: among a fragment's fields they are
undeclared names like any other and stay visible in `extra`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

from steersman.kernel.clock import TimeOutOfRange, as_utc
from steersman.kinds.entity import (
    ENTITY_CLASSES,
    CanonicalEntity,
    EntityType,
    SchedulerDomainType,
    WorkloadType,
)
from steersman.kinds.fragment import NAME_MAX_CHARS, TEXT_MAX_CHARS, is_whole

ITEMS_MAX = 256
"""Items that one list or mapping value may have."""
DEPTH_MAX = 4
"""How deep a list or mapping value may nest."""
NUMBER_MAX = 2**63 - 1
"""Numbers beyond this (or below its negative) are refused: a whole one can't be sent in every format, and no
quantity in canonical units comes near."""
ROUNDING = 1e-6
"""How far a number may be over its bound and is then put on it: a share computed from two counters can come
out as 1.0000000002."""

_UNKNOWN = "unknown"


class FieldSpec(Struct, frozen=True):
    """One declared field.

    `type` is float, int, str, bool, datetime, list (of texts) or dict (text to number). `unit` is UCUM's
    symbol ("" for a plain count or no number), `pace` one of the paces in `kinds.entity`. `low` and `high`
    bound a number, None where there is no bound. `words` is the vocabulary of a text, empty where it is free.
    """

    name: str
    type: type
    unit: str
    pace: str
    expected: bool
    description: str
    low: float | None = None
    high: float | None = None
    words: tuple[str, ...] = ()
    refers: EntityType | None = None
    """The value names an entity of that type."""
    near: float = 0.0
    """Numbers no further apart than this say the same."""
    own: bool = False
    """Each source speaks of its own part of the thing, so that two differ is no disagreement."""


class FieldProblem(Struct, frozen=True):
    """A value that may not stand in its field: which field, and what was expected."""

    field: str
    detail: str

    def __str__(self) -> str:
        return f"fields.{self.field}: {self.detail}"


class CleanFields(Struct, frozen=True):
    """What `clean_fields` found.

    `fields` holds canonical names and values, without those that have a problem; it is the caller's own dict
    where nothing had to change. `drift` has a line for each word that no vocabulary knows: the field's name,
    a colon, and what is odd.
    """

    fields: dict[str, Any]
    problems: tuple[FieldProblem, ...] = ()
    drift: tuple[str, ...] = ()


COMMON_FIELDS = frozenset({"scheduler_domain", "workload_type"})
"""Names that any fragment may carry among its fields, whatever its type."""

ALIASES: dict[EntityType, dict[str, str]] = {
    EntityType.SERVICE: {
        "replicas": "replica_count",
        "current_replicas": "replica_count",
        "replica_available": "available_replicas",
        "replica_desired": "desired_replicas",
        "throughput_rps": "throughput",
        "requests_per_second": "throughput",
    },
    EntityType.DEPLOYMENT: {
        "replicas": "replica_count",
        "current_replicas": "replica_count",
        "replica_available": "available_replicas",
        "replica_desired": "desired_replicas",
    },
    EntityType.GPU: {
        "gpu_memory_used_bytes": "gpu_memory_used",
        "gpu_memory_total_bytes": "gpu_memory_total",
        "gpu_temperature_celsius": "temperature_celsius",
        "ecc_errors_uncorrected": "ecc_errors",
    },
    EntityType.NODE: {
        "memory_total_bytes": "memory_total",
        "memory_available_bytes": "memory_available",
    },
    EntityType.JOB: {
        "assigned_gpus": "assigned_gpu_count",
        "gpu_memory_used_bytes": "gpu_memory_used",
        "memory_used_bytes": "memory_used",
        "state": "job_state",
    },
    EntityType.QUEUE: {"pending": "pending_jobs", "active": "active_jobs"},
    EntityType.MODEL_REVISION: {
        "version": "model_version",
        "model": "model_name",
        "serving_state": "revision_state",
    },
    EntityType.SCHEDULER_DOMAIN: {"domain": "domain_type"},
    EntityType.TENANT_SCOPE: {"quota": "resource_quota", "usage": "resource_usage"},
    EntityType.EXPERIMENT_TRACKER: {},
    EntityType.DATA_PIPELINE_STAGE: {"state": "stage_state"},
    EntityType.CONFIG_SNAPSHOT: {"hash": "config_hash", "drift_detected": "drift"},
}
"""Other names for a field, taken where they can mean nothing else and leave no doubt about the unit."""

WORD_ALIASES: dict[str, dict[str, str]] = {
    "domain_type": {"managed_cloud": "cloud_managed", "k8s": "kubernetes", "bare_metal": "standalone"},
    "scheduler_domain": {"managed_cloud": "cloud_managed", "k8s": "kubernetes", "bare_metal": "standalone"},
    "workload_type": {"cloud_managed": "managed_cloud"},
    "job_state": {"canceled": "cancelled", "succeeded": "completed"},
    "queue_state": {"draining": "drain"},
}
"""Other spellings of the words of a vocabulary, by field."""


def _read_specs(cls: type[CanonicalEntity]) -> dict[str, FieldSpec]:
    hints = get_type_hints(cls, include_extras=True)
    specs: dict[str, FieldSpec] = {}
    for name in cls.__struct_fields__:
        if name in CanonicalEntity.__struct_fields__:
            continue
        annotated, meta = cast("tuple[Any, Meta]", get_args(hints[name]))
        facts: dict[str, Any] = meta.extra_json_schema or {}
        (arm,) = (arm for arm in get_args(annotated) if arm is not type(None))
        kind: type = get_origin(arm) or arm
        number = kind in (float, int)
        specs[name] = FieldSpec(
            name=name,
            type=kind,
            unit=facts["x-unit"],
            pace=facts["x-pace"],
            expected=facts["x-expected"],
            description=meta.description or "",
            low=facts["x-low"] if number else None,
            high=facts["x-high"] if number else None,
            words=facts["x-words"],
            refers=EntityType(facts["x-refers"]) if "x-refers" in facts else None,
            near=facts.get("x-near", 0.0),
            own=facts.get("x-own", False),
        )
    return specs


FIELDS: dict[EntityType, dict[str, FieldSpec]] = {
    entity_type: _read_specs(cls) for entity_type, cls in ENTITY_CLASSES.items()
}
"""The declared fields of each type, by name, in order of declaration; the common ones are not among them."""

REFERENCES: dict[EntityType, dict[str, EntityType]] = {
    entity_type: found
    for entity_type, specs in FIELDS.items()
    if (found := {spec.name: spec.refers for spec in specs.values() if spec.refers is not None})
}
"""Fields that name other entities: the type of what they name, for each type that has any."""

_EXPECTED: dict[EntityType, tuple[str, ...]] = {
    entity_type: tuple(spec.name for spec in specs.values() if spec.expected)
    for entity_type, specs in FIELDS.items()
}

_DOMAIN = FieldSpec(
    name="scheduler_domain",
    type=str,
    unit="",
    pace="static",
    expected=False,
    description="what schedules work onto it",
    words=tuple(member.value for member in SchedulerDomainType),
    own=True,
)
_WORKLOAD = FieldSpec(
    name="workload_type",
    type=str,
    unit="",
    pace="static",
    expected=False,
    description="what kind of work it carries",
    words=tuple(member.value for member in WorkloadType),
)
_COMMON_SPECS = {"scheduler_domain": _DOMAIN, "workload_type": _WORKLOAD}

# What lets most values pass without a call: for a number its types and bounds, for other plain values the
# type and, where there is one, the vocabulary.
_Bounds = tuple[tuple[type, ...], float, float]
_Plain = tuple[type, frozenset[str] | None]


def _bounds(spec: FieldSpec) -> _Bounds:
    low = -NUMBER_MAX if spec.low is None else spec.low
    high = NUMBER_MAX if spec.high is None else spec.high
    return ((int,) if spec.type is int else (float, int)), low, high


_NUMBERS: dict[EntityType, dict[str, _Bounds]] = {
    entity_type: {name: _bounds(spec) for name, spec in specs.items() if spec.type in (float, int)}
    for entity_type, specs in FIELDS.items()
}
_PLAIN: dict[EntityType, dict[str, _Plain]] = {
    entity_type: {
        name: (spec.type, frozenset(spec.words) if spec.words else None)
        for name, spec in specs.items()
        if spec.type in (str, bool)
    }
    for entity_type, specs in FIELDS.items()
}


def spec_of(entity_type: EntityType, name: str) -> FieldSpec | None:
    """A field as its type declares it, or as all types have it; None where it is not declared."""
    return FIELDS[entity_type].get(name) or _COMMON_SPECS.get(name)


def expected_fields(entity_type: EntityType) -> tuple[str, ...]:
    """The fields that every working source of this type reports: the measure of coverage."""
    return _EXPECTED[entity_type]


def check_fields(entity_type: EntityType, fields: dict[str, Any]) -> list[FieldProblem]:
    """What is wrong with these values; empty where nothing is. See `clean_fields` for the rules."""
    return list(clean_fields(entity_type, fields).problems)


def clean_fields(entity_type: EntityType, fields: dict[str, Any]) -> CleanFields:
    """Canonical names and values, and what could not be read.

    None, NaN and infinities must be gone already (`StateFragment` takes them out).
    """
    numbers = _NUMBERS[entity_type]
    plain = _PLAIN[entity_type]
    for name, value in fields.items():
        bounds = numbers.get(name)
        if bounds is not None:
            if type(value) in bounds[0] and bounds[1] <= value <= bounds[2]:
                continue
            return _clean_slowly(entity_type, fields)
        kind, words = plain.get(name, _NOT_PLAIN)
        if type(value) is not kind or (kind is str and not _fits(value, words)):
            return _clean_slowly(entity_type, fields)
    return CleanFields(fields)


def canonical_name(entity_type: EntityType, name: str) -> str:
    """The declared name that `name` stands for; itself where it stands for nothing else."""
    return name if name in FIELDS[entity_type] else ALIASES[entity_type].get(name, name)


def domain_of(fields: Mapping[str, Any], labels: Mapping[str, str]) -> SchedulerDomainType:
    """The scheduler domain that a source gives: among the fields, else as a label, else unknown."""
    word = fields.get("scheduler_domain") or labels.get("scheduler_domain")
    if not isinstance(word, str):
        return SchedulerDomainType.UNKNOWN
    return _DOMAINS.get(word) or _DOMAINS[_known_word(_DOMAIN, word) or _UNKNOWN]


def workload_of(fields: Mapping[str, Any], labels: Mapping[str, str]) -> WorkloadType:
    """The kind of work that a source gives: among the fields, else as a label, else unknown."""
    word = fields.get("workload_type") or labels.get("workload_type")
    if not isinstance(word, str):
        return WorkloadType.UNKNOWN
    return _WORKLOADS.get(word) or _WORKLOADS[_known_word(_WORKLOAD, word) or _UNKNOWN]


_DOMAINS: dict[str, SchedulerDomainType] = {member.value: member for member in SchedulerDomainType}
_WORKLOADS: dict[str, WorkloadType] = {member.value: member for member in WorkloadType}

_NOT_PLAIN: tuple[type | None, frozenset[str] | None] = (None, None)


def _fits(text: str, words: frozenset[str] | None) -> bool:
    return text in words if words is not None else len(text) <= TEXT_MAX_CHARS and is_whole(text)


class _Wrong(Exception):
    """What was expected; becomes a FieldProblem."""


def _clean_slowly(entity_type: EntityType, fields: dict[str, Any]) -> CleanFields:
    specs = FIELDS[entity_type]
    aliases = ALIASES[entity_type]
    clean: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    drift: list[str] = []
    changed = False
    for given, value in fields.items():
        name = given if given in specs else aliases.get(given, given)
        if name is not given and (name in fields or name in clean):
            name = given  # it was sent under two names: one counts, the other stays visible in extra
        spec = specs.get(name) or _COMMON_SPECS.get(name)
        try:
            read = _undeclared(name, value) if spec is None else _READERS[spec.type](spec, value, drift)
        except _Wrong as wrong:
            shown = given[:NAME_MAX_CHARS].encode(errors="backslashreplace").decode()
            problems.append(FieldProblem(shown, str(wrong)))
            changed = True
            continue
        changed = changed or name is not given or read is not value
        clean[name] = read
    return CleanFields(clean if changed else fields, tuple(problems), tuple(drift))


def _read_float(spec: FieldSpec, value: Any, _drift: list[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Wrong(f"expected a number{_range(spec)}, got {_shown(value)}")
    _, low, high = _bounds(spec)
    if not low - ROUNDING <= value <= high + ROUNDING:
        raise _Wrong(f"expected a number{_range(spec)}, got {_shown(value)}")
    value = min(max(value, low), high)
    return value if type(value) in (float, int) else float(value)  # a numpy number encodes nowhere


def _read_int(spec: FieldSpec, value: Any, _drift: list[str]) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, float) and value.is_integer():
        value, whole = int(value), True
    _, low, high = _bounds(spec)
    if not whole or not low <= value <= high:
        raise _Wrong(f"expected a whole number{_range(spec)}, got {_shown(value)}")
    return cast("int", value)


def _read_str(spec: FieldSpec, value: Any, drift: list[str]) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"expected text, got {_shown(value)}")
    if len(value) > TEXT_MAX_CHARS:
        raise _Wrong(f"expected at most {TEXT_MAX_CHARS} characters, got {len(value)}")
    if not is_whole(value):
        raise _Wrong(f"expected whole characters, got {_shown(value)}")
    if not spec.words or value in spec.words:
        return value
    known = _known_word(spec, value)
    if known is None:
        drift.append(f"{spec.name}: unknown word {_shown(value)}")
        return _UNKNOWN
    return known


def _read_bool(_spec: FieldSpec, value: Any, _drift: list[str]) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"expected true or false, got {_shown(value)}")
    return value


def _read_datetime(_spec: FieldSpec, value: Any, _drift: list[str]) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _Wrong(f"expected an ISO 8601 time, got {_shown(value)}") from None
    if not isinstance(value, datetime):
        raise _Wrong(f"expected an ISO 8601 time, got {_shown(value)}")
    try:
        return as_utc(value)
    except TimeOutOfRange as error:
        raise _Wrong(error.detail) from None


def _read_list(_spec: FieldSpec, value: Any, _drift: list[str]) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise _Wrong(f"expected a list of texts, got {_shown(value)}")
    items = cast("list[Any]", value)
    if len(items) > ITEMS_MAX:
        raise _Wrong(f"expected at most {ITEMS_MAX} items, got {len(items)}")
    for item in items:
        if not isinstance(item, str) or len(item) > TEXT_MAX_CHARS or not is_whole(item):
            raise _Wrong(f"expected a list of texts, one is {_shown(item)}")
    return items if isinstance(value, list) else list(items)


def _read_dict(_spec: FieldSpec, value: Any, _drift: list[str]) -> dict[str, float]:
    if not isinstance(value, dict):
        raise _Wrong(f"expected a mapping of names to numbers, got {_shown(value)}")
    items = cast("dict[Any, Any]", value)
    if len(items) > ITEMS_MAX:
        raise _Wrong(f"expected at most {ITEMS_MAX} items, got {len(items)}")
    for name, number in items.items():
        numeric = isinstance(number, (int, float)) and not isinstance(number, bool)
        named = isinstance(name, str) and len(name) <= TEXT_MAX_CHARS and is_whole(name)
        if not named or not numeric or not -NUMBER_MAX <= number <= NUMBER_MAX:
            raise _Wrong(f"expected names with finite numbers, got {_shown(name)}: {_shown(number)}")
    return items


_READERS: dict[type, Callable[[FieldSpec, Any, list[str]], Any]] = {
    float: _read_float,
    int: _read_int,
    str: _read_str,
    bool: _read_bool,
    datetime: _read_datetime,
    list: _read_list,
    dict: _read_dict,
}


def _undeclared(name: str, value: Any) -> Any:
    if not name or len(name) > NAME_MAX_CHARS:
        raise _Wrong(f"expected a name of 1 to {NAME_MAX_CHARS} characters, got {len(name)}")
    if not is_whole(name):
        raise _Wrong("expected a name of whole characters")
    _storable(value, DEPTH_MAX)
    return value


def _storable(value: Any, depth_left: int) -> None:
    """Refuse what could not be encoded, or is too big to keep: an undeclared value may be anything."""
    if value is None or isinstance(value, (bool, datetime)):
        return
    if isinstance(value, (int, float)):
        if not -NUMBER_MAX <= value <= NUMBER_MAX:
            raise _Wrong(f"expected a finite number within 63 bits, got {_shown(value)}")
        return
    if isinstance(value, str):
        if len(value) > TEXT_MAX_CHARS:
            raise _Wrong(f"expected at most {TEXT_MAX_CHARS} characters, got {len(value)}")
        if not is_whole(value):
            raise _Wrong(f"expected whole characters, got {_shown(value)}")
        return
    if not isinstance(value, (list, tuple, dict)):
        raise _Wrong(f"expected a JSON value or a time, got {_shown(value)}")
    if depth_left == 0:
        raise _Wrong(f"expected at most {DEPTH_MAX} levels of nesting")
    items = cast("list[Any] | tuple[Any, ...] | dict[Any, Any]", value)
    if len(items) > ITEMS_MAX:
        raise _Wrong(f"expected at most {ITEMS_MAX} items, got {len(items)}")
    if isinstance(items, dict):
        for key, item in items.items():
            if not isinstance(key, str) or len(key) > NAME_MAX_CHARS or not is_whole(key):
                raise _Wrong(f"expected names of at most {NAME_MAX_CHARS} characters, got {_shown(key)}")
            _storable(item, depth_left - 1)
        return
    for item in items:
        _storable(item, depth_left - 1)


def _known_word(spec: FieldSpec, word: str) -> str | None:
    plain = word.strip().lower().replace("-", "_").replace(" ", "_")
    plain = WORD_ALIASES.get(spec.name, {}).get(plain, plain)
    return plain if plain in spec.words else None


def _range(spec: FieldSpec) -> str:
    unit = f" in {spec.unit}," if spec.unit not in ("", "1") else ""
    if spec.low is not None and spec.high is not None:
        return f"{unit} from {spec.low:g} to {spec.high:g}"
    if spec.low is not None:
        return f"{unit} of at least {spec.low:g}"
    return unit.rstrip(",")


def _shown(value: Any) -> str:
    text = repr(value)  # which also writes half characters as escapes
    return text if len(text) <= 60 else f"{text[:57]}..."
