"""The acting half, put together as `steersman up` does it: on a real store, bad files among the good."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from steersman.app.acting import guard_facts, open_acting
from steersman.app.look import StoreMissing, verify_store
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import CountedIds, seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.command import Actor, Terms
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.settings import Settings
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.bus import StateBus
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore

OPERATOR = Actor("user:alice", ("operator",))


def observed(clock: ManualClock, **fields: object) -> StateFragment:
    return StateFragment(
        source_type="host",
        entity_type=EntityType.NODE,
        entity_id="n1",
        observed_at=clock.now(),
        fields=fields,
    )


def test_a_guard_sees_what_is_fresh_and_nothing_else() -> None:
    clock = ManualClock()
    bus = StateBus(clock)
    node = NodeState(id="n1", lifecycle_table="hpc-default", created_at=clock.now())
    assert guard_facts(bus, node) == {}
    bus.put(observed(clock, cpu_utilization=0.2, memory_utilization=0.3, load_1m=0.1))
    facts = guard_facts(bus, node)
    assert facts["entity"]["memory_utilization"] == 0.3
    assert facts["health"] == "healthy"
    clock.advance(3600)
    later = guard_facts(bus, node)
    assert "memory_utilization" not in later["entity"]
    assert "health" not in later


def test_a_guard_sees_the_machine_of_a_resource_whose_name_bears_its_scope() -> None:
    clock = ManualClock()
    bus = StateBus(clock)
    bus.put(structs.replace(observed(clock, cpu_utilization=0.2), labels={"cluster": "west"}))
    node = NodeState(id="n1@west", scope="west", lifecycle_table="hpc-default", created_at=clock.now())
    assert guard_facts(bus, node)["entity"]["cpu_utilization"] == 0.2


async def test_bad_files_beside_good_ones_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "lifecycles").mkdir()
    match = "match: {entity_type: node}"
    (tmp_path / "policies" / "bad.yaml").write_text(
        f"name: bad\n{match}\nwhen: memry > 1\naction: recommend_no_action\n"
    )
    (tmp_path / "policies" / "good.yaml").write_text(
        f"name: good\n{match}\nwhen: memory_utilization > 0.5\naction: recommend_no_action\n"
    )
    (tmp_path / "lifecycles" / "bad.yaml").write_text("name: bad\nstates: {a: {class: stabel}}\n")
    (tmp_path / "lifecycles" / "good.yaml").write_text("up: [down]\ndown: [up]\n")
    settings = Settings(policies=[tmp_path / "policies"], lifecycles=[tmp_path / "lifecycles"])
    clock, rng, ids = ManualClock(), seeded_rng(1), CountedIds()
    async with (
        MemoryStore(clock=clock, rng=rng) as store,
        Supervisor(clock, rng, name="test") as tasks,
    ):
        acting = await open_acting(
            settings, tmp_path, store, StateBus(clock), tasks, clock=clock, rng=rng, ids=ids
        )
        assert {"good", "node-pressure", "node-recovered"} <= set(acting.advice.policies.loaded)
        (problem,) = acting.advice.policies.problems
        assert problem.file.endswith("bad.yaml")
        assert problem.line > 0
        (refusal,) = acting.lifecycles.refused
        assert "bad.yaml" in str(refusal)


async def test_the_store_of_a_stopped_plane_is_verified(tmp_path: Path) -> None:
    env = {"STEERSMAN_HOME": str(tmp_path)}
    with pytest.raises(StoreMissing):
        await verify_store(None, env)
    clock, rng, ids = ManualClock(), seeded_rng(1), CountedIds()
    async with (
        SqliteStore(tmp_path / "steersman.db", clock=clock, rng=rng) as store,
        Supervisor(clock, rng, name="test") as tasks,
    ):
        acting = await open_acting(
            Settings(), tmp_path, store, StateBus(clock), tasks, clock=clock, rng=rng, ids=ids
        )
        node = NodeState(id="n1", lifecycle_table="hpc-default", status="in_service", created_at=clock.now())
        await acting.ledger.create(node, OPERATOR)
        clock.advance(timedelta(minutes=1).total_seconds())
        await acting.ledger.set_desired(
            ResourceRef("Node", "n1"), OPERATOR, "maintenance", Terms(reason="a test")
        )
    report = await verify_store(None, env)
    assert report.ok
    assert report.rows >= 5  # two of the node, two policies, the freeze switch
