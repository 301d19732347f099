"""What /readyz, /metrics and the status tell of the acting half: loop, ledger, advice, events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from steersman.api.system import LOOP_WAIT_MAX_S, stall_of
from steersman.kernel.tasks import ALWAYS
from steersman.kinds.command import Actor, Terms
from steersman.kinds.state import NodeState, ResourceRef
from steersman.testing.plane import World

OPERATOR = Actor("user:alice", ("operator", "admin"))
NEEDED = (
    "events",
    "advice.follow",
    "loop",
    "node.conditions",
    "node.inventory",
    "advice",
    "ledger.retention",
)
LOOP_TASKS = ("watch", "sweep", "timers", "shards", "dispatch")


async def failed(world: World) -> list[str]:
    """The lines of /readyz; none where the plane is ready."""
    answer = await world.http.get("/readyz")
    return [] if answer.status_code == 200 else list(answer.json()["failed"])


async def until(holds: Any) -> Any:
    """Wait for something to become true."""
    async with asyncio.timeout(20):
        while not (value := await holds()):
            await asyncio.sleep(0.01)
    return value


async def metrics(world: World) -> dict[tuple[str, str], float]:
    """Samples by name and the value of their one label (empty where they have none)."""
    text = (await world.http.get("/metrics")).text
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if len(sample.labels) <= 1
    }


def strike_down(name: str) -> None:
    """Make what a task of the plane waits for fail, as the death of something below it would."""
    (task,) = (one for one in asyncio.all_tasks() if one.get_name() == name)
    task.cancel()
    task.uncancel()  # nobody asked it to end: its supervisor takes the cancellation for a failure


@pytest.mark.parametrize("name", NEEDED)
async def test_a_part_of_the_acting_half_that_died_is_told_by_readyz(acting: World, name: str) -> None:
    """Goal: not ready from the death on until it was started again, with the part's name."""
    await until(lambda: is_ready(acting))
    strike_down(f"test/{name}")
    lines = await until(lambda: failed(acting))
    assert lines == [f"task {name}: died, and waits to be started again"]
    status = (await acting.http.get("/api/v1/status")).json()
    assert (status["ready"], status["failed"]) == (False, lines)
    assert (await metrics(acting))["steersman_task_up", name] == 0
    await until(lambda: is_ready(acting))
    assert (await metrics(acting))["steersman_task_restarts_total", name] == 1


@pytest.mark.parametrize("name", LOOP_TASKS)
async def test_a_task_inside_the_loop_that_died_is_told_too(acting: World, name: str) -> None:
    await until(lambda: is_ready(acting))
    strike_down(f"reconcile-steersman/{name}")
    lines = await until(lambda: failed(acting))
    assert lines == [f"loop: its task {name} died, and waits to be started again"]
    assert (await metrics(acting))["steersman_task_up", f"loop.{name}"] == 0
    await until(lambda: is_ready(acting))


async def test_a_part_that_is_over_or_was_never_there_is_told(acting: World) -> None:
    """Goal: a task that returned has not failed, and does its work no more than one that has."""
    await acting.tasks.end("advice")
    assert await failed(acting) == ["task advice: does not run"]

    async def over() -> None:
        return

    acting.tasks.start("advice", over)
    await asyncio.sleep(0)
    assert await until(lambda: failed(acting)) == ["task advice: ended"]


async def test_a_subscriber_s_own_task_does_not_take_the_plane_down(acting: World) -> None:
    """Goal: one bad receiver, whatever it does to its task, is in the metrics and not in readiness."""

    async def dies() -> None:
        raise RuntimeError("this subscriber's")

    acting.tasks.start("delivery.sub_1", dies, ALWAYS)
    acting.tasks.start("other", dies, ALWAYS)
    assert await until(lambda: failed(acting)) == ["task other: died, and waits to be started again"]
    assert (await metrics(acting))["steersman_task_up", "delivery.sub_1"] == 0


async def is_ready(world: World) -> bool:
    return not await failed(world)


def test_a_queue_in_which_nobody_s_turn_comes_is_told() -> None:
    assert stall_of(LOOP_WAIT_MAX_S) == []
    assert stall_of(LOOP_WAIT_MAX_S + 1) == ["loop: a resource has waited for its turn for 301 s"]


async def test_metrics_of_loop_ledger_advice_and_freeze(acting: World) -> None:
    """Goal: each number that an alert is on moves with what it counts."""
    control = acting.plane.control
    assert control is not None
    before = await metrics(acting)
    assert before["steersman_frozen", ""] == 0
    assert before["steersman_policies", ""] == 2
    assert before["steersman_policy_problems", ""] == 0
    assert before["steersman_lifecycles_refused", ""] == 0
    assert before["steersman_recommendations_open", ""] == 0
    node = NodeState(
        id="n1", lifecycle_table="hpc-default", status="in_service", created_at=datetime.now(UTC)
    )
    await control.ledger.create(node, OPERATOR)
    held = Terms(reason="a disk is looked at")
    await control.ledger.place_hold(ResourceRef("Node", "n1"), OPERATOR, "repair", held)
    answer = await acting.http.put(
        "/api/v1/resources/node/n1/desired-status", json={"status": "maintenance", "reason": "a fan"}
    )
    assert answer.status_code == 200
    frozen = await acting.http.put("/api/v1/freeze", json={"frozen": True, "reason": "a storm"})
    assert frozen.status_code == 200
    stale = await acting.http.put(
        "/api/v1/resources/node/n1/desired-status",
        json={"status": "in_service", "reason": "x"},
        headers={"if-match": '"1"'},
    )
    assert stale.json()["code"] == "version_conflict"

    async def told() -> dict[tuple[str, str], float] | None:
        now = await metrics(acting)
        stuck = now["steersman_loop_troubled", "stuck"] == 1
        return now if stuck and now["steersman_frozen", ""] == 1 else None

    now = await until(told)
    assert now["steersman_ledger_requests_total", "written"] >= 4
    assert now["steersman_ledger_requests_total", "version_conflict"] == 1
    assert now["steersman_loop_looks_total", "stuck"] >= 1
    assert now["steersman_loop_shards", ""] > 0
    assert now["steersman_loop_sweeps_total", ""] >= 1
    assert now["steersman_loop_in_flight", ""] == 0
    acting_now = (await acting.http.get("/api/v1/status")).json()["acting"]
    assert acting_now["loop"]["stuck"] == 1
    assert acting_now["advice"] == {"policies": 2, "open": 0, "waiting": 0, "frozen": True}
    assert acting_now["left_out"] == []


async def test_a_subscription_whose_receiver_is_dead_is_seen_in_the_numbers(new_world: Any) -> None:
    """Goal: behind, failing, pending and dead letters tell of it before anybody complains."""
    async with new_world(events=True, control=True) as world:
        wish = {"url": "http://127.0.0.1:1/nobody", "kinds": ["Node"]}
        admin = await world.bearer("admin")
        made = await world.http.post("/api/v1/subscriptions", json=wish, headers=admin)
        name = made.json()["subscription"]["id"]
        assert (await metrics(world))["steersman_delivery_up", name] == 1
        await world.http.post("/api/v1/resources/node", json={"id": "n1"})

        async def failing() -> dict[tuple[str, str], float] | None:
            now = await metrics(world)
            return now if now["steersman_delivery_failing", name] else None

        now = await until(failing)
        assert now["steersman_delivery_failing", name] == 1
        assert now["steersman_delivery_behind", name] >= 1
        assert now["steersman_events_revision", ""] >= 1

        async def dead() -> dict[tuple[str, str], float] | None:
            now = await metrics(world)
            return now if now["steersman_delivery_dead_letters", name] else None

        await until(dead)
        events = (await world.http.get("/api/v1/status")).json()["acting"]["events"]
        assert (events["subscriptions"], events["dead_letters"]) == (1, 1)
        assert await is_ready(world), "a receiver's death is not the plane's"


async def test_each_metric_of_a_plane_that_acts_is_in_the_reference(new_world: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    async with new_world(events=True, control=True) as world:
        families = text_string_to_metric_families((await world.http.get("/metrics")).text)
        assert {family.name for family in families if f"`{family.name}`" not in page} == set()
