"""A recording over HTTP: whole when the server ends it, good as far as it got when its reader does."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest

from steersman.kinds.fragment import StateFragment
from steersman.observe.entries import Batch
from steersman.observe.recformat import Reader

Fragment = Callable[..., dict[str, Any]]
Make = Callable[..., Any]


def take(world: Any, *fragments: dict[str, Any]) -> None:
    world.plane.inlet.take([msgspec.convert(one, StateFragment) for one in fragments])


def ids_in(body: bytes) -> tuple[list[str], Reader]:
    reader = Reader(io.BytesIO(body))
    found = [f.entity_id for entry in reader.entries() if isinstance(entry, Batch) for f in entry.fragments]
    return found, reader


async def test_a_shutdown_closes_the_recording_properly(world: Any, serve: Make, fragment: Fragment) -> None:
    body = bytearray()
    async with (
        serve(world) as url,
        httpx2.AsyncClient() as http,
        http.stream("GET", f"{url}/api/v1/recording") as answer,
    ):
        assert answer.headers["content-type"] == "application/vnd.steersman.recording"
        async for chunk in answer.aiter_raw():
            if not body:
                take(world, fragment("a"), fragment("b"))
                take(world, fragment("c"))
                await world.api.drain()
            body += chunk
    found, reader = ids_in(bytes(body))
    assert found == ["a", "b", "c"]
    reader.require_complete()


async def test_what_was_pushed_over_http_is_in_it(world: Any, address: str, fragment: Fragment) -> None:
    body = bytearray()
    async with httpx2.AsyncClient() as http, http.stream("GET", f"{address}/api/v1/recording") as answer:
        async for chunk in answer.aiter_raw():
            if not body:
                pushed = await http.post(f"{address}/api/v1/fragments", json=[fragment("a"), {"bad": 1}])
                assert pushed.json()["accepted"] == 1
            body += chunk
            if ids_in(bytes(body))[0]:
                break
    assert ids_in(bytes(body))[0] == ["a"]
    while len(world.api.lines):
        await world.plane.clock.sleep(0)


async def test_a_recording_takes_role_operator(guarded: Any) -> None:
    refused = await guarded.http.get("/api/v1/recording", headers=await guarded.bearer("viewer"))
    assert (refused.status_code, refused.json()["code"]) == (403, "role_too_low")


async def test_it_ends_by_itself_after_the_time_that_was_asked_for(world: Any, address: str) -> None:
    """Whole, with its footer: a recording of an hour is told from one that was cut."""
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{address}/api/v1/recording?seconds=0.2", timeout=30)
    _, reader = ids_in(answer.content)
    reader.require_complete()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", "1e9"])
async def test_a_time_that_is_none_is_refused(address: str, seconds: str) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{address}/api/v1/recording?seconds={seconds}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
