"""What an expression reads, and what it can't know.

A name that can't be read is not false and not zero: it is unknown, and says why. Unknown goes through every
operator that would have needed the value, and stops where the answer is the same either way (`false &&
unknown` is false).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from msgspec import Struct

Path = tuple[str, ...]


class Lack(Struct, frozen=True):
    """A value that can't be had: `path` is what was asked for, `why` one of absent, stale, unsupported,
    source_down, or error (the value is there and the operation makes no sense)."""

    path: Path
    why: str = "absent"
    detail: str = ""

    @property
    def name(self) -> str:
        """The path with dots."""
        return ".".join(self.path)


class Reading(Struct, frozen=True):
    """A value that was read."""

    path: Path
    value: Any

    @property
    def name(self) -> str:
        """The path with dots."""
        return ".".join(self.path)


class Lookup(Protocol):
    """Where an expression finds its names."""

    def get(self, path: Path) -> Any:
        """The value at a path, or a `Lack`. A path may lead into a value (a map's key).

        A list may hold a `Lack` beside its items: there may be more in it, and that can't be told.
        """
        ...


class MappingLookup:
    """Names from plain data: nested mappings; what is missing or None is absent."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def get(self, path: Path) -> Any:
        """The value at a path; `Lack` where there is none."""
        here: Any = self._data
        for part in path:
            if not isinstance(here, Mapping) or part not in here:
                return Lack(path)
            here = cast("Mapping[str, Any]", here)[part]
        return Lack(path) if here is None else here


class Unknown:
    """The third value. It is never equal to anything; nothing is decided by its truth."""

    __slots__ = ("lacks",)

    def __init__(self, lacks: tuple[Lack, ...]) -> None:
        self.lacks = lacks

    def __bool__(self) -> bool:
        raise TypeError("an unknown value is neither true nor false")


def merged(*values: Any) -> Unknown:
    """One unknown with all that the given values lack."""
    lacks: dict[Lack, None] = {}
    for value in values:
        if isinstance(value, Unknown):
            lacks.update(dict.fromkeys(value.lacks))
    return Unknown(tuple(lacks))


def senseless(detail: str) -> Unknown:
    """Unknown because the operation makes no sense on what was read."""
    return Unknown((Lack((), "error", detail),))
