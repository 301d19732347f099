"""Rule tables: conditions over an entity's signals, as data.

A table is a YAML file of this package, one for each entity type. A condition names one field and one
comparison; a rule joins conditions with `all` and `any`; that is the whole language. Nothing in a table is
run as code.

Evaluation is three-valued. A signal that is missing, stale or expired makes its condition *unknown*, never
false; `all` is unknown where nothing is false and something unknown, `any` where nothing is true.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from steersman.kernel.errors import SteersmanError
from steersman.kernel.yamltext import YamlInvalid, parse
from steersman.kinds.entity import EVENT, STATIC, EntityType, HealthState
from steersman.kinds.fields import FIELDS

Tri = bool | None
"""True, false, or unknown (None)."""
Signals = Mapping[str, Any]
"""The fields that are current, by name."""
Check = Callable[[Signals, datetime], Tri]

OPTIONAL_PART = re.compile(r"(\[[^\[\]]*\])")
FIELD_IN_DETAIL = re.compile(r"\{(\w+)\}")
"""How details are taken apart; see `Entry`."""
_WORD = re.compile(r"[A-Za-z_]+")
TEXTS_MAX = 1024
"""Answers about texts that are remembered: a fleet repeats its product names and states on every entity."""


class HealthTableInvalid(SteersmanError):
    """A table of this package breaks a rule of its language: a fault of the package, not of its user."""

    code = "health_table_invalid"
    title = "Health table invalid"


class Comparison(Struct, frozen=True, forbid_unknown_fields=True, rename={"in_": "in"}):
    """One comparison of one field; exactly one comparison is given.

    `words`: the text holds one of these words (case does not matter; `IDLE+DRAIN` holds two). `not_words`: it
    holds none of them, or is no text. `contains`: the text holds one of these phrases, whatever the case.
    `has`: the list (or mapping) holds one of these. `beyond`: the list holds something that is none of these.
    With `keys` what is compared is the sum of a mapping's values under these keys, 0 for what it lacks.
    `*_field` compares with another field. `older_than_s`: a time lies further back than that;
    `older_than_field`: than the seconds in another field. With `share_of` what is compared is the field as a
    share of another one.
    """

    field: str
    share_of: str | None = None
    keys: tuple[str, ...] = ()
    eq: str | int | float | bool | None = None
    ne: str | int | float | bool | None = None
    in_: tuple[str | int, ...] | None = None
    words: tuple[str, ...] | None = None
    not_words: tuple[str, ...] | None = None
    contains: tuple[str, ...] | None = None
    has: tuple[str, ...] | None = None
    beyond: tuple[str, ...] | None = None
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    lt_field: str | None = None
    ne_field: str | None = None
    older_than_s: float | None = None
    older_than_field: str | None = None

    def fields(self) -> tuple[str, ...]:
        """The signals it reads."""
        names = (self.field, self.share_of, self.lt_field, self.ne_field, self.older_than_field)
        return tuple(name for name in names if name is not None)

    @property
    def timed(self) -> bool:
        """Whether it reads the clock."""
        return self.older_than_s is not None or self.older_than_field is not None


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A name, the reason it gives, and when: all of `all` hold, at least one of `any` (where there are any),
    and none of `unless`.

    In `detail`, `{field}` stands for a value, and a part in `[...]` is left out where a value in it is
    missing. Outside of brackets only fields of `all` may be named: they are there whenever the reason is.
    """

    name: str
    detail: str
    all: tuple[Comparison, ...] = ()
    any: tuple[Comparison, ...] = ()
    unless: tuple[Comparison, ...] = ()

    def fields(self) -> tuple[str, ...]:
        """The signals that its conditions need; those of `unless` may be missing."""
        return tuple(dict.fromkeys(name for test in (*self.all, *self.any) for name in test.fields()))


class Rule(Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where it holds, the entity is no better than `health`.

    `cite` names where a threshold comes from; "" where it is our own. It is silent while one of the
    planned states named in `unless_planned` holds. `only` and `but`: classes of the table that it is for, or
    is not for; where an entity's class is not known, `only` is unknown and `but` does not hold it back.
    """

    health: HealthState
    cite: str = ""
    unless_planned: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    but: tuple[str, ...] = ()


class Planned(Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A state that somebody wants (maintenance, cordon, power saving): a condition, not ill health.

    `unknown`: nothing can be said of health meanwhile (a machine that is powered off).
    """

    unknown: bool = False


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """All rules for one entity type.

    `evidence`: groups of fields that age; the entity may be called healthy where each group has at least one
    current field, or its source says itself how it is. Without that, and with no rule that speaks, its health
    is unknown. The rules of `common.yaml` belong to every table. `classes` are kinds of the type that rules
    may be for (architectures of GPUs): the field that tells, and the phrases of each. `overrides` names the
    site's files that changed it.
    """

    entity_type: EntityType
    version: int
    evidence: tuple[tuple[str, ...], ...]
    rules: tuple[Rule, ...]
    planned: tuple[Planned, ...] = ()
    classes: dict[str, Comparison] = msgspec.field(default_factory=dict[str, Comparison])
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How verdicts cite it: type and version, and each of the site's files that changed it."""
        return "+".join((f"{self.entity_type.value}/v{self.version}", *self.overrides))


class _Common(Struct, frozen=True, forbid_unknown_fields=True):
    rules: tuple[Rule, ...]


@cache
def table_for(entity_type: EntityType) -> Table:
    """The table of that type, read once. Raises `HealthTableInvalid`."""
    table = shipped_table(entity_type)
    for change in _CHANGES.get(entity_type, ()):
        table = change(table)
    return expand(table)


Change = Callable[[Table], Table]
_CHANGES: dict[EntityType, tuple[Change, ...]] = {}


def set_changes(changes: Mapping[EntityType, tuple[Change, ...]]) -> None:
    """Let tables be changed (see `state.health.override`) from now on; those read before are read anew."""
    _CHANGES.clear()
    _CHANGES.update(changes)
    table_for.cache_clear()


@cache
def shipped_table(entity_type: EntityType) -> Table:
    """The table of that type as it is shipped, with the rules of all types. Raises `HealthTableInvalid`."""
    table = _read(f"{entity_type.value}.yaml", Table)
    table = msgspec.structs.replace(table, rules=(*table.rules, *_read("common.yaml", _Common).rules))
    for problem in problems(expand(table), entity_type):
        raise HealthTableInvalid(f"state/health/{entity_type.value}.yaml: {problem}")
    return table


def expand(table: Table) -> Table:
    """The table with the classes of its rules written out as conditions. Classes that it has not are left:
    `problems` names them."""
    rules = [
        msgspec.structs.replace(
            rule,
            all=(*rule.all, *_class_tests(table, rule.only)),
            unless=(*rule.unless, *_class_tests(table, rule.but)),
        )
        for rule in table.rules
    ]
    return msgspec.structs.replace(table, rules=tuple(rules))


def _class_tests(table: Table, names: tuple[str, ...]) -> list[Comparison]:
    """One comparison for each field that tells of these classes."""
    phrases: dict[str, list[str]] = {}
    for name in names:
        test = table.classes.get(name)
        if test is not None:
            phrases.setdefault(test.field, []).extend(test.contains or ())
    return [Comparison(field, contains=tuple(found)) for field, found in phrases.items()]


T = TypeVar("T")


def _read(file: str, schema: type[T]) -> T:
    place = f"state/health/{file}"
    text = files("steersman.state.health").joinpath(file).read_text("utf-8")
    try:
        return msgspec.convert(parse(text, place).plain(), schema)
    except (YamlInvalid, msgspec.ValidationError) as error:
        raise HealthTableInvalid(f"{place}: {error}") from error


def problems(table: Table, entity_type: EntityType) -> list[str]:
    """What is wrong with a table beyond its shape."""
    found: list[str] = []
    if table.entity_type is not entity_type:
        found.append(f"is for {table.entity_type.value}")
    known = FIELDS[entity_type].keys() | {REPORTED_HEALTH}
    entries: list[Rule | Planned] = [*table.rules, *table.planned]
    names = [entry.name for entry in entries]
    found += [f"{name}: given twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for entry in entries:
        if not entry.all and not entry.any:
            found.append(f"{entry.name}: has no condition")
        tests = (*entry.all, *entry.any, *entry.unless)
        found += [f"{entry.name}: no field {n!r}" for t in tests for n in t.fields() if n not in known]
        sure = {name for test in entry.all for name in test.fields()}
        bare = FIELD_IN_DETAIL.findall(OPTIONAL_PART.sub("", entry.detail))
        found += [
            f"{entry.name}: its detail names {n!r}, which may be missing" for n in bare if n not in sure
        ]
        if isinstance(entry, Rule):
            unknown = [n for n in (*entry.only, *entry.but) if n not in table.classes]
            found += [f"{entry.name}: no class {n!r}" for n in unknown]
        for test in tests:
            if len(_operators(test)) != 1:
                found.append(f"{entry.name}: {test.field}: exactly one comparison is needed")
    for name, test in table.classes.items():
        if test.field not in known or not test.contains or len(_operators(test)) != 1:
            found.append(f"class {name}: a field of the type and its phrases (contains) are needed")
    planned = {entry.name for entry in table.planned}
    found += [
        f"{rule.name}: no planned state {n!r}"
        for rule in table.rules
        for n in rule.unless_planned
        if n not in planned
    ]
    found += [f"evidence: no field {n!r}" for group in table.evidence for n in group if n not in known]
    found += [
        f"evidence: {n} never ages, so it tells nothing of health"
        for group in table.evidence
        for n in group
        if n in FIELDS[entity_type] and FIELDS[entity_type][n].pace in (STATIC, EVENT)
    ]
    return found


REPORTED_HEALTH = "health_state"
"""A source's own verdict, read as one signal among the others."""


def _operators(test: Comparison) -> list[str]:
    names = [n for n in test.__struct_fields__ if n not in ("field", "share_of", "keys")]
    return [n for n in names if getattr(test, n) is not None]


def check_of(entry: Entry) -> Check:
    """The entry's conditions as one function of signals and time."""
    alls = tuple(_compile(test) for test in sorted(entry.all, key=_reads_text))  # the quick ones first
    anys = tuple(_compile(test) for test in entry.any)
    nones = tuple(_compile(test) for test in entry.unless)
    if len(alls) == 1 and not anys and not nones:
        return alls[0]

    def check(signals: Signals, now: datetime) -> Tri:
        result: Tri = True
        for test in alls:
            answer = test(signals, now)
            if answer is False:
                return False
            if answer is None:
                result = None
        for test in nones:
            if test(signals, now) is True:
                return False
        if not anys:
            return result
        some: Tri = False
        for test in anys:
            answer = test(signals, now)
            if answer is True:
                return result
            if answer is None:
                some = None
        return some

    return check


def may_hold(entry: Entry, names: frozenset[str]) -> bool:
    """Whether its conditions can be true of an entity of which only these fields are known."""
    if not all(names.issuperset(test.fields()) for test in entry.all):
        return False
    return not entry.any or any(names.issuperset(test.fields()) for test in entry.any)


def _reads_text(test: Comparison) -> bool:
    return bool(test.words or test.not_words or test.contains)


def _compile(test: Comparison) -> Check:
    (op,) = _operators(test)
    wanted: Any = getattr(test, op)
    if op in ("words", "not_words"):
        wanted = frozenset(word.lower() for word in wanted)
    elif op in ("in_", "has", "beyond"):
        wanted = frozenset(wanted)
    elif op == "contains":
        wanted = tuple(phrase.lower() for phrase in wanted)
    if op in _QUICK and not test.keys and test.share_of is None:
        return _compile_quick(test.field, _QUICK[op], wanted)
    compare = _COMPARE[op]
    name, share_of, keys = test.field, test.share_of, test.keys
    other: str | None = wanted if op.endswith("_field") else None

    def check(signals: Signals, now: datetime) -> Tri:
        value = signals.get(name)
        against = signals.get(other) if other is not None else wanted
        if value is None or against is None:
            return None
        try:
            if keys:
                value = sum(value.get(key, 0.0) for key in keys)
            if share_of is not None:
                value = value / signals[share_of]
            return compare(value, against, now)
        except (TypeError, KeyError, ZeroDivisionError, AttributeError):
            return (
                None  # a value of another type than the field's, or no whole to share: not known, not false
            )

    return check


def _compile_quick(name: str, compare: Callable[[Any, Any], bool], wanted: Any) -> Check:
    """As `_compile`, for one field against a constant: most of all tests, and run for each entity that
    anybody reads."""

    def check(signals: Signals, _now: datetime) -> Tri:
        value = signals.get(name)
        if value is None:
            return None
        try:
            return compare(value, wanted)
        except (TypeError, AttributeError):
            return None  # a value of another type than the field's

    return check


@lru_cache(maxsize=TEXTS_MAX)
def _has_word(text: str, wanted: frozenset[str]) -> bool:
    return not wanted.isdisjoint(word.lower() for word in _WORD.findall(text))


def _has_no_word(value: Any, wanted: frozenset[str]) -> bool:
    return not (isinstance(value, str) and _has_word(value, wanted))


@lru_cache(maxsize=TEXTS_MAX)
def _has_phrase(text: str, wanted: tuple[str, ...]) -> bool:
    lower = text.lower()
    return any(phrase in lower for phrase in wanted)


def _older(value: Any, limit_s: Any, now: datetime) -> bool:
    return (now - value).total_seconds() > limit_s


_QUICK: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "in_": lambda value, wanted: value in wanted,
    "words": _has_word,
    "not_words": _has_no_word,
    "has": lambda value, wanted: not wanted.isdisjoint(value),
    "beyond": lambda value, wanted: not wanted.issuperset(value),
    "contains": _has_phrase,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


def _untimed(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any, datetime], bool]:
    return lambda value, wanted, _now: compare(value, wanted)


_COMPARE: dict[str, Callable[[Any, Any, datetime], bool]] = {
    **{op: _untimed(compare) for op, compare in _QUICK.items()},
    "lt_field": _untimed(operator.lt),
    "ne_field": _untimed(operator.ne),
    "older_than_s": _older,
    "older_than_field": _older,
}
