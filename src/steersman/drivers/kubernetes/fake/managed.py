"""Who wrote which field, as the server keeps it in `metadata.managedFields`: whoever changed a field last by
an update or a patch has it, and a write of the value that is there already takes nothing from anybody.

Kept for the spec, the labels and the annotations, where a list counts as one field (taints are so in the real
server too). An object whose record was taken away stays without one, as in a real server.

Constants: apimachinery/pkg/util/managedfields, structured-merge-diff.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from steersman.drivers.kubernetes.fake.tree import Object, items, part

Path = tuple[str, ...]
KEPT: tuple[Path, ...] = (("spec",), ("metadata", "labels"), ("metadata", "annotations"))
CREATED: Path = ("status",)
"""Whoever made an object keeps this, so that none is without a record from the start."""
_MISSING = object()


def managed(old: Object, new: Object, *, manager: str, api_version: str, now: str) -> list[Object]:
    """The record after a write that made `new` of `old` (empty for a creation)."""
    record = [cast("Object", entry) for entry in items(part(old, "metadata"), "managedFields")]
    if old and not record:
        return []
    before, after = dict(_leaves(old)), dict(_leaves(new))
    written = {path for path, value in after.items() if before.get(path, _MISSING) != value}
    lost = written | (before.keys() - after.keys())
    entries: list[Object] = []
    own: set[Path] = set()
    own_time = now
    for entry in record:
        held = set(_paths(part(entry, "fieldsV1")))
        if entry.get("manager") == manager and entry.get("operation") == "Update":
            own, own_time = held, str(entry.get("time", now))
        elif held - lost:
            entries.append({**entry, "fieldsV1": _tree(held - lost)})
    mine: set[Path] = (own - lost) | written
    if not old:
        mine.add(CREATED)
    if mine:
        entries.append(
            {
                "manager": manager,
                "operation": "Update",
                "apiVersion": api_version,
                "time": own_time if mine == own else now,
                "fieldsType": "FieldsV1",
                "fieldsV1": _tree(mine),
            }
        )
    return entries


def _leaves(thing: Object) -> Iterator[tuple[Path, Any]]:
    for path in KEPT:
        yield from _below(path, part(thing, *path))


def _below(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for name, inner in cast("Object", value).items():
            yield from _below((*path, name), inner)
    elif value is not None:
        yield path, value


def _paths(tree: Object, path: Path = ()) -> Iterator[Path]:
    for name, inner in tree.items():
        if not name.startswith("f:"):
            continue
        below = (*path, name.removeprefix("f:"))
        if inner:
            yield from _paths(inner, below)
        else:
            yield below


def _tree(paths: Iterable[Path]) -> Object:
    tree: Object = {}
    for path in sorted(paths):
        here = tree
        for name in path:
            here = here.setdefault(f"f:{name}", {})
    return tree
