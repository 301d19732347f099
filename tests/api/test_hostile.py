"""Requests that nobody sends by mistake: each gets a typed refusal, never a 500, and none gets through."""

from __future__ import annotations

import base64
from typing import Any

import pytest

LIST = "/api/v1/entities"


def as_cursor(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize(
    "text", [b'["node","\xff","x"]', b'["node","\\ud800","x"]', b'["node","a"]', b"[" * 1400, b"\x00"]
)
async def test_a_forged_cursor_is_refused(text: bytes, world: Any) -> None:
    answer = await world.http.get(LIST, params={"cursor": as_cursor(text)})
    assert (answer.status_code, answer.json()["code"]) == (400, "cursor_invalid")


@pytest.mark.parametrize("value", ["[" * 2000, "9" * 5000, "1e999", '"\\ud800"'])
async def test_a_field_is_compared_with_whatever_is_written(value: str, world: Any, fragment: Any) -> None:
    await world.http.post("/api/v1/fragments", json=[fragment()])
    answer = await world.http.get(LIST, params={"field": f"cpu_utilization={value}"})
    assert (answer.status_code, answer.json()["items"]) == (200, [])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{LIST}?limit=1&limit=2", "limit"),
        (f"{LIST}?scope=a&scope=b", "scope"),
        (f"{LIST}?q=a&q=a", "q"),
        (f"{LIST}/node/n1?scope=a&scope=b", "scope"),
        (f"{LIST}/node/n1/explain?scope=a&scope=b", "scope"),
        ("/api/v1/watch?after=1&after=2", "after"),
        ("/api/v1/recording?seconds=1&seconds=2", "seconds"),
    ],
)
async def test_a_parameter_that_may_come_once_is_refused_twice(path: str, name: str, world: Any) -> None:
    """Goal: nobody is answered by the one of two contradicting values that happens to win."""
    answer = await world.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert answer.json()["detail"].startswith(f"{name} may be given once")


@pytest.mark.parametrize(
    "query", ["type=node&type=gpu", "health=critical&health=healthy", "label=a%3Db&label=c%3Dd"]
)
async def test_a_parameter_that_may_repeat_may(query: str, world: Any) -> None:
    assert (await world.http.get(f"{LIST}?{query}")).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1 evil.example",
        "[::1]evil.example",
        "[::1",
        "::1]",
        "::1",
        "127.0.0.1:evil.example",
        "localhost:80:80",
        "u@localhost",
        "localhost/evil.example",
        "localhost, evil.example",
        "[localhost]",
        "localhost\x85",
    ],
)
async def test_what_is_no_host_header_names_no_machine(host: str, world: Any, guarded: Any) -> None:
    """Goal: no lenient reading that another program on the way could read otherwise; and no 500 for it."""
    raw = {b"host": host.encode("latin-1")}
    answer = await world.http.get("/api/v1/whoami", headers=raw)
    assert (answer.status_code, answer.json()["code"]) == (403, "host_not_allowed")
    answer = await guarded.http.get("/api/v1/whoami", headers=raw | {b"authorization": b"Bearer x"})
    assert answer.status_code == 401
    token = (await guarded.bearer("viewer"))["authorization"].encode()
    answer = await guarded.http.get("/api/v1/whoami", headers=raw | {b"authorization": token})
    assert answer.status_code < 500
