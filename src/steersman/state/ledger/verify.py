"""Checks everything the Ledger ever wrote: `steersman store verify`.

For each resource, alive or deleted: its rows are numbered from 1 without a gap, each row's hash is that of
its bytes, each names the hash of the row before it, and what is left at the end (the resource, or its grave)
is what the last row says it wrote. So a row that was changed, taken away or added, and a resource that was
written by anything but the Ledger, is found, and named. All reads are of one revision.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from msgspec import Struct, field

from steersman.kernel.errors import SteersmanError
from steersman.kinds.command import ChangeAction, HistoryEntry
from steersman.kinds.state import ResourceRef
from steersman.state.ledger import keys, rows
from steersman.state.ledger.rows import Damage, Grave, RecordDamaged
from steersman.store.api import Record, Store

PAGE = 1_000
PROBLEMS_MAX = 1_000
"""Problems that a report lists; `problems_total` counts all."""

T = TypeVar("T")


class VerifyReport(Struct, kw_only=True):
    """What was found. `resources` counts those alive, `graves` the deleted ones, `rows` their history."""

    revision: int = 0
    resources: int = 0
    graves: int = 0
    rows: int = 0
    problems: list[Damage] = field(default_factory=list[Damage])
    problems_total: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.problems_total == 0

    def add(self, key: str, problem: str) -> None:
        """Note a problem."""
        self.problems_total += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Damage(key=key, problem=problem))


class _Head(Struct):
    """What is at the end of a chain: the resource, or its grave."""

    key: str
    version: int = 0
    head: str = ""
    state_hash: str = ""
    status: str | None = None
    grave: bool = False


async def verify_store(store: Store) -> VerifyReport:
    """Check all chains of a store, which may be in use meanwhile.

    Raises `StoreUnavailable`, and `Compacted` where history is compacted meanwhile: run it anew.
    """
    report = VerifyReport(revision=await store.revision())
    heads: dict[ResourceRef, _Head] = {}
    async for record in _records(store, keys.GRAVES, report.revision):
        head = _try(report, record, _buried)
        if head is not None:
            heads[keys.ref_of(record.key)] = head
            report.graves += 1
    async for record in _records(store, keys.RESOURCES, report.revision):
        head = _try(report, record, _living)
        if head is None:
            continue
        ref = keys.ref_of(record.key)
        if ref in heads:
            report.add(record.key, "it is there, and so is its grave")
        heads[ref] = head
        report.resources += 1
    await _check_chains(store, report, heads)
    return report


async def _check_chains(store: Store, report: VerifyReport, heads: dict[ResourceRef, _Head]) -> None:
    seen: set[ResourceRef] = set()
    bad = {damage.key for damage in report.problems}
    ref: ResourceRef | None = None
    last: HistoryEntry | None = None
    number = 0
    async for record in _records(store, keys.HISTORY, report.revision):
        report.rows += 1
        entry = _try(report, record, _row)
        mine = _try(report, record, _ref)
        if mine is None:
            continue
        if mine != ref:
            _check_end(report, ref, number, last, heads, bad)
            ref, last, number = mine, None, 0
            seen.add(mine)
        seq = keys.seq_of(record.key) or 0
        if seq != number + 1:
            report.add(record.key, f"row {number + 1} should be here; rows are missing")
        elif entry is not None and (last is not None or number == 0):
            _check_link(report, record.key, entry, last)
        last, number = entry, seq
    _check_end(report, ref, number, last, heads, bad)
    for missing in heads.keys() - seen:
        report.add(heads[missing].key, "it has no history at all")


def _check_link(report: VerifyReport, key: str, entry: HistoryEntry, last: HistoryEntry | None) -> None:
    before = "" if last is None else last.hash
    if entry.previous != before:
        report.add(key, "it does not follow the row before it: its `previous` is another hash")
    fresh = last is None or last.action is ChangeAction.DELETED
    if fresh != (entry.action is ChangeAction.CREATED):
        report.add(key, f"{entry.action.value} can't be here")


def _check_end(
    report: VerifyReport,
    ref: ResourceRef | None,
    number: int,
    last: HistoryEntry | None,
    heads: dict[ResourceRef, _Head],
    bad: set[str],
) -> None:
    """The last row of a chain against the resource, or the grave, that it left."""
    if ref is None:
        return
    head = heads.get(ref)
    if head is None:
        if not {keys.resource_key(ref), keys.grave_key(ref)} & bad:
            report.add(keys.history_key(ref, number), "neither a resource nor a grave is at its end")
        return
    if head.version != number:
        report.add(head.key, f"it is at version {head.version}, and its history ends with row {number}")
        return
    if last is None:
        return
    if head.head != last.hash:
        report.add(head.key, "it names another hash than its last row's")
    if head.grave != (last.action is ChangeAction.DELETED):
        report.add(head.key, f"its last row is {last.action.value}")
    if not head.grave and head.state_hash != last.state_hash:
        report.add(head.key, "it is not what its last row wrote: something else changed it")
    if last.to_state is not None and not head.grave and head.status != last.to_state:
        report.add(head.key, f"it is {head.status}, and its last row took it to {last.to_state}")


async def _records(store: Store, prefix: str, revision: int) -> AsyncIterator[Record]:
    after: str | None = None
    while True:
        page = await store.list(prefix, limit=PAGE, after=after, revision=revision)
        for record in page.records:
            yield record
        after = page.after
        if after is None:
            return


def _try(report: VerifyReport, record: Record, read: Callable[[Record], T]) -> T | None:
    try:
        return read(record)
    except RecordDamaged as error:
        report.add(record.key, str(error.facts["problem"]))
    except SteersmanError as error:
        report.add(record.key, error.detail)
    return None


def _ref(record: Record) -> ResourceRef:
    return keys.ref_of(record.key)


def _row(record: Record) -> HistoryEntry:
    entry, hashed = rows.decode_row(record)
    if hashed != entry.hash:
        raise rows.damaged(record.key, "its hash is not that of what it says")
    return entry


def _living(record: Record) -> _Head:
    loaded = rows.load(record)
    return _Head(
        key=record.key,
        version=loaded.state.version,
        head=loaded.head,
        state_hash=rows.sha256(rows.state_bytes(record)),
        status=loaded.state.status,
    )


def _buried(record: Record) -> _Head:
    grave: Grave = rows.decode_grave(record)
    return _Head(key=record.key, version=grave.version, head=grave.head, grave=True)
