"""The decisions of one batch: what each operation does, given the file and those before it in the queue.

Everything is decided in memory before a row is written, so an operation that is refused leaves no trace, and
the rows of the others go to SQLite in a few bulk statements.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from steersman.kernel.errors import SteersmanError
from steersman.store import rules
from steersman.store.api import (
    LEASE_KEYS_MAX,
    LEASES_MAX,
    Check,
    Delete,
    Event,
    Held,
    Lease,
    Put,
    Record,
    Write,
)
from steersman.store.hub import Commit
from steersman.store.sqlite.operations import (
    CommitOperation,
    CompactOperation,
    GrantOperation,
    Operation,
    RenewOperation,
    RevokeOperation,
)

ROWS_PER_REVISION = 16_384
"""An id is revision * this + the row's place in its commit; larger than a commit's or a lease's keys."""

Head = tuple[int, str | None]
"""A key's newest version (0: absent) and the lease it hangs on."""

_ABSENT: Head = (0, None)


class LeaseRow(Struct, eq=False):
    """A lease that is alive, as the writer keeps it."""

    id: str
    epoch: int
    ttl_us: int
    ends_at_us: int
    keys: set[str] = field(default_factory=set[str])


class Numbers(Struct):
    """The store's counters, as of the last commit."""

    revision: int = 0
    compacted: int = 0
    swept_id: int = 0
    epoch: int = 0
    age_us: int = 0


class Leases:
    """The leases that are alive, and which ends first."""

    def __init__(self, rows: Iterable[LeaseRow] = ()) -> None:
        self.by_id = {row.id: row for row in rows}
        # A renewed lease has an old entry that is passed over when it comes up.
        self._ends = [(row.ends_at_us, row.epoch, row.id) for row in self.by_id.values()]
        heapq.heapify(self._ends)

    def add(self, row: LeaseRow) -> None:
        """A new lease, or one whose end was moved."""
        self.by_id[row.id] = row
        heapq.heappush(self._ends, (row.ends_at_us, row.epoch, row.id))
        if len(self._ends) > 64 + 4 * len(self.by_id):
            self._ends = [(row.ends_at_us, row.epoch, row.id) for row in self.by_id.values()]
            heapq.heapify(self._ends)

    def next_due_us(self) -> int | None:
        """When the first of them ends."""
        while self._ends:
            ends_at_us, _, lease = self._ends[0]
            row = self.by_id.get(lease)
            if row is not None and row.ends_at_us == ends_at_us:
                return ends_at_us
            heapq.heappop(self._ends)
        return None

    def pop_due(self, now_us: int) -> LeaseRow | None:
        """Take out the first one whose time is over."""
        due_us = self.next_due_us()
        if due_us is None or due_us > now_us:
            return None
        return self.by_id.pop(self._ends[0][2])


class Batch:
    """Decides operations one after the other, and collects what is to be written."""

    def __init__(self, numbers: Numbers, leases: Leases, heads: dict[str, Head]) -> None:
        self.numbers = numbers
        self.leases = leases
        self._heads = heads
        self.rows: list[tuple[int, str, int, bytes | None, str | None]] = []
        self.commits: list[Commit] = []
        self.lease_rows: dict[str, LeaseRow | None] = {}  # None: ended
        self.compacted = False

    def decide(self, operation: Operation) -> None:
        """Set the operation's result or error."""
        if operation.at_us > self.numbers.age_us:
            self.numbers.age_us = operation.at_us
        if self.leases.by_id:
            self._end_due(self.numbers.age_us)
        try:
            if isinstance(operation, CommitOperation):  # by far the most of them
                operation.result = self._commit(operation)
            else:
                operation.result = self._result(operation)
        except SteersmanError as error:
            operation.error = error

    def _result(self, operation: Operation) -> object:
        match operation:
            case GrantOperation():
                return self._grant(operation.ttl_us)
            case RenewOperation():
                return self._renew(operation.lease)
            case RevokeOperation():
                return self._revoke(operation.lease)
            case CompactOperation():
                return self._compact(operation.before_revision)
            case _:
                return None

    def _commit(self, operation: CommitOperation) -> int:
        heads = self._heads
        for condition in operation.conditions:
            if isinstance(condition, Check):
                current = heads[condition.key][0]
                if current != condition.version:
                    raise rules.conflict(condition.key, condition.version, current)
            else:
                self._check_held(condition)
        leased = [write for write in operation.writes if isinstance(write, Put) and write.lease is not None]
        if leased:
            self._check_leased(leased)
        return self._write(operation.writes)

    def _check_held(self, held: Held) -> None:
        row = self.leases.by_id.get(held.lease)
        if row is None or row.epoch != held.epoch:
            raise rules.lease_expired(held.lease)

    def _check_leased(self, puts: Sequence[Put]) -> None:
        added: dict[str, int] = {}
        for put in puts:
            lease = put.lease or ""
            row = self.leases.by_id.get(lease)
            if row is None:
                raise rules.lease_expired(lease)
            if put.key not in row.keys:
                added[lease] = added.get(lease, 0) + 1
                if len(row.keys) + added[lease] > LEASE_KEYS_MAX:
                    raise rules.lease_keys_full(lease)

    def _write(self, writes: Sequence[Write]) -> int:
        """One commit of the writes that change something; the revision after it."""
        revision = self.numbers.revision + 1
        row_id = revision * ROWS_PER_REVISION
        heads = self._heads
        events: list[Event] = []
        size_bytes = 0
        for write in writes if len(writes) == 1 else sorted(writes, key=lambda write: write.key):
            key = write.key
            version, lease = heads[key]
            if isinstance(write, Put):
                record = Record(key, write.value, version + 1, revision, write.lease)
                size_bytes += len(write.value)
                head = (version + 1, write.lease)
                self.rows.append((row_id, key, version + 1, write.value, write.lease))
            elif version:
                record = None
                head = _ABSENT
                self.rows.append((row_id, key, 0, None, None))
            else:
                continue
            if lease is not None or head[1] is not None:
                self._hang(key, lease, head[1])
            heads[key] = head
            events.append(Event(key, revision, record))
            row_id += 1
        if events:
            self.numbers.revision = revision
            self.commits.append(Commit(revision, tuple(events), size_bytes))
        return self.numbers.revision

    def _hang(self, key: str, before: str | None, after: str | None) -> None:
        if before is not None and (row := self.leases.by_id.get(before)) is not None:
            row.keys.discard(key)
        if after is not None:
            self.leases.by_id[after].keys.add(key)

    def _grant(self, ttl_us: int) -> Lease:
        if len(self.leases.by_id) >= LEASES_MAX:
            raise rules.leases_full()
        numbers = self.numbers
        numbers.epoch += 1
        row = LeaseRow(f"lease-{numbers.epoch}", numbers.epoch, ttl_us, numbers.age_us + ttl_us)
        self.leases.add(row)
        self.lease_rows[row.id] = row
        return Lease(id=row.id, epoch=row.epoch, ttl_s=ttl_us / rules.US_PER_S)

    def _renew(self, lease: Lease) -> None:
        row = self.leases.by_id.get(lease.id)
        if row is None or row.epoch != lease.epoch:
            raise rules.lease_expired(lease.id)
        row.ends_at_us = self.numbers.age_us + row.ttl_us
        self.leases.add(row)
        self.lease_rows[row.id] = row

    def _revoke(self, lease: Lease) -> None:
        row = self.leases.by_id.get(lease.id)
        if row is not None and row.epoch == lease.epoch:
            self._end(self.leases.by_id.pop(lease.id))

    def _end_due(self, now_us: int) -> None:
        while (row := self.leases.pop_due(now_us)) is not None:
            self._end(row)

    def _end(self, row: LeaseRow) -> None:
        self.lease_rows[row.id] = None
        for key in row.keys:
            # A key that hangs on a lease exists; its version does not matter to a deletion.
            self._heads.setdefault(key, (1, row.id))
        self._write([Delete(key) for key in row.keys])

    def _compact(self, before_revision: int) -> int:
        numbers = self.numbers
        if before_revision > numbers.revision:
            raise rules.future_revision(before_revision, numbers.revision)
        if before_revision > numbers.compacted:
            numbers.compacted = before_revision
            self.compacted = True
        return numbers.compacted


def keys_of(operations: Iterable[Operation]) -> list[str]:
    """The keys whose heads the operations depend on, some perhaps twice."""
    keys: list[str] = []
    for operation in operations:
        if isinstance(operation, CommitOperation):
            keys += [write.key for write in operation.writes]
            keys += [c.key for c in operation.conditions if isinstance(c, Check)]
    return keys


def read_heads(db: sqlite3.Connection, keys: Sequence[str], heads: dict[str, Head]) -> None:
    """Add the heads of the keys that are not there yet: one seek a key, however many versions it has."""
    missing = [key for key in keys if key not in heads]
    if not missing:
        return
    for key in missing:
        heads[key] = _ABSENT
    for key, version, lease in db.execute(_HEADS, (json.dumps(missing),)):
        heads[key] = (version, lease)


_HEADS = """
SELECT log.key, log.version, log.lease FROM json_each(?) AS wanted
JOIN log ON log.id = (SELECT max(id) FROM log WHERE key = wanted.value)
"""
