"""Lifecycles, policies, recommendations and the freeze switch over HTTP, on a plane that really acts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec

from steersman.kinds.command import Actor
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.policy import PolicyAction, PolicyMode, Recommendation
from steersman.testing.plane import World, make_fragment

API = "/api/v1"
AT_ONCE = """
name: full-memory
match: {entity_type: node}
when: entity.memory_utilization > 0.9
action: drain_or_avoid_node
mode: recommend_with_approval
"""


async def recommend(world: World, name: str = "rec-1") -> str:
    """A recommendation about n1, as the runner makes one; its name."""
    control = world.plane.control
    assert control is not None
    assert control.advice is not None
    now = world.plane.clock.now()
    value = Recommendation(
        id=name,
        policy="node-pressure",
        entity="node/c1/n1",
        entity_type=EntityType.NODE,
        action=PolicyAction(name="drain_or_avoid_node"),
        mode=PolicyMode.RECOMMEND_WITH_APPROVAL,
        reason="memory is nearly full",
        created_at=now,
        expires_at=now + timedelta(hours=1),
    )
    labels = {"policy": value.policy, "entity": value.entity, "entity_type": "node", "scope": "c1"}
    state = RecommendationState(
        id=name, lifecycle_table="recommendation", recommendation=value, labels=labels
    )
    await control.ledger.create(state, Actor("policy:node-pressure", ("policy",)))
    while control.advice.book.recommendation(name) is None:  # its copy follows the store
        await asyncio.sleep(0.01)
    return name


def speak(world: World, name: str = "n1", **fields: Any) -> None:
    world.bus.put(msgspec.convert(make_fragment(name, **fields), StateFragment))


async def test_lifecycles_as_data_text_and_drawings(acting: World) -> None:
    found = (await acting.http.get(f"{API}/lifecycles")).json()["items"]
    assert {"hpc-default", "rfd-three-state"} <= {one["name"] for one in found}
    table = (await acting.http.get(f"{API}/lifecycles/hpc-default")).json()
    assert table["name"] == "hpc-default"
    drawn = await acting.http.get(f"{API}/lifecycles/hpc-default?format=mermaid&current=in_service")
    assert drawn.headers["content-type"].startswith("text/vnd.mermaid")
    assert "draining" in drawn.text
    assert (await acting.http.get(f"{API}/lifecycles/hpc-default?format=dot")).text.startswith("digraph")
    assert (await acting.http.get(f"{API}/lifecycles/hpc")).json()["code"] == "unknown_lifecycle"


async def test_a_lifecycle_as_yaml_is_one_that_can_be_used(acting: World) -> None:
    text = (await acting.http.get(f"{API}/lifecycles/hpc-default?format=yaml")).text
    told = (await acting.http.post(f"{API}/lifecycles/lint", json={"text": text, "file": "mine.yaml"})).json()
    assert told["ok"] is True, told


async def test_the_linter_names_file_and_line(acting: World) -> None:
    text = "name: x\nstates:\n  a: {}\ntransitions:\n  - {event: go, from: a, to: b}\n"
    bad = {"text": text, "file": "x.yaml"}
    told = (await acting.http.post(f"{API}/lifecycles/lint", json=bad)).json()
    assert told["ok"] is False
    assert (told["findings"][0]["file"], told["findings"][0]["line"]) == ("x.yaml", 5)


async def test_policies_and_their_modes(acting: World) -> None:
    names = {one["name"]: one["mode"] for one in (await acting.http.get(f"{API}/policies")).json()["items"]}
    assert names["node-pressure"] == "recommend_with_approval"
    path = f"{API}/policies/node-pressure"
    bare = await acting.http.put(f"{path}/mode", json={"mode": "controlled_auto_act"})
    assert (bare.status_code, bare.json()["code"]) == (422, "requirement_missing")
    done = await acting.http.put(f"{path}/mode", json={"mode": "controlled_auto_act", "reason": "trust"})
    assert (done.json()["policy"]["mode"], done.json()["changed"]) == ("controlled_auto_act", True)
    again = await acting.http.put(f"{path}/mode", json={"mode": "controlled_auto_act", "reason": "trust"})
    assert again.json()["changed"] is False
    assert (await acting.http.get(f"{API}/policies/node-presure")).json()["code"] == "unknown_policy"
    history = (await acting.http.get(f"{API}/resources/policy/node-pressure/history")).json()["items"]
    assert (history[-1]["actor"], history[-1]["reason"]) == ("user:local", "trust")


async def test_a_dry_run_tells_of_whom_it_would_hold_and_loads_nothing(acting: World) -> None:
    speak(acting, "n1", memory_utilization=0.97)
    speak(acting, "n2", memory_utilization=0.2)
    speak(acting, "n3", cpu_utilization=0.2)
    told = (await acting.http.post(f"{API}/policies/dry-run", json={"text": AT_ONCE})).json()
    assert told["problems"] == []
    (count,) = told["policies"]
    assert (count["matched"], count["true"], count["false"], count["unknown"]) == (3, 1, 1, 1)
    assert {one["entity_id"]: one["truth"] for one in told["verdicts"]} == {"n1": "true", "n3": "unknown"}
    names = [one["name"] for one in (await acting.http.get(f"{API}/policies")).json()["items"]]
    assert "full-memory" not in names
    coverage = (await acting.http.get(f"{API}/policies/coverage")).json()
    assert {one["policy"] for one in coverage["policies"]} >= {"node-pressure", "node-recovered"}


async def test_a_policy_that_can_not_be_read_is_told_with_its_place(acting: World) -> None:
    body = {"text": AT_ONCE.replace("> 0.9", "> >"), "file": "p.yaml"}
    told = (await acting.http.post(f"{API}/policies/dry-run", json=body)).json()
    assert told["problems"][0]["file"] == "p.yaml"
    assert told["problems"][0]["line"] == 4


async def test_freezing_takes_a_reason_and_is_on_record(acting: World) -> None:
    assert (await acting.http.get(f"{API}/freeze")).json()["frozen"] is False
    bare = await acting.http.put(f"{API}/freeze", json={"frozen": True})
    assert (bare.status_code, bare.json()["code"]) == (422, "requirement_missing")
    frozen = (await acting.http.put(f"{API}/freeze", json={"frozen": True, "reason": "storm"})).json()
    assert (frozen["frozen"], frozen["by"], frozen["reason"]) == (True, "user:local", "storm")
    assert (await acting.http.get(f"{API}/resources/freeze/plane")).json()["status"] == "frozen"
    thawed = (await acting.http.put(f"{API}/freeze", json={"frozen": False, "reason": "over"})).json()
    assert thawed["frozen"] is False


async def test_a_recommendation_is_seen_rejected_and_on_record(acting: World) -> None:
    await acting.http.post(f"{API}/resources/node", json={"id": "n1", "status": "in_service", "scope": "c1"})
    name = await recommend(acting)
    listed = (await acting.http.get(f"{API}/recommendations?status=proposed&entity=n1")).json()["items"]
    assert [one["id"] for one in listed] == [name]
    one = (await acting.http.get(f"{API}/recommendations/{name}")).json()
    assert one["needed"] >= 1
    assert one["resource"]["recommendation"]["policy"] == "node-pressure"
    story = (await acting.http.get(f"{API}/resources/node/n1/explain")).json()
    assert [about["id"] for about in story["recommendations"]] == [name]
    done = await acting.http.post(f"{API}/recommendations/{name}/reject", json={"reason": "a test"})
    assert done.json()["resource"]["status"] == "rejected"
    late = await acting.http.post(f"{API}/recommendations/{name}/approve", json={"reason": "after all"})
    assert late.status_code == 409


async def test_a_snooze_and_an_approval(acting: World) -> None:
    name = await recommend(acting)
    path = f"{API}/recommendations/{name}"
    past = await acting.http.post(f"{path}/snooze", json={"until": "2001-01-01T00:00:00Z"})
    assert (past.status_code, past.json()["code"]) == (400, "snooze_invalid")
    until = (acting.plane.clock.now() + timedelta(minutes=5)).isoformat()
    slept = await acting.http.post(f"{path}/snooze", json={"until": until})
    assert slept.json()["resource"]["snoozed_until"]
    approved = (await acting.http.post(f"{path}/approve", json={"reason": "seen"})).json()
    assert approved["resource"]["approved_by"] == ["user:local"]
    assert approved["entry"]["reason"] == "seen"
