"""Series that do not go into their field one to one: rates, sums, mappings, words, quantiles, texts.

Each fold belongs to one field (or, for a histogram, to one set of quantiles) of one entity and remembers of
its series what the next page needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from steersman.drivers.exposition.listing import Bits, Members
from steersman.drivers.exposition.mapping import Mapping, MetricRule, factor_of, fill, spec_of
from steersman.drivers.exposition.series import Page

BLANKS: dict[str, frozenset[float]] = {
    "none": frozenset(),
    "dcgm": frozenset(
        [
            float(base + kind)
            for base in (0x7FFFFFF0, 0x7FFFFFFFFFFFFFF0, 140737488355328)
            for kind in range(4)
        ]
    ),
}
"""Numbers that mean "no value". DCGM's (dcgm_structs.h) are blank, not found, not supported, no permission;
each in 32 bit, 64 bit and floating point; older exporters print them."""

LEAST_BLANK = float(0x7FFFFFF0)
"""No blank is smaller, so most values need no look at the set."""

ITEMS_MAX = 256
"""Items of a field that is a mapping."""

RATE_SPAN_MAX_S = 86_400.0
"""Samples that are further apart make no rate: they are of two clocks, or say nothing of now."""

PACE_SLACK = 2.0
"""How far a rate may be over its field's bound because of when it was looked: what an exporter collected in
30 s is seen between 15 s and 45 s later by one who looks every 15 s."""

_BOOLS = {"true": True, "false": False}


def blank_text(blanks: str, text: str) -> bool:
    """Whether a label's text means "no value". DCGM's (dcgm_structs.h) are <<<NULL>>>, <<<NOT_FOUND>>>,
    <<<NOT_SUPPORTED>>> and <<<NOT_PERM>>>."""
    return blanks == "dcgm" and text.startswith("<<<") and text.endswith(">>>")


Place = tuple[int, Any]
"""Where a series stands among those of its fold: the rank of its name, and what it has in common with its
copies (its own number where the rule knows of none)."""


def _place(rule: MetricRule, index: int, name: str, labels: dict[str, str]) -> Place:
    rank = next((n for n, metric in enumerate(rule.metric) if name in (metric, f"{metric}_bucket")), 0)
    if not rule.copies:
        return rank, index
    kept = (item for item in labels.items() if item[0] != "le" and item[0] not in rule.copies)
    return rank, tuple(sorted(kept))


class _Way:
    """How a rule's series become a field's value: what all its folds have in common."""

    __slots__ = ("alone", "apart", "factor", "high", "names", "paced", "plain", "rated", "rule", "type")

    def __init__(self, mapping: Mapping, rule: MetricRule) -> None:
        spec = spec_of(mapping, rule.entity, rule.field)
        self.rule = rule
        self.factor = factor_of(mapping, rule, rule.field) or 1.0
        self.type: type = spec.type if spec is not None else float
        self.plain = self.type is float and not rule.words
        self.apart = len(rule.metric) > 1 or bool(rule.copies)
        self.alone = not (rule.key or rule.kind == "count")
        self.rated = rule.kind in ("counter", "change")
        self.names = (rule.field,)
        self.paced = mapping.repeats_s > 0
        self.high = spec.high if self.paced and rule.kind == "counter" and spec is not None else None


class Fold:
    """Several series, or a rate, or a cast, into one field.

    `again`: whether the page shows once more what was collected for the last one. `since_s`: when its entity
    was last on a page; only kept where it counts from zero.
    """

    __slots__ = ("_before", "_places", "_rates", "_rule", "_way", "again", "members", "since_s")

    def __init__(self, way: _Way) -> None:
        self._way = way
        self._rule = way.rule
        self.members: dict[int, str] = {}
        self._places: dict[int, Place] | None = {} if way.apart else None
        self._before: dict[int, tuple[float, float]] | None = None
        self._rates: dict[int, float] | None = None
        self.again = False
        self.since_s: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that it may fill."""
        return self._way.names

    @property
    def from_zero(self) -> bool:
        """Whether a series of it has counted from zero."""
        return self._rule.from_zero

    def take(self, index: int, name: str, labels: dict[str, str]) -> None:
        """Let a series in."""
        self.members[index] = fill(self._rule.key, labels) or "" if self._rule.key else ""
        if self._places is not None:
            self._places[index] = _place(self._rule, index, name, labels)

    def forget(self, gone: set[int]) -> bool:
        """Drop series; whether none is left."""
        for index in gone & self.members.keys():
            del self.members[index]
            for kept in (self._places, self._before, self._rates):
                if kept is not None:
                    kept.pop(index, None)
        return not self.members

    def fill(
        self, fields: dict[str, Any], page: Page, at_s: float, blanks: frozenset[float], drift: list[str]
    ) -> None:
        """Put the field's value of this page into `fields`, where there is one."""
        way = self._way
        if way.alone and len(self.members) == 1:  # most folds are the rate or the word of one series
            value = self._only(page, at_s, blanks)
            if value is not None and way.high is not None:
                value = self._seen_late(value, way.high)
            cast = value if value is None or way.plain else self._cast(value, drift)
            if cast is not None:
                fields[self._rule.field] = cast
            return
        values = self._values(page, at_s, blanks)
        if not values:
            return
        if self._places is not None:
            values = self._without_copies(values, self._places)
        found: dict[str, list[float]] = {}
        for index, value in values.items():
            found.setdefault(self.members[index], []).append(value)
        if self._rule.key:
            fields[self._rule.field] = {
                key: _combine(self._rule, items) for key, items in list(found.items())[:ITEMS_MAX] if key
            }
            return
        number = _combine(self._rule, next(iter(found.values())))
        if way.high is not None:
            number = self._seen_late(number, way.high)
        value = self._cast(number, drift)
        if value is not None:
            fields[self._rule.field] = value

    def _only(self, page: Page, at_s: float, blanks: frozenset[float]) -> float | None:
        """As `_values`, of a single series."""
        (index,) = self.members
        value, way = page.numbers[index], self._way
        if value is None or value - value != 0.0 or (value >= LEAST_BLANK and value in blanks):
            return None
        if way.rule.at_least is not None and value < way.rule.at_least:
            return None
        if way.rated:
            rate = self._rate(index, value, page.stamps.get(index, at_s) if page.stamps else at_s)
            return rate * way.factor if rate is not None else None
        return value * way.factor

    def _values(self, page: Page, at_s: float, blanks: frozenset[float]) -> dict[int, float]:
        """What each series says on this page, in the field's unit; as a rate where that is meant."""
        values: dict[int, float] = {}
        numbers, stamps = page.numbers, page.stamps
        rated, factor = self._way.rated, self._way.factor
        least = self._rule.at_least
        unknown: set[str] = set()
        for index, key in self.members.items():
            value = numbers[index]
            if value is None or value - value != 0.0 or (value >= LEAST_BLANK and value in blanks):
                continue
            if least is not None and value < least:
                unknown.add(key)
                continue
            if rated:
                rate = self._rate(index, value, stamps.get(index, at_s) if stamps else at_s)
                if rate is None:
                    continue
                value = rate
            values[index] = value * factor
        if unknown:
            return {i: value for i, value in values.items() if self.members[i] not in unknown}
        return values

    @staticmethod
    def _without_copies(values: dict[int, float], places: dict[int, Place]) -> dict[int, float]:
        """One value of each set of copies, the largest, under the first of the metric's names on the page."""
        first = min((places[index][0] for index in values), default=0)
        largest: dict[Any, int] = {}
        for index, value in values.items():
            rank, original = places[index]
            if rank == first and (original not in largest or value > values[largest[original]]):
                largest[original] = index
        return {index: values[index] for index in largest.values()}

    def _rate(self, index: int, value: float, at_s: float) -> float | None:
        """Per second since the last page. A counter that fell was reset, and counts from zero since then; a
        gauge may fall."""
        if self.again:
            return self._rates.get(index) if self._rates is not None else None
        if self._before is None:
            self._before = {}
        before = self._before.get(index)
        if before is not None and before[1] == at_s:
            return None  # the same sample again, or time that stood still
        self._before[index] = (value, at_s)
        if before is not None and not 0 < at_s - before[1] <= RATE_SPAN_MAX_S:
            return None  # its clock was put back, or its time stamps came or went: begin anew
        if before is None:
            known = self._rule.from_zero and self.since_s is not None and self.since_s < at_s
            return value / (at_s - self.since_s) if known and self.since_s is not None else None
        reset = value < before[0] and self._rule.kind == "counter"
        grown = value if reset else value - before[0]
        rate = grown / (at_s - before[1])
        if self._way.paced:
            if self._rates is None:
                self._rates = {}
            self._rates[index] = rate
        return rate

    @staticmethod
    def _seen_late(rate: float, high: float) -> float:
        """A rate that is over its bound because of when it was looked, on the bound."""
        return high if high < rate <= PACE_SLACK * high else rate

    def _cast(self, value: float, drift: list[str]) -> Any:
        if self._rule.words:
            word = self._rule.words.get(f"{value:g}")
            if word is None:
                drift.append(f"{self._rule.metric[0]}: no word for {value:g}")
            if self._way.type is bool:
                return _BOOLS.get(word or "")
            return word or "unknown"
        if self._way.type is bool:
            return value != 0
        if self._way.type is int:
            return round(value)
        if self._way.type is datetime:
            try:
                return datetime.fromtimestamp(value, UTC)
            except (ValueError, OverflowError, OSError):
                return None
        return value


class Info:
    """A metric whose labels are the message; the field's values are templates over them."""

    def __init__(self, rule: MetricRule) -> None:
        self._rule = rule
        self.names = tuple(rule.fields)
        self.members: dict[int, dict[str, str]] = {}

    def take(self, index: int, _name: str, labels: dict[str, str]) -> None:
        """Let a series in."""
        filled = {name: fill(template, labels) for name, template in self._rule.fields.items()}
        self.members[index] = {name: text for name, text in filled.items() if text}

    def forget(self, gone: set[int]) -> bool:
        """Drop series; whether none is left."""
        for index in gone & self.members.keys():
            del self.members[index]
        return not self.members

    def fill(
        self, fields: dict[str, Any], page: Page, _at_s: float, _blanks: frozenset[float], _drift: list[str]
    ) -> None:
        """Put the texts of the series on this page into `fields`."""
        for index, texts in self.members.items():
            if page.numbers[index]:
                fields.update(texts)


class Histogram:
    """Quantiles of what was observed since the last page, over all series of the entity."""

    def __init__(self, mapping: Mapping, rule: MetricRule) -> None:
        self._fields = [
            (name, share, factor_of(mapping, rule, name) or 1.0) for name, share in rule.quantiles.items()
        ]
        self._rule = rule
        self.names = tuple(rule.quantiles)
        self.members: dict[int, float] = {}
        self._places: dict[int, Place] = {}
        self._wholes: dict[int, Any] = {}
        """Which histogram a bucket is of: they are begun anew together."""
        self._before: dict[int, float] = {}

    def take(self, index: int, name: str, labels: dict[str, str]) -> None:
        """Let a bucket in; one without a readable bound is left out."""
        try:
            bound = float(labels.get("le", ""))
        except ValueError:
            return
        if not math.isnan(bound):  # it would be in no order with the others
            self.members[index] = bound
            self._places[index] = _place(self._rule, index, name, labels)
            self._wholes[index] = name, frozenset(item for item in labels.items() if item[0] != "le")

    def forget(self, gone: set[int]) -> bool:
        """Drop buckets; whether none is left."""
        for index in gone & self.members.keys():
            del self.members[index]
            self._places.pop(index, None)
            self._wholes.pop(index, None)
            self._before.pop(index, None)
        return not self.members

    def fill(
        self, fields: dict[str, Any], page: Page, _at_s: float, _blanks: frozenset[float], _drift: list[str]
    ) -> None:
        """Put the quantiles into `fields`, where anything was observed since the last page."""
        grown: dict[int, dict[tuple[float, Any], float]] = {}
        numbers = page.numbers
        fell = (index for index, before in self._before.items() if (numbers[index] or 0.0) < before)
        anew = {self._wholes[index] for index in fell if numbers[index] is not None}
        for index, bound in self.members.items():
            value = numbers[index]
            if value is None or not math.isfinite(value):
                continue
            before = self._before.get(index)
            self._before[index] = value
            if before is not None:
                rank, original = self._places[index]
                growth = value if self._wholes[index] in anew else value - before
                same = grown.setdefault(rank, {})
                same[bound, original] = max(same.get((bound, original), 0.0), growth)
        if not grown:
            return
        added: dict[float, float] = {}
        for (bound, _), growth in grown[min(grown)].items():
            added[bound] = added.get(bound, 0.0) + growth
        buckets = sorted(added.items())
        for name, share, factor in self._fields:
            value = quantile(share, buckets)
            if value is not None:
                fields[name] = value * factor


AnyFold = Fold | Histogram | Info | Members | Bits


def fold_maker(mapping: Mapping, rule: MetricRule) -> Callable[[], AnyFold]:
    """What makes the folds that a rule needs, one for each entity."""
    if rule.kind == "set":
        return partial(Members, rule)
    if rule.kind == "bits":
        return partial(Bits, rule)
    if rule.kind == "histogram":
        return partial(Histogram, mapping, rule)
    return partial(Info, rule) if rule.kind == "info" else partial(Fold, _Way(mapping, rule))


def quantile(share: float, buckets: list[tuple[float, float]]) -> float | None:
    """A quantile from cumulative buckets (upper bound, count at or below), interpolated as Prometheus'
    histogram_quantile does: evenly within a bucket, from 0 in the first, and never beyond the last finite
    bound. None where nothing was observed or the infinite bucket is missing."""
    if not buckets or not math.isinf(buckets[-1][0]) or buckets[-1][1] <= 0:
        return None
    rank = share * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        count = max(count, below)  # buckets read while they were written may not be in order
        if count >= rank:
            if math.isinf(bound):
                return lower if len(buckets) > 1 else None
            start = min(lower, bound)
            return start + (bound - start) * ((rank - below) / (count - below) if count > below else 1.0)
        lower, below = bound, count
    return None


def _combine(rule: MetricRule, values: list[float]) -> float:
    if rule.kind == "count":
        return float(len(values))
    if rule.combine == "sum":
        return math.fsum(values)
    if rule.combine == "mean":
        return math.fsum(values) / len(values)
    if rule.combine == "last":
        return values[-1]
    return max(values) if rule.combine == "max" else min(values)
