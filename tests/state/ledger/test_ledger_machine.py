"""Any requests in any order, against a small model; and history replays to the state at every point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ledger_house import ALICE, BOB, TABLE, node, ref, tables

from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import SteersmanError
from steersman.kernel.ids import seeded_rng
from steersman.kinds.axes import Condition, Hold, Operation, Truth
from steersman.kinds.command import ChangeAction, HistoryEntry, Terms, Written
from steersman.kinds.refusal import OperationUnderWay, ResourceExists, ResourceNotFound, VersionConflict
from steersman.kinds.state import ResourceState, Retry
from steersman.state.ledger import Ledger
from steersman.state.ledger.verify import verify_store
from steersman.store.memory import MemoryStore

NAMES = st.sampled_from(["n1", "n2/x"])
STATES = st.sampled_from(["idle", "busy", "firmware", "gone"])
EVENTS = st.sampled_from(["start", "stop", "flash", "retire"])


class Picture(msgspec.Struct):
    """What history says of a resource, without looking at it."""

    status: str | None = None
    desired: str | None = None
    generation: int = 1
    observed: int = 0
    version: int = 0
    epoch: int = 0
    holds: dict[str, str] = {}
    conditions: dict[str, str] = {}
    operation: Operation | None = None
    retry: Retry | None = None
    labels: dict[str, str] = {}

    @classmethod
    def of(cls, state: ResourceState) -> Picture:
        return cls(
            status=state.status,
            desired=state.desired_status,
            generation=state.generation,
            observed=state.observed_generation,
            version=state.version,
            epoch=state.epoch,
            holds={hold.name: hold.owner for hold in state.holds},
            conditions={found.type: found.status.value for found in state.conditions},
            operation=state.operation,
            retry=state.retry,
            labels=state.labels,
        )

    def take(self, entry: HistoryEntry) -> Picture:
        """The picture after a row."""
        after = msgspec.structs.replace(self, version=entry.seq)
        data = entry.data
        match entry.action:
            case ChangeAction.CREATED:
                labels = data.get("labels", {})
                observed = 0 if "desired_status" in data else 1
                return Picture(
                    status=entry.to_state,
                    observed=observed,
                    version=entry.seq,
                    epoch=entry.fence,
                    labels=labels,
                )
            case ChangeAction.DELETED:
                return Picture(version=entry.seq)
            case ChangeAction.TRANSITIONED:
                assert entry.from_state == self.status
                after.status = entry.to_state
                if after.status == after.desired:
                    after.retry, after.observed = None, after.generation
            case ChangeAction.INTENT_SET:
                after.desired, after.generation = data["desired_status"], data["generation"]
                after.observed = self.observed if after.desired is not None else after.generation
            case ChangeAction.INTENT_OBSERVED:
                after.observed = data["observed_generation"]
            case ChangeAction.SPEC_CHANGED:
                after.labels = data["labels"]
            case ChangeAction.HOLD_PLACED:
                hold = msgspec.convert(data["hold"], Hold)
                after.holds = {**after.holds, hold.name: hold.owner}
            case ChangeAction.HOLD_LIFTED:
                after.holds = {name: owner for name, owner in after.holds.items() if name != data["name"]}
            case ChangeAction.CONDITIONS_CHANGED:
                found = msgspec.convert(data["conditions"], list[Condition])
                after.conditions = {**after.conditions, **{one.type: one.status.value for one in found}}
            case ChangeAction.OPERATION_CHANGED:
                after.operation = msgspec.convert(data["operation"], Operation | None)
                after.epoch = data["epoch"]
            case ChangeAction.RETRY_CHANGED:
                after.retry = msgspec.convert(data["retry"], Retry | None)
            case ChangeAction.CLAIMED:
                after.epoch = data["epoch"]
            case _:
                raise AssertionError(entry)
        return after


class LedgerMachine(RuleBasedStateMachine):
    """Requests against a Ledger on the memory store, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._exits = AsyncExitStack()
        self._clock = ManualClock()
        self._versions: dict[str, int] = {"n1": 0, "n2/x": 0}
        self._alive: set[str] = set()
        self._seen: dict[str, dict[int, Picture]] = {"n1": {}, "n2/x": {}}
        self._run(self._open())

    async def _open(self) -> None:
        store = MemoryStore(clock=self._clock, rng=seeded_rng(1))
        self._store = await self._exits.enter_async_context(store)
        self._ledger = Ledger(self._store, self._clock, tables())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def teardown(self) -> None:
        self._run(self._exits.aclose())
        self._runner.close()

    def _ask(
        self, name: str, ask: Callable[[], Coroutine[Any, Any, Written | None]]
    ) -> SteersmanError | None:
        """One request. The version grows by one where it wrote, and not at all otherwise."""
        self._clock.advance(1)
        before = self._run(self._store.revision())
        refused: SteersmanError | None = None
        written: Written | None = None
        try:
            written = self._run(ask())
        except SteersmanError as refusal:
            refused = refusal
        if refused is not None:
            assert self._run(self._store.revision()) == before
            assert isinstance(refused, ResourceNotFound) == (name not in self._alive)
            return refused
        if written is None or written.unchanged:
            assert self._run(self._store.revision()) == before
            return None
        assert self._run(self._store.revision()) == before + 1
        self._versions[name] += 1
        assert written.state.version == written.entry.seq == self._versions[name]
        gone = written.entry.action is ChangeAction.DELETED
        self._seen[name][written.entry.seq] = (
            Picture(version=written.entry.seq) if gone else Picture.of(written.state)
        )
        return None

    @rule(name=NAMES)
    def create(self, name: str) -> None:
        if name in self._alive:
            try:
                self._run(self._ledger.create(node(name), ALICE))
            except ResourceExists:
                return
            raise AssertionError("it was there")
        self._alive.add(name)
        assert self._ask(name, lambda: self._ledger.create(node(name, labels={"l": "new"}), ALICE)) is None

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        at_work = self._seen[name].get(self._versions[name], Picture()).operation is not None
        refusal = self._ask(name, lambda: self._ledger.delete(ref(name), ALICE))
        if name in self._alive:
            assert isinstance(refusal, OperationUnderWay) if at_work else refusal is None
        if refusal is None:
            self._alive.discard(name)

    @rule(name=NAMES, event=EVENTS, reason=st.sampled_from(["", "why"]))
    def transition(self, name: str, event: str, reason: str) -> None:
        seen = self._seen[name].get(self._versions[name], Picture())
        refusal = self._ask(
            name,
            lambda: self._ledger.transition(ref(name), ALICE, event=event, terms=Terms(reason=reason)),
        )
        if name in self._alive and refusal is None:
            assert seen.status is not None
            assert event in TABLE.allowed(seen.status, "operator")

    @rule(name=NAMES, status=st.none() | STATES)
    def set_desired(self, name: str, status: str | None) -> None:
        self._ask(name, lambda: self._ledger.set_desired(ref(name), ALICE, status))

    @rule(name=NAMES)
    def acknowledge(self, name: str) -> None:
        self._ask(name, lambda: self._ledger.acknowledge(ref(name), BOB))

    @rule(name=NAMES, hold=st.sampled_from(["a", "b"]), who=st.sampled_from([ALICE, BOB]))
    def place_hold(self, name: str, hold: str, who: Any) -> None:
        self._ask(name, lambda: self._ledger.place_hold(ref(name), who, hold))

    @rule(name=NAMES, hold=st.sampled_from(["a", "b"]), who=st.sampled_from([ALICE, BOB]))
    def lift_hold(self, name: str, hold: str, who: Any) -> None:
        self._ask(name, lambda: self._ledger.lift_hold(ref(name), who, hold))

    @rule(name=NAMES, status=st.sampled_from(Truth))
    def report(self, name: str, status: Truth) -> None:
        found = Condition(type="health", status=status, source="test", observed_at=self._clock.now())
        self._ask(name, lambda: self._ledger.report_conditions(ref(name), BOB, [found]))

    @rule(name=NAMES, operation=st.none() | st.sampled_from(["op-1", "op-2"]), begin=st.booleans())
    def operate(self, name: str, operation: str | None, begin: bool) -> None:
        made = operation and Operation(id=operation, kind="test", started_at=self._clock.now())
        self._ask(
            name,
            lambda: self._ledger.set_operation(ref(name), BOB, made or None, begin=begin and bool(made)),
        )

    @rule(name=NAMES, failures=st.integers(0, 2))
    def retry(self, name: str, failures: int) -> None:
        now = self._clock.now()
        count = Retry(failures=failures, budget=3, generation=1, next_at=now) if failures else None
        self._ask(name, lambda: self._ledger.record_retry(ref(name), BOB, count))

    @rule(name=NAMES, value=st.sampled_from(["x", "y"]))
    def label(self, name: str, value: str) -> None:
        self._ask(name, lambda: self._ledger.change_spec(ref(name), BOB, labels={"l": value}))

    @rule(name=NAMES)
    def claim(self, name: str) -> None:
        self._ask(name, lambda: self._ledger.claim(ref(name), BOB))

    @rule(name=NAMES, off=st.integers(1, 3))
    def expect_another_version(self, name: str, off: int) -> None:
        terms = Terms(expected_version=self._versions[name] + off)
        refusal = self._ask(name, lambda: self._ledger.claim(ref(name), BOB, terms))
        assert isinstance(refusal, VersionConflict | ResourceNotFound)

    @invariant()
    def history_replays_to_the_state_at_every_point(self) -> None:
        for name, pictures in self._seen.items():
            if not pictures:
                continue
            page = self._run(self._ledger.history(ref(name), limit=1000))
            assert [entry.seq for entry in page.entries] == list(range(1, self._versions[name] + 1))
            picture = Picture()
            for entry in page.entries:
                picture = picture.take(entry)
                assert picture == pictures[entry.seq], entry
            if name in self._alive:
                assert Picture.of(self._run(self._ledger.get(ref(name)))) == picture

    @invariant()
    def the_chains_are_sound(self) -> None:
        report = self._run(verify_store(self._store))
        assert report.ok, report.problems


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
