"""From answers to fragments: each series of each answer is resolved once, and looked up after that.

Series are named by what the query is, labels are put right (see `_plain`), and the plan of the lowered tables
does the rest. What a look costs after the first is a dict access for each series.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct, field, structs

from steersman.drivers.api import SourceError
from steersman.drivers.exposition.floor import ErrorFloor
from steersman.drivers.exposition.plan import NOTES_MAX, Plan, Reading
from steersman.drivers.exposition.series import SPARE_SERIES, Page
from steersman.drivers.prometheus.answers import Sample, Vector, read_labels
from steersman.drivers.prometheus.lower import EXPORTED, INSTANCE, JOB, NAME, WORKLOAD, Lowered, Query
from steersman.kinds.entity import EntityKey
from steersman.kinds.fragment import StateFragment

TIME_MAX_S = 253_402_300_799.0
"""The last second of the year 9999."""

Values = tuple[str, ...]


class Facts(Struct):
    """What one look knows of scrape targets.

    `pods` are, by instance, the pods that the targets there are themselves; None where nobody could tell.
    `variables` are, by name, the values on each instance.
    """

    pods: dict[str, frozenset[str]] | None = None
    variables: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def of(self, instance: str) -> tuple[object, ...]:
        """What is known of one instance: when it changes, its series mean something else."""
        known = [values.get(instance) for values in self.variables.values()]
        return (self.pods is None, self.pods.get(instance) if self.pods else None, *known)


class Times:
    """The times of one stamp, by the labels that tell its series apart; `jobs` are its scrape jobs. It is
    `free` where its labels are what the answer has, and may be others next time."""

    def __init__(self, vector: Vector, labels: tuple[str, ...] | None) -> None:
        self.jobs: set[str] = set()
        self.free = labels is None
        self._by: dict[Values, float] = {}
        read = [(read_labels(bytes(sample.metric)), time_s) for sample, time_s in _times(vector.samples)]
        own = {name: None for found, _ in read for name in found if name != NAME}
        self.labels = tuple(own) if labels is None else labels
        for found, time_s in read:
            if labels is not None and found.get(JOB):
                self.jobs.add(found[JOB])
            key = self.key(found)
            self._by[key] = min(time_s, self._by.get(key, time_s))

    def key(self, labels: dict[str, str]) -> Values:
        """What tells a series apart here."""
        return tuple(labels.get(label, "") for label in self.labels)

    def get(self, key: Values) -> float | None:
        """The time for it."""
        return self._by.get(key)


class Board:
    """Remembers the series of one API. `labels` go into fragments, `variables` (`@name`) into templates.
    `window_s` is what rates are taken over.
    """

    def __init__(
        self,
        lowered: Lowered,
        source: str,
        labels: dict[str, str],
        variables: dict[str, str],
        window_s: float,
    ) -> None:
        self._floor = ErrorFloor(window_s)
        self._plan = Plan(lowered.tables, source, labels, one_page=False)
        self._variables = variables
        self._known: list[dict[bytes, int]] = [{} for _ in lowered.queries]
        self._keys: list[Values] = [()]  # by number: what finds a series' time
        self._shared: dict[Values, Values] = {}
        self._own: dict[
            int, dict[str, str]
        ] = {}  # labels of those whose stamp's labels are its author's matter
        self._free: list[int] = []
        self._instances: dict[str, tuple[tuple[object, ...], set[int]]] = {}

    def read(
        self,
        answers: Sequence[tuple[Query, Vector]],
        times: dict[int, Times],
        facts: Facts,
        at: datetime,
        skew_s: float = 0.0,
    ) -> Reading:
        """The fragments of one look. What has no time is not told: it is gone, or its age is not known.
        `skew_s` is how far the times' clock is ahead of ours."""
        self._turn(facts)
        page = Page([None] * len(self._keys))
        notes = Reading()
        for query, vector in answers:
            stamp = times.get(query.stamp)
            if stamp is not None:
                for sample in vector.samples:
                    self._put(query, sample, stamp, facts, page, notes)
        if skew_s:
            page.stamps = {index: time_s - skew_s for index, time_s in page.stamps.items()}
        page.samples = len(page.numbers) - page.numbers.count(None)
        read = self._plan.build(page, at, 0.0, self._variables)
        read.warnings[:0] = notes.warnings
        read.drift[:0] = notes.drift
        read.fragments = merged(read.fragments)
        self._floor.apply(read.fragments, at.timestamp())
        self._forget_absent(page)
        return read

    def _put(
        self, query: Query, sample: Sample, stamp: Times, facts: Facts, page: Page, notes: Reading
    ) -> None:
        """One series of an answer onto the page."""
        if sample.value is None:
            what = "a native histogram, which is not read" if bytes(sample.histogram) else "no value"
            _note(notes.drift, f"{query.place}: a series has {what}")
            return
        raw = bytes(sample.metric)
        known = self._known[query.number]
        index = known.get(raw)
        if index is None:
            try:
                index = known[raw] = self._new(query, raw, stamp, facts, page)
                value = float(sample.value[1])
            except SourceError as error:
                _note(notes.warnings, f"{query.place}: {error.detail}")
                return
            except ValueError:
                _note(notes.warnings, f"{query.place}: the value of a series is no number")
                return
        else:
            try:
                value = float(sample.value[1])
            except ValueError:
                _note(notes.warnings, f"{query.place}: the value of a series is no number")
                return
        if not index:
            return
        own = self._own.get(index) if stamp.free else None
        time_s = stamp.get(self._keys[index] if own is None else stamp.key(own))
        if time_s is None:
            return
        if page.numbers[index] is not None:
            _note(notes.warnings, f"{query.place}: the same series twice in one answer; the first counts")
            return
        page.numbers[index] = value
        page.stamps[index] = time_s

    def _new(self, query: Query, raw: bytes, stamp: Times, facts: Facts, page: Page) -> int:
        """A number for a series; 0 where no rule wants it. Raises `SourceError`."""
        labels = read_labels(raw)
        metric = labels.get(NAME, "") if not query.metric else query.metric
        index = self._free[-1] if self._free else len(self._keys)
        plain = _plain(labels, query, facts)
        if not self._plan.want(index, f"{metric}@{query.number}", plain):
            return 0
        key: Values = ()
        if stamp.free:
            self._own[index] = labels
        else:
            key = stamp.key(labels)
            key = self._shared.setdefault(key, key)  # an entity's series all have the same
        if self._free:
            self._free.pop()
            self._keys[index] = key
        else:
            self._keys.append(key)
            page.numbers.append(None)
        instance = labels.get(INSTANCE)
        if instance:
            self._instances.setdefault(instance, (facts.of(instance), set()))[1].add(index)
        return index

    def _turn(self, facts: Facts) -> None:
        """Forget the series of instances that are not what they were: another name, another pod."""
        changed = [name for name, (was, _) in self._instances.items() if was != facts.of(name)]
        self._forget({index for name in changed for index in self._instances[name][1]})
        for name in changed:
            self._instances.pop(name, None)

    def _forget_absent(self, page: Page) -> None:
        known = sum(len(series) for series in self._known)
        if known > 2 * page.samples + SPARE_SERIES:
            gone = {index for index, value in enumerate(page.numbers) if index and value is None}
            self._forget(gone.difference(self._free), unwanted=True)

    def _forget(self, gone: set[int], *, unwanted: bool = False) -> None:
        """Drop series, and with `unwanted` also the memory of those that nobody wants."""
        if not gone and not unwanted:
            return
        for number, known in enumerate(self._known):
            self._known[number] = {
                raw: index for raw, index in known.items() if index not in gone and (index or not unwanted)
            }
        for _, indices in self._instances.values():
            indices -= gone
        self._instances = {name: kept for name, kept in self._instances.items() if kept[1]}
        self._free.extend(gone)
        for index in gone:
            self._keys[index] = ()
            self._own.pop(index, None)
        if unwanted:
            self._shared = {key: key for key in self._keys}
        if gone:
            self._plan.forget(gone)


def merged(fragments: list[StateFragment]) -> list[StateFragment]:
    """One fragment for each entity, as old as the oldest part of it.

    Parts of an entity come from targets that are scraped at different times. Told apart, the part of the one
    that takes longer could always be older than what the bus has from this source, which takes it for stale.
    """
    by_key: dict[EntityKey, StateFragment] = {}
    for fragment in fragments:
        key = fragment.key
        other = by_key.get(key)
        by_key[key] = fragment if other is None else _together(other, fragment)
    return list(by_key.values())


def _together(one: StateFragment, other: StateFragment) -> StateFragment:
    old, new = (one, other) if one.observed_at <= other.observed_at else (other, one)
    return structs.replace(old, fields={**old.fields, **new.fields}, labels={**old.labels, **new.labels})


def _plain(labels: dict[str, str], query: Query, facts: Facts) -> dict[str, str]:
    """The labels as the exporter's page had them, as far as that can be told, and the variables.

    - `exported_x` is the exporter's own x, which the target had one of, too.
    - pod, namespace and container are those of the exporter itself where its pod is the target's own, or
      where nobody can say whose it is. They stay where they are part of an id: every series has them there.
    """
    instance = labels.get(INSTANCE, "")
    plain = {name: text for name, text in labels.items() if name != NAME and not name.startswith(EXPORTED)}
    own = labels.get("pod")
    if own and not labels.get(f"{EXPORTED}pod"):
        known = facts.pods is not None and instance in facts.pods
        if not known or own in (facts.pods or {})[instance]:
            for name in WORKLOAD:
                if name not in query.exempt:
                    plain.pop(name, None)
    for name, text in labels.items():
        if name.startswith(EXPORTED) and text:
            plain[name.removeprefix(EXPORTED)] = text
    if instance:
        plain["@instance"] = instance
        for variable, values in facts.variables.items():
            if instance in values:
                plain[variable] = values[instance]
    return plain


def _times(samples: Iterable[Sample]) -> Iterable[tuple[Sample, float]]:
    """The samples whose value is a time."""
    for sample in samples:
        try:
            time_s = float(sample.value[1]) if sample.value is not None else math.nan
        except ValueError:
            continue
        if 0 <= time_s < TIME_MAX_S:
            yield sample, time_s


def _note(notes: list[str], line: str) -> None:
    if len(notes) < NOTES_MAX and line not in notes:
        notes.append(line)
