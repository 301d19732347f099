"""What is observed of a machine becomes conditions of its resource: debounced, and only where it changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from msgspec.structs import replace
from walk_plane import ALICE, machines, node

from steersman.act.managers.conditions import DEBOUNCE_S, NodeConditions, verdicts_of
from steersman.act.managers.inventory import HEARD_WITHIN_S, IMPORTER, Inventory
from steersman.act.managers.sights import BusSights, NodeSight
from steersman.act.reconcile.loop import ReconcileLoop
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import CountedIds, seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.axes import Truth
from steersman.kinds.command import Terms
from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.fragment import StateFragment
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.bus import StateBus
from steersman.state.ledger import Ledger
from steersman.store.memory import MemoryStore


class Site:
    """A bus, a ledger, and what is between them."""

    def __init__(self, store: MemoryStore, clock: ManualClock) -> None:
        self.clock = clock
        self.bus = StateBus(clock)
        self.ledger = Ledger(store, clock, machines())
        sights = BusSights(self.bus)
        self.conditions = NodeConditions(
            self.ledger, sights, clock=clock, rng=seeded_rng(1), held=lambda _: None, owns=lambda _: True
        )
        self.inventory = Inventory(
            self.ledger,
            machines(),
            sights,
            clock=clock,
            proves=lambda source: source == "local",
            unheard=lambda: self.unheard,
            lifecycle="small",
        )
        self.unheard: set[str] = set()
        self.loop = ReconcileLoop(store, self.ledger, [], clock=clock, rng=seeded_rng(2), ids=CountedIds())
        self.loop.appeared = self.conditions.expect
        self.tasks = Supervisor(clock, seeded_rng(1))

    def start(self) -> None:
        self.tasks.start("loop", self.loop.run)
        self.tasks.start("conditions", self.conditions.run)
        self.tasks.start("inventory", self.inventory.run)

    async def see(self, memory: float, *, name: str = "n1", source: str = "local", scope: str = "") -> None:
        fields = {"memory_utilization": memory, "cpu_utilization": 0.1, "gpu_count": 0}
        labels = {"cluster": scope} if scope else {}
        self.bus.put(StateFragment(source, EntityType.NODE, name, self.clock.now(), fields, labels=labels))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(100):
            self.bus.flush()
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)
            await self.settle()

    async def truth(self, kind: str, name: str = "n1") -> Truth | None:
        condition = (await self.ledger.get(node(name))).condition(kind)
        return None if condition is None else condition.status


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    clock = ManualClock()
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
        site = Site(store, clock)
        async with site.tasks:
            yield site


async def test_this_machine_becomes_a_node_once_and_its_conditions_are_told(site: Site) -> None:
    site.start()
    await site.see(0.2)
    await site.pass_time(3)
    state = await site.ledger.get(node("n1"))
    assert (state.status, state.lifecycle_table) == ("in_service", "small")
    entries = (await site.ledger.history(node("n1"), limit=10)).entries
    assert entries[0].actor == IMPORTER.name
    assert await site.truth("reachable") is Truth.TRUE
    assert await site.truth("fresh") is Truth.TRUE
    version = state.version if await site.truth("health") is not None else 0
    for _ in range(5):
        await site.see(0.21)
        await site.pass_time(2)
    assert (await site.ledger.get(node("n1"))).version == version, "nothing that is said has changed"


async def test_nodes_of_other_sources_are_made_by_people(site: Site) -> None:
    site.start()
    await site.see(0.2, name="far", source="prometheus")
    await site.pass_time(3)
    assert await site.ledger.find(node("far")) is None
    await site.ledger.create(NodeState(id="far", lifecycle_table="small"), ALICE)
    await site.pass_time(3)
    assert await site.truth("reachable", "far") is Truth.TRUE


async def test_machines_are_enrolled_when_each_source_has_had_its_say(site: Site) -> None:
    site.unheard = {"slurm", "dcgm"}
    site.start()
    await site.see(0.2)
    await site.pass_time(5)
    assert await site.ledger.find(node("n1")) is None, "by another source it may have another name"
    site.unheard = {"dcgm"}
    await site.pass_time(5)
    assert await site.ledger.find(node("n1")) is None
    site.unheard = set()
    await site.pass_time(4)
    assert (await site.ledger.get(node("n1"))).status == "in_service"


async def test_a_source_that_says_nothing_at_all_is_not_waited_for_long(site: Site) -> None:
    site.unheard = {"slurm"}
    site.start()
    await site.see(0.2)
    await site.pass_time(HEARD_WITHIN_S - 1)
    assert await site.ledger.find(node("n1")) is None
    await site.pass_time(5)
    assert await site.ledger.find(node("n1")) is not None


async def test_what_a_person_changed_or_deleted_stays_so(site: Site) -> None:
    await site.ledger.create(NodeState(id="n1", status="maintenance", lifecycle_table="small"), ALICE)
    site.start()
    await site.see(0.2)
    await site.pass_time(2)
    assert (await site.ledger.get(node("n1"))).status == "maintenance"
    await site.see(0.2, name="n2")
    await site.pass_time(2)
    await site.ledger.delete(node("n2"), ALICE, terms=Terms(reason="scrapped"))
    again = Inventory(
        site.ledger,
        machines(),
        BusSights(site.bus),
        clock=site.clock,
        proves=lambda _: True,
        lifecycle="small",
    )
    assert await again.enrol(NodeSight("n2", "", HealthState.HEALTHY, "fresh", sources=("local",))) is None
    assert await site.ledger.find(node("n2")) is None


async def test_silence_is_told_after_a_while_and_a_flicker_is_not(site: Site) -> None:
    site.start()
    await site.see(0.2)
    await site.pass_time(2)
    version = (await site.ledger.get(node("n1"))).version
    sight = NodeSight("n1", "", HealthState.CRITICAL, "fresh")
    site.conditions.note(sight)
    await site.pass_time(int(DEBOUNCE_S) - 2)
    await site.see(0.2)
    site.conditions.note(BusSights(site.bus).look("n1", ""))
    await site.pass_time(10)
    assert (await site.ledger.get(node("n1"))).version == version, "it flickered"
    site.conditions.note(sight)
    await site.pass_time(int(DEBOUNCE_S) + 2)
    assert await site.truth("health") is Truth.FALSE


async def test_a_node_that_nobody_sees_is_unknown_and_not_unhealthy(site: Site) -> None:
    await site.ledger.create(NodeState(id="ghost", lifecycle_table="small"), ALICE)
    site.start()
    await site.pass_time(int(DEBOUNCE_S) + 3)
    assert await site.truth("health", "ghost") is Truth.UNKNOWN
    assert await site.truth("reachable", "ghost") is Truth.UNKNOWN


def test_the_words() -> None:
    well = NodeSight("n", "", HealthState.HEALTHY, "fresh")

    def said(sight: NodeSight) -> dict[str, tuple[Truth, str]]:
        return {kind: (status, why) for kind, status, why in verdicts_of(sight)}

    assert said(well)["health"] == (Truth.TRUE, "Healthy")
    assert said(replace(well, health=HealthState.WARNING))["health"] == (Truth.TRUE, "Warning")
    assert said(replace(well, health=HealthState.DEGRADED))["health"] == (Truth.FALSE, "Degraded")
    assert said(replace(well, freshness="expired"))["reachable"] == (Truth.UNKNOWN, "SourcesSilent")
    assert said(replace(well, gone=True))["reachable"] == (Truth.FALSE, "Gone")
    assert said(replace(well, freshness="stale"))["fresh"] == (Truth.FALSE, "Stale")


async def test_two_scopes_may_have_a_node_of_one_id(site: Site) -> None:
    first = NodeSight("n1", "east", HealthState.HEALTHY, "fresh", sources=("local",))
    second = NodeSight("n1", "west", HealthState.HEALTHY, "fresh", sources=("local",))
    assert await site.inventory.enrol(first) == ResourceRef("Node", "n1")
    assert await site.inventory.enrol(second) == ResourceRef("Node", "n1@west")
    assert await site.inventory.enrol(second) is None


async def test_a_clock_set_back_does_not_silence_what_is_found(site: Site) -> None:
    site.start()
    await site.see(0.2)
    await site.pass_time(3)
    assert await site.truth("health") is Truth.TRUE
    site.clock.set_wall(site.clock.now() - timedelta(hours=2))
    site.conditions.note(NodeSight("n1", "", HealthState.CRITICAL, "fresh"))
    await site.pass_time(int(DEBOUNCE_S) + 2)
    assert await site.truth("health") is Truth.FALSE


async def test_a_node_that_is_deleted_and_made_again_is_told_of_again(site: Site) -> None:
    site.start()
    await site.see(0.2, name="far", source="prometheus")
    await site.ledger.create(NodeState(id="far", lifecycle_table="small"), ALICE)
    await site.pass_time(3)
    assert await site.truth("reachable", "far") is Truth.TRUE
    await site.ledger.delete(node("far"), ALICE, terms=Terms(reason="scrapped"))
    await site.ledger.create(NodeState(id="far", lifecycle_table="small"), ALICE)
    await site.pass_time(3)
    assert await site.truth("reachable", "far") is Truth.TRUE
