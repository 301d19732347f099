"""Subscriptions over HTTP: who may what, secrets shown once, refusals by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from steersman.kernel.clock import SystemClock
from steersman.kinds.command import ResourceEvent
from steersman.store.api import Put
from steersman.testing.plane import World, make_world

PATH = "/api/v1/subscriptions"
NOWHERE = "http://127.0.0.1:1/hook"


@pytest.fixture
async def telling() -> AsyncIterator[World]:
    async with make_world(events=True) as made:
        yield made


@pytest.fixture
async def admin(telling: World) -> dict[str, str]:
    return await telling.bearer("admin")


async def make(world: World, admin: dict[str, str], **wish: Any) -> dict[str, Any]:
    answer = await world.http.post(PATH, json={"url": NOWHERE, **wish}, headers=admin)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_made_seen_changed_and_removed(telling: World, admin: dict[str, str]) -> None:
    made = await make(telling, admin, kinds=["Node"], actions=["transitioned"], labels={"rack": "1"})
    one, secret = made["subscription"]["id"], made["secret"]
    assert secret.startswith("whsec_")
    assert made["subscription"]["created_by"] == "a admin"
    seen = await telling.http.get(f"{PATH}/{one}", headers=admin)
    listed = await telling.http.get(PATH, headers=admin)
    changed = await telling.http.patch(f"{PATH}/{one}", json={"enabled": False}, headers=admin)
    assert changed.json()["subscription"]["kinds"] == ["Node"], "what is left out stays"
    assert not changed.json()["delivery"]["running"]
    for answer in (seen, listed, changed):
        assert answer.status_code == 200
        assert secret not in answer.text
        assert "secret" not in answer.text
    assert (await telling.http.delete(f"{PATH}/{one}", headers=admin)).status_code == 204
    assert (await telling.http.get(f"{PATH}/{one}", headers=admin)).json()["code"] == "subscription_not_found"


async def test_dead_letters_in_pages_a_test_and_a_replay(telling: World, admin: dict[str, str]) -> None:
    one = (await make(telling, admin))["subscription"]["id"]
    for seq in (1, 2, 3):
        event = ResourceEvent(
            id=f"Node/a/{seq}",
            type="steersman.resource.created.v1",
            subject="Node/a",
            sequence=seq,
            time=SystemClock().now(),
        )
        row = Put(f"outbox/Node/a/{seq:012d}", msgspec.json.encode(event))
        await telling.plane.store.commit([], [row])
    deliveries = telling.plane.deliveries
    assert deliveries is not None
    while deliveries.status(one).dead < 3:
        await SystemClock().sleep(0.01)
    page = (await telling.http.get(f"{PATH}/{one}/dead-letters?limit=2", headers=admin)).json()
    rest = await telling.http.get(
        f"{PATH}/{one}/dead-letters", params={"limit": 2, "after": page["cursor"]}, headers=admin
    )
    letters = page["items"] + rest.json()["items"]
    assert [letter["event"]["sequence"] for letter in letters] == [1, 2, 3]
    assert rest.json()["cursor"] is None
    sent = (await telling.http.post(f"{PATH}/{one}/test", headers=admin)).json()
    assert not sent["delivered"]
    assert "refused" in sent["error"]
    again = await telling.http.post(f"{PATH}/{one}/replay", json={"dead_letters": []}, headers=admin)
    assert (again.status_code, again.json()["dead_letters"]) == (202, 3)
    again = await telling.http.post(f"{PATH}/{one}/replay", json={"from_revision": 1}, headers=admin)
    assert again.json()["after"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", PATH, {"url": "http://10.0.0.1/"}, 409, "target_refused"),
        ("POST", PATH, {"url": "ftp://example.org/"}, 400, "url_invalid"),
        ("POST", PATH, {"url": NOWHERE, "secret": "whsec_" + "%" * 30}, 400, "secret_invalid"),
        ("POST", PATH, {"url": NOWHERE, "secret": "short"}, 400, "body_malformed"),
        ("POST", PATH, {"url": NOWHERE, "actions": ["flown"]}, 400, "body_malformed"),
        ("POST", PATH, {"url": NOWHERE, "allow_private": True}, 400, "body_malformed"),
        ("PATCH", f"{PATH}/ONE", {"url": "http://[::1]/"}, 409, "target_refused"),
        ("PATCH", f"{PATH}/none", {}, 404, "subscription_not_found"),
        ("DELETE", f"{PATH}/none", None, 404, "subscription_not_found"),
        ("GET", f"{PATH}/none/dead-letters", None, 404, "subscription_not_found"),
        ("GET", f"{PATH}/ONE/dead-letters?limit=0", None, 400, "invalid_parameter"),
        ("POST", f"{PATH}/none/test", None, 404, "subscription_not_found"),
        ("POST", f"{PATH}/none/replay", {"dead_letters": []}, 404, "subscription_not_found"),
        ("POST", f"{PATH}/ONE/replay", {}, 400, "invalid_input"),
        ("POST", f"{PATH}/OFF/replay", {"from_revision": 0}, 409, "subscription_disabled"),
    ],
)
async def test_refusals(
    method: str, path: str, body: Any, status: int, code: str, telling: World, admin: dict[str, str]
) -> None:
    on = (await make(telling, admin))["subscription"]["id"]
    off = (await make(telling, admin, enabled=False))["subscription"]["id"]
    path = path.replace("ONE", on).replace("OFF", off)
    answer = await telling.http.request(method, path, json=body, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_roles() -> None:
    async with make_world(events=True, tokens=True) as world:
        one = (await make(world, await world.bearer("admin")))["subscription"]["id"]
        for role, method, path, status in (
            ("viewer", "GET", PATH, 403),
            ("operator", "GET", PATH, 200),
            ("operator", "GET", f"{PATH}/{one}/dead-letters", 200),
            ("operator", "POST", PATH, 403),
            ("operator", "PATCH", f"{PATH}/{one}", 403),
            ("operator", "DELETE", f"{PATH}/{one}", 403),
            ("operator", "POST", f"{PATH}/{one}/replay", 403),
            ("operator", "POST", f"{PATH}/{one}/test", 403),
        ):
            answer = await world.http.request(method, path, headers=await world.bearer(role))
            assert answer.status_code == status, (role, method, path)


async def test_a_process_without_an_outbox_says_so(world: Any) -> None:
    headers = await world.bearer("admin")
    for path in (PATH, f"{PATH}/one"):
        answer = await world.http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "events_unavailable")
