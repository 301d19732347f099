"""From mapping tables to queries: what the API evaluates, and the tables that take its answers in.

The API does what needs time or many series: rates, quantiles, and the putting together of series that differ
only in labels nobody asked for. Names, units, words, bounds and derived fields stay with `exposition.plan`,
which gets a lowered table: each rule of the original, with its query's name instead of the metric's, and a
gauge where the API made one.

A query is `(what) by (labels that some template needs)`. Each query belongs to a stamp: another query that
tells, for the same labels, the time of the oldest newest sample; an answer's own time is only when it was
evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct, structs

from steersman.drivers.exposition.fold import BLANKS
from steersman.drivers.exposition.mapping import Mapping, MetricRule, placeholders, spec_of
from steersman.drivers.exposition.units import base, rate_unit
from steersman.drivers.prometheus.promql import grouped, marked, once, selector

NAME = "__name__"
INSTANCE = "instance"
JOB = "job"
EXPORTED = "exported_"
"""What Prometheus puts before an exporter's label that its target has, too (honor_labels=false)."""
WORKLOAD = ("pod", "namespace", "container")
"""Labels that name a workload on an exporter's page, and the exporter's own pod among a target's labels."""
PLACE_MAX_CHARS = 120

_RATED = {"counter": "rate", "change": "deriv"}
_AGGREGATION = {"last": "max", "sum": "sum", "max": "max", "min": "min", "mean": "avg"}


class Query(Struct, frozen=True):
    """One question for values. `place` is how messages name it. `metrics` names its series where the answer
    does not. `stamp` is the number of its stamp, `joins` the variables without which its entities have no
    name, `exempt` the workload labels that are part of an id."""

    number: int
    text: str
    place: str
    metric: str
    stamp: int
    joins: frozenset[str]
    exempt: frozenset[str]


class Stamp(Struct, frozen=True):
    """One question for times. `labels` are what its answer is told apart by; None where its author knows."""

    number: int
    text: str
    place: str
    labels: tuple[str, ...] | None


class Join(Struct, frozen=True):
    """A variable: the label's value on each instance."""

    variable: str
    label: str
    text: str


class Lowered(Struct, frozen=True):
    """Everything that is asked, and the tables for the answers."""

    tables: list[Mapping] = msgspec.field(default_factory=list[Mapping])
    queries: list[Query] = msgspec.field(default_factory=list[Query])
    stamps: list[Stamp] = msgspec.field(default_factory=list[Stamp])
    joins: list[Join] = msgspec.field(default_factory=list[Join])


def lower(tables: Sequence[Mapping], window_s: float, only: dict[str, list[str]], given: set[str]) -> Lowered:
    """The queries of all tables. `given` are variables (without `@`) that the source sets by itself."""
    lowered = Lowered()
    for table in tables:
        _Lowering(table, f"{window_s:g}s", only, given, lowered).run()
    return lowered


class _Group:
    """Rules of one entity whose answers have the same labels: they share a stamp."""

    def __init__(self, number: int, labels: tuple[str, ...]) -> None:
        self.number = number
        self.labels = labels
        self.parts: dict[str, None] = {}


class _Lowering:
    """One table on its way."""

    def __init__(
        self, table: Mapping, window: str, only: dict[str, list[str]], given: set[str], into: Lowered
    ) -> None:
        self._table = table
        self._window = window
        self._only = only
        self._given = given
        self._into = into
        self._rules: list[MetricRule] = []
        self._groups: dict[tuple[str, tuple[str, ...]], _Group] = {}
        self._gauges: dict[tuple[object, ...], list[tuple[int, MetricRule]]] = {}
        self._stamps = len(into.stamps)

    def run(self) -> None:
        for rule in self._table.metrics:
            if rule.query:
                self._own(rule)
            elif rule.kind == "histogram":
                self._histogram(rule)
            elif rule.kind in ("counter", "change", "count") or rule.copies or rule.at_least is not None:
                self._single(rule)
            else:
                self._gather(rule)
        self._gathered()
        for group in self._groups.values():
            parts = [marked(f"timestamp({part})", number) for number, part in enumerate(group.parts)]
            text = grouped("min", (*group.labels, JOB), " or ".join(parts))
            place = f"{self._table.name}, times of {len(parts)} metrics"
            self._into.stamps.append(Stamp(group.number, text, place, group.labels))
        for name, variable in self._table.variables.items():
            if name not in self._given:
                labels = dict.fromkeys((INSTANCE, EXPORTED + variable.label, variable.label))
                text = grouped("max", labels, selector([variable.metric], {}, {}, self._only))
                self._into.joins.append(Join(f"@{name}", variable.label, text))
        self._into.tables.append(structs.replace(self._table, metrics=self._rules, variables={}))

    # ---- what a rule needs

    def _labels(self, rule: MetricRule) -> tuple[str, ...]:
        """The labels without which the rule's entity, labels, fields or keys would not be known."""
        entity = self._table.entities[rule.entity]
        kept = [*entity.labels.values(), *entity.fields.values()]
        wanted = [*entity.id, *kept, rule.key, *(rule.fields.values() if rule.kind == "info" else ())]
        names: dict[str, None] = {}
        for template in wanted:
            for name in placeholders(template):
                if not name.startswith("@"):
                    if not name.startswith(EXPORTED):
                        names[EXPORTED + name] = None
                    names[name] = None
                elif name == "@instance" or name[1:] in self._table.variables:
                    names[INSTANCE] = None
        ids = {name for template in entity.id for name in placeholders(template)}
        if any(name in WORKLOAD and name not in ids for template in kept for name in placeholders(template)):
            names |= dict.fromkeys((INSTANCE, EXPORTED + "pod", "pod"))  # whose pod it is shows there
        return tuple(names)

    def _series(self, rule: MetricRule, *metrics: str) -> str:
        """The selector of a rule. A label that its entity must be without is empty."""
        banned = {label: [""] for label in self._table.entities[rule.entity].without}
        return selector(metrics, {**banned, **rule.match}, rule.unless, self._only)

    def _group(self, rule: MetricRule, labels: tuple[str, ...]) -> _Group:
        key = (rule.entity, labels)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(self._stamps, labels)
            self._stamps += 1
        return group

    def _ask(self, rule: MetricRule, text: str, place: str, metric: str, stamp: int) -> str:
        """Put a query on the list; what its series are named by."""
        entity = self._table.entities[rule.entity]
        ids = {name for template in entity.id for name in placeholders(template)}
        joins = {name for name in ids if name[1:] in self._table.variables and name[1:] not in self._given}
        number = len(self._into.queries)
        place = f"{self._table.name}, {place}"[:PLACE_MAX_CHARS]
        exempt = frozenset(name for name in ids if name in WORKLOAD)
        self._into.queries.append(Query(number, text, place, metric, stamp, frozenset(joins), exempt))
        return f"@{number}"

    def _take(self, rule: MetricRule, names: list[str], **changes: object) -> None:
        """The lowered rule."""
        plain: dict[str, object] = {"metric": names, "match": {}, "unless": {}, "at_least": None}
        plain |= {"copies": [], "from_zero": False}
        self._rules.append(structs.replace(rule, **{**plain, **changes}))

    # ---- kinds

    def _own(self, rule: MetricRule) -> None:
        """An expression of the table's author."""
        number = self._stamps
        self._stamps += 1
        place = f"{self._table.name}, time of {rule.metric[0]}"
        self._into.stamps.append(Stamp(number, rule.stamp, place, None))
        at = self._ask(rule, rule.query, rule.metric[0], rule.metric[0], number)
        self._take(rule, [f"{rule.metric[0]}{at}"], query="", stamp="")

    def _histogram(self, rule: MetricRule) -> None:
        labels = self._labels(rule)
        group = self._group(rule, labels)
        for metric in reversed(rule.metric):  # of two rules for one field the later counts: the first name
            buckets = self._series(rule, f"{metric}_bucket")
            group.parts[self._series(rule, f"{metric}_count")] = None
            alive = once(rule.copies, f"rate({buckets}[{self._window}]) and {buckets}")
            for field, share in rule.quantiles.items():
                text = f"histogram_quantile({share:g}, {grouped('sum', ('le', *labels), alive)})"
                at = self._ask(rule, text, f"{field} of {metric}", metric, group.number)
                self._take(rule, [f"{metric}{at}"], kind="gauge", field=field, quantiles={}, combine="last")

    def _single(self, rule: MetricRule) -> None:
        """Counters, counts, copies, and what is unknown below a bound: a query for each name; a rate has
        none."""
        labels = self._labels(rule)
        group = self._group(rule, labels)
        operation = "count" if rule.kind == "count" else _AGGREGATION[rule.combine]
        names: list[str] = []
        for metric in rule.metric:
            series = self._series(rule, metric)
            group.parts[series] = None
            inner = self._clean(rule, series)
            if rule.kind in _RATED:
                inner = f"{_RATED[rule.kind]}({series}[{self._window}]) and {series}"
            text = self._aggregated(operation, labels, once(rule.copies, inner))
            if rule.at_least is not None:
                least = f"{grouped('min', labels, series)} >= {rule.at_least:g}"
                text = f"{text} and on ({', '.join(labels)}) ({least})"
            at = self._ask(rule, text, f"{rule.kind} {rule.field} of {metric}", metric, group.number)
            names.append(f"{metric}{at}")
        unit, combine = rule.unit, rule.combine
        if rule.kind in _RATED:
            unit = rate_unit(rule.unit) or ""
        elif rule.kind == "count":
            spec = spec_of(self._table, rule.entity, rule.field)
            unit = spec.unit if spec is not None and base(spec.unit) is not None else ""
            combine = "sum"
        kind = "gauge" if rule.kind in ("count", *_RATED) else rule.kind
        self._take(rule, names, kind=kind, unit=unit, combine=combine)

    def _gather(self, rule: MetricRule) -> None:
        """Gauges that differ only in their names share a query."""
        labels = self._labels(rule)
        group = self._group(rule, labels)
        for metric in rule.metric:
            group.parts[self._series(rule, metric)] = None
        match = tuple((label, *words) for label, words in rule.match.items())
        unless = tuple((label, *words) for label, words in rule.unless.items())
        key = (rule.entity, labels, match, unless, _AGGREGATION[rule.combine])
        self._gauges.setdefault(key, []).append((len(self._rules), rule))
        self._rules.append(rule)  # its place: of two rules for one field the later one counts

    def _gathered(self) -> None:
        for shared in self._gauges.values():
            _, first = shared[0]
            labels = self._labels(first)
            metrics = list(dict.fromkeys(metric for _, rule in shared for metric in rule.metric))
            series = self._clean(first, self._series(first, *metrics))
            text = self._aggregated(_AGGREGATION[first.combine], (NAME, *labels), series)
            place = metrics[0] if len(metrics) == 1 else f"{metrics[0]} and {len(metrics) - 1} more"
            at = self._ask(first, text, place, "", self._group(first, labels).number)
            for number, rule in shared:
                names = [f"{metric}{at}" for metric in rule.metric]
                self._rules[number] = structs.replace(rule, metric=names, match={}, unless={})

    def _aggregated(self, operation: str, labels: tuple[str, ...], series: str) -> str:
        """Sums and counts are of one scrape target's series. Where the entity is bound to its instance, a
        target that two scrape jobs read is one and not two."""
        if operation in ("sum", "count") and INSTANCE in labels:
            return grouped("max", labels, grouped(operation, (*labels, JOB), series))
        return grouped(operation, labels, series)

    def _clean(self, rule: MetricRule, series: str) -> str:
        """Without the numbers that mean "no value", where they would be added to others."""
        if rule.combine == "last":
            return series
        return series + "".join(f" != {blank:.0f}" for blank in sorted(BLANKS[self._table.blanks]))


def scrape_targets(only: dict[str, list[str]]) -> str:
    """The question for scrape targets: which are up, and what pod each of them is itself."""
    return grouped("max", (JOB, INSTANCE, "pod"), selector(["up"], {}, {}, only))
