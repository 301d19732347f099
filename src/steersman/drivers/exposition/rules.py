"""Mappings made ready to be carried out: what all readers of one mapping have in common.

A fleet has thousands of endpoints of one kind, each with a plan of its own. What follows from the mapping
alone is worked out once, by `rules_of`, and kept as long as some plan uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar
from weakref import WeakValueDictionary

from steersman.drivers.exposition.fold import BLANKS, fold_maker
from steersman.drivers.exposition.mapping import (
    Derived,
    Mapping,
    MetricRule,
    derived_factor_of,
    factor_of,
    spec_of,
)
from steersman.drivers.exposition.shape import KnownUnits
from steersman.kinds.fields import FIELDS, NUMBER_MAX, ROUNDING, FieldSpec

SHARED_MAX = 10_000
"""Things that are kept in order to be shared; beyond it they are collected anew, so that exporters whose
series always come in another order do not fill the memory."""

Step = tuple[str, float, float, float]
"""Field, factor, and the bounds of the raw value."""

_T = TypeVar("_T")

Place = Literal["floats", "wholes", "flags", "steps"]
"""Where a value goes that fills its field alone; `steps` only serve a calculation."""


class EntityTable:
    """One entity of a mapping. `bounds` are those of its calculated fields: whether it is a whole number, and
    between what it lies. `counts_from_zero`: it has a counter that its first event makes."""

    __slots__ = ("_calculations", "_derived", "blanks", "bounds", "counts_from_zero", "mapping", "rule")

    def __init__(self, mapping: Mapping, name: str) -> None:
        self.mapping = mapping
        self.rule = mapping.entities[name]
        self.blanks = BLANKS[mapping.blanks]
        self.counts_from_zero = any(rule.from_zero and rule.entity == name for rule in mapping.metrics)
        self._derived = [derived for derived in mapping.derive if derived.entity == name]
        specs = FIELDS[self.rule.type]
        self.bounds = {
            d.field: (d.field in specs and specs[d.field].type is int, *_raw_bounds(specs.get(d.field), 1.0))
            for d in self._derived
        }
        self._calculations: dict[frozenset[str], tuple[tuple[Derived, float], ...]] = {}

    def calculations(self, names: frozenset[str]) -> tuple[tuple[Derived, float], ...]:
        """The calculations, each with its factor, that may have all their parts where these fields and steps
        are there, so that no page tries those of metrics that the exporter does not show."""
        found = self._calculations.get(names)
        if found is None:
            if len(self._calculations) >= SHARED_MAX:
                self._calculations.clear()
            there = set(names)
            possible: list[tuple[Derived, float]] = []
            for derived in self._derived:
                if there.issuperset(set(derived.of) - set(derived.zero)):
                    possible.append((derived, derived_factor_of(self.mapping, derived) or 1.0))
                    there.add(derived.field)
            found = self._calculations[names] = tuple(possible)
        return found


class SeriesRule:
    """A rule of a mapping for the series of one metric. `number` is its place among all rules. `direct` is
    where a value goes that fills its field alone and needs nothing but a factor; None where a fold does it,
    which `make_fold` makes."""

    __slots__ = ("direct", "entity", "make_fold", "name", "number", "rule")

    def __init__(self, number: int, mapping: Mapping, rule: MetricRule, entity: EntityTable) -> None:
        self.number = number
        self.rule = rule
        self.entity = entity
        self.name = rule.entity
        self.direct = _direct(mapping, rule)
        self.make_fold = fold_maker(mapping, rule)

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether a series with these labels is meant."""
        for label, wanted in self.rule.match.items():
            if not _is_one_of(labels.get(label, ""), wanted):
                return False
        return not any(
            _is_one_of(labels.get(label, ""), banned) for label, banned in self.rule.unless.items()
        )


class Rules:
    """All rules of some mappings, by metric. `variables` are the labels that become variables of the page,
    `passing` the metrics that may vanish, `known` the units of all."""

    def __init__(self, mappings: Sequence[Mapping]) -> None:
        self.mappings = tuple(mappings)
        self.by_metric: dict[str, list[SeriesRule]] = {}
        self.variables: dict[str, list[tuple[str, str]]] = {}
        self.passing: set[str] = set()
        self.known = KnownUnits()
        self._same: dict[Any, Any] = {}
        number = 0
        for mapping in mappings:
            entities = {name: EntityTable(mapping, name) for name in mapping.entities}
            for rule in mapping.metrics:
                number += 1
                if rule.query:
                    continue  # for an API that evaluates expressions; no page has it
                self.known.add(rule)
                ready = SeriesRule(number, mapping, rule, entities[rule.entity])
                for metric in rule.metric:
                    name = f"{metric}_bucket" if rule.kind == "histogram" else metric
                    self.by_metric.setdefault(name, []).append(ready)
                    if rule.passing:
                        self.passing.add(name)
            for name, variable in mapping.variables.items():
                self.variables.setdefault(variable.metric, []).append((f"@{name}", variable.label))

    def same(self, one: _T) -> _T:
        """The first of all that are equal to this one."""
        if len(self._same) >= SHARED_MAX:
            self._same.clear()
        return self._same.setdefault(one, one)


_all_rules: WeakValueDictionary[tuple[int, ...], Rules] = WeakValueDictionary()
"""By the identities of their mappings, which live as long as the rules do."""


def rules_of(mappings: Sequence[Mapping]) -> Rules:
    """The rules of these mappings; the same ones for all that ask with the same mappings."""
    key = tuple(map(id, mappings))
    rules = _all_rules.get(key)
    if rules is None:
        rules = _all_rules[key] = Rules(mappings)
    return rules


def _direct(mapping: Mapping, rule: MetricRule) -> tuple[Place, Step] | None:
    plain = rule.kind == "gauge" and rule.combine == "last" and rule.at_least is None
    if not plain or rule.key or rule.words or rule.copies:
        return None
    spec = spec_of(mapping, rule.entity, rule.field)
    places: dict[type, Place] = {float: "floats", int: "wholes", bool: "flags"}
    place = places.get(spec.type if spec is not None else float)
    if place is None:
        return None
    if rule.field.startswith("_"):
        place = "steps"
    factor = factor_of(mapping, rule, rule.field) or 1.0
    return place, (rule.field, factor, *_raw_bounds(spec, factor))


def _raw_bounds(spec: FieldSpec | None, factor: float) -> tuple[float, float]:
    """What the exporter's own number may be, so that the field's value is within its bounds."""
    low = -NUMBER_MAX if spec is None or spec.low is None else spec.low - ROUNDING
    high = NUMBER_MAX if spec is None or spec.high is None else spec.high + ROUNDING
    return low / factor, high / factor


def _is_one_of(value: str, words: list[str]) -> bool:
    return any(value.startswith(word[:-1]) if word.endswith("*") else value == word for word in words)
