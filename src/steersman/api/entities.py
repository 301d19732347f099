"""Entities: lists, one by one, where their values come from, and how they were lately."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

from litestar import Response
from litestar.params import QueryParameter
from msgspec import Struct

from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of
from steersman.api.pages import (
    FILTERS_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    SCAN_MAX,
    SCAN_SLICE,
    EntityFilter,
    read_cursor,
    read_field_filter,
    read_healths,
    read_kind,
    read_kinds,
    read_labels,
    write_cursor,
)
from steersman.api.problems import reveal
from steersman.api.shown import shown, shown_explanation, shown_history
from steersman.kernel.clock import as_utc
from steersman.kernel.errors import NotFound
from steersman.kernel.nearest import nearest
from steersman.kinds.entity import CanonicalEntity, EntityKey, EntityType
from steersman.kinds.explanation import EntityHistory

if TYPE_CHECKING:
    from steersman.api.plane import Plane
    from steersman.state.bus import StateBus

NEAR_SCAN_MAX = 500
"""Names that are compared for a `did you mean`."""


class EntityNotFound(NotFound):
    """There is no such entity, or not in that scope. `facts`: `nearest`."""

    code = "entity_not_found"
    title = "No such entity"


class EntityPage(Struct, frozen=True):
    """One page. `cursor` continues the list (null: this was the last page). A page may be short, or empty,
    and yet have a cursor: a search looks at so many entities at a time.

    `revision` is the bus's when the page was made: a watch that starts after the first page's revision misses
    nothing.
    """

    items: list[CanonicalEntity]
    cursor: str | None
    revision: int


async def list_entities(
    request: Asked,
    type_: Annotated[
        list[str] | None,
        QueryParameter(name="type", description="Kinds, in any spelling; may repeat or be joined by commas"),
    ] = None,
    health: Annotated[
        list[str] | None,
        QueryParameter(name="health", description="Health states; may repeat or be joined by commas"),
    ] = None,
    scope_: Annotated[
        str | None, QueryParameter(name="scope", description="The cluster label; empty for none")
    ] = None,
    id_: Annotated[str | None, QueryParameter(name="id", description="Exactly this entity id")] = None,
    label: Annotated[
        list[str] | None,
        QueryParameter(
            name="label", description="name=value; may repeat, and all must match", max_items=FILTERS_MAX
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        QueryParameter(
            name="field",
            description="A field compared: temperature_celsius>=80, job_state=running; may repeat",
            max_items=FILTERS_MAX,
        ),
    ] = None,
    q: Annotated[
        str | None,
        QueryParameter(
            name="q", description="Words to find in id, kind, scope, label values, sources", max_length=256
        ),
    ] = None,
    limit: Annotated[
        int, QueryParameter(name="limit", ge=1, le=PAGE_MAX, description="Entities on a page")
    ] = PAGE_DEFAULT,
    cursor: Annotated[
        str | None,
        QueryParameter(name="cursor", description="Where to go on: a page's `cursor`", max_length=2048),
    ] = None,
) -> Answer:
    """Entities that match all filters, ordered by kind, scope and id."""
    wanted = EntityFilter(
        types=read_kinds(type_ or []),
        healths=read_healths(health or []),
        scope=scope_,
        entity_id=id_,
        labels=read_labels(label or []),
        fields=tuple(map(read_field_filter, field or [])),
        search=q or "",
    )
    after = read_cursor(cursor) if cursor else None
    return json_answer(await make_page(plane_of(request), wanted, after, limit))


async def make_page(plane: Plane, wanted: EntityFilter, after: EntityKey | None, limit: int) -> EntityPage:
    """The first `limit` matching entities behind `after`; a long search lets others have their turn."""
    revision = plane.bus.revision
    found: list[CanonicalEntity] = []
    for looked, entity in enumerate(_candidates(plane.bus, wanted, after), 1):
        if looked % SCAN_SLICE == 0:
            await plane.clock.sleep(0)
        if wanted.matches(entity):
            if len(found) == limit:
                return EntityPage(found, write_cursor(found[-1].key), revision)
            found.append(shown(entity))
        if looked == SCAN_MAX:
            return EntityPage(found, write_cursor(entity.key), revision)
    return EntityPage(found, None, revision)


def _candidates(bus: StateBus, wanted: EntityFilter, after: EntityKey | None) -> Iterator[CanonicalEntity]:
    """Entities behind `after` that the bus can tell without looking into them, in order of their keys."""
    kinds = [kind for kind in EntityType if kind in wanted.types] if wanted.types else [None]
    labels = dict(wanted.labels)
    if len(labels) < len(set(wanted.labels)):
        return  # one label with two values: nothing has both
    if wanted.entity_id is not None and wanted.scope is not None and wanted.types:
        for kind in wanted.types:
            entity = bus.get(kind, wanted.entity_id, wanted.scope)
            if entity is not None and (after is None or _place(entity.key) > _place(after)):
                yield entity
        return
    for kind in kinds:
        yield from bus.entities(kind, scope=wanted.scope, labels=labels, after=after)


def _place(key: EntityKey) -> tuple[int, str, str]:
    return _ORDER[key.entity_type], key.scope, key.entity_id


_ORDER = {kind: place for place, kind in enumerate(EntityType)}


async def get_entity(
    request: Asked,
    scope_: Annotated[
        str | None,
        QueryParameter(
            name="scope", description="The cluster label; may be left out where only one entity matches"
        ),
    ] = None,
) -> Answer:
    """One entity as it is now."""
    entity = find(request, scope_)
    # Weak: the age-dependent score may move a little between two revisions; freshness and health may not.
    tag = f'W/"{entity.revision}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    given = exchange_of(request).headers.get("if-none-match")
    if given is not None and _tag_matches(given, tag):
        return Response(b"", status_code=304, headers=headers)
    return json_answer(shown(entity), headers=headers)


async def explain_entity(
    request: Asked,
    scope_: Annotated[str | None, QueryParameter(name="scope", description="As for the entity")] = None,
) -> Answer:
    """Each field with value, source, times and unit; health and confidence with their reasons."""
    entity = find(request, scope_)
    explained = plane_of(request).bus.explain(entity.entity_type, entity.entity_id, scope=entity.scope)
    if explained is None:  # it went between the two looks
        raise EntityNotFound(f"there is no {entity.entity_type.value} {reveal(entity.entity_id)!r} any more")
    return json_answer(shown_explanation(explained))


async def entity_history(
    request: Asked,
    scope_: Annotated[str | None, QueryParameter(name="scope", description="As for the entity")] = None,
) -> Answer:
    """Recent samples, for sparklines, and changes of health and state. Also of what is gone, while that is
    remembered."""
    return json_answer(_history(request, scope_))


async def entity_at(
    request: Asked,
    time: Annotated[
        datetime,
        QueryParameter(
            name="time",
            description="The moment, RFC 3339, as 2026-01-01T03:10:00Z; one to come is read as now",
        ),
    ],
    scope_: Annotated[str | None, QueryParameter(name="scope", description="As for the entity")] = None,
) -> Answer:
    """What the entity looked like at a moment, as far as that is remembered."""
    now = plane_of(request).bus.moment().wall
    return json_answer(_history(request, scope_).at(min(as_utc(time), now)))


def _history(request: Asked, scope: str | None) -> EntityHistory:
    entity = find(request, scope, deleted=True)
    found = plane_of(request).bus.history(entity.entity_type, entity.entity_id, scope=entity.scope)
    return shown_history(found) if found is not None else EntityHistory()


def find(request: Asked, scope: str | None, *, deleted: bool = False) -> CanonicalEntity:
    """The entity of the path. Raises `UnknownKind`, `EntityNotFound`, and what the bus says of ambiguity."""
    parameters = exchange_of(request).parameters
    kind, entity_id = read_kind(parameters["type"]), parameters["id"]
    bus = plane_of(request).bus
    entity = bus.get(kind, entity_id, scope=scope, deleted=deleted)
    if entity is not None:
        return entity
    names = islice((one.entity_id for one in bus.entities(entity_type=kind)), NEAR_SCAN_MAX)
    near = nearest(entity_id, names)
    hint = f"; did you mean {near}?" if near and near != entity_id else ""
    place = f" in scope {reveal(scope)!r}" if scope else ""
    raise EntityNotFound(
        f"there is no {kind.value} {reveal(entity_id)!r}{place}{hint}",
        nearest=near,
    )


def _tag_matches(given: str, tag: str) -> bool:
    """Whether an If-None-Match names this tag; compared weakly, as it is defined to be."""
    plain = tag.removeprefix("W/")
    return any(one.strip() == "*" or one.strip().removeprefix("W/") == plain for one in given.split(","))
