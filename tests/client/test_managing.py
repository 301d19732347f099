"""Both clients on a server that really acts: the same calls, the same shapes, the same errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from steersman.client import AsyncSteersman, Steersman
from steersman.client.errors import ApiGuardFailed, ApiVersionConflict
from steersman.kernel.errors import InvalidInput, NotFound, Refused
from steersman.kinds.command import ChangeAction
from steersman.kinds.managed import plain_answer
from steersman.kinds.plane_resources import PolicyState
from steersman.kinds.state import NodeState
from steersman.testing.plane import World, serve


@pytest.fixture
async def plane(acting: World) -> AsyncIterator[AsyncSteersman]:
    async with serve(acting) as address, AsyncSteersman(address) as client:
        yield client


async def make_node(plane: AsyncSteersman, name: str = "n1") -> Any:
    return await plane.create_resource("nodes", {"id": name, "status": "in_service", "scope": "c1"})


async def test_a_node_from_its_making_to_its_end(plane: AsyncSteersman) -> None:
    made = await make_node(plane)
    assert isinstance(made.resource.state, NodeState)
    assert made.entry.action is ChangeAction.CREATED
    applied = await plane.apply("node", "n1", {"labels": {"rack": "r7"}}, reason="moved")
    assert (applied.outcome, applied.changed) == ("changed", ("labels",))
    changed = await plane.set_desired("node", "n1", "maintenance", reason="fan", initiator="alice")
    assert [one.detail for one in changed.entry.evidence] == ["alice"]
    while not (await plane.resource("node", "n1")).state.is_converged():
        await asyncio.sleep(0.02)
    story = await plane.story("node", "n1")
    assert (story.place.status, story.going.by) == ("maintenance", "user:local")
    entries = [one async for one in plane.resource_history("node", "n1")]
    assert [one.seq for one in entries] == list(range(1, len(entries) + 1))
    held = await plane.place_hold("node", "n1", "repair", reason="disk")
    assert [one.name for one in held.resource.state.holds] == ["repair"]
    lifted = await plane.lift_hold("node", "n1", "repair")
    assert lifted.resource.state.holds == []
    looked = await plane.reconcile("node", "n1")
    assert looked.work is not None
    gone = await plane.delete_resource("node", "n1")
    assert gone.entry.action is ChangeAction.DELETED
    with pytest.raises(NotFound):
        await plane.resource("node", "n1")


async def test_refusals_keep_their_code_and_facts(plane: AsyncSteersman) -> None:
    await make_node(plane)
    with pytest.raises(Refused) as refused:
        await plane.transition("node", "n1", to="retired", reason="x")
    assert refused.value.code == "not_allowed"
    assert {"drain"} <= {one["event"] for one in refused.value.facts["allowed"]}
    with pytest.raises(ApiGuardFailed) as bare:
        await plane.transition("node", "n1", event="drain")
    assert (bare.value.code, bool(bare.value.facts["missing"])) == ("requirement_missing", True)
    with pytest.raises(ApiVersionConflict) as late:
        await plane.apply("node", "n1", {"labels": {"a": "b"}}, expected_version=9)
    assert late.value.facts["current"] == 1
    with pytest.raises(InvalidInput):
        await plane.resource("nodle", "n1")
    dry = await plane.transition("node", "n1", event="drain", reason="x", dry_run=True)
    assert (dry.dry_run, dry.entry.to_state) == (True, "draining")


async def test_lists_paths_and_what_is_allowed(plane: AsyncSteersman) -> None:
    for number in range(5):
        await make_node(plane, f"n{number}")
    names = [one.state.id async for one in plane.resources("node", status=["in_service"], page=2)]
    assert names == [f"n{number}" for number in range(5)]
    way = await plane.path("node", "n1", "maintenance")
    assert [step.event for step in way.steps] == ["drain", "drained"]
    assert "drain" in {one.event for one in (await plane.allowed("node", "n1")).items if one.enabled}
    kinds = {one.kind: one.count for one in await plane.resource_kinds()}
    assert kinds["Node"] == 5


async def test_lifecycles_policies_and_the_freeze_switch(plane: AsyncSteersman) -> None:
    assert "hpc-default" in {one.name for one in await plane.lifecycles()}
    table = await plane.lifecycle("hpc-default")
    assert table.path("in_service", "maintenance") == ["drain", "drained"]
    text = await plane.lifecycle_text("hpc-default", "yaml")
    assert (await plane.lint_lifecycle(text, "mine.yaml")).ok
    book = await plane.policies()
    assert "node-pressure" in {one.name for one in book.items}
    done = await plane.set_policy_mode("node-pressure", "observe_only", reason="quiet")
    assert (done.policy.mode, done.changed) == ("observe_only", True)
    kept = await plane.resource("policy", "node-pressure")
    assert isinstance(kept.state, PolicyState)
    assert (await plane.policy("node-pressure")).policy is not None
    assert (await plane.policy_coverage()).policies
    assert (await plane.dry_run_policies("x: 1", "p.yaml")).problems[0].file == "p.yaml"
    assert (await plane.set_freeze(True, reason="storm")).frozen
    assert (await plane.freeze_state()).reason == "storm"
    assert [one async for one in plane.recommendations(status=["proposed"])] == []
    with pytest.raises(NotFound):
        await plane.approve("no-such")
    with pytest.raises(NotFound):
        await plane.snooze("no-such", None)


async def test_an_answer_to_a_step_that_nobody_waits_for(plane: AsyncSteersman) -> None:
    with pytest.raises(NotFound) as missing:
        await plane.answer_step("op-1", "a", {"epoch": 1, "attempt": 1, "outcome": "succeeded"})
    assert missing.value.code == "operation_not_found"


async def test_the_blocking_client_does_the_same(acting: World) -> None:
    async with serve(acting) as address:

        def work() -> dict[str, Any]:
            with Steersman(address) as plane:
                plane.create_resource("node", {"id": "n1", "status": "in_service"})
                plane.set_desired("node", "n1", "in_service", reason="stay")
                assert [one.state.id for one in plane.resources("nodes")] == ["n1"]
                assert next(one.seq for one in plane.resource_history("node", "n1", newest_first=True)) >= 2
                return plain_answer(plane.story("node", "n1"))

        told = await asyncio.to_thread(work)
    assert told["resource"]["id"] == "n1"
    assert told["going"]["desired_status"] == "in_service"


def test_both_clients_have_the_same_calls() -> None:
    def calls(cls: type) -> set[str]:
        return {name for name in dir(cls) if not name.startswith("_")}

    assert calls(Steersman) == calls(AsyncSteersman)
