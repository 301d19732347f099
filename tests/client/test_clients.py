"""Both clients over a real server: every call, typed errors, what is retried and what is not, clean ends."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from steersman.client import (
    AnswerTimedOut,
    AsyncSteersman,
    BadAnswer,
    Gone,
    NotReachable,
    Resync,
    Steersman,
    calls,
    shapes,
)
from steersman.client.transport import ATTEMPTS, base_url
from steersman.kernel import errors
from steersman.kinds.entity import EntityType, HealthState, NodeEntity
from steersman.kinds.explanation import EntityHistory
from steersman.kinds.fragment import StateFragment

Fragment = Callable[..., dict[str, Any]]
Client = Callable[..., Any]


class Blocking:
    """The blocking client, called from a thread in the asynchronous one's shape."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self.client = Steersman(*args, **named)

    async def __aenter__(self) -> Blocking:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.client.close)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if inspect.isgeneratorfunction(method):
            return lambda *args, **named: self._stepwise(method(*args, **named))
        return lambda *args, **named: asyncio.to_thread(method, *args, **named)

    @staticmethod
    async def _stepwise(iterator: Any) -> AsyncIterator[Any]:
        end = object()
        try:
            while (item := await asyncio.to_thread(next, iterator, end)) is not end:
                yield item
        finally:
            await asyncio.to_thread(iterator.close)


@pytest.fixture(params=[AsyncSteersman, Blocking], ids=["async", "blocking"])
def client(request: pytest.FixtureRequest) -> Client:
    return request.param


def test_both_clients_have_the_same_calls() -> None:
    def surface(cls: type) -> dict[str, list[str]]:
        public = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
        return {
            name: list(inspect.signature(value).parameters) if callable(value) else []
            for name, value in public.items()
        }

    assert surface(Steersman) == surface(AsyncSteersman)


async def test_every_read_gives_its_type(
    world: Any, address: str, client: Client, fragment: Fragment
) -> None:
    world.bus.put(msgspec.convert(fragment("a/b"), StateFragment))
    async with client(address) as plane:
        entity = await plane.entity("nodes", "a/b")
        assert isinstance(entity, NodeEntity)
        assert entity.cpu_utilization == 0.5
        explanation = await plane.explain(EntityType.NODE, "a/b", "c1")
        assert explanation.fields["cpu_utilization"].source == "test"
        assert explanation.key == entity.key
        assert isinstance(await plane.history("node", "a/b"), EntityHistory)
        assert [one.name for one in await plane.sources()] == ["test"]
        status = await plane.status()
        assert (status.ready, status.version) == (True, "0.0.0-test")
        assert {task.name for task in status.tasks} >= {"http", "bus"}
        assert (await plane.whoami()).role == "operator"


async def test_lists_are_walked_page_by_page(
    world: Any, address: str, client: Client, fragment: Fragment
) -> None:
    for number in range(25):
        world.bus.put(msgspec.convert(fragment(f"n{number:02d}"), StateFragment))
    async with client(address) as plane:
        found = [one.entity_id async for one in plane.entities("node", page=10)]
        assert found == [f"n{number:02d}" for number in range(25)]
        some = [
            one.entity_id
            async for one in plane.entities(
                ("node", "gpu"),
                scope="c1",
                fields=["cpu_utilization>=0.5"],
                search="n2",
                labels={"cluster": "c1"},
            )
        ]
        assert some == ["n20", "n21", "n22", "n23", "n24"]
        assert [one async for one in plane.entities(healths=[HealthState.CRITICAL])] == []


async def test_a_push_of_any_size_is_one_answer(
    world: Any, address: str, client: Client, fragment: Fragment, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [fragment(f"n{number}") for number in range(60)]
    many[40] = {"bad": 1}
    long = [
        {**fragment(f"big{number}"), "fields": {f"text{i}": "x" * 4000 for i in range(200)}}
        for number in range(12)
    ]
    async with client(address) as plane:
        answer = await plane.push(many)
        assert (answer.accepted, answer.stale, answer.invalid) == (59, 0, 1)
        assert answer.results[40].error["code"]
        answer = await plane.push(long)
        assert answer.accepted == 12, "more than one request took it"
        assert [result.index for result in answer.results] == list(range(12))
        assert (await plane.push([])).accepted == 0
        assert (await plane.push([msgspec.convert(fragment("typed"), StateFragment)])).accepted == 1


async def test_tokens_are_made_used_and_revoked(world: Any, address: str, client: Client) -> None:
    async with client(address, token=await world.token("admin")) as admin:
        issued = await admin.create_token("ci", "viewer", 60.0)
        assert issued.token.startswith(issued.info.prefix)
        assert [one.name for one in await admin.tokens()] == ["a admin", "ci"]
        async with client(address, token=issued.token) as ci:
            assert (await ci.whoami()).name == "ci"
            with pytest.raises(errors.Forbidden) as caught:
                await ci.tokens()
            assert caught.value.code == "role_too_low"
            await admin.revoke_token(issued.info.id)
            with pytest.raises(errors.Unauthenticated):
                await ci.whoami()
        with pytest.raises(errors.NotFound):
            await admin.revoke_token(issued.info.id)


async def test_errors_are_rebuilt_with_code_status_and_facts(
    world: Any, address: str, client: Client, fragment: Fragment
) -> None:
    world.bus.put(msgspec.convert(fragment("gpu-17"), StateFragment))
    async with client(address) as plane:
        with pytest.raises(errors.NotFound) as caught:
            await plane.entity("node", "gpu-71")
        assert (caught.value.code, caught.value.status) == ("entity_not_found", 404)
        assert caught.value.facts["nearest"] == "gpu-17"
        assert caught.value.problem()["code"] == "entity_not_found"
        with pytest.raises(errors.InvalidInput, match="no kind"):
            await plane.entity("cat", "x")
        with pytest.raises(errors.InvalidInput) as caught:
            [one async for one in plane.entities(fields=["nonsense"])]
        assert caught.value.code == "invalid_parameter"


async def test_a_watch_follows_changes_and_ends_when_it_is_closed(
    world: Any, address: str, client: Client, fragment: Fragment
) -> None:
    async with client(address) as plane:
        changes = plane.watch("node", after=0)
        world.bus.put(msgspec.convert(fragment("a"), StateFragment))
        seen = await anext(changes)
        assert (seen.entity_id, seen.health_state) == ("a", world.bus.get(EntityType.NODE, "a").health_state)
        world.bus.forget(EntityType.NODE, "a", "c1")
        assert isinstance(await anext(changes), Gone)
        await changes.aclose()
        while len(world.api.lines):
            await asyncio.sleep(0)


async def test_a_recording_is_read_as_bytes(world: Any, address: str, client: Client) -> None:
    async with client(address) as plane:
        chunks = plane.record()
        assert (await anext(chunks)).startswith(b"STEERREC")
        await chunks.aclose()


# ---- a server that says what the test wants


class Script:
    """Raw answers, one for each connection; what was asked is kept."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            answer = self.answers.pop(0) if self.answers else b""
            if answer is None:
                await reader.read()  # never answers; ends when the caller gives up
            else:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*answers: bytes | None) -> AsyncIterator[Script]:
    script = Script(*answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        await server.wait_closed()


def http(status: int, body: bytes = b"", *headers: str, media_type: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {media_type}", "connection: close", *headers]
    if not any("content-length" in header for header in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


FINE = http(200, b'{"name": "x", "role": "viewer"}')


async def test_nobody_there_is_told_at_once(client: Client) -> None:
    async with scripted() as script:
        address = script.address
    async with client(address) as plane:
        for ask in (plane.status(), anext(plane.watch())):
            with pytest.raises(NotReachable, match=address):
                await ask


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        http(503, b"{}"),
        http(429, b"{}"),
        http(502, b"oh"),
    ],
)
async def test_what_may_pass_is_tried_again(first: bytes, client: Client) -> None:
    async with scripted(first, FINE) as script, client(script.address) as plane:
        assert (await plane.whoami()).name == "x"
        assert len(script.asked) == 2


async def test_attempts_are_bounded(client: Client) -> None:
    async with scripted(*[http(503, b"{}")] * 9) as script, client(script.address) as plane:
        with pytest.raises(errors.Unavailable):
            await plane.whoami()
        assert len(script.asked) == ATTEMPTS


async def test_what_must_not_happen_twice_is_asked_once(client: Client) -> None:
    async with scripted(http(503, b"{}"), FINE) as script, client(script.address) as plane:
        with pytest.raises(errors.Unavailable):
            await plane.create_token("x")
        assert len(script.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 500, 501])
async def test_a_refusal_is_not_tried_again(status: int, client: Client) -> None:
    async with scripted(http(status, b"no json at all")) as script, client(script.address) as plane:
        with pytest.raises(errors.SteersmanError) as caught:
            await plane.whoami()
        assert caught.value.code == f"http_{status}"
        assert "no json at all" in caught.value.detail
        assert len(script.asked) == 1


async def test_a_redirect_is_not_followed_with_the_token(client: Client) -> None:
    async with scripted(http(302, b"", "location: http://127.0.0.1:1/")) as script:
        async with client(script.address, token="stm_a_b") as plane:
            with pytest.raises(errors.SteersmanError) as caught:
                await plane.whoami()
        assert caught.value.code == "http_302"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b"\xff", b'{"name": 5, "role": "x"}'])
async def test_another_programs_answer_is_told_as_such(body: bytes, client: Client) -> None:
    async with scripted(http(200, body)) as script, client(script.address) as plane:
        with pytest.raises(BadAnswer):
            await plane.whoami()


async def test_a_server_that_hangs_is_given_up_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: the call's own time-out ends it; the error says that the outcome is not known."""
    call = calls.create_token("x", "viewer", None)
    call.timeout_s = 0.2
    async with scripted(None) as script, client(script.address) as plane:
        transport = getattr(plane, "client", plane)._transport
        with pytest.raises(AnswerTimedOut, match="did not answer POST"):
            await (
                transport.run(call) if client is AsyncSteersman else asyncio.to_thread(transport.run, call)
            )


def event(name: str, data: Any, revision: int) -> bytes:
    return f"id: {revision}\nevent: {name}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode()


def stream(*events: bytes) -> bytes:
    return http(200, b"".join(events), media_type="text/event-stream")


async def test_a_watch_that_is_cut_goes_on_where_it_was(client: Client, fragment: Fragment) -> None:
    """Goal: through a proper end, a cut and a server that is away, each change comes exactly once."""
    node = {"entity_type": "node", "observed_at": "2026-01-01T00:00:00Z"}
    one, two, three = ({**node, "entity_id": str(n), "revision": n} for n in (1, 2, 3))
    cut = stream(event("hello", {"revision": 1}, 1), event("entity", two, 2)).replace(
        b"content-length: ", b"content-length: 9"
    )
    async with (
        scripted(
            stream(
                event("hello", {"revision": 0}, 0),
                event("entity", one, 1),
                event("bye", {"revision": 1, "reason": "shutdown"}, 1),
            ),
            http(503, b"{}"),
            cut,
            stream(
                event("hello", {"revision": 2}, 2),
                event("resync", {"revision": 2}, 2),
                event("entity", three, 3),
            ),
        ) as script,
        client(script.address) as plane,
    ):
        changes = plane.watch(after=0)
        seen = [await anext(changes) for _ in range(4)]
        await changes.aclose()
    assert [change.revision for change in seen] == [1, 2, 2, 3]
    assert isinstance(seen[2], Resync)
    after = [
        line for ask in script.asked for line in ask.decode().splitlines() if line.startswith("last-event-id")
    ]
    assert after == ["last-event-id: 0", "last-event-id: 1", "last-event-id: 1", "last-event-id: 2"]


async def test_closing_the_blocking_client_ends_its_watch() -> None:
    """Goal: a program can stop a watch from another thread, also while it waits to come back."""
    async with scripted(stream(event("hello", {"revision": 0}, 0))) as script:
        plane = Steersman(script.address)
        watching = asyncio.create_task(asyncio.to_thread(list, plane.watch()))
        while not script.asked:
            await asyncio.sleep(0)
        await asyncio.to_thread(plane.close)
        try:
            await asyncio.wait_for(watching, 20)
        except errors.SteersmanError:
            pass


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://127.0.0.1:7440", "http://127.0.0.1:7440"),
        ("127.0.0.1:7440", "http://127.0.0.1:7440"),
        ("https://plane.example/prefix/", "https://plane.example/prefix"),
        ("http://[::1]:7440/", "http://[::1]:7440"),
    ],
)
def test_addresses(given: str, meant: str) -> None:
    assert base_url(given) == meant


@pytest.mark.parametrize(
    "given",
    [
        "",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x:99999",
        "http://x:y",
        "http://x/?a=1",
        "http://x/#a",
        "file:///etc",
    ],
)
def test_addresses_that_are_none(given: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        base_url(given)
    assert "u:p" not in caught.value.detail


@pytest.mark.parametrize("token", ["a b", "a\nb", "tökén", "\x7f"])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        Steersman(token=token)
    assert token not in caught.value.detail


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    """Goal: `steersman --help` and a client that is only made cost no HTTP library."""
    import subprocess
    import sys

    code = (
        "import sys; from steersman.client import Steersman; Steersman(); sys.exit('httpx2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_shapes_know_what_the_api_sends(world: Any, fragment: Fragment) -> None:
    """Goal: the client's shapes and the API's own never drift apart: each member that one side requires, the
    other sends."""
    from steersman.api import auth, system
    from steersman.observe import judge, push

    pairs = [
        (shapes.Status, system.Status),
        (shapes.IntakeSource, judge.SourceHealth),
        (shapes.StoreStatus, system.StoreStatus),
        (shapes.WhoAmI, system.WhoAmI),
        (shapes.TokenInfo, auth.TokenInfo),
        (shapes.IssuedToken, auth.IssuedToken),
        (shapes.PushAnswer, push.PushAnswer),
    ]
    for ours, theirs in pairs:
        assert set(ours.__struct_fields__) == set(theirs.__struct_fields__), ours.__name__
    assert dataclasses.is_dataclass(world)
