"""`steersman subscription`, and both clients behind it, against a plane that really delivers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from steersman.cli.program import run_program
from steersman.client import AsyncSteersman
from steersman.testing.plane import World, make_world, serve

NOWHERE = "http://127.0.0.1:1/hook"
Type = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def telling() -> AsyncIterator[World]:
    async with make_world(events=True) as made:
        yield made


@pytest.fixture
async def address(telling: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    bearer = await telling.bearer("admin")
    async with serve(telling) as address:
        monkeypatch.setenv("STEERSMAN_SERVER", address)
        monkeypatch.setenv("STEERSMAN_TOKEN", bearer["authorization"].removeprefix("Bearer "))
        yield address


@pytest.fixture
def type_in(address: str, capsys: pytest.CaptureFixture[str]) -> Type:
    """Run a command line against the plane: exit code, stdout, stderr."""

    async def typed(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run_program, words)
        return code, *capsys.readouterr()

    return typed


async def test_a_subscription_is_made_seen_tested_and_removed(type_in: Type) -> None:
    code, secret, remark = await type_in(
        "subscription", "create", NOWHERE, "--kind", "nodes", "-l", "rack=r1", "--name", "pager"
    )
    assert code == 0, remark
    assert secret.startswith("whsec_")
    assert "shown this once" in remark
    code, out, _ = await type_in("subscription", "list", "-o", "json")
    (item,) = json.loads(out)["items"]
    one = item["subscription"]["id"]
    assert item["subscription"]["kinds"] == ["Node"]
    assert secret.strip() not in out
    assert "pager" in (await type_in("subscription", "list"))[1]
    code, out, _ = await type_in("subscription", "test", one)
    assert code == 1
    assert out.startswith("not taken: no answer")
    assert (await type_in("subscription", "dead-letters", one))[0] == 0
    code, out, _ = await type_in("subscription", "replay", one, "--dead")
    assert (code, out) == (0, "0 dead letters are sent again\n")
    code, out, _ = await type_in("subscription", "replay", one, "--from", "2026-01-01T00:00:00Z")
    assert code == 0
    assert out.startswith("everything after revision")
    assert (await type_in("subscription", "delete", one))[0] == 0
    code, _, err = await type_in("subscription", "delete", one)
    assert code == 1
    assert one in err


@pytest.mark.parametrize("words", [(), ("--dead", "--from", "2026-01-01"), ("--from", "yesterday")])
async def test_a_replay_says_what_is_wanted(type_in: Type, words: tuple[str, ...]) -> None:
    assert (await type_in("subscription", "replay", "sub-1", *words))[0] == 2


async def test_the_asynchronous_client_can_do_the_same(telling: World, address: str) -> None:
    token = (await telling.bearer("admin"))["authorization"].removeprefix("Bearer ")
    async with AsyncSteersman(address, token=token) as plane:
        issued = await plane.create_subscription(NOWHERE, name="a")
        one = issued.subscription.id
        changed = await plane.change_subscription(one, enabled=False)
        assert changed.subscription.enabled is False
        assert changed.subscription.name == "a"
        assert [item.subscription.id for item in await plane.subscriptions()] == [one]
        assert (await plane.subscription(one)).subscription.url == NOWHERE
        assert [letter async for letter in plane.dead_letters(one)] == []
        await plane.delete_subscription(one)
        assert await plane.subscriptions() == []
