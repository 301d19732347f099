"""Carries out mappings: from the values of a page to fragments.

Each series is resolved once, when it is new: which rules take it, which entity it speaks of. What a scrape
costs after that is one pass over the entities' lists of (series number, field, factor).

A series' kept labels are part of where its values go. So a GPU that moves from one pod to another is told
with the labels of this page, not with those of the pod that left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import Any, cast

from msgspec import Struct, field

from steersman.drivers.exposition.fold import LEAST_BLANK, AnyFold, Fold, blank_text
from steersman.drivers.exposition.mapping import Derived, Mapping, fill, waits
from steersman.drivers.exposition.rules import EntityTable, Rules, SeriesRule, Step, rules_of
from steersman.drivers.exposition.series import Page
from steersman.drivers.exposition.shape import UnnamedSeries, factor_off, unnamed_line
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import FIELDS, FieldSpec, clean_fields
from steersman.kinds.fragment import ID_MAX_CHARS, FragmentInvalid, StateFragment

ENTITIES_MAX = 200_000
"""Entities that one page may speak of."""
NOTES_MAX = 20
"""Warnings and drift lines of one page."""

CLOCK_TOLERANCE = timedelta(seconds=5)
"""Two machines that keep their time by NTP differ by less; a clock further ahead is told of."""


class _Direct:
    """Series that go into their fields one to one: the series' numbers, and what is done with each.

    The steps are the same for many entities and are shared, so that a scrape of a large page walks over
    little memory.
    """

    __slots__ = ("indices", "steps")

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.steps: tuple[Step, ...] = ()

    def __iter__(self) -> Iterator[tuple[int, Step]]:
        return zip(self.indices, self.steps, strict=False)

    def add(self, index: int, step: Step, rules: Rules) -> None:
        """Let a series in; equal steps are kept once among the `rules`."""
        self.indices.append(index)
        self.steps = rules.same((*self.steps, step))

    def forget(self, gone: set[int]) -> None:
        """Drop series."""
        if not gone.isdisjoint(self.indices):
            kept = [item for item in self if item[0] not in gone]
            self.indices = [index for index, _ in kept]
            self.steps = tuple(step for _, step in kept)


class Reading(Struct):
    """What a page said: fragments, values that make no sense, shapes that were not known. `strays`:
    series whose value is out of the bounds of the named field by a factor between two units."""

    fragments: list[StateFragment] = field(default_factory=list[StateFragment])
    warnings: list[str] = field(default_factory=list[str])
    drift: list[str] = field(default_factory=list[str])
    strays: list[tuple[int, str, float]] = field(default_factory=list[tuple[int, str, float]])


_NOTHING_PUT: tuple[dict[str, str], dict[str, Any]] = ({}, {})


class _Target:
    """One entity as one set of kept labels shows it, and which series fill its fields.

    `steps` are the fields that only serve a calculation. `late_ids`, `late_labels` and `late_texts` are what
    waits for a variable of the page. `shown` is the page on which its values last changed, `moved_at_s` when
    that was.
    """

    __slots__ = (
        "_texts_put", "flags", "floats", "folds", "ids", "labels", "late_ids", "late_labels", "late_texts",
        "moved_at_s", "outcomes", "read_at_s", "shown", "steps", "table", "texts", "wholes",
    )  # fmt: skip

    def __init__(self, table: EntityTable, ids: tuple[str, ...]) -> None:
        self.table = table
        self.ids = ids
        self.labels: dict[str, str] = {}
        self.texts: dict[str, Any] = {}
        self.late_ids: frozenset[str] = frozenset()
        self.late_labels: dict[str, str] = {}
        self.late_texts: dict[str, str] = {}
        self._texts_put = _NOTHING_PUT
        self.read_at_s: float | None = None
        self.shown: Sequence[float | None] = ()
        self.moved_at_s = 0.0
        self.floats = _Direct()
        self.wholes = _Direct()
        self.steps = _Direct()
        self.flags = _Direct()
        self.folds: dict[tuple[int, str], AnyFold] = {}
        self.outcomes: tuple[tuple[Derived, float], ...] | None = None

    def calculations(self) -> tuple[tuple[Derived, float], ...]:
        """Those that may have all their parts. `outcomes` keeps them until another series comes."""
        places = (self.floats, self.wholes, self.flags, self.steps)
        names = {step[0] for items in places for _, step in items}
        names.update(name for fold in self.folds.values() for name in fold.names)
        self.outcomes = self.table.calculations(frozenset(names))
        return self.outcomes

    def texts_of(self, variables: dict[str, str]) -> dict[str, Any]:
        """Its texts, with the page's variables put in; those that wait for one that is not there are left
        out."""
        if not self.late_texts:
            return self.texts
        put = _put_in(self.late_texts, variables)
        if put != self._texts_put[0]:
            self._texts_put = put, _typed(self.table.rule.type, put)
        return {**self.texts, **self._texts_put[1]}

    def repeats(self, numbers: list[float | None], at_s: float) -> bool:
        """Whether this page shows what was collected for the last one, as far as that can be told."""
        shown = self.shown
        if shown and at_s - self.moved_at_s <= self.table.mapping.repeats_s:
            for index in self.indices():
                now, before = numbers[index], shown[index]
                if now != before and (_is_number(now) or _is_number(before)):
                    break
            else:
                return True
        self.shown, self.moved_at_s = numbers, at_s
        return False

    def indices(self) -> list[int]:
        """The numbers of all its series; of one that fills several fields, several times."""
        indices = self.direct()
        for fold in self.folds.values():
            indices.extend(fold.members)
        return indices

    def direct(self) -> list[int]:
        """The numbers of all series that go into their field one to one."""
        return [*self.floats.indices, *self.wholes.indices, *self.steps.indices, *self.flags.indices]

    def forget(self, gone: set[int]) -> bool:
        """Drop series; whether nothing is left."""
        for items in (self.floats, self.wholes, self.steps, self.flags):
            items.forget(gone)
        for key, fold in list(self.folds.items()):
            if fold.forget(gone):
                del self.folds[key]
        return not (self.folds or self.direct())


class Plan:
    """Resolves series and builds fragments. `source` and `labels` go into every fragment. `one_page` says
    that what it is given is always the same exporter's page, on which a metric that was there is missed."""

    def __init__(
        self, mappings: Sequence[Mapping], source: str, labels: dict[str, str], *, one_page: bool = True
    ) -> None:
        self._source = source
        self._one_page = one_page
        self._common = labels
        self._targets: dict[Any, _Target] = {}
        self._rules = rules_of(mappings)
        self._variables: dict[int, dict[str, str]] = {}
        self.full = False
        self._names: list[str] = []
        self._seen: set[str] = set()
        self._lost: list[str] = []
        self._samples = -1
        self.unnamed = UnnamedSeries()
        self._found: dict[tuple[int, str, str], tuple[dict[str, str], _Target | None]] = {}

    def want(self, index: int, name: str, labels: dict[str, str]) -> bool:
        """Take a new series in; whether any rule or variable wants it."""
        wanted, unnamed = False, None
        for variable, label in self._rules.variables.get(name, ()):
            if labels.get(label):
                self._variables.setdefault(index, {})[variable] = labels[label]
                wanted = True
        for rule in self._rules.by_metric.get(name, ()):
            if not rule.matches(labels):
                continue
            # The series of one thing share their labels, so a page's new series are many for each target.
            place = (id(labels), rule.entity.mapping.name, rule.name)
            if place not in self._found:
                self._found[place] = labels, self._target(rule, labels)
            target = self._found[place][1]
            unnamed = unnamed or (rule if target is None else None)
            if target is not None:
                _attach(target, rule, (index, name), labels, self._rules)
                wanted = True
        if unnamed is not None and not wanted:
            self._note_unnamed(name, unnamed, labels)
        if wanted:
            self.unnamed.named(name)
            if index >= len(self._names):
                self._names.extend([""] * (index + 1 - len(self._names)))
            self._names[index] = intern(name)
        return wanted

    def forget(self, gone: set[int]) -> None:
        """Drop series that left."""
        self._found.clear()
        for key, target in list(self._targets.items()):
            if target.forget(gone):
                del self._targets[key]
        for index in gone:
            self._variables.pop(index, None)
            if index < len(self._names):
                self._names[index] = ""

    def build(self, page: Page, at: datetime, at_s: float, variables: dict[str, str]) -> Reading:
        """The fragments of a page that was read at `at` (`at_s` on the monotonic clock, for rates)."""
        self._found.clear()  # the labels that it knows are those of one page
        read = Reading()
        numbers = page.numbers
        known = dict(variables)
        for index, found in self._variables.items():
            if numbers[index] is not None:
                known.update(found)
        for target in self._targets.values():
            fields = _fields_of(target, page, at_s, known, read)
            if fields:
                self._tell(target, fields, page, at, known, read)
        for line in self._signs(page):
            _note(read.drift, line)
        for index, what, scale in read.strays:
            metric = self._names[index]
            _note(
                read.drift,
                f"{metric}: {what} is out of bounds as if its unit were another (by about {scale:g}); "
                "nothing is converted: look what its exporter says, and set `unit` in a mapping of your own",
            )
        if self.full:
            _note(read.warnings, f"more than {ENTITIES_MAX} entities; the rest is not told")
        return read

    def _note_unnamed(self, metric: str, rule: SeriesRule, labels: dict[str, str]) -> None:
        entity = rule.entity.rule
        if not self.full and not any(labels.get(name) for name in entity.without):
            self.unnamed.note(metric, entity.id, labels, entity.type.value)

    def _signs(self, page: Page) -> list[str]:
        """Of metrics that once had series here and have none now, while others do (renamed, or switched off),
        and of those whose series have no name. Looked for only when the number of samples has changed."""
        counted = self._one_page and page.samples != self._samples
        if counted or self.unnamed.changed:
            self._samples, self.unnamed.changed = page.samples, False
            present = {
                name for index, name in enumerate(self._names) if name and page.numbers[index] is not None
            }
            unnamed = self.unnamed.signs(present.__contains__)
            self._lost = list(unnamed.values())
            if self._one_page and present:
                self._seen |= present - self._rules.passing
                lost = sorted(self._seen - present - unnamed.keys())
                self._lost += [f"{metric} was on this page before and no longer is" for metric in lost]
        return self._lost

    def _tell(
        self,
        target: _Target,
        fields: dict[str, Any],
        page: Page,
        at: datetime,
        variables: dict[str, str],
        read: Reading,
    ) -> None:
        entity_id, labels = target.ids[0], target.labels
        if target.late_labels:
            labels = {**labels, **_put_in(target.late_labels, variables)}
        if target.late_ids:
            late = target.late_ids
            found = (name for i in target.ids if (name := _late(i, variables) if i in late else i))
            entity_id = next(found, "")
        if not 0 < len(entity_id) <= ID_MAX_CHARS:
            what = f"{target.table.mapping.name}: no id for a {target.table.rule.type.value}"
            _note(
                read.warnings,
                f"{what}: {target.ids[0][:ID_MAX_CHARS]!r} is too long, or waits for a variable",
            )
            rule = target.table.rule
            for metric in {self._names[index] for index in target.indices()}:
                if line := unnamed_line(metric, rule.id, {}, rule.type.value):
                    _note(read.drift, line)
            return
        try:
            fragment = StateFragment(
                target.table.mapping.source_type,
                target.table.rule.type,
                entity_id,
                _observed_at(target, page, at, read) if page.stamps else at,
                fields,
                labels,
                self._source,
            )
        except FragmentInvalid as error:  # e.g. labels longer than anything takes: one entity, not the page
            _note(read.warnings, f"{target.table.rule.type.value} {entity_id[:64]}: {error.detail}")
        else:
            read.fragments.append(fragment)

    def _target(self, rule: SeriesRule, labels: dict[str, str]) -> _Target | None:
        """Where this series' values go; None where it has no name for an entity."""
        entity, mapping = rule.entity.rule, rule.entity.mapping
        if mapping.blanks != "none":
            labels = {name: text for name, text in labels.items() if not blank_text(mapping.blanks, text)}
        if any(labels.get(name) for name in entity.without):
            return None
        named = {name: waits(template) for template in entity.id if (name := fill(template, labels))}
        if not named:
            return None
        ids = tuple(named)
        # Most texts are the same for many entities, and are kept once.
        kept = [intern(fill(template, labels) or "") for template in entity.labels.values()]
        texts = [intern(fill(template, labels) or "") for template in entity.fields.values()]
        key = (mapping.name, rule.name, ids, tuple(kept), tuple(texts))
        target = self._targets.get(key)
        if target is None:
            if len(self._targets) >= ENTITIES_MAX:
                self.full = True
                return None
            target = self._targets[key] = _Target(rule.entity, ids)
            target.late_ids = frozenset(name for name in ids if named[name])
            target.late_labels, ready = _ready(entity.labels, kept)
            target.late_labels = {n: text for n, text in target.late_labels.items() if n not in self._common}
            target.labels = {**ready, **self._common}
            target.late_texts, ready = _ready(entity.fields, texts)
            target.texts = {**entity.values, **_typed(entity.type, ready)}
        return target


def _ready(templates: dict[str, str], texts: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Texts by the names of their templates: those that wait for a variable of the page, and those that do
    not."""
    late: dict[str, str] = {}
    ready: dict[str, str] = {}
    for (name, template), text in zip(templates.items(), texts, strict=True):
        if text:
            (late if waits(template) else ready)[name] = text
    return late, ready


def _attach(
    target: _Target, rule: SeriesRule, series: tuple[int, str], labels: dict[str, str], rules: Rules
) -> None:
    """Let a series, its number and name, fill its field."""
    index, name = series
    target.outcomes, target.shown = None, ()
    if rule.direct is not None:
        place, step = rule.direct
        direct: _Direct = getattr(target, place)
        direct.add(index, step, rules)
        return
    key = (rule.number, rule.rule.field)
    fold = target.folds.get(key)
    if fold is None:
        fold = target.folds[key] = rule.make_fold()
        if len(target.folds) > 1 and key < list(target.folds)[-2]:
            target.folds = dict(sorted(target.folds.items()))  # of two rules for one field the later one wins
    fold.take(index, name, labels)


def _fields_of(
    target: _Target, page: Page, at_s: float, variables: dict[str, str], read: Reading
) -> dict[str, Any]:
    """The values of this page; empty where the entity was not on it."""
    numbers = page.numbers
    blanks = target.table.blanks
    floats, wholes, flags = target.floats, target.wholes, target.flags
    # On the path of every value: pairs are made here, without a call to `_Direct` for each entity.
    fields: dict[str, Any] = {
        name: value * factor
        for index, (name, factor, low, high) in zip(floats.indices, floats.steps, strict=False)
        if (value := numbers[index]) is not None
        and low <= value <= high
        and (value < LEAST_BLANK or value not in blanks)
    }
    for index, (name, factor, low, high) in zip(wholes.indices, wholes.steps, strict=False):
        value = numbers[index]
        if value is not None and low <= value <= high and (value < LEAST_BLANK or value not in blanks):
            fields[name] = round(value * factor)
    for index, (name, _, _, _) in zip(flags.indices, flags.steps, strict=False):
        value = numbers[index]
        if value is not None and value - value == 0.0 and value not in blanks:
            fields[name] = value != 0.0
    if len(fields) < len(floats.indices) + len(wholes.indices) + len(flags.indices):
        _explain(target, page, blanks, read)
    if target.folds or target.steps.indices:
        _calculate_all(target, fields, page, at_s, read)
    if target.table.counts_from_zero and _is_on(target, numbers):
        target.read_at_s = at_s
    texts = target.texts if not target.late_texts else target.texts_of(variables)
    if texts and (fields or (target.table.rule.seen and _is_on(target, numbers))):
        fields.update(texts)
    return fields


def _is_on(target: _Target, numbers: list[float | None]) -> bool:
    """Whether any series of the entity is on the page."""
    return any(numbers[index] is not None for index in target.indices())


def _calculate_all(target: _Target, fields: dict[str, Any], page: Page, at_s: float, read: Reading) -> None:
    """Add what takes several series, or a last page, to `fields`."""
    numbers = page.numbers
    blanks = target.table.blanks
    steps: dict[str, Any] = {
        name: value * factor
        for index, (name, factor, low, high) in zip(target.steps.indices, target.steps.steps, strict=False)
        if (value := numbers[index]) is not None
        and low <= value <= high
        and (value < LEAST_BLANK or value not in blanks)
    }
    if target.folds:
        folded: dict[str, Any] = {}
        if target.table.counts_from_zero and not page.stamps:
            for fold in target.folds.values():
                if isinstance(fold, Fold) and fold.from_zero:
                    fold.since_s = target.read_at_s
        if target.table.mapping.repeats_s and not page.stamps:
            again = target.repeats(numbers, at_s)
            for fold in target.folds.values():
                if isinstance(fold, Fold):
                    fold.again = again
        for fold in target.folds.values():
            fold.fill(folded, page, at_s, blanks, read.drift)
        for name in [name for name in folded if name[0] == "_"]:
            steps[name] = folded.pop(name)
        if folded:
            clean = clean_fields(target.table.rule.type, folded)
            for problem in clean.problems:
                _note(read.warnings, f"{target.ids[0]}: {problem}")
                _note_stray(target, problem.field, folded.get(problem.field), read)
            for line in clean.drift:
                _note(read.drift, f"{target.ids[0]}: {line}")
            fields.update(clean.fields)
    for derived, factor in target.outcomes if target.outcomes is not None else target.calculations():
        value = _derive(derived, fields, steps)
        if value is None:
            continue
        if factor != 1.0 or derived.clamp:
            value = _finish(value, factor, FIELDS[target.table.rule.type].get(derived.field), derived)
        if derived.field.startswith("_"):
            steps[derived.field] = value
            continue
        whole, low, high = target.table.bounds[derived.field]
        lowest, highest = _extremes(value)
        if low <= lowest and highest <= high:
            fields[derived.field] = round(value) if whole else value
        else:
            _note(
                read.warnings, f"{target.ids[0]}: {derived.field} is out of bounds: {lowest:g} to {highest:g}"
            )


def _explain(target: _Target, page: Page, blanks: frozenset[float], read: Reading) -> None:
    """Say which values were left out because they are out of bounds; absent, blank and NaN are no news."""
    for index, (name, _, low, high) in (*target.floats, *target.wholes):
        value = page.numbers[index]
        if value is None or value in blanks or value - value != 0.0 or low <= value <= high:
            continue
        scale = factor_off(value, low, high)
        if scale is not None and len(read.strays) < NOTES_MAX:
            read.strays.append((index, name, scale))
        _note(
            read.warnings, f"{target.ids[0]}: {name} out of bounds: {value:g}, expected {low:g} to {high:g}"
        )


def _note_stray(target: _Target, name: str, value: Any, read: Reading) -> None:
    """Note where a value that several series made is out of its bounds as if its unit were another."""
    spec = FIELDS[target.table.rule.type].get(name)
    if spec is None or spec.high is None or not isinstance(value, (int, float)):
        return
    scale = factor_off(value, spec.low or 0.0, spec.high)
    index = next((i for fold in target.folds.values() if name in fold.names for i in fold.members), None)
    if scale is not None and index is not None and len(read.strays) < NOTES_MAX:
        read.strays.append((index, name, scale))


def _derive(derived: Derived, fields: dict[str, Any], steps: dict[str, Any]) -> Any:
    parts: list[Any] = [steps[name] if name in steps else fields.get(name) for name in derived.of]
    if derived.zero:
        names = zip(derived.of, parts, strict=True)
        parts = [0.0 if part is None and name in derived.zero else part for name, part in names]
    if None in parts:
        return None
    if derived.calculation == "sum" and type(parts[0]) is float:
        return sum(parts)
    tables: list[dict[str, float]] = [part for part in parts if isinstance(part, dict)]
    if derived.calculation == "max":
        return max(tables[0].values(), default=None) if tables else parts[0]
    if not tables:
        return _calculate(derived, parts)
    if len(tables) < len(parts):
        return None  # a number and a mapping do not add up
    keys = [key for key in tables[0] if all(key in table for table in tables)]
    found = {key: _calculate(derived, [table[key] for table in tables]) for key in keys}
    return {key: value for key, value in found.items() if value is not None} or None


def _calculate(derived: Derived, parts: list[Any]) -> float | None:
    if derived.calculation == "sum":
        return sum(parts)
    if derived.calculation == "difference":
        return parts[0] - sum(parts[1:])
    if not parts[1]:
        return None
    share = parts[0] / parts[1]
    return 1.0 - share if derived.calculation == "one_minus_ratio" else share


def _finish(value: Any, factor: float, spec: FieldSpec | None, derived: Derived) -> Any:
    """The outcome of a calculation in its field's unit, and within its bounds where that is wanted."""
    if isinstance(value, dict):
        items = cast("dict[str, float]", value)
        return {key: _finish(item, factor, spec, derived) for key, item in items.items()}
    value *= factor
    if not derived.clamp:
        return value
    low = 0.0 if spec is None or spec.low is None else spec.low
    return max(value, low) if spec is None or spec.high is None else min(max(value, low), spec.high)


def _extremes(value: Any) -> tuple[float, float]:
    if type(value) is float or type(value) is int:
        return value, value
    values = cast("dict[str, float]", value).values()
    return min(values), max(values)


def _late(text: str, variables: dict[str, str]) -> str | None:
    """A text with the page's variables put in; None where one of them has no value."""
    put = fill(text, variables)
    return put if put and not waits(put) else None


def _put_in(texts: dict[str, str], variables: dict[str, str]) -> dict[str, str]:
    """Those of the texts whose variables the page has, with these put in."""
    return {name: put for name, text in texts.items() if (put := _late(text, variables)) is not None}


def _typed(entity_type: EntityType, texts: dict[str, str]) -> dict[str, Any]:
    """Texts from labels as their fields want them; one that can't be, or is too long, is left out."""
    typed: dict[str, Any] = {}
    for name, text in texts.items():
        spec = FIELDS[entity_type].get(name)
        if spec is not None and spec.type in (int, float):
            try:
                typed[name] = spec.type(text)
            except ValueError:
                continue
        else:
            typed[name] = text
    return clean_fields(entity_type, typed).fields


def _observed_at(target: _Target, page: Page, at: datetime, read: Reading) -> datetime:
    """The oldest timestamp among the values of an entity, so that its age is never understated. One that lies
    ahead of us is worth no more than the moment at which it was read."""
    stamps = [
        page.stamps[index]
        for index in target.indices()
        if index in page.stamps and page.numbers[index] is not None
    ]
    if not stamps:
        return at
    oldest = datetime.fromtimestamp(min(stamps), UTC)
    if oldest <= at:
        return oldest
    if oldest - at > CLOCK_TOLERANCE:
        _note(read.warnings, "its clock is ahead of ours; the time of reading stands for its time stamps")
    return at


def _is_number(value: float | None) -> bool:
    return value is not None and value - value == 0.0


def _note(notes: list[str], line: str) -> None:
    if len(notes) < NOTES_MAX and line not in notes:
        notes.append(line)
