"""Signs that an exporter's page is no longer of the shape that a mapping knows: another unit, a label gone.

They are only told, as drift; nothing is put right by them, because a guess that is wrong spoils every value.
A page is held against the mapping when it is first read, when drift of another kind begins, and every
`LOOK_PAGES` pages: a warm page costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable

from steersman.drivers.exposition.mapping import MetricRule, placeholders
from steersman.drivers.exposition.units import base, factor

LOOK_PAGES = 100
"""At a page every 15 s that is within half an hour of an exporter's update."""
SIGNS_MAX = 20
"""Of one page: a table that fits nothing should be looked at, not read line by line."""
NAMES_MAX = 4096
"""Metrics whose series had no name, that are remembered."""

_WORDS: dict[str, tuple[str, ...]] = {
    "%": ("%",), "percent": ("%",), "pct": ("%",), "ratio": ("1",), "ratios": ("1",),
    "seconds": ("s",), "milliseconds": ("ms",), "microseconds": ("us",), "nanoseconds": ("ns",),
    "ms": ("ms",), "us": ("us",), "ns": ("ns",),
    "bytes": ("B",), "kib": ("KiB",), "mib": ("MiB",), "gib": ("GiB",),
    "kibibytes": ("KiB",), "mebibytes": ("MiB",), "gibibytes": ("GiB",),
    "kb": ("kB", "KiB"), "mb": ("MB", "MiB"), "gb": ("GB", "GiB"),
    "kilobytes": ("kB", "KiB"), "megabytes": ("MB", "MiB"), "gigabytes": ("GB", "GiB"),
    "hertz": ("Hz",), "hz": ("Hz",), "khz": ("kHz",), "mhz": ("MHz",), "ghz": ("GHz",),
    "watts": ("W",), "milliwatts": ("mW",), "joules": ("J",), "millijoules": ("mJ",), "mj": ("mJ",),
}  # fmt: skip
"""What a word for a unit may mean. MB is written for 10^6 and for 2^20 bytes alike."""

_LETTERS = {"w": ("W",), "j": ("J",), "s": ("s",), "b": ("B",), "mw": ("mW",)}
"""Those that are only believed in brackets: `(in W)`."""

_IN_HELP = re.compile(r"\(in ([A-Za-z%]+)\)|\bin ([A-Za-z%]+)(?![A-Za-z])|\(([A-Za-z%]+)\)")
_METADATA = re.compile(r"^# (HELP|UNIT) ([a-zA-Z_:][a-zA-Z0-9_:]*) ([^\n]*)", re.MULTILINE)
_NAME = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*", re.MULTILINE)
_NOT_NAMES = {"%", "hz", "mj"}

FACTORS = (100.0, 1000.0, 1024.0, 1e6, 1024.0**2, 1e9, 1024.0**3)
"""Between two units of one dimension."""
OFF_BY_MIN = 2.0
"""What is a little over its bound is a matter of rounding or of when it was read, not of its unit."""
OPEN_BOUND = 1e15
"""A bound this far away is there for the formats' sake and says nothing of a unit."""


def factor_off(value: float, low: float, high: float) -> float | None:
    """The smallest factor between two units that would bring a value that is out of its bounds back into
    them; None where there is none, or where the bounds are open. A negative value is no other unit."""
    if value <= OFF_BY_MIN * high or low > value or high >= OPEN_BOUND:
        return None
    return next((scale for scale in FACTORS if low <= value / scale <= high), None)


def told_unit(help_text: str) -> tuple[str, ...]:
    """What unit a HELP text names; empty where it names none, or more than one."""
    found: set[tuple[str, ...]] = set()
    for match in _IN_HELP.finditer(help_text):
        word = (match[1] or match[2] or match[3]).lower()
        meant = _WORDS.get(word) or (_LETTERS.get(word) if match[1] else None)
        if meant:
            found.add(meant)
    if "ratio" in help_text.lower():
        found.discard(("%",))  # "Ratio of time ... (in %)": it is written of both
    return found.pop() if len(found) == 1 else ()


def stem_of(name: str) -> tuple[str, str]:
    """A metric's name with `{}` in place of the word for its unit, and that word; both empty without one."""
    parts = name.split("_")
    for place in range(len(parts) - 1, 0, -1):
        word = parts[place].lower()
        if word in _WORDS and word not in _NOT_NAMES:
            return "_".join([*parts[:place], "{}", *parts[place + 1 :]]), word
    return "", ""


class KnownUnits:
    """The units of all metrics of some mappings, and their names without them."""

    def __init__(self) -> None:
        self.units: dict[str, str] = {}
        self.stems: dict[str, str] = {}
        self.others: dict[str, list[str]] = {}
        """Of a metric the other names that mean the same."""

    def add(self, rule: MetricRule) -> None:
        """Let a rule in."""
        for metric in rule.metric:
            unit = rule.said_unit or rule.unit
            for family in (metric, metric.removesuffix("_total")) if unit else ():  # as OpenMetrics has it
                self.units.setdefault(family, unit)
            stem, word = stem_of(metric)
            if word and rule.unit:
                self.stems.setdefault(stem, metric)
            self.others.setdefault(metric, list(rule.metric))


class PageShape:
    """The pages of one exporter, held against the units of its mappings."""

    __slots__ = ("_drift", "_found", "_known", "_pages", "_unnamed")

    def __init__(self, known: KnownUnits, unnamed: UnnamedSeries) -> None:
        self._known = known
        self._unnamed = unnamed
        self._pages = 0
        self._drift: frozenset[str] = frozenset()
        self._found: list[str] = []

    def signs(self, page: str, drift: Iterable[str]) -> list[str]:
        """What is another unit on this page. `drift` is what else is odd on it: where that is new, the
        exporter may be another version, and the page is looked at again."""
        now = frozenset(drift)
        if self._pages % LOOK_PAGES == 0 or not now <= self._drift:
            self._found = self._look(page)
        self._pages += 1
        self._drift = now
        return self._found

    def _look(self, page: str) -> list[str]:
        found: dict[str, str] = {}
        for match in _METADATA.finditer(page):
            word, metric, text = match[1], match[2], match[3]
            wanted = self._known.units.get(metric)
            if wanted is None or metric in found:
                continue
            text = text.rstrip("\r")
            told = (
                (_WORDS.get(text.strip().lower()) or (text.strip(),)) if word == "UNIT" else told_unit(text)
            )
            if told and told != ("",) and _differ(told, wanted, declared=word == "UNIT"):
                found[metric] = (
                    f"{metric}: its # {word} says {told[0]}, and the mapping reads {wanted}; nothing "
                    "is converted: check its values, and set `unit` (or `said_unit`) in a mapping of your own"
                )
        names = set(_NAME.findall(page))
        self._unnamed.keep(names)
        self._look_for_names(names, found)
        return list(found.values())[:SIGNS_MAX]

    def _look_for_names(self, names: set[str], found: dict[str, str]) -> None:
        """Metrics that are there under the word for another unit alone."""
        families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
        there = names | families
        for name in sorted(families):
            stem, word = stem_of(name)
            metric = self._known.stems.get(stem) if word else None
            if metric is None or name in self._known.others or there & {*self._known.others[metric]}:
                continue
            found[name] = (
                f"{name} is on this page and {metric} is not: the same in another unit; it is not read: "
                "add it with its `unit` to a mapping of your own"
            )


class UnnamedSeries:
    """Metrics of which no series has the labels that name its entity."""

    __slots__ = ("_by_metric", "changed")

    def __init__(self) -> None:
        self._by_metric: dict[str, str] = {}
        self.changed = False
        """Whether there is another one, or one less, since this was last set to False."""

    def note(self, metric: str, ids: list[str], labels: dict[str, str], kind: str) -> None:
        """A new series of `metric` has none of the labels that the templates `ids` of a `kind` need."""
        if metric in self._by_metric or len(self._by_metric) >= NAMES_MAX:
            return
        line = unnamed_line(metric, ids, labels, kind)
        if line:
            self.changed = True
            self._by_metric[metric] = line

    def named(self, metric: str) -> None:
        """A new series of `metric` has a name."""
        self.changed = self._by_metric.pop(metric, None) is not None or self.changed

    def keep(self, metrics: Container[str]) -> None:
        """Give up those that are none of these."""
        for metric in [metric for metric in self._by_metric if metric not in metrics]:
            self.named(metric)

    def signs(self, is_here: Callable[[str], bool]) -> dict[str, str]:
        """What is to be said, by metric, of those that have no series with a name here."""
        return {metric: line for metric, line in self._by_metric.items() if not is_here(metric)}


def unnamed_line(metric: str, ids: list[str], labels: dict[str, str], kind: str) -> str:
    """What is to be said of series that have none of the labels by which `ids` name a `kind`; empty where no
    label is needed. It is said of the last of the templates, which needs the least."""
    missing = (name for name in placeholders(ids[-1]) if not name.startswith("@") and not labels.get(name))
    named = " or ".join(dict.fromkeys(missing))
    if not named:
        return ""
    return (
        f"{metric}: its series have no label {named}, by which a {kind} is named; they are not read: "
        "look for relabelling that drops it, or name the new label in a mapping of your own"
    )


def _differ(told: tuple[str, ...], wanted: str, *, declared: bool) -> bool:
    """Whether what is told is surely not the unit that is wanted. What HELP says of another dimension is
    taken for prose; a UNIT is meant."""
    factors = [factor(unit, wanted) for unit in told]
    if all(one is None for one in factors):
        return declared and base(told[0]) is not None
    return not any(one is not None and abs(one - 1) < 1e-9 for one in factors)
