"""What this process wrote last, so that the next change of the same resource need not read it first.

It saves reading and decoding, and decides nothing: a commit made on it checks that it is still so, and what
would be refused on it, or come to nothing, is looked at again with what is stored.
"""

from __future__ import annotations

from copy import copy, deepcopy
from functools import cache

from msgspec.structs import fields

from steersman.kinds.state import ResourceState
from steersman.state.ledger.rows import Loaded

KNOWN_MAX = 1_024
"""Resources that are remembered; the one that was changed longest ago goes first."""


class Known:
    """The last written state of some resources. What goes in is copied."""

    def __init__(self) -> None:
        self._kept: dict[str, Loaded] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def keep(self, key: str, loaded: Loaded) -> None:
        """Remember it."""
        self._kept.pop(key, None)
        self._kept[key] = _copy(loaded)
        if len(self._kept) > KNOWN_MAX:
            del self._kept[next(iter(self._kept))]

    def take(self, key: str) -> Loaded | None:
        """Hand it out as a working copy, and forget it until it is kept anew; None where it is not known."""
        return self._kept.pop(key, None)

    def drop(self, key: str) -> None:
        """Forget it."""
        self._kept.pop(key, None)


def _copy(loaded: Loaded) -> Loaded:
    loaded = copy(loaded)
    loaded.state = copy_state(loaded.state)
    loaded.places = list(loaded.places)
    return loaded


def copy_state(state: ResourceState) -> ResourceState:
    """A copy that shares only values: what a state is made of is immutable, its containers are not."""
    made = copy(state)
    for name in _containers(type(state)):
        value = getattr(made, name)
        if value:
            setattr(made, name, value.copy() if isinstance(value, list) else deepcopy(value))
        elif value is not None:
            setattr(made, name, type(value)())
    return made


@cache
def _containers(kind: type[ResourceState]) -> tuple[str, ...]:
    """The fields of a kind that can hold a list or a mapping."""
    return tuple(
        found.name
        for found in fields(kind)
        if any(word in str(found.type).lower() for word in ("list", "dict", "any"))
    )
