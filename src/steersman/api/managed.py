"""Resources as they leave the API: with whether they may take work, with secrets masked, and their ETag."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar, cast

import msgspec

from steersman.api.control import Control, tag_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of, read_json
from steersman.api.problems import reveal
from steersman.api.shown import masked
from steersman.kernel.errors import Refused, SteersmanError
from steersman.kernel.nearest import nearest
from steersman.kernel.redact import MASK
from steersman.kinds.command import HistoryEntry, Written
from steersman.kinds.managed import Changed, Managed
from steersman.kinds.names import RESOURCE_FORMS, resource_kind_of
from steersman.kinds.refusal import UnknownResourceKind
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.kinds.work import WorkVerdict, may_take_work

T = TypeVar("T")

PLANE_OWNED = {
    "Recommendation": "approve, reject or snooze it at /api/v1/recommendations/{id}",
    "Policy": "set its mode at /api/v1/policies/{name}/mode; its text is in the policy files",
    "Freeze": "PUT /api/v1/freeze",
}
"""Kinds that the plane keeps itself, and where people change them."""
MASKED = ("labels", "metadata", "pipeline_progress")
"""Members of a resource that people fill, or programs that they name."""
MASK_DEPTH_MAX = 8


class PlaneOwned(Refused):
    """The plane keeps resources of that kind itself; the detail says where they are changed."""

    code = "plane_owned"
    title = "Kept by the plane itself"


def ref_of(request: Asked, *, writes: bool = False) -> ResourceRef:
    """The resource of the path. Raises `UnknownResourceKind`; `PlaneOwned` where it `writes` to a kind that
    has ways of its own."""
    parameters = exchange_of(request).parameters
    kind = kind_of_path(request, writes=writes)
    return ResourceRef(kind, parameters["id"])


def kind_of_path(request: Asked, *, writes: bool = False) -> str:
    """The kind of the path. Raises as `ref_of` does."""
    kind = read_resource_kind(exchange_of(request).parameters["kind"])
    if writes and kind in PLANE_OWNED:
        raise PlaneOwned(f"a {kind} is the plane's own: {PLANE_OWNED[kind]}", kind=kind)
    return kind


def read_resource_kind(word: str) -> str:
    """The kind of resource that `word` means. Raises `UnknownResourceKind`."""
    kind = resource_kind_of(word)
    if kind is not None:
        return kind
    kinds = list(RESOURCE_FORMS)
    near = nearest(word.lower(), [one.lower() for one in kinds])
    hint = f"; did you mean {near}?" if near else ""
    raise UnknownResourceKind(
        f"there is no kind of resource {reveal(word)!r}{hint}", kind=word[:80], kinds=kinds, nearest=near
    )


def work_of(control: Control, state: ResourceState, now: datetime) -> WorkVerdict | None:
    """Whether it may take work; None where its lifecycle is not loaded."""
    try:
        lifecycle = control.lifecycles.machine(state.lifecycle_table).lifecycle
        return may_take_work(state, lifecycle, now, (control.required or {}).get(state.resource_type, ()))
    except SteersmanError:
        return None


def shown_resource(control: Control, state: ResourceState, now: datetime) -> Managed:
    """A resource as it leaves: with whether it may take work, and with secrets masked."""
    held: dict[str, Any] = {name: getattr(state, name, None) for name in MASKED}
    changes = {name: masked(value) for name, value in held.items() if value}
    shown = msgspec.structs.replace(state, **changes) if changes else state
    return Managed(shown, work_of(control, state, now))


def shown_entry(entry: HistoryEntry) -> HistoryEntry:
    """A history row with secrets masked. Its hash is still that of the row as it is stored."""
    return msgspec.structs.replace(entry, data=masked(entry.data)) if entry.data else entry


def written_answer(request: Asked, control: Control, written: Written, status: int = 200) -> Answer:
    """The answer to a change."""
    now = plane_of(request).clock.now()
    answer = Changed(
        resource=shown_resource(control, written.state, now),
        entry=shown_entry(written.entry),
        revision=written.revision,
        replayed=written.replayed,
        dry_run=written.dry_run,
        unchanged=written.unchanged,
    )
    return json_answer(answer, status, {"etag": tag_of(written.state.version)})


async def read_optional(request: Asked, kind: type[T], without: T) -> T:
    """The body as `kind`, or `without` where there is none. Raises as `read_json` does."""
    headers = exchange_of(request).headers
    empty = "transfer-encoding" not in headers and headers.get("content-length", "0").strip() == "0"
    return without if empty else await read_json(exchange_of(request), kind)


def unmasked(new: Any, old: Any, depth: int = 0) -> Any:
    """`new` with the old value wherever it holds the mask: what was read may be sent back."""
    if new == MASK and old is not None:
        return old
    if isinstance(new, dict) and isinstance(old, dict) and depth < MASK_DEPTH_MAX:
        given, held = cast("dict[str, Any]", new), cast("dict[str, Any]", old)
        return {name: unmasked(value, held.get(name), depth + 1) for name, value in given.items()}
    return cast("Any", new)
