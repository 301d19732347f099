"""The client that every HTTP driver is made of: bounds, streams, TLS, unix sockets, JSON that is none."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from steersman.drivers.api import SourceError
from steersman.drivers.web.access import WebAccess
from steersman.drivers.web.client import LINE_MAX_BYTES, Answer, Tls, WebClient
from steersman.drivers.web.fake import Request, Response, WebFake
from steersman.kernel.clock import SystemClock
from steersman.kernel.secret import Secret

TIMEOUT_S = 5.0


@asynccontextmanager
async def client_of(answer: Response, **options: Any) -> AsyncIterator[tuple[WebFake, WebClient]]:
    async def give(request: Request) -> Response:
        return answer

    web = await WebFake(give).start()
    client = WebClient(web.url, SystemClock(), **options)
    try:
        yield web, client
    finally:
        await client.close()
        await web.stop()


async def test_a_path_its_parameters_and_a_body_are_sent() -> None:
    async with client_of(Response(b"{}", content_type="application/json")) as (web, client):
        answer = await client.ask(
            "POST", "/a%2Fb", params={"q": "x y&z"}, form={"k": "1"}, timeout_s=TIMEOUT_S
        )
        assert (answer.kind, answer.json()) == ("application/json", {})
        assert web.requests[0].method == "POST"
        assert web.requests[0].path in ("/a%2Fb?q=x+y%26z", "/a%2Fb?q=x%20y%26z")


async def test_headers_are_asked_for_before_each_request() -> None:
    tokens = iter(["one", "two"])

    async def headers() -> dict[str, str]:
        return {"Authorization": next(tokens)}

    async with client_of(Response(b""), headers=headers) as (web, client):
        await client.get(timeout_s=TIMEOUT_S)
        await client.get(timeout_s=TIMEOUT_S)
        assert [request.headers["authorization"] for request in web.requests] == ["one", "two"]


class Shape(Struct):
    items: list[int]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b'{"items": [1, 2', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"items": null}', "another shape"),
        (b'{"items": ["x"]}', r"another shape.*items"),
        (b"[" * 100_000, "nested too deep|not JSON|another shape"),
        (b'{"x":' * 100_000, "nested too deep|not JSON|another shape"),
    ],
)
def test_json_that_is_none_says_where(body: bytes, says: str) -> None:
    answer = Answer("http://h/x", 200, {}, body)
    with pytest.raises(SourceError, match=says) as refused:
        answer.json(Shape)
    assert "http://h/x" in refused.value.detail


def test_a_repeated_key_costs_nothing_else() -> None:
    assert Answer("x", 200, {}, b'{"items": [1], "items": [2]}').json(Shape).items == [2]


async def test_an_answer_over_the_bound_is_refused_while_it_comes() -> None:
    async with client_of(Response(b"x" * 100_000), max_bytes=5000) as (_, client):
        with pytest.raises(SourceError, match=r"more than 5000"):
            await client.get(timeout_s=TIMEOUT_S)
        assert len((await client.ask("GET", timeout_s=TIMEOUT_S, max_bytes=200_000)).body) == 100_000


async def test_an_empty_answer_may_call_itself_gzip() -> None:
    async with client_of(Response(b"", 200, headers={"Content-Encoding": "gzip"})) as (_, client):
        assert (await client.get(timeout_s=TIMEOUT_S)).body == b""


async def lines_of(client: WebClient, idle_timeout_s: float = TIMEOUT_S) -> list[Any]:
    found: list[Any] = []
    async with client.stream("/w", connect_timeout_s=TIMEOUT_S, idle_timeout_s=idle_timeout_s) as stream:
        async for line in stream.lines():
            found.append(json.loads(line))
    return found


async def test_a_stream_is_read_by_lines_and_one_without_an_end_is_left_out() -> None:
    async with client_of(Response(b'{"a":1}\n\n{"a":2}\n{"a":')) as (_, client):
        assert await lines_of(client) == [{"a": 1}, {"a": 2}]


async def test_a_line_over_the_bound_ends_the_stream() -> None:
    async with client_of(Response(b"x" * (LINE_MAX_BYTES + 100_000))) as (_, client):
        with pytest.raises(SourceError, match="a line has more"):
            await lines_of(client)


async def test_a_silent_stream_ends() -> None:
    async with client_of(Response(b"")) as (web, client):
        await web.fail("hang")
        with pytest.raises(SourceError, match=r"no whole answer within 0\.2 s"):
            async with client.stream("/w", connect_timeout_s=0.2, idle_timeout_s=0.2):
                pass


async def test_a_stream_that_is_cut_says_so() -> None:
    async with client_of(Response(b'{"a":1}\n' * 100)) as (web, client):
        await web.fail("half")
        with pytest.raises(SourceError, match="in the middle"):
            await lines_of(client)


async def test_a_unix_socket_is_a_place_too(tmp_path: Path) -> None:
    path = str(tmp_path / "rest.sock")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    client = WebClient("http://slurm", SystemClock(), unix_socket=path)
    try:
        answer = await client.get("/ping", timeout_s=TIMEOUT_S)
        assert (answer.body, answer.place) == (b"hi", f"unix:{path}/ping")
        missing = WebClient("http://slurm", SystemClock(), unix_socket=str(tmp_path / "none.sock"))
        with pytest.raises(SourceError, match="no connection could be made"):
            await missing.get(timeout_s=TIMEOUT_S)
        await missing.close()
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


async def test_a_source_may_be_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "rest.sock")
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    access = WebAccess(url=f"unix:{path}", token=Secret("hunter2"))
    client = access.open_client(SystemClock())
    try:
        assert (await client.get("/ping", timeout_s=TIMEOUT_S)).body == b"hi"
        assert asked[0].startswith(b"GET /ping ")
        assert b"Bearer hunter2" in asked[0]
        assert (access.socket, access.place, access.instance) == (path, f"unix:{path}", f"unix:{path}")
        assert "hunter2" not in repr(access)
    finally:
        await client.close()
        server.close()
        await server.wait_closed()
    for wrong in ("unix:rest.sock", "unix://host/x", "unix:", "unix:/a\nb"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"url": wrong}, WebAccess)


def make_certificates(folder: Path) -> None:
    """An authority, and a server's and a client's certificate of it."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority"),
    )
    for name in ("server", "client"):
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-out", f"{name}.pem", "-extfile", "names"),
        )


async def test_mutual_tls(tmp_path: Path) -> None:
    await asyncio.to_thread(make_certificates, tmp_path)
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    trust.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    trust.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(serve, sock=free, ssl=trust)
        url = f"https://127.0.0.1:{free.getsockname()[1]}"
        names = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
        files = {key: str(tmp_path / name) for key, name in names.items()}
        client = WebAccess(url=url, **files).open_client(SystemClock())
        without = WebClient(url, SystemClock(), tls=Tls(ca_file=files["ca_file"]))
        stranger = WebClient(url, SystemClock())
        missing = WebClient(url, SystemClock(), tls=Tls(ca_file=str(tmp_path / "none.pem")))
        try:
            assert (await client.get(timeout_s=TIMEOUT_S)).body == b"hi"
            with pytest.raises(SourceError):
                await without.get(timeout_s=TIMEOUT_S)
            with pytest.raises(SourceError, match="certificate is not trusted"):
                await stranger.get(timeout_s=TIMEOUT_S)
            with pytest.raises(SourceError, match=r"none\.pem"):
                await missing.get(timeout_s=TIMEOUT_S)
        finally:
            for one in (client, without, stranger, missing):
                await one.close()
            server.close()
            await server.wait_closed()


@pytest.mark.parametrize(
    "options",
    [
        {"cert_file": "a.pem"},
        {"key_file": "a.key"},
        {"ca_file": "ca.pem", "verify_tls": False},
        {"token": Secret("a"), "username": "u", "password": Secret("p")},
        {"token": Secret("a\r\nX: y")},
        {"url": "http://u:p@h", "token": Secret("a")},
    ],
)
def test_access_that_contradicts_itself_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        WebAccess(**{"url": "http://h", **options})


async def test_no_credential_is_in_an_error() -> None:
    access = WebAccess(url="http://user:hunter2@127.0.0.1:1/x?key=hunter2")
    client = access.open_client(SystemClock())
    with pytest.raises(SourceError) as refused:
        await client.get(timeout_s=TIMEOUT_S)
    await client.close()
    assert "hunter2" not in f"{refused.value!r} {refused.value} {access!r}"


async def test_the_fake_is_told_the_body_of_a_request() -> None:
    async with client_of(Response(b"")) as (web, client):
        await client.ask("POST", "/a", body=b"x" * 200_000, timeout_s=TIMEOUT_S)
        assert web.requests[0].body == b"x" * 200_000
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(
            b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert web.requests[1].body == b"abcde"


async def test_the_fake_streams_until_its_caller_goes_away() -> None:
    left = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b'{"a":1}\n{"a"'
            yield b":2}\n"
            await asyncio.Event().wait()
        finally:
            left.set()

    async with client_of(Response(stream=pieces())) as (_, client):
        async with client.stream("/w", connect_timeout_s=TIMEOUT_S, idle_timeout_s=TIMEOUT_S) as stream:
            lines = stream.lines()
            assert [await anext(lines), await anext(lines)] == [b'{"a":1}', b'{"a":2}']
        async with asyncio.timeout(TIMEOUT_S):
            await left.wait()


async def test_the_fake_cuts_a_stream() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"a":1}\n{"a"'

    async with client_of(Response(stream=pieces(), cut=True)) as (_, client):
        with pytest.raises(SourceError, match="in the middle"):
            await lines_of(client)


async def test_a_stream_is_not_asked_for_compressed() -> None:
    async with client_of(Response(b"")) as (web, client):
        await lines_of(client)
        assert web.requests[0].headers["accept-encoding"] == "identity"


async def test_certificates_may_be_given_as_text_and_a_server_by_another_name(tmp_path: Path) -> None:
    await asyncio.to_thread(make_certificates, tmp_path)
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    trust.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    trust.verify_mode = ssl.CERT_OPTIONAL

    async def give(request: Request) -> Response:
        return Response(request.user.encode())

    ca = (tmp_path / "ca.pem").read_text()
    pair = Secret((tmp_path / "client.pem").read_text() + (tmp_path / "client.key").read_text())
    web = await WebFake(give, tls=trust).start()
    shown = WebClient(web.url, SystemClock(), tls=Tls(ca_pem=ca, pair_pem=pair))
    by_name = f"https://localhost:{web.port}"
    named = WebClient(by_name, SystemClock(), tls=Tls(ca_pem=ca, server_name="127.0.0.1"))
    other = WebClient(by_name, SystemClock(), tls=Tls(ca_pem=ca))
    broken = WebClient(web.url, SystemClock(), tls=Tls(ca_pem=ca, pair_pem=Secret("no PEM hunter2")))
    try:
        assert (await shown.get(timeout_s=TIMEOUT_S)).body == b"client"
        assert (await named.get(timeout_s=TIMEOUT_S)).body == b""
        with pytest.raises(SourceError, match="certificate is not trusted"):
            await other.get(timeout_s=TIMEOUT_S)
        with pytest.raises(SourceError, match="TLS files can't be used") as refused:
            await broken.get(timeout_s=TIMEOUT_S)
        assert "hunter2" not in str(refused.value)
    finally:
        for one in (shown, named, other, broken):
            await one.close()
        await web.stop()


async def test_a_query_of_the_url_stays_behind_the_path() -> None:
    """Some APIs take their key as a query; a path that is put behind the URL must not land in it."""

    async def answer(request: Request) -> Response:
        return Response(request.path.encode())

    web = await WebFake(answer).start()
    client = WebClient(f"{web.url}/api/?key=a%2Fb", SystemClock())
    try:
        assert (await client.get(timeout_s=5)).body == b"/api/?key=a/b"
        answered = await client.get("/models?all=1", timeout_s=5, params={"page": "2"})
        assert answered.body == b"/api/models?all=1&key=a/b&page=2"
    finally:
        await client.close()
        await web.stop()
