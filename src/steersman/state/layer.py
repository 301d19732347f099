"""What a source said of an entity, as the bus keeps it: the fragment itself, and when it came.

An entity's state is a tuple of *layers*. A layer is an accepted fragment; it is dropped once a later
fragment of the same source says everything that it said. The common source repeats all it knows each time,
so the common entity has one layer for each source. The merged value of a field is worked out by whoever
reads: among all layers that speak of the field, the one with the greatest *stamp* has it. Stamps are ordered
by observation time, then the source's priority, then arrival (decision 0004).

Layers are never changed, so a reader that holds the tuple sees one moment, without a lock or a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, structs

from steersman.kinds.entity import EntityKey
from steersman.kinds.fragment import CLEAR_MAX_CHARS, FIELDS_MAX, SCOPE_LABEL, StateFragment
from steersman.kinds.fragment import LABEL_CLEAR_PREFIX as LABEL_CLEAR_PREFIX

if TYPE_CHECKING:
    from steersman.state.sources import Source

UNFOLDED_MAX = 4
"""Layers of one source on one entity before they are folded into one: bounds what a read or write scans."""


class Arrival(Struct, frozen=True, gc=False):
    """A moment on both clocks. Shared by all fragments that came together."""

    wall: datetime
    monotonic: float


class Stamp(Struct, frozen=True, gc=False):
    """When a folded field was said: a layer's own times, kept for a field it took over."""

    observed_at: datetime
    arrival: Arrival
    revision: int


class Layer(Struct, frozen=True, gc=False):
    """One accepted fragment.

    `observed_at` is the fragment's, or our own time where the fragment's lay ahead of our clock. `revision`
    is the bus revision that the arrival got; it orders arrivals. `stamps` and `label_stamps` hold the older
    times of what was folded in from earlier fragments; None where all is of this one fragment.
    """

    fragment: StateFragment
    observed_at: datetime
    arrival: Arrival
    revision: int
    source: Source
    stamps: dict[str, Stamp] | None = None
    label_stamps: dict[str, Stamp] | None = None

    def stamp(self, name: str) -> Stamp | Layer:
        """When it said this field (or cleared it)."""
        return self.stamps.get(name, self) if self.stamps is not None else self

    def label_stamp(self, name: str) -> Stamp | Layer:
        """When it said this label."""
        return self.label_stamps.get(name, self) if self.label_stamps is not None else self


class Written(Struct, frozen=True, gc=False):
    """Who has a field (or label), with what; CLEARED where the newest word is that it is no more."""

    value: Any
    layer: Layer
    stamp: Stamp | Layer


class _Cleared:
    def __repr__(self) -> str:
        return "CLEARED"


CLEARED: Final = _Cleared()


def beats(a: Stamp | Layer, a_rank: int, b: Stamp | Layer, b_rank: int) -> bool:
    """Whether `a` is the newer word: by observation time, source priority, arrival."""
    if a.observed_at != b.observed_at:
        return a.observed_at > b.observed_at
    if a_rank != b_rank:
        return a_rank > b_rank
    return a.revision > b.revision


def said_fields(layer: Layer) -> Iterator[tuple[str, Any]]:
    """What a layer says of fields; a value stands above a clear of the same name."""
    fields = layer.fragment.fields
    yield from fields.items()
    for name in layer.fragment.clear:
        if name not in fields and not name.startswith(LABEL_CLEAR_PREFIX):
            yield name, CLEARED


def said_labels(layer: Layer) -> Iterator[tuple[str, Any]]:
    """What a layer says of labels."""
    labels = layer.fragment.labels
    yield from labels.items()
    for name in layer.fragment.clear:
        if name.startswith(LABEL_CLEAR_PREFIX) and name[len(LABEL_CLEAR_PREFIX) :] not in labels:
            yield name[len(LABEL_CLEAR_PREFIX) :], CLEARED


def names(layer: Layer) -> AbstractSet[str]:
    """The fields that a layer speaks of: values and clears."""
    fragment = layer.fragment
    if not fragment.clear:
        return fragment.fields.keys()
    return fragment.fields.keys() | {n for n in fragment.clear if not n.startswith(LABEL_CLEAR_PREFIX)}


def written_fields(layers: tuple[Layer, ...]) -> dict[str, Written]:
    """The newest writer of each field, cleared ones too, in the order in which fields were first said."""
    if len(layers) == 1 and not layers[0].fragment.clear and layers[0].stamps is None:
        (layer,) = layers
        return {name: Written(value, layer, layer) for name, value in layer.fragment.fields.items()}
    won: dict[str, Written] = {}
    for layer in layers:
        for name, value in said_fields(layer):
            _claim(won, name, Written(value, layer, layer.stamp(name)))
    return won


def written_labels(layers: tuple[Layer, ...]) -> dict[str, Written]:
    """The newest writer of each label, cleared ones too."""
    won: dict[str, Written] = {}
    for layer in layers:
        for name, value in said_labels(layer):
            _claim(won, name, Written(value, layer, layer.label_stamp(name)))
    return won


def merged_labels(layers: tuple[Layer, ...]) -> dict[str, str]:
    """The labels as they stand. Not to be changed by the caller: it may be a fragment's own dict."""
    if len(layers) == 1 and not layers[0].fragment.clear:
        return layers[0].fragment.labels
    return {name: w.value for name, w in written_labels(layers).items() if w.value is not CLEARED}


def _claim(won: dict[str, Written], name: str, new: Written) -> None:
    old = won.get(name)
    if old is None or beats(new.stamp, new.layer.source.rank, old.stamp, old.layer.source.rank):
        won[name] = new


def same_voice(layer: Layer, source: Source, fragment: StateFragment) -> bool:
    """Whether the fragment goes on with what the layer said: the same source, of a thing that it calls by the
    same name. Two names of one source are two voices, so that they can be told apart again."""
    said = layer.fragment
    return (
        layer.source is source
        and said.entity_id == fragment.entity_id
        and said.labels.get(SCOPE_LABEL) == fragment.labels.get(SCOPE_LABEL)
    )


def named(layer: Layer, name: EntityKey) -> bool:
    """Whether the layer was said of that name."""
    said = layer.fragment
    return said.entity_id == name.entity_id and said.labels.get(SCOPE_LABEL, "") == name.scope


def covers(new: StateFragment, old: StateFragment) -> bool:
    """Whether `new` says everything that `old` said, so that `old` no longer matters beside it."""
    if not old.fields.keys() <= new.fields.keys():
        return old.fields.keys() <= (new.fields.keys() | set(new.clear)) and _covers_rest(new, old)
    return _covers_rest(new, old)


def _covers_rest(new: StateFragment, old: StateFragment) -> bool:
    if old.labels != new.labels and not old.labels.keys() <= new.labels.keys():
        return False
    return not old.clear or all(name in new.fields or name in new.clear for name in old.clear)


def same_names(new: StateFragment, old: StateFragment) -> bool:
    """Whether both say the same fields and labels and clear nothing: one simply replaces the other."""
    if new.clear or old.clear or new.fields.keys() != old.fields.keys():
        return False
    return new.labels == old.labels or new.labels.keys() == old.labels.keys()


def stacked(layers: tuple[Layer, ...], new: Layer) -> tuple[Layer, ...]:
    """The layers once `new` has come, which is no older than those of its source: covered ones dropped, many
    folded into one. The order of layers is that of their sources' first words, so it is deterministic."""
    source, fragment = new.source, new.fragment
    ours = [layer for layer in layers if same_voice(layer, source, fragment)]
    mine = [layer for layer in ours if not covers(fragment, layer.fragment)]
    if len(mine) >= UNFOLDED_MAX:
        mine = [_folded(mine, new)]
    else:
        mine.append(new)
    result: list[Layer] = []
    placed = False
    for layer in layers:
        if not any(layer is one for one in ours):
            result.append(layer)
        elif not placed:
            result.extend(mine)
            placed = True
    return tuple(result) if placed else (*layers, new)


def _folded(older: list[Layer], new: Layer) -> Layer:
    """One layer that says what all of them say, each field at its own time."""
    layers = (*older, new)
    fields: dict[str, Any] = {}
    cleared: list[tuple[datetime, int, str]] = []
    labels: dict[str, str] = {}
    stamps: dict[str, Stamp] = {}
    label_stamps: dict[str, Stamp] = {}
    for name, written in written_fields(layers).items():
        if written.value is CLEARED:
            cleared.append((written.stamp.observed_at, written.stamp.revision, name))
        else:
            fields[name] = written.value
        if written.layer is not new:
            stamps[name] = _plain(written.stamp)
    for name, written in written_labels(layers).items():
        if written.value is CLEARED:
            cleared.append((written.stamp.observed_at, written.stamp.revision, LABEL_CLEAR_PREFIX + name))
        else:
            labels[name] = written.value
        if written.layer is not new:
            label_stamps[name] = _plain(written.stamp)
    clear = _newest_clears(cleared)
    fragment = structs.replace(new.fragment, fields=fields, clear=clear, labels=labels)
    return structs.replace(new, fragment=fragment, stamps=stamps, label_stamps=label_stamps)


def _newest_clears(cleared: list[tuple[datetime, int, str]]) -> tuple[str, ...]:
    """The newest of these, as many as a fragment may have. A clear is kept to outweigh an older word of
    another source that comes late; who clears new names for ever must not make the entity grow for that."""
    kept: list[str] = []
    chars = 0
    for _, _, name in sorted(cleared, reverse=True)[:FIELDS_MAX]:
        chars += len(name)
        if chars > CLEAR_MAX_CHARS:
            break
        kept.append(name)
    return tuple(sorted(kept))


def since(layers: tuple[Layer, ...], floor: datetime, name: EntityKey | None = None) -> tuple[Layer, ...]:
    """What was said after that time: the rest belonged to an earlier life of the entity. With `name`
    only what was said of that name is held to it."""
    kept: list[Layer] = []
    for layer in layers:
        if name is not None and not named(layer, name):
            kept.append(layer)
            continue
        if layer.observed_at <= floor:
            continue
        if layer.stamps is None and layer.label_stamps is None:
            kept.append(layer)
            continue
        old = {n for n, stamp in (layer.stamps or {}).items() if stamp.observed_at <= floor}
        old_labels = {n for n, stamp in (layer.label_stamps or {}).items() if stamp.observed_at <= floor}
        fragment = structs.replace(
            layer.fragment,
            fields={n: v for n, v in layer.fragment.fields.items() if n not in old},
            labels={n: v for n, v in layer.fragment.labels.items() if n not in old_labels},
            clear=tuple(
                n
                for n in layer.fragment.clear
                if n not in old and n.removeprefix(LABEL_CLEAR_PREFIX) not in old_labels
            ),
        )
        kept.append(structs.replace(layer, fragment=fragment))
    return tuple(kept)


def _plain(stamp: Stamp | Layer) -> Stamp:
    if isinstance(stamp, Stamp):
        return stamp
    return Stamp(stamp.observed_at, stamp.arrival, stamp.revision)


def age_s(stamp: Stamp | Layer, now: Arrival) -> float:
    """How old an observation is: its age on arrival, and the monotonic time since. A wall clock that is set
    while we run changes neither."""
    arrival = stamp.arrival
    on_arrival = (arrival.wall - stamp.observed_at).total_seconds()
    return max(0.0, on_arrival) + max(0.0, now.monotonic - arrival.monotonic)


def rebased(layer: Layer, now: Arrival) -> Layer:
    """A layer whose times lie ahead of a clock that was set back, on the new clock, at its true age."""
    moment = rebased_stamp(layer, now)
    stamps, label_stamps = layer.stamps, layer.label_stamps
    if stamps is not None:
        stamps = {name: rebased_stamp(stamp, now) for name, stamp in stamps.items()}
    if label_stamps is not None:
        label_stamps = {name: rebased_stamp(stamp, now) for name, stamp in label_stamps.items()}
    return Layer(
        layer.fragment,
        moment.observed_at,
        moment.arrival,
        layer.revision,
        layer.source,
        stamps,
        label_stamps,
    )


def rebased_stamp(stamp: Stamp | Layer, now: Arrival) -> Stamp:
    """As `rebased`, for one stamp."""
    if stamp.observed_at <= now.wall:
        return _plain(stamp)
    held_s = max(0.0, now.monotonic - stamp.arrival.monotonic)
    arrived = now.wall - timedelta(seconds=held_s)
    observed = now.wall - timedelta(seconds=age_s(stamp, now))
    return Stamp(observed, Arrival(arrived, stamp.arrival.monotonic), stamp.revision)
