"""A store driven by hypothesis, step by step beside the memory store, its model.

Whatever sequence of calls hypothesis thinks of, both must answer alike: values, versions, revisions, pages,
events and refusals with their facts. What it finds it shrinks to the shortest sequence that shows it.

    class MyMachine(StoreMachine):
        durable = True
        def make(self, clock): return MyStore(self.folder, clock=clock)

    TestMyStore = MyMachine.TestCase
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct, structs

from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import SteersmanError
from steersman.kernel.ids import seeded_rng
from steersman.store.api import (
    Check,
    Condition,
    Delete,
    Event,
    Held,
    Lease,
    Put,
    Record,
    Store,
    Write,
)
from steersman.store.memory import MemoryStore
from steersman.testing.store_expect import equal, take, true

T = TypeVar("T")

KEYS = st.sampled_from(["a", "a/1", "a/2", "a/10", "b", "b/é", "c😀", "~"])
PREFIXES = st.sampled_from(["", "a", "a/", "a/1", "b", "z"])
VALUES = st.binary(max_size=8)
LEASES_KEPT = 2
"""The newest leases of a run that later steps choose from, dead ones too."""

_NO_LEASE = 0


class _Refusal(Struct, frozen=True):
    """How a call was refused."""

    code: str
    facts: list[str]
    lease: str | None


class _Pair(Struct, eq=False):
    """A watch on the store and the same on the model."""

    prefix: str
    contexts: tuple[AbstractAsyncContextManager[AsyncIterator[Event]], ...]
    real: AsyncIterator[Event]
    model: AsyncIterator[Event]


class StoreMachine(RuleBasedStateMachine):
    """Subclass it, say how to make the store, and run its `TestCase`."""

    durable: ClassVar[bool] = False
    """Whether the store may be closed and opened again with everything in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.clock = ManualClock()
        self.loop = asyncio.new_event_loop()
        self.model: Store = MemoryStore(clock=self.clock, rng=seeded_rng(0))
        self.real = self.make(self.clock)
        self.leases: list[tuple[Lease, Lease]] = []  # (the store's, the model's)
        self.watches: list[_Pair] = []
        self.marks = 0
        self.run(self.model.__aenter__())
        self.run(self.real.__aenter__())

    def make(self, clock: ManualClock) -> Store:
        """An unopened store on this clock; in `self.folder` where it needs a place."""
        raise AssertionError("a StoreMachine says how to make its store")

    def run(self, work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
        """Run something on the machine's own event loop."""

        async def wait() -> T:
            return await work

        return self.loop.run_until_complete(wait())

    def both(self, call: Callable[[Store, int], Awaitable[object]], what: str) -> tuple[object, object]:
        """Make the same call on both and compare how it ends; the two results.

        `call` gets the store and 0 for the store's own lease of each pair, 1 for the model's.
        """
        real, model = (self.run(_outcome(call(store, n))) for n, store in enumerate((self.real, self.model)))
        equal(self._as_models(real), model, what)
        return real, model

    def _as_models(self, outcome: object) -> object:
        """The store's outcome in the model's lease names."""
        names = {real.id: model.id for real, model in self.leases}
        if isinstance(outcome, Record) and outcome.lease is not None:
            return structs.replace(outcome, lease=names[outcome.lease])
        if isinstance(outcome, _Refusal) and outcome.lease is not None:
            return structs.replace(outcome, lease=names[outcome.lease])
        if isinstance(outcome, list):
            return [self._as_models(item) for item in cast("list[object]", outcome)]
        return outcome

    @rule(
        puts=st.dictionaries(KEYS, st.tuples(VALUES, st.sampled_from([0, 0, 1, 2])), max_size=4),
        deletes=st.sets(KEYS, max_size=3),
        checks=st.dictionaries(KEYS, st.sampled_from([0, 1, 2, None, None, None]), max_size=2),
        held=st.integers(0, 3 * LEASES_KEPT),
    )
    def commit(
        self,
        puts: dict[str, tuple[bytes, int]],
        deletes: set[str],
        checks: dict[str, int | None],
        held: int,
    ) -> None:
        """A commit: some writes, some on a lease, some conditions, true ones (None) more often than not."""
        versions = {
            key: self._version(key) if version is None else version for key, version in checks.items()
        }

        def call(store: Store, side: int) -> Awaitable[object]:
            conditions: list[Condition] = [Check(key, version) for key, version in versions.items()]
            lease = self._lease(held, side)
            if lease is not None:
                conditions.append(Held(lease.id, lease.epoch))
            writes: list[Write] = []
            for key, (value, hangs_on) in puts.items():
                hook = self._lease(hangs_on, side)
                writes.append(Put(key, value, hook.id if hook is not None else None))
            writes += [Delete(key) for key in sorted(deletes - puts.keys())]
            return store.commit(conditions, writes)

        self.both(call, "commit")

    def _version(self, key: str) -> int:
        record = self.run(self.model.get(key))
        return record.version if record is not None else 0

    def _lease(self, choice: int, side: int) -> Lease | None:
        """One of the newest leases; none for 0, for high numbers, and where there is none."""
        if choice == _NO_LEASE or choice > LEASES_KEPT or not self.leases:
            return None
        return self.leases[-1 - choice % min(LEASES_KEPT, len(self.leases))][side]

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        """One record."""
        self.both(lambda store, _: store.get(key), f"get {key!r}")

    @rule(prefix=PREFIXES, limit=st.integers(1, 4), back=st.integers(-1, 6), after=st.none() | KEYS)
    def pages(self, prefix: str, limit: int, back: int, after: str | None) -> None:
        """All pages of the snapshot some revisions ago (or one ahead)."""
        at = max(0, self.run(self.model.revision()) - back)
        self.both(
            lambda store, _: _all_pages(store, prefix, limit, after, at), f"pages of {prefix!r} at {at}"
        )

    @rule(ttl_s=st.sampled_from([1, 5, 30, 60, 60]))
    def grant(self, ttl_s: int) -> None:
        """A new lease; its epoch is higher than every one before."""
        real, model = self.run(self.real.lease(ttl_s)), self.run(self.model.lease(ttl_s))
        true(all(real.epoch > older.epoch for older, _ in self.leases), "an epoch was given twice")
        self.leases.append((real, model))

    @precondition(lambda self: self.leases)
    @rule(choice=st.integers(1, LEASES_KEPT), end=st.booleans())
    def renew_or_revoke(self, choice: int, end: bool) -> None:
        """One of the newest leases, alive or not."""

        def call(store: Store, side: int) -> Awaitable[object]:
            lease = self._lease(choice, side)
            if lease is None:
                raise AssertionError("the rule runs once there are leases")
            return store.revoke(lease) if end else store.renew(lease)

        self.both(call, "revoke" if end else "renew")

    @rule(seconds=st.sampled_from([0.25, 1, 2, 5, 29.75]))
    def advance(self, seconds: float) -> None:
        """Time passes; leases end by themselves."""
        self.clock.advance(seconds)

    @rule(back=st.integers(-1, 8))
    def compact(self, back: int) -> None:
        """Forget what is older than some revisions ago, or nothing at a revision that is none yet.

        Watches read first what they would miss: whether one that is behind still gets it is the store's
        choice.
        """
        before = max(0, self.run(self.model.revision()) - back)
        if back >= 0:
            for pair in list(self.watches):
                self._read(pair)
        self.both(lambda store, _: store.compact(before), f"compact {before}")

    @precondition(lambda self: len(self.watches) < 3)
    @rule(prefix=PREFIXES, back=st.integers(-1, 20))
    def watch(self, prefix: str, back: int) -> None:
        """Begin a watch some revisions ago (or one ahead)."""
        after = max(0, self.run(self.model.revision()) - back)
        contexts = (self.real.watch(prefix, after), self.model.watch(prefix, after))
        real, model = (self.run(context.__aenter__()) for context in contexts)
        pair = _Pair(prefix, contexts, real, model)
        self.watches.append(pair)
        if back < 0:  # refused now; later there would be such a revision
            events = (real, model)
            self.both(lambda _, side: anext(events[side]), "a watch of the future")
            self._leave(pair)

    @precondition(lambda self: self.watches)
    @rule(choice=st.integers(0, 2))
    def read_watch(self, choice: int) -> None:
        """Read one to the present."""
        self._read(self.watches[choice % len(self.watches)])

    def _read(self, pair: _Pair) -> None:
        """Read a watch up to a mark that is written for it; its end, where history was gone, is compared."""
        self.marks += 1
        mark = Put(pair.prefix + "~mark", b"%d" % self.marks)
        self.both(lambda store, _: store.commit([], [mark]), "the mark")
        real, model = (self.run(_outcome(_until(events, mark))) for events in (pair.real, pair.model))
        equal(self._as_models(real), model, f"the watch of {pair.prefix!r}")
        if isinstance(model, _Refusal):
            self._leave(pair)

    def _leave(self, pair: _Pair) -> None:
        self.watches.remove(pair)
        for context in pair.contexts:
            self.run(context.__aexit__(None, None, None))

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        """Close the store and open it again: nothing changes, except that its watches are over."""
        for pair in list(self.watches):
            self._leave(pair)
        self.run(self.real.close())
        self.real = self.make(self.clock)
        self.run(self.real.__aenter__())

    @invariant()
    def same_state(self) -> None:
        """Revision and content are the same after every step."""
        self.both(lambda store, _: store.revision(), "the revision")
        self.both(lambda store, _: _all_pages(store, "", 1000, None, None), "the content")

    def teardown(self) -> None:
        """Close both."""
        for pair in list(self.watches):
            self._leave(pair)
        self.run(self.real.close())
        self.run(self.model.close())
        self.loop.close()
        shutil.rmtree(self.folder)


async def _outcome(call: Awaitable[object]) -> object:
    """The result, or the refusal."""
    try:
        return await call
    except SteersmanError as error:
        facts = [f"{name}={value}" for name, value in sorted(error.facts.items()) if name != "lease"]
        return _Refusal(error.code, facts, error.facts.get("lease"))


async def _all_pages(
    store: Store, prefix: str, limit: int, after: str | None, revision: int | None
) -> list[object]:
    pages: list[object] = []
    while True:
        page = await store.list(prefix, limit=limit, after=after, revision=revision)
        pages += [page.revision, page.after, *page.records]
        if page.after is None:
            return pages
        after, revision = page.after, page.revision


async def _until(events: AsyncIterator[Event], mark: Put) -> list[object]:
    """Events up to the mark, as plain values."""
    seen: list[object] = []
    while True:
        (event,) = await take(events, 1)
        seen += [event.key, event.revision, event.record]
        if event.record is not None and (event.key, event.record.value) == (mark.key, mark.value):
            return seen
