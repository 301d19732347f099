"""Reading what the Ledger wrote: one resource, pages of them, and a resource's history both ways.

A page is of one snapshot, and so are all the pages that are read on with its cursor. A record that is damaged
does not hide the others: it stands in the page's `problems`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from steersman.kernel.bounds import within
from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean, nearest
from steersman.kinds.command import HistoryEntry, ResourceEvent
from steersman.kinds.refusal import ResourceNotFound
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.state.ledger import keys, rows
from steersman.state.ledger.rows import Damage, Loaded, RecordDamaged
from steersman.store.api import Page, Record, Store

PAGE_MAX = 1_000
"""Resources, or history rows, of one page."""
SCAN_MAX = 10_000
"""Records that one filtered page looks at; it may then be short, with `after` set."""
SCAN_STEP = 500
NEAR_MAX = 1_000
"""Ids among which the nearest to an unknown one is looked for."""

__all__ = [
    "Damage",
    "HistoryPage",
    "Reading",
    "RecordDamaged",
    "ResourcePage",
    "Selection",
    "read_event",
    "read_state",
]


class Selection(Struct, frozen=True, kw_only=True):
    """Which resources are wanted: all that is given must fit. Several statuses are alternatives."""

    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    status: tuple[str, ...] = ()
    desired: tuple[str, ...] = ()
    owner_id: str | None = None
    converged: bool | None = None

    def takes(self, state: ResourceState) -> bool:
        """Whether a resource is among them."""
        return (
            (not self.status or state.status in self.status)
            and (not self.desired or state.desired_status in self.desired)
            and (self.owner_id is None or state.owner_id == self.owner_id)
            and (self.converged is None or state.is_converged() == self.converged)
            and all(state.labels.get(name) == value for name, value in self.labels.items())
        )


EVERYTHING = Selection()


class ResourcePage(Struct, frozen=True, kw_only=True):
    """Some resources, in order of kind and id. `after` reads on (None: the end), at the same `revision`."""

    items: tuple[ResourceState, ...]
    problems: tuple[Damage, ...]
    revision: int
    after: str | None


class HistoryPage(Struct, frozen=True, kw_only=True):
    """Some rows of a resource's history, in the order asked for. `after_seq` reads on; None is the end."""

    entries: tuple[HistoryEntry, ...]
    problems: tuple[Damage, ...]
    after_seq: int | None


def read_state(record: Record) -> ResourceState:
    """The resource of a record under `resources/`, as a store watch gives it. Raises `RecordDamaged`."""
    return rows.load(record).state


def read_event(record: Record) -> ResourceEvent:
    """The event of a record under `outbox/`. Raises `RecordDamaged`."""
    return rows.decode_event(record)


async def not_found(store: Store, ref: ResourceRef) -> ResourceNotFound:
    """The refusal for a resource that is not there, with the nearest that is."""
    page = await store.list(keys.resources_prefix(ref.kind), limit=NEAR_MAX)
    ids = [keys.ref_of(record.key).id for record in page.records]
    return ResourceNotFound(
        f"there is no {ref.kind} {ref.id[:80]!r}{did_you_mean(ref.id, ids)}",
        kind=ref.kind,
        id=ref.id,
        nearest=nearest(ref.id, ids),
    )


class Reading:
    """Reads of one store. A filtered page looks at `scan_step` records at a time, and at `scan_max` or a few
    more in all."""

    def __init__(self, store: Store, *, scan_step: int = SCAN_STEP, scan_max: int = SCAN_MAX) -> None:
        self._store = store
        self._scan_step = scan_step
        self._scan_max = scan_max

    async def load(self, ref: ResourceRef) -> Loaded | None:
        """The resource with what a commit on it must know. Raises `UnknownResourceKind`, `RecordDamaged`."""
        rows.state_type(ref.kind)
        record = await self._store.get(keys.resource_key(ref))
        return None if record is None else rows.load(record)

    async def find(self, ref: ResourceRef) -> ResourceState | None:
        """The resource; None where it is not there."""
        loaded = await self.load(ref)
        return None if loaded is None else loaded.state

    async def get(self, ref: ResourceRef) -> ResourceState:
        """The resource. Raises `ResourceNotFound`."""
        state = await self.find(ref)
        if state is None:
            raise await not_found(self._store, ref)
        return state

    async def list(
        self, kind: str | None, limit: int, after: str | None, selection: Selection
    ) -> ResourcePage:
        """A page. Raises `Compacted` where a cursor's snapshot is gone, `InvalidInput` for another text."""
        within("limit", limit, 1, PAGE_MAX)
        if kind is not None:
            rows.state_type(kind)
        prefix = keys.resources_prefix(kind)
        place, revision = _read_cursor(after, prefix)
        items: list[ResourceState] = []
        problems: list[Damage] = []
        looked_at = 0
        while True:
            step = limit if selection is EVERYTHING else self._scan_step
            page: Page = await self._store.list(prefix, limit=step, after=place, revision=revision)
            revision = page.revision
            for number, record in enumerate(page.records):
                place = record.key
                _add(record, selection, items, problems)
                if len(items) + len(problems) >= limit:
                    more = number + 1 < len(page.records) or page.after is not None
                    return _page(items, problems, revision, place if more else None)
            looked_at += len(page.records)
            if page.after is None or looked_at >= self._scan_max:
                return _page(items, problems, revision, page.after)
            place = page.after

    async def entry(self, ref: ResourceRef, seq: int) -> HistoryEntry:
        """One history row. Raises `ResourceNotFound`, `RecordDamaged`."""
        record = await self._store.get(keys.history_key(ref, seq))
        if record is None:
            raise ResourceNotFound(f"{ref} has no history row {seq}", kind=ref.kind, id=ref.id, seq=seq)
        return _sound(record)

    async def history(self, ref: ResourceRef, after_seq: int, limit: int, newest_first: bool) -> HistoryPage:
        """A page of rows. Raises `ResourceNotFound` where there never was such a resource."""
        within("limit", limit, 1, PAGE_MAX)
        within("after_seq", after_seq, 0, keys.SEQ_MAX)
        head = await self._head(ref)
        if newest_first:
            top = head if after_seq == 0 else min(after_seq - 1, head)
            wanted = range(max(1, top - limit + 1), top + 1)
        else:
            wanted = range(after_seq + 1, min(head, after_seq + limit) + 1)
        entries: list[HistoryEntry] = []
        problems: list[Damage] = []
        if len(wanted) > 0:
            before = keys.history_key(ref, wanted.start - 1)
            found = await self._rows(ref, before, wanted)
            for seq in reversed(wanted) if newest_first else wanted:
                key = keys.history_key(ref, seq)
                record = found.get(key)
                try:
                    if record is None:
                        raise rows.damaged(key, "the row is missing")
                    entries.append(_sound(record))
                except RecordDamaged as error:
                    problems.append(rows.as_damage(error, key))
        end = wanted.start <= 1 if newest_first else wanted.stop > head
        last = wanted.start if newest_first else wanted.stop - 1
        return HistoryPage(entries=tuple(entries), problems=tuple(problems), after_seq=None if end else last)

    async def _rows(self, ref: ResourceRef, before: str, wanted: range) -> dict[str, Record]:
        """The records of those rows; a page of the store may end early, by its bytes."""
        found: dict[str, Record] = {}
        place: str | None = before
        while place is not None and len(found) < len(wanted):
            page = await self._store.list(
                keys.history_prefix(ref), limit=len(wanted) - len(found), after=place
            )
            found |= {record.key: record for record in page.records}
            place = page.after
        return found

    async def _head(self, ref: ResourceRef) -> int:
        """The number of the last row; also of a resource that is deleted."""
        rows.state_type(ref.kind)
        record = await self._store.get(keys.resource_key(ref))
        if record is not None:
            return rows.load(record).state.version
        buried = await self._store.get(keys.grave_key(ref))
        if buried is None:
            raise await not_found(self._store, ref)
        return rows.decode_grave(buried).version


def _sound(record: Record) -> HistoryEntry:
    entry, hashed = rows.decode_row(record)
    if hashed != entry.hash:
        raise rows.damaged(record.key, "its hash is not that of what it says")
    return entry


def _add(record: Record, selection: Selection, items: list[ResourceState], problems: list[Damage]) -> None:
    try:
        state = read_state(record)
    except RecordDamaged as error:
        problems.append(rows.as_damage(error, record.key))
        return
    if selection.takes(state):
        items.append(state)


def _page(
    items: list[ResourceState], problems: list[Damage], revision: int, place: str | None
) -> ResourcePage:
    after = None if place is None else f"{revision}:{place}"
    return ResourcePage(items=tuple(items), problems=tuple(problems), revision=revision, after=after)


def _read_cursor(after: str | None, prefix: str) -> tuple[str | None, int | None]:
    if after is None:
        return None, None
    number, _, place = after.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= 18 and place.startswith(prefix)):
        raise InvalidInput(
            f"{after[:80]!r} is not where a page of this list ended; pass its `after` unchanged"
        )
    return place, int(number)
