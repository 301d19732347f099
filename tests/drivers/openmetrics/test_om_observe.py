"""The openmetrics driver over HTTP: bounds, formats, credentials, and answers that are not what was asked."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.exposition.mapping import EntityRule, Mapping, MetricRule, open_mapping
from steersman.drivers.openmetrics import OpenMetricsDriver, OpenMetricsOptions
from steersman.drivers.web.client import CHUNK_BYTES
from steersman.drivers.web.fake import Request, Response, WebFake
from steersman.kernel.clock import SystemClock
from steersman.kernel.config import ConfigInvalid, convert
from steersman.kernel.confread import Rest
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import ByteSize
from steersman.kernel.secret import Secret
from steersman.kernel.yamltext import parse
from steersman.kinds.entity import EntityType

NODE_EXPORTER = open_mapping("node-exporter")
CONTEXT = DriverContext("metrics", "lab", SystemClock(), seeded_rng(1), 15.0, 5.0)
PAGE = b"node_load1 1.5\n"


@asynccontextmanager
async def serving(answer: Response | Callable[[Request], Response]) -> AsyncIterator[WebFake]:
    async def give(request: Request) -> Response:
        return answer if isinstance(answer, Response) else answer(request)

    web = await WebFake(give).start()
    try:
        yield web
    finally:
        await web.stop()


async def observe(web: WebFake, path: str = "/metrics", **options: Any) -> Observation:
    url = f"{web.url}{path}"
    driver = OpenMetricsDriver(OpenMetricsOptions(url=url, mapping=NODE_EXPORTER, **options), CONTEXT)
    try:
        return await driver.observe()
    finally:
        await driver.close()


async def refusal(web: WebFake, **options: Any) -> str:
    with pytest.raises(SourceError) as refused:
        await observe(web, **options)
    return refused.value.detail


async def test_a_page_becomes_fragments() -> None:
    async with serving(Response(PAGE)) as web:
        (fragment,) = (await observe(web, labels={"rack": "r1"})).fragments
        assert fragment.entity_id == f"127.0.0.1:{web.port}"
        assert fragment.labels == {"instance": f"127.0.0.1:{web.port}", "rack": "r1", "cluster": "lab"}
        assert fragment.source == "metrics"
        assert fragment.source_type == "node-exporter"
        asked = web.requests[0].headers
        assert "application/openmetrics-text" in asked["accept"]
        assert "protobuf" not in asked["accept"]
        assert asked["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"token": Secret("s3cret")}, "authorization", "Bearer s3cret"),
        ({"username": "u", "password": Secret("pä")}, "authorization", "Basic dTpww6Q="),
        ({"header": "X-Key", "header_value": Secret("k")}, "x-key", "k"),
    ],
)
async def test_credentials_are_sent(options: dict[str, Any], header: str, value: str) -> None:
    async with serving(Response(PAGE)) as web:
        await observe(web, **options)
        assert web.requests[0].headers[header] == value


@pytest.mark.parametrize(
    "options",
    [
        {"mappings": []},
        {"mapping": NODE_EXPORTER, "token": Secret("a"), "username": "u", "password": Secret("p")},
        {"mapping": NODE_EXPORTER, "username": "u"},
        {"mapping": NODE_EXPORTER, "labels": {"cluster": "x"}},
        {"mapping": NODE_EXPORTER, "header": "X"},
        {"mapping": NODE_EXPORTER, "token": Secret("a\r\nX: y")},
        {"mapping": NODE_EXPORTER, "mappings": ["node-exporter"]},
        {"mapping": NODE_EXPORTER, "header": "X", "header_value": Secret("y"), "follow_redirects": True},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        OpenMetricsOptions(url="http://h/metrics", **options)


def test_a_credential_in_the_url_and_another_are_refused() -> None:
    with pytest.raises(ValueError, match="once"):
        OpenMetricsOptions(url="http://u:p@h/metrics", mapping=NODE_EXPORTER, token=Secret("a"))


def test_options_are_read_from_yaml_with_their_place() -> None:
    good = "url: http://h/metrics\nmappings: [dcgm]\nmax_bytes: 1MiB\ntoken: abc\n"
    options = convert(Rest(parse(good, "s.yaml")), OpenMetricsOptions)
    assert options.max_bytes == 1 << 20
    assert options.tables[0].name == "dcgm"
    assert "abc" not in repr(options)
    with pytest.raises(ConfigInvalid, match=r"s\.yaml:2"):
        convert(Rest(parse("url: http://h/m\nmapings: [dcgm]\n", "s.yaml")), OpenMetricsOptions)
    with pytest.raises(ConfigInvalid, match="no mapping 'dgcm'"):
        convert(Rest(parse("url: http://h/m\nmappings: [dgcm]\n", "s.yaml")), OpenMetricsOptions)


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (Response(b"", 200), "empty"),
        (Response(b"<html>hello</html>", 200, "text/html"), "'text/html'"),
        (Response(b"<html>hello</html>\n", 200), "no exposition"),
        (Response(b"{}", 200, "application/json"), "application/json"),
        (Response(b"x", 200, "application/vnd.google.protobuf"), "protobuf"),
        (Response(PAGE, 503), "status 503"),
        (Response(PAGE, 302, headers={"Location": "/elsewhere"}), "status 302"),
        (Response(PAGE, 200, "application/openmetrics-text"), "cut short"),
        (Response(b"not gzip", 200, headers={"Content-Encoding": "gzip"}), "broken"),
        (Response(gzip.compress(PAGE)[:-4], 200, headers={"Content-Encoding": "gzip"}), "cut short"),
        (Response(PAGE, 200, headers={"Content-Encoding": "br"}), "'br'"),
        (Response(b"node_load1 1\n" * 1000, 200), "more than"),
    ],
)
async def test_an_answer_that_is_no_page_is_a_source_error(response: Response, says: str) -> None:
    async with serving(response) as web:
        detail = await refusal(web, max_bytes=ByteSize(4096))
        assert says in detail
        assert f"127.0.0.1:{web.port}/metrics" in detail, "the place is named"


class CountingClock(SystemClock):
    """Counts how often others were let in."""

    turns = 0

    async def sleep(self, seconds: float) -> None:
        self.turns += 1
        await super().sleep(seconds)


async def test_a_gzip_bomb_lets_others_in_while_it_is_found_out() -> None:
    """64 KiB can be 64 MiB: inflated in one go they would hold up the loop for a quarter of a second."""
    clock = CountingClock()
    bomb = Response(gzip.compress(b"\0" * (20 << 20)), headers={"Content-Encoding": "gzip"})
    async with serving(bomb) as web:
        options = OpenMetricsOptions(url=web.url, mapping=NODE_EXPORTER, max_bytes=ByteSize(16 << 20))
        driver = OpenMetricsDriver(options, structs.replace(CONTEXT, clock=clock))
        with pytest.raises(SourceError, match=r"more than 16MiB \(max_bytes\)"):
            await driver.observe()
        await driver.close()
    assert clock.turns >= (16 << 20) // CHUNK_BYTES


async def test_a_gzip_bomb_is_stopped_while_it_is_small() -> None:
    bomb = gzip.compress(b"\0" * (200 << 20))
    async with serving(Response(bomb, headers={"Content-Encoding": "gzip"})) as web:
        tracemalloc.start()
        try:
            assert "more than" in await refusal(web, max_bytes=ByteSize(1 << 20))
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


async def test_a_redirect_is_followed_only_where_it_is_allowed() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/metrics":
            return Response(b"", 302, headers={"Location": "/real"})
        return Response(PAGE)

    async with serving(answer) as web:
        assert "status 302" in await refusal(web)
        assert (await observe(web, follow_redirects=True)).fragments


async def test_bad_lines_are_told_and_good_ones_kept() -> None:
    async with serving(Response(b"node_load1 1\nnode_load5 x\nbro{ken 1\nnode_load15 3\n")) as web:
        seen = await observe(web)
        assert seen.fragments[0].fields == {"load_1m": 1.0, "load_15m": 3.0}
        assert not seen.complete
        assert "line 2: the value is not a number" in seen.warnings[0]
        assert "line 3" in seen.warnings[1]


async def test_half_a_last_line_is_not_read_as_a_whole_one() -> None:
    """`node_load5 12` may be the beginning of 12345."""
    async with serving(Response(b"node_load1 1\nnode_load5 12")) as web:
        seen = await observe(web)
        assert seen.fragments[0].fields == {"load_1m": 1.0}
        assert not seen.complete


async def test_a_page_of_other_metrics_is_incomplete() -> None:
    async with serving(Response(b"something_else 1\n")) as web:
        seen = await observe(web)
        assert seen.fragments == []
        assert "none of its metrics" in seen.warnings[0]


async def test_a_large_page_is_read_beside_the_loop() -> None:
    page = b"".join(b'other{i="%d"} 1\n' % i for i in range(20_000)) + PAGE
    async with serving(Response(page)) as web:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        seen = await observe(web)
        counting.cancel()
        assert seen.fragments
        assert turns > 5


PROMETHEUS = Mapping(
    name="prometheus",
    entities={"self": EntityRule(type=EntityType.SERVICE, id=["prometheus"])},
    metrics=[
        MetricRule(
            metric=["prometheus_build_info"], entity="self", kind="info", fields={"version": "{version}"}
        ),
        MetricRule(
            metric=["prometheus_http_request_duration_seconds"],
            entity="self",
            kind="histogram",
            unit="s",
            quantiles={"latency_p95_ms": 0.95},
        ),
        MetricRule(metric=["process_resident_memory_bytes"], entity="self", field="memory", unit="B"),
        MetricRule(metric=["go_gc_duration_seconds"], entity="self", field="gc", match={"quantile": ["0.5"]}),
    ],
)


@pytest.mark.real
async def test_prometheus_by_a_table_of_its_own(tmp_path: Path, real_program: Callable[[str], str]) -> None:
    """Nothing but a table is needed for an endpoint that nobody thought of, histograms included."""
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1h}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/metrics"
    driver = OpenMetricsDriver(OpenMetricsOptions(url=url, mapping=PROMETHEUS), CONTEXT)
    process = subprocess.Popen(
        [real_program("prometheus"), f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}",
         f"--storage.tsdb.path={tmp_path}/data"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(200):
            try:
                await driver.observe()
                break
            except SourceError:
                await asyncio.sleep(0.05)
        await driver.observe()  # the first that has a request of ours in its histogram
        seen = await driver.observe()
        (fragment,) = seen.fragments
        assert seen.complete
        assert fragment.fields["version"]
        assert fragment.fields["memory"] > 1_000_000
        assert fragment.fields["latency_p95_ms"] > 0
    finally:
        await driver.close()
        process.terminate()
        process.wait()


async def test_any_body_is_an_observation_or_a_source_error() -> None:
    """Whatever a server sends as a page, in either format: fragments and warnings, or one typed error."""
    chance = random.Random(7)
    shapes = [
        PAGE,
        b"node_load1{",
        b"# EOF\n",
        b'x{a="',
        b"\xff\xfe",
        b"NaN",
        b"1e999",
        b"\r\n",
        b"\0",
        b"node_load5 -1\n",
    ]
    body = b""
    async with serving(lambda _: Response(body, content_type=kind)) as web:
        for _ in range(150):
            kind = chance.choice(["text/plain", "application/openmetrics-text", ""])
            body = b"".join(chance.choices(shapes, k=chance.randrange(6))) + chance.randbytes(
                chance.randrange(40)
            )
            try:
                seen = await observe(web)
            except SourceError:
                continue
            assert seen.complete == (not seen.warnings)
