"""Resources over HTTP on a plane that really acts: each change judged, each refusal typed, each on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from steersman.testing.plane import World, make_world

API = "/api/v1"
NODE = f"{API}/resources/node/n1"


@pytest.fixture
async def locked() -> AsyncIterator[World]:
    """A plane that acts and asks for tokens."""
    async with make_world(tokens=True, control=True) as made:
        yield made


async def ask(world: World, method: str, path: str, **options: Any) -> Any:
    return await world.http.request(method, path, **options)


async def make_node(world: World, name: str = "n1", status: str = "in_service", **more: Any) -> Any:
    body = {"id": name, "status": status, "scope": "c1", **more}
    answer = await ask(world, "POST", f"{API}/resources/nodes", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def until(check: Callable[[], Any], what: str, tries: int = 400) -> Any:
    for _ in range(tries):
        found = await check()
        if found:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what} did not come")


async def test_a_new_node_is_found_under_every_spelling_of_its_kind(acting: World) -> None:
    made = await make_node(acting)
    assert made["entry"]["action"] == "created"
    assert made["entry"]["actor"] == "user:local"
    for word in ("node", "nodes", "Node", "NODES", "no"):
        answer = await ask(acting, "GET", f"{API}/resources/{word}/n1")
        assert answer.json()["status"] == "in_service"
        assert answer.headers["etag"] == '"1"'
    kinds = (await ask(acting, "GET", f"{API}/resources")).json()["items"]
    counts = {one["kind"]: one["count"] for one in kinds}
    assert counts["Node"] == 1
    assert counts["Policy"] >= 2


async def test_what_is_not_there_is_told_with_the_nearest(acting: World) -> None:
    assert (await ask(acting, "GET", f"{API}/resources/nodle/n1")).json()["nearest"] == "node"
    missing = await ask(acting, "GET", f"{API}/resources/node/n9")
    assert (missing.status_code, missing.json()["code"]) == (404, "resource_not_found")
    assert (await ask(acting, "POST", f"{NODE}/transitions", json={"event": "drain"})).status_code == 404


async def test_a_second_node_of_one_id_is_refused(acting: World) -> None:
    await make_node(acting)
    again = await ask(acting, "POST", f"{API}/resources/node", json={"id": "n1"})
    assert (again.status_code, again.json()["code"]) == (409, "resource_exists")


async def test_a_refusal_says_what_is_allowed_and_changes_nothing(acting: World) -> None:
    await make_node(acting)
    answer = await ask(acting, "POST", f"{NODE}/transitions", json={"to": "retired", "reason": "x"})
    body = answer.json()
    assert (answer.status_code, body["code"], body["current"]) == (409, "not_allowed", "in_service")
    assert {"drain"} <= {one["event"] for one in body["allowed"]}
    unknown = (await ask(acting, "POST", f"{NODE}/transitions", json={"event": "drian"})).json()
    assert (unknown["code"], unknown["nearest"]) == ("unknown_event", "drain")
    bare = await ask(acting, "POST", f"{NODE}/transitions", json={"event": "drain"})
    assert (bare.status_code, bare.json()["code"]) == (422, "requirement_missing")
    assert (await ask(acting, "GET", NODE)).json()["version"] == 1


async def test_a_dry_run_is_judged_and_not_done(acting: World) -> None:
    await make_node(acting)
    wish = {"event": "drain", "reason": "x", "dry_run": True}
    answer = (await ask(acting, "POST", f"{NODE}/transitions", json=wish)).json()
    assert answer["dry_run"] is True
    assert answer["entry"]["to_state"] == "draining"
    assert (await ask(acting, "GET", NODE)).json()["status"] == "in_service"


async def test_an_old_version_is_refused(acting: World) -> None:
    await make_node(acting)
    first = await ask(acting, "PUT", NODE, json={"labels": {"a": "1"}}, headers={"if-match": '"1"'})
    assert first.headers["etag"] == '"2"'
    late = await ask(acting, "PUT", NODE, json={"labels": {"a": "2"}}, headers={"if-match": '"1"'})
    assert (late.status_code, late.json()["code"], late.json()["current"]) == (412, "version_conflict", 2)
    odd = await ask(acting, "PUT", NODE, json={}, headers={"if-match": "yes"})
    assert odd.json()["code"] == "invalid_parameter"


async def test_an_idempotency_key_makes_a_repetition_harmless(acting: World) -> None:
    await make_node(acting)
    key = {"idempotency-key": "k1"}
    wish = {"status": "maintenance", "reason": "fan"}
    first = (await ask(acting, "PUT", f"{NODE}/desired-status", json=wish, headers=key)).json()
    again = (await ask(acting, "PUT", f"{NODE}/desired-status", json=wish, headers=key)).json()
    assert again["replayed"] is True
    assert again["entry"]["seq"] == first["entry"]["seq"]
    other = {**wish, "status": "in_service"}
    answer = await ask(acting, "PUT", f"{NODE}/desired-status", json=other, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")


async def test_the_caller_is_the_actor_whoever_they_say_they_act_for(locked: World) -> None:
    operator = await locked.bearer("operator")
    body = {"id": "n1", "status": "in_service", "initiator": "policy:node-pressure"}
    made = await ask(locked, "POST", f"{API}/resources/node", json=body, headers=operator)
    entry = made.json()["entry"]
    assert entry["actor"] == "user:a operator"
    assert [(one["kind"], one["detail"]) for one in entry["evidence"]] == [
        ("on_behalf_of", "policy:node-pressure")
    ]
    named = await ask(locked, "PUT", NODE, json={"actor": "admin"}, headers=operator)
    assert named.json()["code"] == "body_malformed"


async def test_only_an_admin_may_force(locked: World) -> None:
    operator, admin = await locked.bearer("operator"), await locked.bearer("admin")
    body = {"id": "n1", "status": "in_service"}
    await ask(locked, "POST", f"{API}/resources/node", json=body, headers=operator)
    wish = {"event": "override", "to": "retired", "reason": "it burnt down"}
    refused = await ask(locked, "POST", f"{NODE}/transitions", json=wish, headers=operator)
    assert refused.json()["code"] == "not_allowed"
    forced = await ask(locked, "POST", f"{NODE}/transitions", json=wish, headers=admin)
    assert forced.json()["resource"]["status"] == "retired", forced.text


async def test_only_an_admin_deletes_what_is_being_worked_on(locked: World) -> None:
    operator, admin = await locked.bearer("operator"), await locked.bearer("admin")
    body = {"id": "n1", "status": "in_service", "metadata": {"drain_command": ["sleep", "30"]}}
    made = await ask(locked, "POST", f"{API}/resources/node", json=body, headers=admin)
    assert made.status_code == 201, made.text
    wish = {"event": "drain", "reason": "a new disk"}
    drained = await ask(locked, "POST", f"{NODE}/transitions", json=wish, headers=operator)
    assert drained.status_code == 200, drained.text

    async def begun() -> Any:
        return (await ask(locked, "GET", NODE, headers=operator)).json()["operation"]

    operation = await until(begun, "the drain")
    for query, who in (("", admin), ("?force=true", operator)):
        refused = await ask(locked, "DELETE", NODE + query, headers=who)
        told = refused.json()
        assert (refused.status_code, told["code"]) == (409, "operation_under_way"), refused.text
        assert told["operation"] == operation["id"]
    forced = await ask(locked, "DELETE", f"{NODE}?force=true", headers=admin)
    assert forced.json()["entry"]["data"]["cut_off"] == operation["id"], forced.text


async def test_a_viewer_reads_and_does_not_act(locked: World) -> None:
    viewer = await locked.bearer("viewer")
    assert (await ask(locked, "GET", f"{API}/resources", headers=viewer)).status_code == 200
    made = await ask(locked, "POST", f"{API}/resources/node", json={"id": "n1"}, headers=viewer)
    assert (made.status_code, made.json()["code"]) == (403, "role_too_low")


async def test_the_loop_takes_a_node_where_it_is_meant_to_be_and_the_story_tells_it(acting: World) -> None:
    await make_node(acting)
    wish = {"status": "maintenance", "reason": "fan is loud"}
    await ask(acting, "PUT", f"{NODE}/desired-status", json=wish)

    async def arrived() -> bool:
        return (await ask(acting, "GET", NODE)).json()["status"] == "maintenance"

    await until(arrived, "maintenance")
    story = (await ask(acting, "GET", f"{NODE}/explain")).json()
    assert story["going"]["by"] == "user:local"
    assert story["going"]["reason"] == "fan is loud"
    assert story["going"]["converged"] is True
    assert story["going"]["set_by"]["action"] == "intent_set"
    assert story["work"]["allowed"] == "false"
    assert any("maintenance" in reason for reason in story["work"]["reasons"])
    assert story["place"]["lifecycle"].startswith("hpc-default@")
    states = [one["to_state"] for one in story["history"] if one["to_state"]]
    assert states == ["maintenance", "draining", "in_service"]


async def test_a_path_says_what_each_step_asks_for(acting: World) -> None:
    await make_node(acting)
    way = (await ask(acting, "GET", f"{NODE}/path?to=Maintenance")).json()
    assert (way["status"], way["to"]) == ("in_service", "maintenance")
    assert [one["event"] for one in way["steps"]] == ["drain", "drained"]
    assert way["steps"][0]["require"]["reason"] is True
    odd = await ask(acting, "GET", f"{NODE}/path?to=maintenence")
    assert (odd.status_code, odd.json()["nearest"]) == (404, "maintenance")


async def test_what_is_allowed_depends_on_who_asks(locked: World) -> None:
    operator, viewer = await locked.bearer("operator"), await locked.bearer("viewer")
    body = {"id": "n1", "status": "in_service"}
    await ask(locked, "POST", f"{API}/resources/node", json=body, headers=operator)
    mine = (await ask(locked, "GET", f"{NODE}/allowed", headers=operator)).json()["items"]
    theirs = (await ask(locked, "GET", f"{NODE}/allowed", headers=viewer)).json()["items"]
    assert [one["enabled"] for one in mine if one["event"] == "drain"] == [True]
    assert not any(one["enabled"] for one in theirs if one["event"] == "drain")
    assert all(one["why_not"] for one in theirs if not one["enabled"])


async def test_history_in_both_orders_and_in_pages(acting: World) -> None:
    await make_node(acting)
    for number in range(5):
        await ask(acting, "PUT", NODE, json={"labels": {"n": str(number)}})
    seen: list[int] = []
    cursor = ""
    while True:
        page = (await ask(acting, "GET", f"{NODE}/history?limit=2{cursor}")).json()
        seen += [one["seq"] for one in page["items"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert seen == [1, 2, 3, 4, 5, 6]
    newest = (await ask(acting, "GET", f"{NODE}/history?order=newest&limit=3")).json()
    assert [one["seq"] for one in newest["items"]] == [6, 5, 4]


async def test_a_hold_stops_others_until_its_owner_lets_go(locked: World) -> None:
    one, other = await locked.bearer("operator"), await locked.bearer("admin")
    body = {"id": "n1", "status": "in_service"}
    await ask(locked, "POST", f"{API}/resources/node", json=body, headers=one)
    hold = f"{NODE}/holds/repair"
    placed = await ask(locked, "PUT", hold, json={"reason": "disk"}, headers=one)
    assert placed.json()["resource"]["work"]["allowed"] == "false"
    foreign = await ask(locked, "DELETE", hold, headers=other)
    assert (foreign.status_code, foreign.json()["code"]) == (409, "held")
    forced = await ask(
        locked,
        "DELETE",
        f"{hold}?override=true",
        content=b'{"reason": "they left"}',
        headers={**other, "content-type": "application/json"},
    )
    assert forced.json()["resource"]["holds"] == [], forced.text


async def test_lists_are_filtered_and_paged(acting: World, fragment: Any) -> None:
    import msgspec

    from steersman.kinds.fragment import StateFragment

    for number in range(7):
        await make_node(acting, f"n{number}", labels={"rack": f"r{number % 2}"})
    sick = fragment("n3", memory_utilization=0.99)
    acting.bus.put(msgspec.convert({**sick, "labels": {"cluster": "c1"}}, StateFragment))
    await ask(acting, "PUT", f"{API}/resources/node/n5/desired-status", json={"status": "in_service"})

    async def names(query: str) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page = (await ask(acting, "GET", f"{API}/resources/node?limit=2&{query}{cursor}")).json()
            found += [one["id"] for one in page["items"]]
            if page["cursor"] is None:
                return found
            cursor = f"&cursor={page['cursor']}"

    assert await names("") == [f"n{number}" for number in range(7)]
    assert await names("label=rack%3Dr1") == ["n1", "n3", "n5"]
    assert await names("status=retired") == []
    assert await names("desired=in_service") == ["n5"]
    health = acting.bus.get("node", "n3", scope="c1").health_state.value  # type: ignore[union-attr]
    assert await names(f"health={health}") == ["n3"]
    odd = await ask(acting, "GET", f"{API}/resources/node?cursor=x")
    assert odd.json()["code"] == "cursor_invalid"


async def test_deleting_leaves_the_history_and_the_planes_own_stay(acting: World) -> None:
    await make_node(acting)
    gone = await ask(acting, "DELETE", NODE)
    assert gone.json()["entry"]["action"] == "deleted"
    assert (await ask(acting, "GET", NODE)).status_code == 404
    for path in ("policy/node-pressure", "freeze/plane"):
        kept = await ask(acting, "DELETE", f"{API}/resources/{path}")
        assert (kept.status_code, kept.json()["code"]) == (409, "plane_owned")


async def test_asked_to_reconcile_it_is_looked_at(acting: World) -> None:
    await make_node(acting)
    answer = await ask(acting, "POST", f"{NODE}/reconcile", json={"reason": "look"})
    assert answer.status_code == 202
    odd = await ask(acting, "POST", f"{NODE}/phases/drain/retry")
    assert (odd.status_code, odd.json()["code"]) == (400, "phase_invalid")


async def test_an_answer_for_an_operation_that_is_not_there(acting: World) -> None:
    body = {"epoch": 1, "attempt": 1, "outcome": "succeeded"}
    answer = await ask(acting, "POST", f"{API}/operations/op-9/steps/a/result", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "operation_not_found")
    odd = await ask(acting, "POST", f"{API}/operations/op-9/steps/a/result", json={**body, "outcome": "fine"})
    assert odd.json()["code"] == "body_malformed"


async def test_a_process_that_only_observes_says_so(world: World) -> None:
    for path in ("resources", "resources/node", "resources/node/n1", "policies", "lifecycles", "freeze"):
        answer = await ask(world, "GET", f"{API}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
