"""A plane for advice: a bus, a store, the Ledger, policies, and the manager, all on a clock that stands
still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from steersman.act.advice.recommending import AdviceLimits
from steersman.act.advice.runner import Advice
from steersman.act.lifecycle import Lifecycles
from steersman.act.reconcile.api import After, Outcome, Turn
from steersman.decide import PolicyRules
from steersman.kernel.clock import ManualClock
from steersman.kinds.command import Actor, HistoryEntry, Terms
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.bus import StateBus
from steersman.state.ledger import Ledger, Selection
from steersman.state.sources import SourceInfo
from steersman.store.api import Store

ALICE = Actor("user:alice", ("operator",))
BOB = Actor("user:bob", ("operator",))
IMPORTER = Actor("importer", ("importer",))
ENGINE = Actor("engine:test", ("engine",))
SAID = Terms(reason="a test")
CADENCE_S = 10.0

FULL_DISKS = """
name: full-disks
match: {entity_type: node}
when: entity.disk_utilization > 0.9
for: 30s
min_confidence: 0.1
max_staleness: 60s
action: {name: drain_or_avoid_node}
risk: medium
mode: MODE
limits: {cooldown: 10m, window: 1h, max_count: 1, breaker_failures: 3}
reason: "disks of {entity} are full"
expires_after: 30m
"""


def policy(mode: str = "recommend_with_approval", **changes: str) -> str:
    """The policy of these tests in a mode; `changes` replaces whole lines by their key, "" leaves one out."""
    lines: list[str] = []
    for line in FULL_DISKS.replace("MODE", mode).strip().splitlines():
        key = line.split(":", 1)[0]
        if key not in changes:
            lines.append(line)
        elif changes[key]:
            lines.append(f"{key}: {changes[key]}")
    lines += [f"{key}: {value}" for key, value in changes.items() if f"\n{key}:" not in FULL_DISKS and value]
    return "\n".join(lines) + "\n"


class House:
    """One process on a store. `await open()`, then `pass_time` and look."""

    def __init__(
        self,
        store: Store,
        clock: ManualClock,
        texts: Mapping[str, str] | None = None,
        *,
        places: Sequence[Path] = (),
        limits: AdviceLimits | None = None,
        bus: StateBus | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.bus = bus if bus is not None else StateBus(clock)
        self.bus.declare_source(SourceInfo("host", "host", CADENCE_S))
        self.lifecycles = Lifecycles(store)
        self.ledger = Ledger(store, clock, self.lifecycles)
        self.advice = Advice(
            store,
            self.ledger,
            self.bus,
            clock,
            PolicyRules(),
            lifecycle_of=lambda table: self.lifecycles.machine(table).lifecycle,
            places=places,
            shipped=texts if texts is not None else {"full-disks.yaml": policy()},
            limits=limits or AdviceLimits(),
        )
        self.disks: dict[str, float | None] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.outcomes: dict[str, Outcome] = {}

    async def open(self) -> House:
        await self.advice.open()
        self.advice.watching.look_at_all()
        return self

    async def add_nodes(self, *names: str, labels: Mapping[str, str] | None = None) -> None:
        """Put nodes into the inventory, in service, and let the bus see them with empty disks."""
        for name in names:
            self.labels[name] = dict(labels or {})
            state = NodeState(
                id=name, lifecycle_table="hpc-default", status="in_service", labels=dict(labels or {})
            )
            written = await self.ledger.create(state, IMPORTER, terms=SAID)
            self.advice.book.note(written.state)
            self.disks[name] = 0.1

    def speak(self) -> None:
        """Each node that is not silent says how it is."""
        fragments = [
            StateFragment(
                "host",
                EntityType.NODE,
                name,
                self.clock.now(),
                {"disk_utilization": disk, "cpu_utilization": 0.1, "memory_utilization": 0.1, "gpu_count": 0},
                self.labels.get(name, {}),
            )
            for name, disk in self.disks.items()
            if disk is not None
        ]
        outcomes = self.bus.put_many(fragments)
        assert all(outcome.verdict != "refused" for outcome in outcomes)

    async def look(self) -> None:
        """Everything that is to be done at this moment."""
        while self.bus.sweep() >= 500:
            pass
        self.bus.flush()
        await self.advice.tick()
        await self.settle()

    async def pass_time(self, seconds: float, step_s: float = CADENCE_S, *, speaking: bool = True) -> None:
        """Let time pass in steps, with everything that happens in it."""
        left_s = seconds
        while True:
            if speaking:
                self.speak()
            await self.look()
            if left_s <= 0:
                return
            step = min(step_s, left_s)
            self.clock.advance(step)
            left_s -= step

    async def settle(self) -> None:
        """What the loop does: look at each open recommendation until it waits for something."""
        for state in await self.recommendations("proposed", "approved", "applying"):
            await self.reconcile(state.id)

    async def reconcile(self, name: str) -> Outcome:
        """Look at one until it waits for something."""
        for _ in range(20):
            ref = ResourceRef("Recommendation", name)
            state = await self.ledger.get(ref)
            outcome = await self.advice.manager.reconcile(Turn(state, None, self.clock.now()))
            self.advice.book.note(await self.ledger.get(ref))
            self.outcomes[name] = outcome
            if not isinstance(outcome, After) or outcome.seconds > 0:
                return outcome
        raise AssertionError(f"{name} does not come to rest: {self.outcomes[name]}")

    async def walk(self, *names: str) -> None:
        """Bring nodes where they are meant to be, as the loop and the engines would."""
        for name in names:
            ref = ResourceRef("Node", name)
            state = await self.ledger.get(ref)
            if state.desired_status is None or state.is_converged():
                continue
            machine = self.lifecycles.machine(state.lifecycle_table)
            for step in machine.path(state.status, state.desired_status, ("engine",)):
                await self.ledger.transition(ref, ENGINE, event=step.event, terms=SAID)
            state = await self.ledger.get(ref)
            if not state.is_converged():
                state = (await self.ledger.acknowledge(ref, ENGINE)).state
            self.advice.book.note(state)

    async def node(self, name: str) -> NodeState:
        state = await self.ledger.get(ResourceRef("Node", name))
        assert isinstance(state, NodeState)
        return state

    async def set_desired(self, name: str, status: str | None, actor: Actor = ALICE) -> None:
        written = await self.ledger.set_desired(ResourceRef("Node", name), actor, status, terms=SAID)
        self.advice.book.note(written.state)

    async def recommendations(self, *statuses: str) -> list[RecommendationState]:
        """All of them, or those of these statuses, oldest first."""
        found: list[RecommendationState] = []
        after: str | None = None
        while True:
            page = await self.ledger.list(
                "Recommendation", limit=500, after=after, selection=Selection(status=statuses)
            )
            found += [state for state in page.items if isinstance(state, RecommendationState)]
            after = page.after
            if after is None:
                return sorted(found, key=lambda s: (s.created_at, s.id))

    async def the_one(self, *statuses: str) -> RecommendationState:
        (found,) = await self.recommendations(*statuses)
        return found

    async def history(self, kind: str, name: str) -> list[HistoryEntry]:
        return list((await self.ledger.history(ResourceRef(kind, name), limit=1000)).entries)

    async def intents(self, *names: str) -> list[HistoryEntry]:
        """Every intent that a policy set on these nodes: the actions that were taken."""
        return [
            entry
            for name in names
            for entry in await self.history("Node", name)
            if entry.action == "intent_set" and entry.actor.startswith("policy:")
        ]

    async def set_mode(self, mode: str, name: str = "full-disks") -> None:
        await self.advice.policies.set_mode(name, mode, ALICE, SAID)


def key(name: str) -> EntityKey:
    return EntityKey(EntityType.NODE, "", name)


def later(clock: ManualClock, seconds: float) -> Any:
    return clock.now() + timedelta(seconds=seconds)
