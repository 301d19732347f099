"""Probed endpoints: what a probe finds, a window of them, and that a slow one delays nobody."""

from __future__ import annotations

import asyncio
import base64
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from steersman.drivers.api import DriverContext
from steersman.drivers.host.certificate import expires_at
from steersman.drivers.host.client import BODY_MAX_BYTES, ProbeAnswer, ProbeClient
from steersman.drivers.host.observe import HostDriver
from steersman.drivers.host.options import Endpoint, HostOptions
from steersman.drivers.host.probe import PROBES_MIN, WINDOW_PROBES, WINDOW_S, Probes, Window, percentile
from steersman.drivers.web.fake import Request, Response, WebFake
from steersman.drivers.web.url import public_url
from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import Duration
from steersman.kernel.secret import Secret
from steersman.kinds.entity import EntityType

CERTIFICATE = Path(__file__).parent / "certificate.pem"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def ask(web: WebFake, path: str = "/", **options: object) -> ProbeAnswer:
    client = ProbeClient(asyncio.get_running_loop().time)
    try:
        return await client.probe(Endpoint("e", f"{web.url}{path}", **options))  # type: ignore[arg-type]
    finally:
        await client.close()


async def serve(response: Response) -> WebFake:
    async def answer(request: Request) -> Response:
        return Response(b"arrived") if request.path == "/arrived" else response

    return await WebFake(answer).start()


@pytest.mark.parametrize(
    ("response", "options", "error"),
    [
        (Response(b"ok"), {}, ""),
        (Response(b"", 204), {}, ""),
        (Response(b"ok", 503), {}, "status 503"),
        (Response(b"ok", 418), {"expect_status": [418]}, ""),
        (Response(b"all well"), {"expect_text": "well"}, ""),
        (Response(b"all bad"), {"expect_text": "well"}, "text_missing"),
        (Response(b"", 302, headers={"Location": "/arrived"}), {}, "status 302"),
        (Response(b"", 302, headers={"Location": "/arrived"}), {"follow_redirects": True}, ""),
        (Response(b"", 302, headers={"Location": "/again"}), {"follow_redirects": True}, "redirects"),
        (Response(b"x" * (BODY_MAX_BYTES * 4)), {}, ""),
    ],
)
async def test_an_answer_is_judged(response: Response, options: dict[str, object], error: str) -> None:
    web = await serve(response)
    answer = await ask(web, **options)
    assert answer.error == error
    assert error == "redirects" or answer.latency_s is not None
    await web.stop()


@pytest.mark.parametrize(
    ("fault", "error"),
    [("hang", "timeout"), ("refuse", "refused"), ("garbage", "protocol"), ("half", "truncated"),
     ("close", "closed"), ("error", "status 500")],
)  # fmt: skip
async def test_a_failure_has_its_word(fault: str, error: str) -> None:
    web = await serve(Response(b"hello"))
    await web.fail(fault)
    answer = await ask(web, timeout=Duration(0.2 if fault == "hang" else 5))
    assert answer.error == error
    await web.stop()


async def test_the_header_is_sent_and_its_value_shown_nowhere() -> None:
    web = await serve(Response(b"ok"))
    endpoint = Endpoint("e", web.url, header="X-Key", header_value=Secret("hunter2"))
    client = ProbeClient(asyncio.get_running_loop().time)
    await client.probe(endpoint)
    await client.close()
    assert web.requests[0].headers["x-key"] == "hunter2"
    assert "hunter2" not in repr(endpoint)
    await web.stop()


async def test_the_expiry_of_a_certificate_is_told_also_where_it_is_not_trusted() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(context.load_cert_chain, CERTIFICATE)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    client = ProbeClient(asyncio.get_running_loop().time)
    try:
        trusting = await client.probe(Endpoint("e", url, verify_tls=False))
        assert (trusting.error, trusting.tls_expires_at) == (
            "",
            datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC),
        )
        assert (await client.probe(Endpoint("e", url))).error == "tls"
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


def test_a_certificate_is_read_and_other_bytes_are_not() -> None:
    body = CERTIFICATE.read_text().partition("BEGIN CERTIFICATE-----")[2].partition("-----")[0]
    der = base64.b64decode(body)
    assert expires_at(der) == datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)
    for cut in range(len(der)):
        expires_at(der[:cut])
    assert expires_at(b"") is None
    assert expires_at(b"\x30\x82\xff\xff" + b"\0" * 10) is None


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(i) for i in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 2.0], 0.5) == 1.0
    assert percentile([], 0.5) is None


def test_a_window_tells_of_its_probes_alone() -> None:
    window = Window(Endpoint("e", "http://u:p@h/x?key=s#f"))
    assert window.facts(0) is None
    for turn in range(WINDOW_PROBES + 50):
        window.add(ProbeAnswer(0.5, 500, "status 500") if turn < 50 else ProbeAnswer(0.01, 200), turn, NOW)
    window.add(ProbeAnswer(error="timeout"), 200, NOW)
    told = window.facts(200)
    assert told is not None
    assert told.fields["probe_count"] == WINDOW_PROBES
    assert told.fields["error_rate"] == 1 / WINDOW_PROBES
    assert told.fields["latency_p99_ms"] == 10.0, "a probe without an answer has no latency"
    assert told.fields["up"] is False
    assert told.fields["last_error"] == "timeout"
    assert told.fields["url"] == "http://h/x"
    later = window.facts(200 + WINDOW_S + 1)
    assert later is not None
    assert later.fields["error_rate"] is None


def test_few_probes_have_no_error_rate() -> None:
    window = Window(Endpoint("e", "http://h/x"))
    rates: list[float | None] = []
    for turn in range(PROBES_MIN + 1):
        window.add(ProbeAnswer(0.5, 500, "status 500") if turn == 0 else ProbeAnswer(0.01, 200), turn, NOW)
        told = window.facts(turn)
        assert told is not None
        rates.append(told.fields["error_rate"])
    assert rates == [None] * (PROBES_MIN - 1) + [1 / PROBES_MIN, 1 / (PROBES_MIN + 1)]


def test_urls_are_shown_without_what_is_secret() -> None:
    assert public_url("https://user:pass@h:8443/a?token=x#y") == "https://h:8443/a"


class Slow:
    """Answers at once, except for the endpoint named slow, which takes until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.cancelled = 0

    async def probe(self, endpoint: Endpoint) -> ProbeAnswer:
        try:
            if endpoint.name == "slow":
                await self.let_go.wait()
            return ProbeAnswer(0.01, 200)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def close(self) -> None:
        pass


async def test_a_slow_endpoint_delays_nobody_and_is_told_when_it_answers() -> None:
    prober, clock = Slow(), ManualClock()
    probes = Probes(
        [Endpoint("slow", "http://a"), Endpoint("fast", "http://b")], prober, clock, seeded_rng(1), "t"
    )
    assert [told.endpoint.name for told in await probes.collect(0.01)] == ["fast"]
    assert [told.endpoint.name for told in await probes.collect(0.01)] == ["fast"]
    clock.advance(3)
    prober.let_go.set()
    told = await probes.collect(5)
    assert [one.endpoint.name for one in told] == ["slow", "fast"]
    await probes.close()
    await probes.close()


async def test_a_cancelled_look_takes_its_probes_with_it() -> None:
    prober = Slow()
    probes = Probes([Endpoint("slow", "http://a")], prober, ManualClock(), seeded_rng(1), "t")
    look = asyncio.create_task(probes.collect(60))
    for _ in range(5):
        await asyncio.sleep(0)
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look
    await asyncio.sleep(0)
    assert prober.cancelled == 1
    await probes.close()


async def test_the_driver_tells_of_services_with_the_time_of_the_probe() -> None:
    web = await serve(Response(b"ok"))
    context = DriverContext("host", "lab", SystemClock(), seeded_rng(1), 10.0, 5.0)
    options = HostOptions(endpoints=[Endpoint("api", web.url), Endpoint("gone", "http://127.0.0.1:9/")])
    driver = HostDriver(options, context)
    try:
        seen = await driver.observe()
        services = {f.entity_id: f for f in seen.fragments if f.entity_type is EntityType.SERVICE}
        assert services["api"].fields["up"] is True
        assert "error_rate" not in services["api"].fields, "one probe is no share"
        assert services["api"].fields["latency_p95_ms"] > 0
        assert services["gone"].fields["last_error"] == "refused"
        assert services["gone"].labels["cluster"] == "lab"
    finally:
        await driver.close()
        await web.stop()


def test_a_host_without_endpoints_does_not_load_an_http_library() -> None:
    """It takes a third of a second, which the first start has not got."""
    import subprocess

    check: Callable[[str], None] = lambda code: subprocess.run([sys.executable, "-c", code], check=True)  # noqa: E731
    check("import sys, steersman.drivers.host; sys.exit('aiohttp' in sys.modules or 'pynvml' in sys.modules)")
