"""What on a node is ours to take back. A mark alone does not tell: it outlives that somebody else takes back
what we did, and does it again for a reason of their own.

A cordon is ours where it bears our mark and the server's record of who changed which field (`managedFields`)
names us alone for `spec.unschedulable`. A server keeps one record for all taints of a node, and its own node
controller writes them, so a taint is told by the time that we wrote into it: no two are alike but our own.
"""

from __future__ import annotations

from typing import Any, cast

from steersman.drivers.kubernetes.marks import CORDON_MARK, FIELD_MANAGER, TAINTS_MARK
from steersman.drivers.kubernetes.operation import Json, marks_of, part

NAMED_MAX = 5
"""Other writers that a refusal names: more than one is rare."""


def writers(thing: Json, *path: str) -> list[str]:
    """Who the server says wrote the field at `path` last, or applies it; empty where nobody is on record."""
    record: Any = part(thing, "metadata").get("managedFields")
    names: dict[str, None] = {}
    for entry in cast("list[Any]", record) if isinstance(record, list) else []:
        if not isinstance(entry, dict):
            continue
        held = part(cast("Json", entry), "fieldsV1", *(f"f:{name}" for name in path[:-1]))
        if f"f:{path[-1]}" in held:
            names[str(cast("Json", entry).get("manager") or "an unnamed program")] = None
    return list(names)


def why_not_our_cordon(node: Json) -> str:
    """Why the cordon of a node is not ours to take back; empty where it is."""
    if CORDON_MARK not in marks_of(node):
        return "somebody else cordoned it"
    by = writers(node, "spec", "unschedulable")
    if not by:
        return "we cordoned it once, and the server has no record (managedFields) of whose the cordon is now"
    others = [name for name in by if name != FIELD_MANAGER]
    return f"{', '.join(others[:NAMED_MAX])} cordoned it after us" if others else ""


def taint_mark(taint: Json) -> str:
    """How a taint of ours is told again: `key=value:effect@time`, as it stands in the mark."""
    told = [str(taint.get(name) or "") for name in ("key", "value", "effect", "timeAdded")]
    return "{}={}:{}@{}".format(*told)


def our_taints(node: Json) -> list[Json]:
    """The taints of a node that are as we put them. What a mark says without the time is no proof."""
    marks = set(marks_of(node).get(TAINTS_MARK, "").split(","))
    taints: list[Json] = part(node, "spec").get("taints") or []
    return [taint for taint in taints if taint.get("timeAdded") and taint_mark(taint) in marks]
