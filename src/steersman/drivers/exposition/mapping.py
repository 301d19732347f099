"""The mapping table: which metric is which field of which entity, in which unit and of which kind.

A mapping is data (YAML). It is checked as a whole when it is read: every metric names an entity that the
table declares, a field, and a unit that converts to that field's own. docs/reference/drivers/openmetrics.md
describes each key.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from steersman.drivers.exposition.units import base, factor, rate_unit
from steersman.kernel.config import load
from steersman.kernel.errors import InvalidInput
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import FIELDS, FieldSpec

SHIPPED = Path(__file__).parent / "mappings"
"""The folder of mappings that come with the driver; one is named by its file name without `.yaml`."""
METRICS_MAX = 1000
QUERY_MAX_CHARS = 8192
"""An expression that is longer belongs into a recording rule."""

Kind = Literal["gauge", "counter", "change", "histogram", "info", "count", "set", "bits"]
Combine = Literal["last", "sum", "max", "min", "mean"]
Calculation = Literal["sum", "difference", "ratio", "one_minus_ratio", "max"]

_PLACEHOLDER = re.compile(r"\{(@?[^{}]+)\}")


class MappingInvalid(InvalidInput):
    """A mapping can't be used. `detail` names the mapping and the metric; `facts`: `mapping`."""

    code = "mapping_invalid"
    title = "Mapping invalid"


class EntityRule(Struct, frozen=True, forbid_unknown_fields=True):
    """How entities of one kind are named and what is kept of their labels.

    - `id`: templates; the first is used whose labels a series all has. `{label}` stands for a label's value,
      `{@name}` for a variable of the page (see `Variable`; `{@instance}` is host and port of the endpoint).
    - `labels`: labels to keep, each a template. `fields`: texts that come from labels; `values`: constants.
      What a series does not have is left out.
    - `without`: a series that has one of these labels is of something else, whatever its metric.
    - `seen`: tell of it as soon as a series of it is on the page, with its texts and constants alone where no
      other field has a value yet (a server that only has counters, on the first page).

    A placeholder may name several labels, `{pod|pod_name}`: the first that has a value counts.
    """

    type: EntityType
    id: Annotated[list[str], Meta(min_length=1, max_length=8)]
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    fields: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    values: dict[str, bool | float | str] = msgspec.field(default_factory=dict[str, bool | float | str])
    without: Annotated[list[str], Meta(max_length=32)] = msgspec.field(default_factory=list[str])
    seen: bool = False


class MetricRule(Struct, frozen=True, forbid_unknown_fields=True):
    """One metric's way into a field.

    - `metric`: names, all of which mean the same (a metric that was renamed has two). Where a page has
      several of them, the first counts and the others are not added to it.
    - `match`, `unless`: label values that must, must not be; `*` at the end of one matches any rest.
    - `field`: the field; one that starts with `_` is only a step for `derive`.
    - `said_unit`: the unit that the exporter's HELP or UNIT names, where that is not the unit of its values.
    - `unit`: the unit of the exporter. `kind`: gauge; counter (its rate is taken); change (how fast a gauge
      rises or falls); histogram (`quantiles` names the fields); info (`fields` are templates); count (how
      many series match); set (a list of the `key` of each series that is not zero or, with `among`, has one
      of these values); bits (a list of the `words` of the bits of a mask, "0x8": name; a bit without a word
      is told as its number).
    - `combine`: what is done where several series of one entity meet in the field. `key`: a template; the
      field is then a mapping of it to values.
    - `copies`: labels that only tell copies apart (the ranks of one model): of series that differ in nothing
      else the largest counts, once, before `combine`.
    - `from_zero`: a counter whose series its first event makes: one that was not on the last page has counted
      from zero since then. Without it a series' first page gives no rate.
    - `passing`: its series come and go with what they count, so that there is none any more is no drift.
    - `words`: a text field's word for each number; `"true"` and `"false"` for a field that is one of both.
    - `at_least`: a smaller value means that nothing is known, and neither is what it would be combined into.
    - `query`, `stamp`: expressions in PromQL, for a Prometheus-compatible API alone: the values, and the time
      in seconds of the samples that they are made of. `metric` is then only a name for messages.
    """

    metric: Annotated[list[str], Meta(min_length=1, max_length=16)]
    entity: str
    field: str = ""
    unit: str = ""
    said_unit: str = ""
    kind: Kind = "gauge"
    match: dict[str, list[str]] = msgspec.field(default_factory=dict[str, list[str]])
    unless: dict[str, list[str]] = msgspec.field(default_factory=dict[str, list[str]])
    combine: Combine = "last"
    copies: Annotated[list[str], Meta(max_length=8)] = msgspec.field(default_factory=list[str])
    from_zero: bool = False
    passing: bool = False
    key: str = ""
    quantiles: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    fields: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    words: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    among: Annotated[list[float], Meta(max_length=16)] = msgspec.field(default_factory=list[float])
    at_least: float | None = None
    query: Annotated[str, Meta(max_length=QUERY_MAX_CHARS)] = ""
    stamp: Annotated[str, Meta(max_length=QUERY_MAX_CHARS)] = ""


class Derived(Struct, frozen=True, forbid_unknown_fields=True):
    """A field that is computed from others of the same entity, all of which must be there.

    - `calculation`: `sum` of all, `difference` of the first and all others, `ratio` of the first to the
      second, `one_minus_ratio`, `max` of the values of a mapping. Mappings are computed key by key. A ratio
      over zero is absent. Where two of one field have a value, the later one counts.
    - `zero`: those of `of` that count as zero where they are absent, for exporters that show a counter only
      once it has counted something.
    - `unit`: the unit of the outcome, where it is not the field's own: steps are in base units, so seconds
      spent by requests done are seconds.
    - `clamp`: an outcome beyond the field's bounds is put on the bound, and a step is not less than zero:
      counters that belong together are not moved at one moment.
    """

    entity: str
    field: str
    calculation: Calculation
    of: Annotated[list[str], Meta(min_length=1, max_length=8)]
    zero: Annotated[list[str], Meta(max_length=8)] = msgspec.field(default_factory=list[str])
    unit: str = ""
    clamp: bool = False


class Variable(Struct, frozen=True, forbid_unknown_fields=True):
    """A variable of the page: a label's value of the one series of a metric, e.g. the node's own name."""

    metric: str
    label: str


class Mapping(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole table.

    - `blanks: dcgm` takes DCGM's numbers for "no value" out.
    - `repeats_s`: for an exporter that collects at a pace of its own. An entity on whose series nothing moved
      for no longer than this was not collected anew: its rates stay what they were and are taken from one
      collection to the next. 0: each page is new.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    entities: dict[str, EntityRule]
    metrics: Annotated[list[MetricRule], Meta(max_length=METRICS_MAX)]
    source_type: str = "openmetrics"
    blanks: Literal["none", "dcgm"] = "none"
    repeats_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    variables: dict[str, Variable] = msgspec.field(default_factory=dict[str, Variable])
    derive: list[Derived] = msgspec.field(default_factory=list[Derived])

    def __post_init__(self) -> None:
        check(self)


def open_mapping(name: str) -> Mapping:
    """A shipped mapping by its name, or a file by its path. Raises `MappingInvalid`, `ConfigInvalid`."""
    return load(Mapping, Path(name), {}) if name.endswith((".yaml", ".yml")) else _open_shipped(name)


@cache
def _open_shipped(name: str) -> Mapping:
    path = SHIPPED / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(shipped_mappings())
        raise MappingInvalid(
            f"there is no mapping {name!r}; shipped are {known}, or name a .yaml file", mapping=name
        )
    return load(Mapping, path, {})


def shipped_mappings() -> list[str]:
    """The names of the mappings that come with the driver."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def placeholders(template: str) -> list[str]:
    """The labels and variables (with their `@`) that a template reads."""
    return [one for name in _PLACEHOLDER.findall(template) for one in name.split("|")]


def waits(template: str) -> bool:
    """Whether a template reads a variable of the page, so that it can't be filled by labels alone."""
    return "{@" in template and any(name.startswith("@") for name in _PLACEHOLDER.findall(template))


def fill(template: str, values: dict[str, str]) -> str | None:
    """The template with its placeholders replaced; None where one has no value or an empty one. Variables
    that are not in `values` stay as they are, for later."""
    plain = template.count("{") == 1 and "|" not in template
    if plain and template[0] == "{" and template[-1] == "}":  # most are one label alone
        name = template[1:-1]
        return values.get(name) or (template if name.startswith("@") else None)
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        name = match[1]
        found = values.get(name) or next((text for one in name.split("|") if (text := values.get(one))), None)
        if not found:
            missing = missing or not name.startswith("@")
            return match[0]
        return found

    filled = _PLACEHOLDER.sub(value, template)
    return None if missing else filled


def spec_of(mapping: Mapping, entity: str, name: str) -> FieldSpec | None:
    """The canonical field, None where the entity type does not declare it."""
    return FIELDS[mapping.entities[entity].type].get(name)


def factor_of(mapping: Mapping, rule: MetricRule, name: str) -> float | None:
    """From the rule's unit to the field's; None where they do not fit."""
    unit = rule.unit
    if rule.kind in ("counter", "change"):
        rated = rate_unit(unit)
        if rated is None:
            return None
        unit = rated
    spec = spec_of(mapping, rule.entity, name)
    if name.startswith("_"):
        return base(unit)  # steps of a calculation meet in base units
    if spec is None or spec.type in (bool, str, list):
        return 1.0 if base(unit) is not None else None
    if spec.type.__name__ == "datetime":
        return factor(unit, "s")
    return factor(unit, spec.unit)


def derived_factor_of(mapping: Mapping, derived: Derived) -> float | None:
    """From the unit of a calculation's outcome to its field's; None where they do not fit."""
    if not derived.unit:
        return 1.0
    if derived.field.startswith("_"):
        return base(derived.unit)
    spec = spec_of(mapping, derived.entity, derived.field)
    return factor(derived.unit, spec.unit if spec is not None else derived.unit)


def check(mapping: Mapping) -> None:
    """Refuse a table that can't be right. Raises `MappingInvalid`."""
    for rule in mapping.metrics:
        place = f"mapping {mapping.name}, metric {rule.metric[0]}"
        _check_entity(mapping, rule.entity, place)
        names = list(rule.quantiles) if rule.kind == "histogram" else [rule.field]
        if rule.kind == "info":
            names = list(rule.fields)
        if not all(names) or not names:
            raise MappingInvalid(f"{place}: it fills no field", mapping=mapping.name)
        check_list(mapping, rule, place)
        if any(waits(template) for template in (rule.key, *rule.fields.values())):
            raise MappingInvalid(
                f"{place}: variables belong to the ids, labels and fields of an entity", mapping=mapping.name
            )
        check_query(mapping, rule, place)
        if any(not 0 < q < 1 for q in rule.quantiles.values()):
            raise MappingInvalid(f"{place}: a quantile lies between 0 and 1", mapping=mapping.name)
        for name in names if rule.kind not in ("info", "count") else []:
            if factor_of(mapping, rule, name) is None:
                spec = spec_of(mapping, rule.entity, name)
                wanted = f"the field's unit {spec.unit or 'count'!r}" if spec else "a known unit"
                raise MappingInvalid(
                    f"{place}: {rule.kind} in unit {rule.unit!r} does not convert to {wanted} of {name}",
                    mapping=mapping.name,
                )
    for derived in mapping.derive:
        place = f"mapping {mapping.name}, derived field {derived.field}"
        _check_entity(mapping, derived.entity, place)
        wanted = {"ratio": 2, "one_minus_ratio": 2, "max": 1}.get(derived.calculation, len(derived.of))
        if len(derived.of) != wanted:
            raise MappingInvalid(
                f"{place}: {derived.calculation} takes {wanted} fields", mapping=mapping.name
            )
        if set(derived.of) <= set(derived.zero) or not set(derived.zero) < set(derived.of):
            raise MappingInvalid(
                f"{place}: zero names some of its fields, and not all of them", mapping=mapping.name
            )
        if derived_factor_of(mapping, derived) is None:
            raise MappingInvalid(
                f"{place}: unit {derived.unit!r} does not convert to the field's", mapping=mapping.name
            )


def check_list(mapping: Mapping, rule: MetricRule, place: str) -> None:
    """Refuse a rule for a list that can't be right, and a list that no such rule fills."""
    spec = spec_of(mapping, rule.entity, rule.field)
    if spec is not None and (spec.type is list) != (rule.kind in ("set", "bits")) and rule.kind != "info":
        raise MappingInvalid(
            f"{place}: a list is filled by kind set or bits, and they fill nothing else", mapping=mapping.name
        )
    if rule.kind == "set" and not rule.key:
        raise MappingInvalid(f"{place}: a set needs a key", mapping=mapping.name)
    try:
        bits = [int(bit, 0) for bit in rule.words] if rule.kind == "bits" else [1]
    except ValueError:
        bits = []
    if not bits or any(bit <= 0 or bit & (bit - 1) for bit in bits):
        raise MappingInvalid(
            f'{place}: bits needs words for single bits, such as {{"0x8": name}}', mapping=mapping.name
        )


def check_query(mapping: Mapping, rule: MetricRule, place: str) -> None:
    """Refuse a rule that asks in PromQL and does not say how old its answers are."""
    if rule.query and (
        not rule.stamp or rule.match or rule.unless or rule.kind in ("counter", "histogram", "count")
    ):
        raise MappingInvalid(
            f"{place}: a query needs stamp, which says how old its values are; it selects, rates and counts "
            "by itself, so match, unless and those kinds don't go with it",
            mapping=mapping.name,
        )
    if rule.stamp and not rule.query:
        raise MappingInvalid(f"{place}: stamp belongs to a query", mapping=mapping.name)


def _check_entity(mapping: Mapping, entity: str, place: str) -> None:
    if entity not in mapping.entities:
        known = ", ".join(mapping.entities)
        raise MappingInvalid(f"{place}: no entity {entity!r}; declared are {known}", mapping=mapping.name)
