"""The acting half of a process: lifecycles, the Ledger, policies, the loop and its engines, and its events.

One order for all: what is on record is read before anything decides, and what decides is there before
anything acts. Who may write resources is handed the Ledger; all others get a store that refuses those keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steersman.kernel.clock import Clock
from steersman.kernel.ids import Ids, Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.entity import EntityKey, EntityType, HealthState
from steersman.kinds.explanation import UNHEARD
from steersman.kinds.settings import IdentitySettings, Settings
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.kinds.step import StepHandler

if TYPE_CHECKING:
    from steersman.act.advice.runner import Advice
    from steersman.act.delivery.deliveries import Deliveries
    from steersman.act.engines.operations import Called
    from steersman.act.lifecycle import Lifecycles
    from steersman.act.managers.conditions import NodeConditions
    from steersman.act.managers.inventory import Inventory
    from steersman.act.managers.node import NodeManager
    from steersman.act.reconcile.loop import ReconcileLoop
    from steersman.api.control import Control
    from steersman.observe.registry import Source
    from steersman.state.bus import StateBus
    from steersman.state.ledger import Ledger
    from steersman.state.ledger.retention import LedgerRetention
    from steersman.state.tail import Tail
    from steersman.store.api import Store

HOST_DRIVER = "host"
"""The driver whose sources run on the machine that they report."""
REQUIRED = {"Node": ("reachable",)}
"""Conditions that must hold before a resource may take work, by kind."""

_log = get_logger("app.acting")


@dataclass(slots=True)
class Acting:
    """What was put together; `start` gives it to a supervisor."""

    lifecycles: Lifecycles
    ledger: Ledger
    advice: Advice
    loop: ReconcileLoop
    nodes: NodeManager
    conditions: NodeConditions
    inventory: Inventory
    tail: Tail
    deliveries: Deliveries
    retention: LedgerRetention
    facts: Callable[[ResourceState], Mapping[str, Any]]

    def start(self, tasks: Supervisor) -> None:
        """Start all parts, those that others read first."""
        for name, run in self._parts():
            tasks.start(name, run, ALWAYS)
        self.deliveries.start()

    def _parts(self) -> tuple[tuple[str, Callable[[], Awaitable[None]]], ...]:
        """What runs, in order; the plane is not ready while one of them does not."""
        return (
            ("events", self.tail.run),
            ("advice.follow", self.advice.follow),
            ("loop", self.loop.run),
            ("node.conditions", self.conditions.run),
            ("node.inventory", self.inventory.run),
            ("advice", self.advice.run),
            ("ledger.retention", self.retention.run),
        )

    def is_managed(self, key: EntityKey) -> bool:
        """Whether a resource is about the entity of that name."""
        return key in self.advice.book.nodes()

    async def stop(self) -> None:
        """Write down how far each subscriber has been told. Before the store is closed."""
        await self.deliveries.stop()

    def control(self) -> Control:
        """What the API is handed."""
        from steersman.api.control import Control
        from steersman.decide import PolicyRules

        return Control(
            ledger=self.ledger,
            lifecycles=self.lifecycles,
            loop=self.loop,
            advice=self.advice,
            rules=PolicyRules(),
            answer=self.nodes.answer,
            facts=self.facts,
            required=REQUIRED,
            tasks=tuple(name for name, _ in self._parts()),
        )


async def open_acting(
    settings: Settings,
    folder: Path,
    store: Store,
    bus: StateBus,
    tasks: Supervisor,
    *,
    clock: Clock,
    rng: Rng,
    ids: Ids,
    sources: Iterable[Source] = (),
) -> Acting:
    """Put the acting half together and read what is on record. Raises the store's errors."""
    acting = _put_together(
        settings, folder, store, bus, tasks, clock=clock, rng=rng, ids=ids, sources=sources
    )
    report = await acting.lifecycles.open(settings.lifecycles, acting.ledger)
    for refusal in report.refused:
        _log.error("lifecycle_refused", file=refusal.file, line=refusal.line, detail=refusal.detail)
    await acting.advice.open()
    await acting.deliveries.load()
    return acting


def _put_together(
    settings: Settings,
    folder: Path,
    store: Store,
    bus: StateBus,
    tasks: Supervisor,
    *,
    clock: Clock,
    rng: Rng,
    ids: Ids,
    sources: Iterable[Source],
) -> Acting:
    from steersman.act.engines.pipeline import PipelineEngine
    from steersman.act.lifecycle import Lifecycles
    from steersman.act.managers.node import NodeManager
    from steersman.act.reconcile.loop import ReconcileLoop
    from steersman.drivers.process import ProcessSteps
    from steersman.state.ledger import Ledger
    from steersman.state.ledger.guard import GuardedStore
    from steersman.state.ledger.retention import LedgerRetention

    others = GuardedStore(store)
    facts = partial(guard_facts, bus)
    # These know one another in a circle: what is named here before it is made is asked only once all run.
    lifecycles = Lifecycles(others, lambda phase: pipeline.check(phase))
    ledger = Ledger(store, clock, lifecycles, facts=facts)
    pipeline = PipelineEngine(
        {
            "process": ProcessSteps(folder, clock),
            **_steps_of(sources, ledger, names_of(bus, settings.identity), clock),
        },
        ledger,
        clock,
        rng,
        tasks,
        is_frozen=lambda: advice.book.frozen() is not None,
        wake=lambda ref: loop.nudge(ref),
    )
    advice = _make_advice(settings, others, ledger, bus, clock, lifecycles)
    nodes = NodeManager(ledger, lifecycles, {pipeline.name: pipeline}, clock=clock, ids=ids)
    loop = ReconcileLoop(others, ledger, [nodes, advice.manager], clock=clock, rng=rng, ids=ids)
    advice.nudge = loop.nudge
    conditions, inventory = _make_watchers(settings, ledger, lifecycles, loop, bus, clock, rng)
    tail, deliveries = _make_events(settings, others, tasks, clock, rng, ids)
    return Acting(
        lifecycles=lifecycles,
        ledger=ledger,
        advice=advice,
        loop=loop,
        nodes=nodes,
        conditions=conditions,
        inventory=inventory,
        tail=tail,
        deliveries=deliveries,
        retention=LedgerRetention(store, ledger, clock, passed=deliveries.passed),
        facts=facts,
    )


def _make_advice(
    settings: Settings, store: Store, ledger: Ledger, bus: StateBus, clock: Clock, lifecycles: Lifecycles
) -> Advice:
    from steersman.act.advice.runner import Advice
    from steersman.decide import PolicyRules, shipped_policies

    return Advice(
        store,
        ledger,
        bus,
        clock,
        PolicyRules(),
        lifecycle_of=lambda table: lifecycles.machine(table).lifecycle,
        places=settings.policies,
        shipped=shipped_policies(),
    )


def _make_watchers(
    settings: Settings,
    ledger: Ledger,
    lifecycles: Lifecycles,
    loop: ReconcileLoop,
    bus: StateBus,
    clock: Clock,
    rng: Rng,
) -> tuple[NodeConditions, Inventory]:
    """What brings the picture into the resources: conditions of nodes, and nodes for new machines."""
    from steersman.act.managers.conditions import NodeConditions
    from steersman.act.managers.inventory import Inventory
    from steersman.act.managers.sights import BusSights

    sights = BusSights(bus)
    conditions = NodeConditions(
        ledger, sights, clock=clock, rng=rng, held=loop.held, owns=loop.owns, hint=loop.hint
    )
    own = {source.name for source in settings.sources if source.driver == HOST_DRIVER}
    loop.appeared = conditions.expect
    inventory = Inventory(
        ledger,
        lifecycles,
        sights,
        clock=clock,
        proves=own.__contains__,
        unheard=lambda: [name for name in unheard_sources(settings, bus) if name not in own],
    )
    return conditions, inventory


def unheard_sources(settings: Settings, bus: StateBus) -> list[str]:
    """The enabled sources that have not had their first say, and have not failed to."""
    known = {one.name: bus.source_status(one.name) for one in settings.sources if one.enabled}
    return [name for name, status in known.items() if status is None or status.state == UNHEARD]


def _make_events(
    settings: Settings, store: Store, tasks: Supervisor, clock: Clock, rng: Rng, ids: Ids
) -> tuple[Tail, Deliveries]:
    from steersman.act.delivery.deliveries import Deliveries
    from steersman.drivers.webhook.targets import Targets
    from steersman.state.tail import Tail

    tail = Tail(store, clock)
    targets = Targets(settings.events.allow_targets)
    return tail, Deliveries(store, tail, clock=clock, rng=rng, ids=ids, tasks=tasks, targets=targets)


def _steps_of(
    sources: Iterable[Source], ledger: Ledger, called: Called, clock: Clock
) -> Mapping[str, StepHandler]:
    """The operations of the sources whose driver can change its system."""
    from steersman.act.engines.operations import ActingSource, source_steps
    from steersman.drivers.api import ActingDriver

    async def scope_of(ref: ResourceRef) -> str | None:
        state = await ledger.find(ref)
        return state.scope if isinstance(state, NodeState) else None

    acting = [
        ActingSource(source.name, source.driver_name, source.scope, source.driver.operations())
        for source in sources
        if isinstance(source.driver, ActingDriver)
    ]
    return source_steps(acting, scope_of, called, clock)


def names_of(bus: StateBus, identity: IdentitySettings) -> Called:
    """The question of what a source calls a node, answered by the picture. A node that is not
    found in the source's scope is looked for in those that are one with it by configuration."""

    def called(source: str, scope: str, name: str) -> tuple[str, ...] | None:
        def in_scope(place: str) -> set[str]:
            return bus.links.called(EntityKey(EntityType.NODE, place, name), source)

        found = in_scope(scope)
        if not found:
            group = identity.scopes.get(scope, scope)
            others = {group, *(other for other, target in identity.scopes.items() if target == group)}
            found = set[str]().union(*map(in_scope, others))
        status = bus.source_status(source)
        heard = status is not None and status.heard_at is not None
        return tuple(sorted(found)) if found or heard else None

    return called


def guard_facts(bus: StateBus, state: ResourceState) -> Mapping[str, Any]:
    """What guards may know of a resource beside itself: the observed entity's fresh fields and its health.

    What is stale or missing is left out, which a guard sees as unknown.
    """
    from steersman.act.managers.sights import observed_id

    if not isinstance(state, NodeState):
        return {}
    name = observed_id(state)
    entity = bus.get(EntityType.NODE, name, state.scope)
    explanation = bus.explain(EntityType.NODE, name, state.scope)
    if entity is None or explanation is None or entity.deleted_at is not None:
        return {}
    fresh = {
        name: field.value
        for name, field in explanation.fields.items()
        if field.freshness == "fresh" and field.value is not None
    }
    known = entity.health_state is not HealthState.UNKNOWN
    return {"entity": fresh, **({"health": entity.health_state.value} if known else {})}
