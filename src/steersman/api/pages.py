"""Lists in pages: filters, and a cursor that stays true while entities come and go.

A cursor is a place in the order of keys (type, scope, id), not a count: an entity that appears or vanishes
between two pages shifts nothing, and no entity that exists all the while is left out or given twice.
"""

from __future__ import annotations

import base64
import binascii
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from steersman.api.problems import InvalidParameter, reveal
from steersman.kernel.errors import InvalidInput, NotFound
from steersman.kernel.nearest import nearest
from steersman.kinds.entity import CanonicalEntity, EntityKey, EntityType, HealthState
from steersman.kinds.names import kind_of

PAGE_DEFAULT = 500
PAGE_MAX = 5000
SCAN_SLICE = 256
"""Entities looked at before other requests get their turn."""
SCAN_MAX = 20_000
"""Entities looked at for one page. A filter that lets little through gives short pages with a cursor."""
FILTERS_MAX = 16

T = TypeVar("T")


class CursorInvalid(InvalidInput):
    """The cursor is not one that this API gave out."""

    code = "cursor_invalid"
    title = "Cursor invalid"


class UnknownKind(NotFound):
    """There is no entity type of that name. `facts`: `nearest`, `allowed`."""

    code = "unknown_kind"
    title = "No such kind"


def read_kind(word: str) -> EntityType:
    """The entity type that `word` means. Raises `UnknownKind`."""
    kind = kind_of(word)
    if kind is not None:
        return kind
    words = [member.value for member in EntityType]
    near = nearest(word.lower(), words)
    hint = f"; did you mean {near}?" if near else ""
    raise UnknownKind(f"there is no kind {reveal(word)!r}{hint}", nearest=near, allowed=words)


def read_kinds(values: list[str]) -> frozenset[EntityType]:
    """Kinds from parameters that may repeat and may hold several, by commas. Raises `UnknownKind`."""
    return frozenset(read_kind(word) for value in values for word in value.split(",") if word)


def write_cursor(key: EntityKey) -> str:
    """A key as a cursor."""
    text = msgspec.json.encode([key.entity_type.value, key.scope, key.entity_id])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def read_cursor(cursor: str) -> EntityKey:
    """The key behind a cursor. Raises `CursorInvalid`."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True)
        kind, scope, entity_id = msgspec.json.decode(text, type=tuple[EntityType, str, str])
    except (binascii.Error, UnicodeError, msgspec.MsgspecError):
        raise CursorInvalid("the cursor is not one of ours; start the list again without it") from None
    return EntityKey(kind, scope, entity_id)


class FieldFilter(Struct, frozen=True):
    """`name op value`: a field, compared. An entity that does not have the field never matches."""

    name: str
    compare: Callable[[Any, Any], bool]
    value: Any

    def matches(self, entity: CanonicalEntity) -> bool:
        """Whether this entity's field compares so."""
        declared = self.name in entity.__struct_fields__
        value = getattr(entity, self.name) if declared else entity.extra.get(self.name)
        if value is None:
            return False
        try:
            return bool(self.compare(value, self.value))
        except TypeError:
            return False


_OPERATORS: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = (
    (">=", operator.ge),
    ("<=", operator.le),
    ("!=", operator.ne),
    (">", operator.gt),
    ("<", operator.lt),
    ("=", operator.eq),
)


def read_field_filter(text: str) -> FieldFilter:
    """`temperature_celsius>=80`, `job_state=running`. Raises `InvalidParameter`."""
    for position, char in enumerate(text):
        if char not in "<>=!":
            continue
        for sign, compare in _OPERATORS:
            if text.startswith(sign, position):
                name, word = text[:position].strip(), text[position + len(sign) :].strip()
                if name and word and not name.startswith("_"):
                    return FieldFilter(name, compare, _scalar(word))
        break
    raise InvalidParameter(
        f"field={reveal(text)!r} can't be read; write a name, one of = != < <= > >=, and a value, as in "
        "temperature_celsius>=80"
    )


def _scalar(word: str) -> Any:
    """A number or true or false where the word reads so, else the word itself."""
    try:
        value = msgspec.json.decode(word.encode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return word
    return value if isinstance(value, bool | int | float | str) else word


class EntityFilter(Struct, frozen=True):
    """What a list asks for; empty parts match everything."""

    types: frozenset[EntityType] = frozenset()
    healths: frozenset[HealthState] = frozenset()
    scope: str | None = None
    entity_id: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    fields: tuple[FieldFilter, ...] = ()
    search: str = ""

    def matches(self, entity: CanonicalEntity) -> bool:
        """Whether it matches what the bus does not look at itself: all but kind, scope and labels."""
        if self.entity_id is not None and entity.entity_id != self.entity_id:
            return False
        if self.healths and entity.health_state not in self.healths:
            return False
        if not all(one.matches(entity) for one in self.fields):
            return False
        return not self.search or self._found(entity)

    def _found(self, entity: CanonicalEntity) -> bool:
        words = self.search.lower().split()
        text = "\n".join(
            (
                entity.entity_id,
                entity.entity_type.value,
                entity.scope,
                *entity.labels.values(),
                *entity.sources,
            )
        ).lower()
        return all(word in text for word in words)


def read_labels(values: list[str]) -> tuple[tuple[str, str], ...]:
    """`name=value`, each. Raises `InvalidParameter`."""
    pairs: list[tuple[str, str]] = []
    for text in values:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidParameter(
                f"label={reveal(text)!r} can't be read; write name=value (encoded: name%3Dvalue)"
            )
        pairs.append((name, value))
    return tuple(pairs)


def read_healths(values: list[str]) -> frozenset[HealthState]:
    """Health states by name. Raises `InvalidParameter`."""
    words = [word.strip().lower() for value in values for word in value.split(",") if word.strip()]
    states = [member.value for member in HealthState]
    for word in words:
        if word not in states:
            near = nearest(word, states)
            hint = f"; did you mean {near}?" if near else ""
            raise InvalidParameter(
                f"health={reveal(word)!r} is no health state{hint}", allowed=states, nearest=near
            )
    return frozenset(HealthState(word) for word in words)
