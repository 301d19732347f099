"""Rule tables: conditions over an entity's signals, as data.

A table is a YAML file of this package, one for each entity type. A condition names one field and one
comparison; a rule joins conditions with `all` and `any`; that is the whole language. Nothing in a table is
run as code.

Evaluation is three-valued. A signal that is missing, stale or expired makes its condition *unknown*, never
false; `all` is unknown where nothing is false and something unknown, `any` where nothing is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import yaml
from msgspec import Struct, field

from steersman.kernel.errors import SteersmanError
from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.fields import FIELDS

Tri = bool | None
"""True, false, or unknown (None)."""
Signals = Mapping[str, Any]
"""The fields that are current, by name."""
Check = Callable[[Signals, datetime], Tri]

_WORD = re.compile(r"[A-Za-z_]+")


class HealthTableInvalid(SteersmanError):
    """A table of this package breaks a rule of its language: a fault of the package, not of its user."""

    code = "health_table_invalid"
    title = "Health table invalid"


class Test(Struct, frozen=True, forbid_unknown_fields=True, rename={"in_": "in"}):
    """One comparison of one field; exactly one of the others is given.

    `words`: the text holds one of these words (case does not matter; `IDLE+DRAIN` holds two). `*_field`
    compares with another field. `older_than_s`: a time lies further back than that.
    """

    field: str
    eq: str | int | float | bool | None = None
    ne: str | int | float | bool | None = None
    in_: tuple[str | int, ...] | None = None
    words: tuple[str, ...] | None = None
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    lt_field: str | None = None
    ne_field: str | None = None
    older_than_s: float | None = None

    def fields(self) -> tuple[str, ...]:
        """The signals it reads."""
        return tuple(name for name in (self.field, self.lt_field, self.ne_field) if name is not None)


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """If its conditions hold, the entity is no better than `health`.

    `detail` is the reason given, with `{field}` for values. `cite` names where a threshold comes from.
    With `unless_planned` it is silent while a planned state holds.
    """

    name: str
    health: HealthState
    detail: str
    all: tuple[Test, ...] = ()
    any: tuple[Test, ...] = ()
    cite: str = ""
    unless_planned: bool = False

    def fields(self) -> tuple[str, ...]:
        """The signals it reads."""
        return tuple(dict.fromkeys(name for test in (*self.all, *self.any) for name in test.fields()))


class Planned(Struct, frozen=True, forbid_unknown_fields=True):
    """A state that somebody wants (maintenance, cordon, power saving): told as a condition,
    not as ill health."""

    name: str
    detail: str
    all: tuple[Test, ...] = ()
    any: tuple[Test, ...] = ()
    unknown: bool = False
    """Whether nothing can be said of health meanwhile (a machine that is powered off)."""

    def fields(self) -> tuple[str, ...]:
        """The signals it reads."""
        return tuple(dict.fromkeys(name for test in (*self.all, *self.any) for name in test.fields()))


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """All rules for one entity type.

    `evidence`: groups of fields; the entity may be called healthy where each group has at least one current
    field. Without that, and with no rule that speaks, its health is unknown.
    """

    entity_type: EntityType
    version: int
    evidence: tuple[tuple[str, ...], ...]
    rules: tuple[Rule, ...]
    planned: tuple[Planned, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """How verdicts cite it."""
        return f"{self.entity_type.value}/v{self.version}"


@cache
def table_for(entity_type: EntityType) -> Table:
    """The table of that type, read once. Raises `HealthTableInvalid`."""
    place = f"state/health/{entity_type.value}.yaml"
    text = files("steersman.state.health").joinpath(f"{entity_type.value}.yaml").read_text("utf-8")
    try:
        table = msgspec.convert(yaml.safe_load(text), Table)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise HealthTableInvalid(f"{place}: {error}") from error
    for problem in problems(table, entity_type):
        raise HealthTableInvalid(f"{place}: {problem}")
    return table


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
        found += [f"{entry.name}: no field {n!r}" for n in entry.fields() if n not in known]
        for test in (*entry.all, *entry.any):
            if len(_operators(test)) != 1:
                found.append(f"{entry.name}: {test.field}: exactly one comparison is needed")
    found += [f"evidence: no field {n!r}" for group in table.evidence for n in group if n not in known]
    return found


REPORTED_HEALTH = "health_state"
"""A source's own verdict, read as one signal among the others."""


def _operators(test: Test) -> list[str]:
    names = [n for n in test.__struct_fields__ if n != "field"]
    return [n for n in names if getattr(test, n) is not None]


def check_of(entry: Rule | Planned) -> Check:
    """The entry's conditions as one function of signals and time."""
    alls = tuple(_compile(test) for test in entry.all)
    anys = tuple(_compile(test) for test in entry.any)

    def check(signals: Signals, now: datetime) -> Tri:
        result: Tri = True
        for test in alls:
            answer = test(signals, now)
            if answer is False:
                return False
            if answer is None:
                result = None
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


def _compile(test: Test) -> Check:
    (op,) = _operators(test)
    compare = _COMPARE[op]
    name = test.field
    wanted: Any = getattr(test, op)
    if op == "words":
        wanted = frozenset(word.lower() for word in wanted)
    elif op == "in_":
        wanted = frozenset(wanted)
    other: str | None = wanted if op.endswith("_field") else None

    def check(signals: Signals, now: datetime) -> Tri:
        value = signals.get(name)
        against = signals.get(other) if other is not None else wanted
        if value is None or against is None:
            return None
        try:
            return compare(value, against, now)
        except TypeError:  # a source gave another type of value than the field has: not known, not false
            return None

    return check


def _words(value: Any, wanted: Any, _now: datetime) -> bool:
    return not wanted.isdisjoint(word.lower() for word in _WORD.findall(value))


def _older(value: Any, limit_s: Any, now: datetime) -> bool:
    return (now - value).total_seconds() > limit_s


_COMPARE: dict[str, Callable[[Any, Any, datetime], bool]] = {
    "eq": lambda value, wanted, _now: value == wanted,
    "ne": lambda value, wanted, _now: value != wanted,
    "in_": lambda value, wanted, _now: value in wanted,
    "words": _words,
    "gt": lambda value, wanted, _now: value > wanted,
    "ge": lambda value, wanted, _now: value >= wanted,
    "lt": lambda value, wanted, _now: value < wanted,
    "le": lambda value, wanted, _now: value <= wanted,
    "lt_field": lambda value, wanted, _now: value < wanted,
    "ne_field": lambda value, wanted, _now: value != wanted,
    "older_than_s": _older,
}
