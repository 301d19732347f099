"""What callers hand to the writer thread, and what comes back.

An operation is made on the event loop, filled in by the writer, and settled on the loop again: its fields
are never touched by both at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from steersman.kernel.errors import SteersmanError
from steersman.store.api import Condition, Lease, Write
from steersman.store.hub import Commit


class Operation(Struct, eq=False):
    """One request. `at_us` is the store's time when it is handed over; the writer has no clock.

    The writer sets `result` or `error`. `future` belongs to the event loop alone.
    """

    future: asyncio.Future[Any]
    size_bytes: int = 0
    at_us: int = 0
    result: Any = None
    error: SteersmanError | None = None


class CommitOperation(Operation, kw_only=True, eq=False):
    """Conditions and writes; the result is a revision."""

    conditions: Sequence[Condition]
    writes: Sequence[Write]


class GrantOperation(Operation, kw_only=True, eq=False):
    """A new lease; the result is the `Lease`."""

    ttl_us: int


class RenewOperation(Operation, kw_only=True, eq=False):
    """A lease's time begins anew."""

    lease: Lease


class RevokeOperation(Operation, kw_only=True, eq=False):
    """A lease's end by hand."""

    lease: Lease


class CompactOperation(Operation, kw_only=True, eq=False):
    """Forgetting; the result is the oldest revision that can be read from now on."""

    before_revision: int


class TickOperation(Operation, eq=False):
    """Time has passed: end what is over, write down how old the store is."""


class Report(Struct):
    """What the writer tells the loop after a batch (and once when it has opened the file).

    `next_due_us` is the end of the lease that ends first. `lost_to`, where not None, is a revision up to
    which commits were made that are not among `commits`: the file was read again after an error.
    """

    settled: Sequence[Operation] = ()
    commits: Sequence[Commit] = field(default_factory=list[Commit])
    revision: int = 0
    compacted: int = 0
    age_us: int = 0
    next_due_us: int | None = None
    lost_to: int | None = None
