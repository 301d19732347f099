"""Objects as JSON, and reading a part that may be missing or null."""

from __future__ import annotations

from typing import Any, cast

Object = dict[str, Any]
"""An object, a list or a status."""


def part(thing: Object, *names: str) -> Object:
    """The object at a path; an empty one where there is none."""
    for name in names:
        found = thing.get(name)
        thing = cast("Object", found) if isinstance(found, dict) else {}
    return thing


def items(thing: Object, name: str) -> list[Any]:
    """The list of that name; an empty one where there is none."""
    found = thing.get(name)
    return cast("list[Any]", found) if isinstance(found, list) else []
