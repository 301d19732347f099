"""What holds for any fragments in any order: against an eager model, and under permutation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bus_facts import NODE, at, declare, said, world
from eager_reference import GONE, EagerEntity
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.kinds.fragment import StateFragment
from steersman.state.bus import StateBus

PRIORITIES = {"a": 0, "b": 0, "c": 5}
FIELDS = ("load_1m", "load_5m", "x", "y", "z")
LABELS = ("rack", "pod")

values = st.sampled_from([0, 1, 1.0, True, "w"])
fragments = st.builds(
    lambda second, source, fields, labels, clear: said(
        at(second), source, labels=labels, clear=tuple(clear), **fields
    ),
    second=st.integers(0, 8),
    source=st.sampled_from(sorted(PRIORITIES)),
    fields=st.dictionaries(st.sampled_from(FIELDS), values, max_size=4),
    labels=st.dictionaries(st.sampled_from(LABELS), st.sampled_from(["1", "2"]), max_size=2),
    clear=st.lists(st.sampled_from((*FIELDS, "labels.pod")), max_size=2, unique=True),
)


def picture(bus: StateBus) -> tuple[dict[str, tuple[Any, str, datetime]], dict[str, Any]]:
    explanation = bus.explain(NODE, "n1")
    assert explanation is not None
    fields = {
        name: (GONE if f.cleared else f.value, f.source, f.observed_at)
        for name, f in explanation.fields.items()
    }
    return fields, {name: (f.value, f.source, f.observed_at) for name, f in explanation.labels.items()}


def new_bus() -> StateBus:
    bus, _ = world()
    for name, priority in PRIORITIES.items():
        declare(bus, name, 300.0, priority=priority)
    return bus


steps = st.one_of(fragments, fragments, fragments, st.integers(-1, 8))


@settings(max_examples=500, deadline=None)
@given(st.lists(steps, min_size=1, max_size=25))
def test_the_bus_equals_the_eager_model(stream: list[StateFragment | int]) -> None:
    """Verdicts, verdicts of fields (worked out later), values and provenance, after every step; a number is a
    deletion as of that second."""
    bus, model = new_bus(), EagerEntity(PRIORITIES)
    told: list[tuple[Any, dict[str, str]]] = []
    for step in stream:
        if isinstance(step, int):
            bus.forget(NODE, "n1", observed_at=at(step))
            model.forget(at(step))
        else:
            outcome = bus.put(step)
            verdict, fields = model.put(step)
            assert outcome.verdict == verdict
            told.append((outcome, fields))
        entity = bus.get(NODE, "n1")
        assert (entity is not None) == bool(model.newest)
        if entity is not None:
            assert picture(bus) == (model.picture(), model.label_picture())
            assert entity.observed_at == max(model.newest.values())
            assert entity.sources == tuple(sorted(entity.sources))
    for outcome, fields in told:
        assert outcome.fields == fields, "an outcome asked late says what it would have said at once"


def in_source_order(stream: list[StateFragment]) -> list[StateFragment]:
    """Each source's fragments with growing times, one for each time."""
    last: dict[str, datetime] = {}
    kept: list[StateFragment] = []
    for fragment in sorted(stream, key=lambda f: f.observed_at):
        if last.get(fragment.source) != fragment.observed_at:
            last[fragment.source] = fragment.observed_at
            kept.append(fragment)
    return kept


@st.composite
def interleavings(draw: st.DrawFn) -> tuple[list[StateFragment], list[StateFragment]]:
    """Two orders of the same fragments in which each source keeps its own order."""
    stream = in_source_order(draw(st.lists(fragments, min_size=1, max_size=16)))
    queues = {name: [f for f in stream if f.source == name] for name in PRIORITIES}
    other: list[StateFragment] = []
    while any(queues.values()):
        name = draw(st.sampled_from([n for n, queue in queues.items() if queue]))
        other.append(queues[name].pop(0))
    return stream, other


@settings(max_examples=300, deadline=None)
@given(interleavings())
def test_any_interleaving_of_sources_ends_in_the_same_picture(
    orders: tuple[list[StateFragment], list[StateFragment]],
) -> None:
    """Exactly: if each source's own fragments come in order of their times (rule 2 is about a source's own
    order), and no two sources of equal priority speak at the same instant (arrival decides those), then the
    picture depends on the fragments alone."""
    pictures: list[Any] = []
    for order in orders:
        bus, _ = world()
        for place, name in enumerate(sorted(PRIORITIES)):
            declare(bus, name, 300.0, priority=place)
        bus.put_many(order)
        entity = bus.get(NODE, "n1")
        assert entity is not None
        pictures.append(
            (picture(bus), entity.labels, entity.sources, entity.health_state, entity.confidence_score)
        )
    assert pictures[0] == pictures[1]


@settings(max_examples=200, deadline=None)
@given(st.permutations([said(at(s), "a", **{f"m{s % 3}": s}) for s in range(6)]))
def test_out_of_order_within_a_source_equals_the_fragments_that_were_not_late(
    order: list[StateFragment],
) -> None:
    """Rule 2, as it bounds permutation: what a source says late is as if it had never been said."""
    bus, _ = world()
    outcomes = bus.put_many(order)
    kept, newest = [], None
    for fragment in order:
        if newest is None or fragment.observed_at >= newest:
            newest = fragment.observed_at
            kept.append(fragment)
    assert [o.fragment for o in outcomes if o.verdict != "stale"] == kept
    clean, _ = world()
    clean.put_many(kept)
    assert picture(bus) == picture(clean)


@settings(max_examples=200, deadline=None)
@given(st.lists(fragments, min_size=1, max_size=15), st.integers(1, 15))
def test_one_by_one_or_in_batches_is_the_same(stream: list[StateFragment], size: int) -> None:
    one, many = new_bus(), new_bus()
    verdicts = [one.put(fragment).verdict for fragment in stream]
    outcomes = [o for i in range(0, len(stream), size) for o in many.put_many(stream[i : i + size])]
    assert [o.verdict for o in outcomes] == verdicts
    assert picture(one) == picture(many)
    assert one.revision == many.revision
    assert one.counters() == many.counters()
