"""The part of PromQL that the fake speaks: what this driver asks, and no more.

Selectors, `rate`, `deriv`, `timestamp`, `histogram_quantile`, `label_replace`, aggregations, `and` (also
`on`), `or`, comparison with a number, `time()`. Another text is an error, as a bad query is for the real one.
The suite runs on the real one, too, so that what is simple here is right there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from steersman.drivers.exposition.fold import quantile

LOOKBACK_S = 300.0
"""How old a newest sample may be and still be an answer: the default of Prometheus."""

Labels = dict[str, str]
Row = tuple[Labels, float]
Rows = list[Row]


class QueryInvalid(Exception):
    """A text that is none of the queries that are spoken here."""


class Series(Struct):
    """One stored series: labels with `__name__`, and samples (time in seconds, value), oldest first."""

    labels: Labels
    samples: list[tuple[float, float]]


_TOKEN = re.compile(
    r'\s*(?:("(?:[^"\\]|\\.)*")|([a-zA-Z_][a-zA-Z0-9_]*)|([0-9.]+s?)|(=~|!~|!=|>=|[{}()\[\],=]))'
)
_AGGREGATIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "max": max,
    "min": min,
    "sum": math.fsum,
    "avg": lambda values: math.fsum(values) / len(values),
    "count": lambda values: float(len(values)),
}


Stored = Mapping[str, Sequence[Series]]
"""All series by their name."""


def evaluate(text: str, stored: Stored, at_s: float) -> Rows | float:
    """The vector or number of a query at a time. Raises `QueryInvalid`."""
    return _Evaluation(text, stored, at_s).whole()


class _Evaluation:
    """One text, read and evaluated in one go."""

    def __init__(self, text: str, stored: Stored, at_s: float) -> None:
        self._stored = stored
        self._at_s = at_s
        self._tokens: list[str] = []
        at = 0
        text = text.strip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise QueryInvalid(f"unexpected character in {text[at : at + 20]!r}")
            self._tokens.append(match[0].strip())
            at = match.end()
        self._place = 0

    def whole(self) -> Rows | float:
        if self._tokens == ["time", "(", ")"]:
            return self._at_s
        rows = self._vector()
        if self._place < len(self._tokens):
            raise QueryInvalid(f"unexpected {self._tokens[self._place]!r}")
        return rows

    # ---- tokens

    def _peek(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _next(self, wanted: str = "") -> str:
        token = self._peek()
        if not token or (wanted and token != wanted):
            raise QueryInvalid(f"expected {wanted or 'more'!r}, found {token!r}")
        self._place += 1
        return token

    def _text(self) -> str:
        token = self._next()
        if token[0] != '"':
            raise QueryInvalid(f"expected a string, found {token!r}")
        return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], token[1:-1])

    def _list(self) -> list[str]:
        self._next("(")
        names: list[str] = []
        while self._peek() != ")":
            names.append(self._text() if self._peek()[0] == '"' else self._next())
            if self._peek() == ",":
                self._next()
        self._next(")")
        return names

    # ---- expressions

    def _vector(self) -> Rows:
        rows = self._compared(self._one())
        while self._peek() in ("and", "or"):
            sign = self._next()
            on: list[str] | None = None
            if self._peek() == "on":
                self._next()
                on = self._list()
            if sign == "and":
                keys = {_key(labels, on) for labels, _ in self._compared(self._one())}
                rows = [row for row in rows if _key(row[0], on) in keys]
                continue
            keys = {_key(labels, on) for labels, _ in rows}
            while True:  # a long chain of `or` looks at each row once
                added = [row for row in self._compared(self._one()) if _key(row[0], on) not in keys]
                rows += added
                keys.update(_key(labels, on) for labels, _ in added)
                if self._peek() != "or":
                    break
                self._next()
        return rows

    def _compared(self, rows: Rows) -> Rows:
        """The rows that the comparisons behind them let through."""
        while self._peek() in ("!=", ">="):
            sign, bound = self._next(), float(self._next())
            rows = [row for row in rows if (row[1] != bound if sign == "!=" else row[1] >= bound)]
        return rows

    def _one(self) -> Rows:
        head = self._peek()
        if head == "{":
            return [(labels, value) for labels, _, value in self._instant(self._selector())]
        if head == "(":
            self._next()
            rows = self._vector()
            self._next(")")
            return rows
        name = self._next()
        if name in _AGGREGATIONS:
            return self._aggregate(name)
        self._next("(")
        rows = self._call(name)
        self._next(")")
        return _distinct(rows)

    def _call(self, name: str) -> Rows:
        if name in ("rate", "deriv"):
            found = self._selector()
            self._next("[")
            window_s = float(self._next().removesuffix("s"))
            self._next("]")
            return [
                (_unnamed(one.labels), rate)
                for one in found
                if (rate := self._rate(one, window_s, resets=name == "rate")) is not None
            ]
        if name == "timestamp":
            return [(_unnamed(labels), time_s) for labels, time_s, _ in self._instant(self._selector())]
        if name == "label_replace":
            rows = self._vector()
            parts: list[str] = []
            while self._peek() == ",":
                self._next()
                parts.append(self._text())
            return [({**labels, parts[0]: parts[1]}, value) for labels, value in rows]
        if name == "histogram_quantile":
            share = float(self._next())
            self._next(",")
            return _quantiles(share, self._vector())
        raise QueryInvalid(f"unknown function {name!r}")

    def _aggregate(self, name: str) -> Rows:
        without = self._next() == "without"
        labels = self._list()
        self._next("(")
        rows = self._vector()
        self._next(")")
        groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
        for own, value in rows:
            names = set(_unnamed(own)).difference(labels) if without else labels
            kept = tuple((label, own[label]) for label in sorted(names) if own.get(label))
            groups.setdefault(kept, []).append(value)
        return [(dict(kept), _AGGREGATIONS[name](values)) for kept, values in groups.items()]

    def _selector(self) -> list[Series]:
        self._next("{")
        found: list[Series] = []
        while self._peek() != "}":
            label = self._text() if self._peek()[0] == '"' else self._next()
            sign, wanted = self._next(), self._text()
            if label == "__name__":  # it always stands first
                names = [name for name in self._stored if _matches(name, sign, wanted)]
                found = [one for name in names for one in self._stored[name]]
            else:
                found = [one for one in found if _matches(one.labels.get(label, ""), sign, wanted)]
            if self._peek() == ",":
                self._next()
        self._next("}")
        return found

    def _instant(self, series: Sequence[Series]) -> list[tuple[Labels, float, float]]:
        """The newest sample of each, where it is not too old."""
        found: list[tuple[Labels, float, float]] = []
        for one in series:
            fresh = [s for s in one.samples if self._at_s - LOOKBACK_S < s[0] <= self._at_s]
            if fresh:
                found.append((one.labels, *fresh[-1]))
        return found

    def _rate(self, one: Series, window_s: float, *, resets: bool) -> float | None:
        samples = [s for s in one.samples if self._at_s - window_s < s[0] <= self._at_s]
        if len(samples) < 2:
            return None
        grown = 0.0
        for (_, before), (_, after) in pairwise(samples):
            grown += after if resets and after < before else after - before
        return grown / (samples[-1][0] - samples[0][0])


def _matches(value: str, sign: str, wanted: str) -> bool:
    if sign in ("=", "!="):
        return (value == wanted) == (sign == "=")
    return (re.fullmatch(wanted, value) is not None) == (sign == "=~")


def _unnamed(labels: Labels) -> Labels:
    return {name: text for name, text in labels.items() if name != "__name__"}


def _key(labels: Labels, on: list[str] | None) -> tuple[tuple[str, str], ...]:
    names = sorted(_unnamed(labels)) if on is None else sorted(on)
    return tuple((name, labels[name]) for name in names if labels.get(name))


def _distinct(rows: Rows) -> Rows:
    if len({tuple(sorted(labels.items())) for labels, _ in rows}) < len(rows):
        raise QueryInvalid("vector cannot contain metrics with the same labelset")
    return rows


def _quantiles(share: float, rows: Rows) -> Rows:
    groups: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for labels, value in rows:
        kept = tuple(sorted(item for item in labels.items() if item[0] != "le"))
        groups.setdefault(kept, []).append((float(labels["le"]), value))
    found = [(dict(kept), quantile(share, sorted(buckets))) for kept, buckets in groups.items()]
    return [(labels, math.nan if value is None else value) for labels, value in found]
