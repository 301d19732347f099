"""Entities as rows and blocks of text: what `get`, `watch` and `describe` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from steersman.cli.columns import COLUMNS, Column
from steersman.cli.screen import plain_mapping, write_table
from steersman.cli.units import ABSENT, one_line, show_age, show_value
from steersman.kernel.clock import as_utc
from steersman.kinds.entity import CanonicalEntity, EntityType
from steersman.kinds.fields import FIELDS
from steersman.kinds.names import plural

if TYPE_CHECKING:
    from steersman.kinds.managed import Managed

COMMON = ("NAME", "SCOPE", "HEALTH", "CONFIDENCE", "AGE")
MANAGED = ("STATUS", "DESIRED", "WORK")
"""How a node is managed, behind what all entities have."""
GONE = "gone"
"""Shown as the health of an entity that no longer exists."""


def headings_of(kind: EntityType, wide: bool) -> list[str]:
    """The headings of a kind's table."""
    columns = [column.heading for column in _columns(kind, wide)]
    return [*COMMON, *columns, *(("FRESHNESS", "SOURCES", "LABELS") if wide else ())]


def row_of(entity: CanonicalEntity, wide: bool, now: datetime) -> list[str]:
    """An entity as a row under `headings_of` its kind."""
    specs = FIELDS[entity.entity_type]
    cells = [
        show_value(getattr(entity, column.field), specs[column.field].unit, now)
        for column in _columns(entity.entity_type, wide)
    ]
    more = (
        [entity.freshness, ",".join(entity.sources) or ABSENT, plain_mapping(entity.labels)] if wide else []
    )
    return [*_common(entity, now), *cells, *more]


def write_entities(
    entities: Sequence[CanonicalEntity],
    *,
    wide: bool,
    now: datetime,
    managed: Mapping[tuple[str, str], Managed] | None = None,
) -> None:
    """One table for each kind among the entities; a title above each where there are several kinds. Nodes
    have STATUS, DESIRED and WORK too where any of them is `managed` (by scope and id)."""
    kinds = [kind for kind in EntityType if any(entity.entity_type is kind for entity in entities)]
    for kind in kinds:
        if len(kinds) > 1:
            print(f"{'' if kind is kinds[0] else chr(10)}{plural(kind)}:")
        of_kind = [entity for entity in entities if entity.entity_type is kind]
        headings, rows = headings_of(kind, wide), [row_of(entity, wide, now) for entity in of_kind]
        if managed and kind is EntityType.NODE:
            at = len(COMMON)
            headings[at:at] = MANAGED
            for row, entity in zip(rows, of_kind, strict=True):
                row[at:at] = _managed_cells(managed.get((entity.scope, entity.entity_id)))
        write_table(headings, rows)


def _managed_cells(one: Managed | None) -> list[str]:
    from steersman.cli.managed import work_word

    if one is None:
        return [ABSENT] * len(MANAGED)
    return [one.state.status, one.state.desired_status or ABSENT, work_word(one)]


def key_figures(entity: CanonicalEntity, now: datetime) -> str:
    """The usual columns that have a value, as `cpu 12%  memory 40%`: for one line of `watch`."""
    specs = FIELDS[entity.entity_type]
    shown = [
        f"{column.heading.lower()} {show_value(value, specs[column.field].unit, now)}"
        for column in COLUMNS[entity.entity_type].usual
        if (value := getattr(entity, column.field)) is not None
    ]
    return "  ".join(shown)


def shown_field(kind: EntityType, name: str, value: Any, unit: str, now: datetime) -> str:
    """A field as an explanation carries it: there a moment is text, as in all JSON."""
    spec = FIELDS[kind].get(name)
    if spec is not None and spec.type is datetime and isinstance(value, str):
        value = as_utc(datetime.fromisoformat(value))
    return show_value(value, unit, now)


def health_word(entity: CanonicalEntity) -> str:
    """The health, or `gone` for a tombstone."""
    return GONE if entity.deleted_at is not None else entity.health_state.value


def _columns(kind: EntityType, wide: bool) -> tuple[Column, ...]:
    columns = COLUMNS[kind]
    return columns.usual + columns.wide if wide else columns.usual


def _common(entity: CanonicalEntity, now: datetime) -> list[str]:
    return [
        one_line(entity.entity_id),
        one_line(entity.scope) or ABSENT,
        health_word(entity),
        f"{entity.confidence_score:.2f}",
        show_age((now - entity.observed_at).total_seconds()),
    ]
