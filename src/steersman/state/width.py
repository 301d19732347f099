"""Keeping an entity to its width: how many fields, labels and sources it may have."""

from __future__ import annotations

from steersman.state.layer import CLEARED, Arrival, Layer, same_voice, written_fields, written_labels
from steersman.state.limits import BusLimits, EntityTooWide


def check_width(before: tuple[Layer, ...], new: Layer, limits: BusLimits) -> None:
    """Refuse a fragment that would make its entity, with `before`, too wide; costs next to nothing where it
    brings no new name. What is cleared does not count. Raises `EntityTooWide`."""
    fragment = new.fragment
    known = next((old.fragment for old in before if same_voice(old, new.source, fragment)), None)
    if (
        known is not None
        and known.fields.keys() >= fragment.fields.keys()
        and known.labels.keys() >= fragment.labels.keys()
        and not fragment.clear
    ):
        return
    if not before:
        fields, labels, sources = len(fragment.fields), len(fragment.labels), 1
    else:
        layers = (*before, new)
        fields = sum(written.value is not CLEARED for written in written_fields(layers).values())
        labels = sum(written.value is not CLEARED for written in written_labels(layers).values())
        sources = len({layer.source.name for layer in layers})
    for what, count, limit in (
        ("fields", fields, limits.fields_per_entity_max),
        ("labels", labels, limits.labels_per_entity_max),
        ("sources", sources, limits.sources_per_entity_max),
    ):
        if count > limit:
            raise EntityTooWide(
                f"{fragment.key} would have {count} {what}; at most {limit} are kept", limit=limit
            )


def room_made(before: tuple[Layer, ...], new: Layer, limits: BusLimits, now: Arrival) -> tuple[Layer, ...]:
    """The layers that stay when a new source comes to an entity that has as many as it may have: without
    those of the source that is dead the longest. A sender that takes another name with each of its lives
    would else lock the entity for all who come later. Where none is dead, all stay."""
    names = {layer.source.name for layer in before}
    if new.source.name in names or len(names) < limits.sources_per_entity_max:
        return before
    dead = [layer.source for layer in before if layer.source.is_dead(now)]
    if not dead:
        return before
    longest = max(dead, key=lambda source: source.silence_s(now))
    return tuple(layer for layer in before if layer.source is not longest)
