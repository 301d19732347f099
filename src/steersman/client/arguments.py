"""What both clients accept for kinds, and how they name themselves."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from steersman.kernel.errors import InvalidInput
from steersman.kinds.entity import EntityType
from steersman.kinds.names import kind_of

DEFAULT_SERVER = "http://127.0.0.1:7440"

Kind = EntityType | str
"""An entity type, or a word for one in any spelling: `node`, `nodes`, `Node`."""
Kinds = Iterable[Kind] | Kind
"""One kind or several; none of them means all."""


def read_kind(kind: Kind) -> EntityType:
    """The entity type. Raises `InvalidInput`."""
    found = kind if isinstance(kind, EntityType) else kind_of(kind)
    if found is None:
        known = [member.value for member in EntityType]
        raise InvalidInput(f"there is no kind {kind!r}; there are {', '.join(known)}", allowed=known)
    return found


def read_kinds(kinds: Kinds) -> tuple[EntityType, ...]:
    """The entity types. Raises `InvalidInput`."""
    if isinstance(kinds, str):  # an EntityType is a str too
        return (read_kind(kinds),)
    return tuple(map(read_kind, kinds))


@lru_cache(maxsize=1)
def user_agent() -> str:
    """The name this client goes by."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"steersman-python/{version('steersman')}"
    except PackageNotFoundError:
        return "steersman-python"
