"""The thread that writes, and group commit.

All that waits in the queue when the thread looks is one batch: decided in order, written in one transaction,
made durable by one fsync. While the disk works, the next batch gathers by itself; nothing is delayed to
make batches larger. Each operation gets its own answer: one that is refused has touched nothing, and where
the transaction itself fails, everything in it is tried again one by one, so that a commit too large for a
nearly full disk does not take its neighbours with it.

The file is the truth. After any failure the counters and leases are read from it again, never repaired.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from msgspec import Struct, convert, structs

from steersman.kernel.bounds import MIB
from steersman.kernel.logging import get_logger
from steersman.store.api import StoreUnavailable
from steersman.store.sqlite import failures, file, sweep
from steersman.store.sqlite.batch import (
    ROWS_PER_REVISION,
    Batch,
    Head,
    LeaseRow,
    Leases,
    Numbers,
    keys_of,
    read_heads,
)
from steersman.store.sqlite.operations import Operation, Report, TickOperation

BATCH_OPERATIONS_MAX = 1024
BATCH_MAX_BYTES = 16 * MIB

HEADS_MAX = 32_768
"""Keys whose version is remembered from batch to batch, which spares a look into the file."""

_log = get_logger("store.sqlite")


class _Written(Struct, forbid_unknown_fields=True):
    """The rows of the table `numbers`."""

    compacted: int
    swept_id: int
    epoch: int
    age_us: int


class Writer:
    """The body of the writer thread. `report` is called in it; `put` and `end` from anywhere.

    `opened` is called once, with None or with the error that kept the file from being opened; `ended` when
    the thread is about to end, with everything closed.
    """

    def __init__(
        self,
        path: Path,
        *,
        opened: Callable[[Report | StoreUnavailable], None],
        report: Callable[[Report], None],
        ended: Callable[[], None],
    ) -> None:
        self._path = path
        self._opened = opened
        self._report = report
        self._ended = ended
        self._queue: SimpleQueue[list[Operation] | None] = SimpleQueue()
        self._ending = False
        self._lock = file.FileLock(path)
        self._log_bound = file.LogBound(path)
        self._db: sqlite3.Connection | None = None
        self._numbers = Numbers()
        self._leases = Leases()
        self._heads: dict[str, Head] = {}  # of the keys written last; only this thread changes keys
        self._published = 0  # the revision that the event loop knows
        self._sweep_failed = False

    def put(self, operations: list[Operation]) -> None:
        """Queue operations."""
        self._queue.put(operations)

    def end(self) -> None:
        """Finish what is queued, then end."""
        self._queue.put(None)

    def run(self) -> None:
        """Open the file, work until told to end, close the file."""
        try:
            outcome = self._start()
            self._opened(outcome)
            if isinstance(outcome, Report):
                while (operations := self._next()) is not None:
                    self._settle(operations)
                    self._bound_log()
        finally:
            try:
                if self._db is not None:
                    self._db.close()
            finally:
                self._lock.drop()
                self._ended()

    def _bound_log(self) -> None:
        try:
            if self._db is not None:
                self._log_bound.hold(self._db)
        except sqlite3.Error as error:  # a full disk: the commits are safe in the log all the same
            _log.warning("store_checkpoint_failed", file=str(self._path), error=str(error))

    def _start(self) -> Report | StoreUnavailable:
        """Take the lock, open the file, read the state; or why that can't be."""
        try:
            file.prepare(self._path)
            self._lock.take()
            db = self._db = file.open_checked(self._path)
            self._load(db)
        except StoreUnavailable as error:
            return error
        except sqlite3.Error as error:
            return failures.from_sqlite(error, self._path)
        except OSError as error:
            return failures.from_os(error, self._path)
        except Exception as error:  # noqa: BLE001 - whoever opens must get an answer, whatever the file holds
            _log.error("store_open_fault", file=str(self._path), exc_info=error)
            return failures.corrupt(self._path, f"its tables make no sense: {error}")
        self._published = self._numbers.revision
        return self._state()

    def _state(self) -> Report:
        return Report(
            revision=self._numbers.revision,
            compacted=self._numbers.compacted,
            age_us=self._numbers.age_us,
            next_due_us=self._leases.next_due_us(),
        )

    def _load(self, db: sqlite3.Connection) -> None:
        """Read the counters and leases from the file."""
        written = convert(dict(db.execute("SELECT name, value FROM numbers").fetchall()), _Written)
        newest_id = convert(db.execute("SELECT max(id) FROM log").fetchone()[0] or 0, int)
        self._numbers = Numbers(
            revision=newest_id // ROWS_PER_REVISION,
            compacted=written.compacted,
            swept_id=written.swept_id,
            epoch=written.epoch,
            age_us=written.age_us,
        )
        found = db.execute("SELECT id, epoch, ttl_us, ends_at_us FROM lease").fetchall()
        rows = {row[0]: LeaseRow(*row) for row in convert(found, list[tuple[str, int, int, int]])}
        for key, lease in db.execute(_LEASED_KEYS):
            if lease in rows:
                rows[lease].keys.add(key)
        self._leases = Leases(rows.values())

    def _next(self) -> list[Operation] | None:
        """The next batch: all that waits, within bounds; empty to sweep; None at the end."""
        if self._ending:
            return None
        batch: list[Operation] = []
        size_bytes = 0
        try:
            while len(batch) < BATCH_OPERATIONS_MAX and size_bytes < BATCH_MAX_BYTES:
                some = self._queue.get(block=not batch and not self._sweep_due())
                if some is None:
                    self._ending = True
                    return batch or None
                batch += some
                size_bytes += sum(operation.size_bytes for operation in some)
        except Empty:
            pass
        return batch

    def _sweep_due(self) -> bool:
        return not self._sweep_failed and sweep.is_due(self._numbers.compacted, self._numbers.swept_id)

    def _settle(self, operations: list[Operation]) -> None:
        """Run a batch and report it, whatever happens."""
        batch, error = self._attempt(operations)
        if error is None:
            self._send(operations, batch)
            return
        if len(operations) < 2 or error.facts.get("outcome") != failures.NOT_DONE:
            self._fail(operations, error)
            return
        for operation in operations:
            operation.result = operation.error = None
            batch, error = self._attempt([operation])
            if error is None:
                self._send([operation], batch)
            else:
                self._fail([operation], error)

    def _send(self, operations: Sequence[Operation], batch: Batch | None) -> None:
        report = self._state()
        report.settled = operations
        if batch is not None:
            report.commits = batch.commits
        expected = report.commits[0].revision - 1 if report.commits else self._numbers.revision
        if expected > self._published:
            report.lost_to = expected
        self._published = self._numbers.revision
        self._report(report)

    def _fail(self, operations: Sequence[Operation], error: StoreUnavailable) -> None:
        if not operations:
            self._sweep_failed = True  # until a commit has worked again
        for operation in operations:
            # Each its own exception: raising one in several tasks would tangle their tracebacks.
            operation.error = type(error)(error.detail, **error.facts)
            operation.error.__cause__ = error.__cause__
        self._send(operations, None)

    def _attempt(self, operations: Sequence[Operation]) -> tuple[Batch | None, StoreUnavailable | None]:
        """Decide and write a batch in one transaction; or the error, with the state read anew."""
        before = structs.replace(self._numbers)
        committing = False
        try:
            db = self._connection()
            if len(self._heads) > HEADS_MAX:
                self._heads.clear()
            read_heads(db, keys_of(operations), self._heads)
            batch = Batch(self._numbers, self._leases, self._heads)
            for operation in operations:
                batch.decide(operation)
            if self._has_work(batch, operations):
                db.execute("BEGIN IMMEDIATE")
                self._write(db, batch)
                committing = True
                db.execute("COMMIT")
                self._sweep_failed = False
        except sqlite3.Error as error:
            failure = failures.from_sqlite(error, self._path, _outcome(error, committing))
            failure.__cause__ = error
        except Exception as error:  # noqa: BLE001 - a fault of ours must be an answer, not a dead writer
            _log.error("store_writer_fault", file=str(self._path), exc_info=error)
            failure = StoreUnavailable(
                f"{self._path}: the writer failed ({type(error).__name__}), see the log",
                file=str(self._path),
                outcome=failures.UNKNOWN if committing else failures.NOT_DONE,
            )
            failure.__cause__ = error
        else:
            return batch, None
        self._start_over(before)
        return None, failure

    def _start_over(self, before: Numbers) -> None:
        """After a failure: leave the transaction, and take everything from the file again."""
        db, self._db = self._db, None
        self._numbers = before
        self._heads.clear()
        try:
            if db is not None:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                db.close()
            self._connection()
        except sqlite3.Error as error:  # the next batch tries again; what is known of the file stands
            _log.warning("store_reopen_failed", file=str(self._path), error=str(error))

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            db = file.open_writer(self._path)
            try:
                self._load(db)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _has_work(self, batch: Batch, operations: Sequence[Operation]) -> bool:
        if batch.rows or batch.lease_rows or batch.compacted or self._sweep_due():
            return True
        # A tick writes down how old the store is; only leases are counted by it.
        return bool(self._leases.by_id) and any(isinstance(op, TickOperation) for op in operations)

    def _write(self, db: sqlite3.Connection, batch: Batch) -> None:
        numbers = self._numbers
        if batch.rows:
            db.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", batch.rows)
        changed: dict[str, int] = {}
        if batch.lease_rows or self._leases.by_id:
            changed["age_us"] = numbers.age_us
        if batch.lease_rows:
            changed["epoch"] = numbers.epoch
            ended = [(lease,) for lease, row in batch.lease_rows.items() if row is None]
            alive = [
                (row.id, row.epoch, row.ttl_us, row.ends_at_us)
                for row in batch.lease_rows.values()
                if row is not None
            ]
            db.executemany("DELETE FROM lease WHERE id = ?", ended)
            db.executemany("REPLACE INTO lease VALUES (?, ?, ?, ?)", alive)
        if batch.compacted:
            changed["compacted"] = numbers.compacted
        if self._sweep_due():
            numbers.swept_id = sweep.sweep(db, numbers.compacted, numbers.swept_id)
            changed["swept_id"] = numbers.swept_id
        if changed:
            db.executemany(
                "UPDATE numbers SET value = ? WHERE name = ?", [(n, name) for name, n in changed.items()]
            )


def _outcome(error: sqlite3.Error, committing: bool) -> str:
    """What became of the transaction that failed."""
    if committing and error.sqlite_errorcode & 0xFF not in _NOT_COMMITTED:
        return failures.UNKNOWN
    return failures.NOT_DONE


_NOT_COMMITTED = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
"""Errors of COMMIT after which the commit record is known not to be in the write-ahead log: it is written
last, and these say that something before it, or itself, was not."""

_LEASED_KEYS = """
SELECT key, lease FROM log AS this
WHERE lease IS NOT NULL AND id = (SELECT max(id) FROM log WHERE key = this.key)
"""
