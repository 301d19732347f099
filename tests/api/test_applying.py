"""Declaring resources: made where there is none, changed where they differ, and never moved."""

from __future__ import annotations

from typing import Any

import pytest

from steersman.testing.plane import World

NODE = "/api/v1/resources/node/n1"


async def apply(world: World, body: dict[str, Any], path: str = NODE, **options: Any) -> Any:
    return await world.http.put(path, json=body, **options)


async def test_it_is_made_then_changed_then_left_alone(acting: World) -> None:
    body = {"kind": "Node", "id": "n1", "labels": {"rack": "r7"}, "metadata": {"serial": "x1"}}
    made = await apply(acting, body)
    assert (made.status_code, made.json()["outcome"]) == (201, "created")
    same = (await apply(acting, body)).json()
    assert (same["outcome"], same["changed"], same["entries"]) == ("unchanged", [], [])
    body["labels"] = {"rack": "r8"}
    changed = (await apply(acting, body)).json()
    assert (changed["outcome"], changed["changed"]) == ("changed", ["labels"])
    entry = changed["entries"][0]
    assert entry["action"] == "spec_changed"
    assert "r8" in str(entry["data"])
    assert (await acting.http.get(NODE)).json()["version"] == 2


async def test_what_is_left_out_stays(acting: World) -> None:
    await apply(acting, {"labels": {"a": "1"}, "owner_id": "ml"})
    await apply(acting, {"metadata": {"b": 2}})
    node = (await acting.http.get(NODE)).json()
    assert (node["labels"], node["owner_id"], node["metadata"]) == ({"a": "1"}, "ml", {"b": 2})


async def test_the_intent_is_part_of_a_declaration_and_has_a_row_of_its_own(acting: World) -> None:
    made = (await apply(acting, {"desired_status": "in_service", "reason": "new rack"})).json()
    assert [one["action"] for one in made["entries"]] == ["created", "intent_set"]
    assert made["resource"]["desired_reason"] == "new rack"
    assert (await apply(acting, {"desired_status": "in_service"})).json()["outcome"] == "unchanged"


async def test_where_a_thing_is_can_not_be_declared(acting: World) -> None:
    answer = await apply(acting, {"status": "in_service"})
    assert (answer.status_code, answer.json()["code"], answer.json()["member"]) == (
        400,
        "spec_refused",
        "status",
    )
    assert (await acting.http.get(NODE)).status_code == 404


async def test_a_dry_run_says_what_would_change(acting: World) -> None:
    dry = (await apply(acting, {"labels": {"a": "1"}}, NODE + "?dry_run=true")).json()
    assert (dry["outcome"], dry["dry_run"]) == ("created", True)
    assert (await acting.http.get(NODE)).status_code == 404
    await apply(acting, {"labels": {"a": "1"}})
    dry = (await apply(acting, {"labels": {"a": "2"}}, NODE + "?dry_run=true")).json()
    assert (dry["outcome"], dry["changed"]) == ("changed", ["labels"])
    assert (await acting.http.get(NODE)).json()["labels"] == {"a": "1"}


async def test_a_masked_secret_that_comes_back_keeps_what_is_stored(acting: World) -> None:
    await apply(acting, {"metadata": {"bmc_password": "hunter2", "slot": 1}})
    seen = (await acting.http.get(NODE)).json()["metadata"]
    assert seen["bmc_password"] == "***"
    back = (await apply(acting, {"metadata": {**seen, "slot": 2}})).json()
    assert back["changed"] == ["metadata"]
    assert "hunter2" not in str(back)
    control = acting.plane.control
    assert control is not None
    from steersman.kinds.state import NodeState, ResourceRef

    kept = await control.ledger.get(ResourceRef("Node", "n1"))
    assert isinstance(kept, NodeState)
    assert kept.metadata == {"bmc_password": "hunter2", "slot": 2}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"kind": "Host"}, "spec_refused"),
        ({"id": "n2"}, "spec_refused"),
        ({"spec": {"version": 7}}, "spec_refused"),
        ({"spec": {"no_such": 7}}, "spec_refused"),
        ({"spec": {"host_id": 7}}, "spec_refused"),
        ({"lifecycle": "no-such"}, "unknown_lifecycle"),
        ({"labels": {"a": 1}}, "body_malformed"),
        ({"lables": {}}, "body_malformed"),
    ],
)
async def test_what_makes_no_sense_is_refused(body: dict[str, Any], code: str, acting: World) -> None:
    answer = await apply(acting, body)
    assert answer.json()["code"] == code, answer.text
    assert (await acting.http.get(NODE)).status_code == 404


async def test_another_kind_needs_its_lifecycle(acting: World) -> None:
    answer = await apply(acting, {"labels": {}}, "/api/v1/resources/host/h1")
    assert answer.json()["member"] == "lifecycle"


async def test_what_the_plane_runs_as_a_command_is_for_admins_to_say(acting: World) -> None:
    """Metadata `drain_command` runs as the plane's user: on loopback anybody would be that user."""
    wish = {"metadata": {"drain_command": ["sh", "-c", "id"]}}
    operator, admin = await acting.bearer("operator"), await acting.bearer("admin")
    for headers in ({}, operator):
        for refused in (
            await apply(acting, wish, headers=headers),
            await apply(acting, {"spec": wish}, headers=headers),
            await acting.http.post("/api/v1/resources/node", json={**wish, "id": "n1"}, headers=headers),
        ):
            assert (refused.status_code, refused.json()["code"]) == (403, "role_too_low")
            assert "metadata.drain_command" in refused.json()["detail"]
    assert (await acting.http.get(NODE)).status_code == 404
    assert (await apply(acting, wish, headers=admin)).status_code == 201
    others: list[dict[str, Any]] = [{"metadata": {}}, {"metadata": {"drain_command": ["true"]}}]
    for other in others:
        assert (await apply(acting, other, headers=operator)).status_code == 403
    kept = {"metadata": {**wish["metadata"], "serial": "x1"}, "labels": {"rack": "r7"}}
    assert (await apply(acting, kept, headers=operator)).json()["outcome"] == "changed"


async def test_metadata_that_is_nested_too_deep_is_refused_and_not_kept(acting: World) -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    answer = await apply(acting, {"metadata": {"x": deep}})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert (await acting.http.get(NODE)).status_code == 404
