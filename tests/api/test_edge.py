"""The outermost layer: every error is problem+json, nothing internal leaks, every answer has its headers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from steersman.api.exchange import BODY_TIMEOUT_S, BoundedBody
from steersman.api.fragments import PUSHES_MAX
from steersman.api.problems import BodyTimedOut, problem_body
from steersman.api.routes import ROUTES, RouteTable
from steersman.kernel.bounds import MIB
from steersman.kernel.clock import SystemClock
from steersman.kernel.errors import TooLarge, Unavailable
from steersman.observe.judge import Record, SourceHealth

Fragment = Callable[..., dict[str, Any]]
Make = Callable[..., Any]


def is_problem(answer: httpx2.Response, status: int, code: str) -> None:
    """Assert that an answer is this problem, whole and well formed."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.text
    )
    body = answer.json()
    assert body["code"] == code, body
    assert body["type"] == f"urn:steersman:error:{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "route_not_found"),
        ("GET", "/api/v1", 404, "route_not_found"),
        ("GET", "/api/v1/entitys", 404, "route_not_found"),
        ("GET", "/api/v1/entities/", 404, "route_not_found"),
        ("GET", "/api//v1/entities", 404, "route_not_found"),
        ("GET", "/api/v1/entities/node/x/nope", 404, "route_not_found"),
        ("GET", "/-/openapi.json", 404, "route_not_found"),
        ("GET", "/schema", 404, "route_not_found"),
        ("GET", "/.git/config", 404, "route_not_found"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("OPTIONS", "/api/v1/entities", 405, "method_not_allowed"),
        ("TRACE", "/api/v1/status", 405, "method_not_allowed"),
        ("BREW", "/", 405, "method_not_allowed"),
        ("HEAD", "/api/v1/watch", 405, "method_not_allowed"),
        ("GET", "/api/v1/fragments", 405, "method_not_allowed"),
        ("GET", "/api/v1/schemas/Nope", 404, "unknown_schema"),
        ("GET", "/api/v1/status?x=1", 400, "unknown_parameter"),
        ("GET", "/assets/nope.js", 404, "route_not_found"),
    ],
)
async def test_every_error_is_a_problem(method: str, path: str, status: int, code: str, world: Any) -> None:
    answer = await world.http.request(method, path)
    if method == "HEAD":
        assert (answer.status_code, answer.content) == (status, b"")
        return
    is_problem(answer, status, code)
    if status == 405:
        assert answer.headers["allow"]


async def test_a_path_that_is_nearly_right_is_proposed(world: Any) -> None:
    assert (await world.http.get("/api/v1/entitys")).json()["nearest"] == "/api/v1/entities"


async def test_every_answer_has_the_security_headers(world: Any) -> None:
    for path in ("/", "/healthz", "/api/v1/entities", "/nope", "/metrics", "/openapi.json"):
        headers = (await world.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"]


async def test_head_answers_as_get_without_a_body(world: Any) -> None:
    for path in ("/", "/healthz", "/api/v1/status"):
        head = await world.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0


class BrokenStore:
    """A store that fails in a way nobody thought of; the rest is the real one's."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def revision(self) -> int:
        raise self._error


async def test_a_fault_of_ours_is_told_to_the_log_alone(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Goal: a 500 names an incident that the log explains, and nothing of the inside."""
    world.plane.store = BrokenStore(RuntimeError("secret detail of /var/lib/x"))
    answer = await world.http.get("/api/v1/status")
    is_problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text
    incident = answer.json()["incident"]
    assert incident in caplog.text
    assert (await world.http.get("/healthz")).status_code == 200


def test_a_failure_below_us_shows_no_credentials() -> None:
    body = problem_body(Unavailable("postgres://steer:hunter2@db/x does not answer"), "/x")
    assert b"hunter2" not in body
    assert b"db/x does not answer" in body


async def test_ready_says_what_is_missing(world: Any) -> None:
    assert (await world.http.get("/readyz")).json() == {"status": "ready"}
    world.plane.store = BrokenStore(Unavailable("the disk is full at postgres://u:pw@h/db"))
    world.plane.intake_failures = lambda: ["no source could be started"]
    answer = await world.http.get("/readyz")
    is_problem(answer, 503, "not_ready")
    store, intake = answer.json()["failed"]
    assert store == "store: the disk is full at postgres://***@h/db"
    assert intake == "intake: no source could be started"
    assert (await world.http.get("/healthz")).status_code == 200, "alive all the same"
    status = (await world.http.get("/api/v1/status")).json()
    assert status["ready"] is False
    assert status["store"]["ok"] is False


async def test_status_and_metrics_tell_how_sources_are_observed(world: Any) -> None:
    """Goal: what intake knows of a source is seen from outside, and a password in an error is not."""
    record = Record()
    record.succeeded(SystemClock().now(), 0.25, 3, ["http://u:pw@h answers slowly"])
    record.failed("http://u:pw@h does not answer", stuck=True)
    health = SourceHealth(
        *("far", "openmetrics", "c1", 15.0, record.state, record.failures, record.observations),
        *(record.fragments, record.error_rate, record.percentile_ms(0.5), record.percentile_ms(0.95)),
        *(record.percentile_ms(0.99), record.last_success_at, record.last_error, 1.0, record.warnings, 0.5),
    )
    world.plane.intake_sources = lambda: [health]
    (shown,) = (await world.http.get("/api/v1/status")).json()["intake"]
    told = (shown["name"], shown["state"], shown["failures"], shown["latency_p95_ms"])
    assert told == ("far", "stuck", 1, 250)
    assert "pw" not in shown["last_error"] + shown["warnings"][0]
    lines = (await world.http.get("/metrics")).text.splitlines()
    for line in (
        'steersman_source_latency_seconds{quantile="0.95",source="far"} 0.25',
        'steersman_source_observations_total{source="far"} 2.0',
        'steersman_source_fragments_total{source="far"} 3.0',
        'steersman_source_failure_ratio{source="far"} 0.5',
        'steersman_source_stuck{source="far"} 1.0',
        'steersman_source_longest_block_seconds{source="far"} 0.5',
    ):
        assert line in lines


def test_route_names_and_paths_are_unique_and_match_themselves() -> None:
    table = RouteTable()
    for route in ROUTES:
        match = table.match(route.path.replace("{", "").replace("}", ""))
        assert match is not None
        assert match.routes[route.method] is route


# ---- pushes


async def push(
    world: Any, content: Any, media_type: str = "application/json", **more: Any
) -> httpx2.Response:
    return await world.http.post(
        "/api/v1/fragments", content=content, headers={"content-type": media_type, **more}
    )


async def test_a_push_gives_each_item_its_verdict(world: Any, fragment: Fragment) -> None:
    """Goal: malformed, unknown, impossible and future items never lose the good ones, in both forms."""
    future = (SystemClock().now() + timedelta(days=1)).isoformat()
    items = [
        fragment("good-1"),
        {**fragment("x"), "entity_type": "nodde"},
        {**fragment("x"), "observed_at": "yesterday"},
        fragment("x", at=future),
        fragment("x", cpu_utilization="a lot"),
        {"nonsense": True},
        fragment("good-2"),
    ]
    expected = ["created", "invalid", "invalid", "invalid", "invalid", "invalid", "created"]
    array = await push(world, msgspec.json.encode(items))
    lines = await push(
        world, b"\n".join(map(msgspec.json.encode, items)), "application/x-ndjson; charset=utf-8"
    )
    for answer, first in ((array, "created"), (lines, "stale")):
        assert answer.status_code == 200, answer.text
        body = answer.json()
        verdicts = [result["verdict"] for result in body["results"]]
        assert verdicts[1:6] == expected[1:6]
        assert verdicts[0] in (first, "merged")
        assert [result["index"] for result in body["results"]] == list(range(7))
        assert body["invalid"] == 5
        assert all(result["error"]["detail"] for result in body["results"] if result["verdict"] == "invalid")
    codes = {result["error"]["code"] for result in array.json()["results"] if result["error"]}
    assert "future_timestamp" in codes
    assert len(world.bus) == 2


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[", b"nul", b"[{]", b"\xff\xfe", b'"text"', b"{}", b"[" * 5000, b"42", b"[1,2"]
)
async def test_a_body_that_is_no_array_is_refused_whole(body: bytes, world: Any) -> None:
    answer = await push(world, body)
    if answer.status_code == 200:
        assert answer.json()["accepted"] == 0
    else:
        is_problem(answer, 400, "push_malformed")
    assert len(world.bus) == 0


async def test_nan_is_named_for_what_it_is(world: Any, fragment: Fragment) -> None:
    text = msgspec.json.encode(fragment("bad")).replace(b":0.5}", b":NaN}")
    answer = await push(world, b"[" + msgspec.json.encode(fragment("good")) + b"," + text + b"]")
    assert answer.status_code == 200
    good, bad = answer.json()["results"]
    assert good["verdict"] == "created"
    assert bad["verdict"] == "invalid"
    assert "NaN" in bad["error"]["detail"]


async def test_results_may_be_the_errors_alone(world: Any, fragment: Fragment) -> None:
    body = msgspec.json.encode([fragment("a"), {"bad": 1}, fragment("b")])
    answer = await world.http.post(
        "/api/v1/fragments?results=errors", content=body, headers={"content-type": "application/json"}
    )
    assert answer.json()["accepted"] == 2
    assert [result["index"] for result in answer.json()["results"]] == [1]
    refused = await world.http.post("/api/v1/fragments?results=some", json=[])
    is_problem(refused, 400, "invalid_parameter")


async def test_pushes_at_one_time_are_bounded(world: Any, fragment: Fragment) -> None:
    """Goal: slow senders of large bodies take a bounded amount of memory; when they end, others get in."""
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"["
        await release.wait()
        yield b"]"

    slow_ones = [asyncio.create_task(push(world, slow())) for _ in range(PUSHES_MAX)]
    refused = await push(world, b"[]")
    while refused.status_code == 200:
        await asyncio.sleep(0)  # the slow ones get in one by one
        refused = await push(world, b"[]")
    is_problem(refused, 429, "too_many")
    assert refused.headers["retry-after"] == "1"
    release.set()
    assert {answer.status_code for answer in await asyncio.gather(*slow_ones)} == {200}
    assert (await push(world, b"[]")).status_code == 200


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/xml", "", "application/x-www-form-urlencoded"]
)
async def test_other_media_types_are_refused(media_type: str, world: Any) -> None:
    answer = await push(world, b"[]", media_type)
    is_problem(answer, 415, "unsupported_media_type")
    assert answer.json()["allowed"] == ["application/json", "application/x-ndjson"]


async def test_compressed_bodies_are_refused(world: Any) -> None:
    is_problem(await push(world, b"[]", **{"content-encoding": "gzip"}), 415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_ten_megabytes_are_too_many(media_type: str, world: Any, fragment: Fragment) -> None:
    line = msgspec.json.encode(fragment("a")) + b"\n"
    body = line * (10_000_000 // len(line) + 1)
    answer = await push(world, body, media_type)
    is_problem(answer, 413, "too_large")
    assert answer.json()["limit"] == 8 * MIB
    assert (await push(world, msgspec.json.encode([fragment("b")]))).status_code == 200


async def test_tokens_are_asked_for_with_bounds_too(world: Any) -> None:
    headers = {**await world.bearer("admin"), "content-type": "application/json"}
    big = b'{"name": "' + b"x" * (9 * MIB) + b'"}'
    is_problem(await world.http.post("/api/v1/tokens", content=big, headers=headers), 413, "too_large")
    for body in (
        b"",
        b"[]",
        b"{",
        b'{"name": ""}',
        b'{"name": "a", "extra": 1}',
        b'{"name": "a", "ttl_s": -1}',
    ):
        answer = await world.http.post("/api/v1/tokens", content=body, headers=headers)
        is_problem(answer, 400, "body_malformed")
    answer = await world.http.post(
        "/api/v1/tokens", content=b'{"name": "a", "role": "king"}', headers=headers
    )
    is_problem(answer, 400, "invalid_input")
    answer = await world.http.post(
        "/api/v1/tokens", content=b"name=a", headers={**headers, "content-type": "text/plain"}
    )
    is_problem(answer, 415, "unsupported_media_type")


def messages(*parts: dict[str, Any]) -> Callable[[], Any]:
    waiting = list(parts)

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


@pytest.mark.looptime
async def test_a_body_that_dribbles_is_cut_off() -> None:
    """Goal: a sender that never finishes holds a request for its time-out and no longer."""
    body = BoundedBody(messages({"type": "http.request", "body": b"a", "more_body": True}), 100)
    began = asyncio.get_running_loop().time()
    await body()
    with pytest.raises(BodyTimedOut):
        await body()
    assert asyncio.get_running_loop().time() - began == BODY_TIMEOUT_S


async def test_a_body_without_end_is_read_no_further_than_its_bound() -> None:
    part = {"type": "http.request", "body": b"x" * MIB, "more_body": True}
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return part

    body = BoundedBody(receive, 2 * MIB)

    async def read() -> None:
        while True:
            await body()

    with pytest.raises(TooLarge):
        await read()
    assert taken <= 2 + 16 + 1


async def test_metrics_name_templates_never_paths(world: Any, fragment: Fragment) -> None:
    """Goal: no label grows with entities, paths, methods or pushing sources."""
    for name in ("a", "b", "c"):
        await push(world, msgspec.json.encode([{**fragment(name), "source": f"pusher-{name}"}]))
        await world.http.get(f"/api/v1/entities/node/{name}")
        await world.http.get(f"/{name}")
        await world.http.request(f"M{name.upper()}", "/healthz")
    text = (await world.http.get("/metrics")).text
    assert (
        'steersman_http_requests_total{method="GET",route="/api/v1/entities/{type}/{id}",status="200"} 3.0'
        in text
    )
    assert 'steersman_http_requests_total{method="other",route="unmatched",status="404"} 3.0' in text
    assert 'steersman_http_requests_total{method="other",route="/healthz",status="405"} 3.0' in text
    assert 'steersman_bus_fragments_total{verdict="created"} 3.0' in text
    assert "steersman_sources_pushing 3.0" in text
    assert "pusher-" not in text
    assert "steersman_store_up 1.0" in text


async def test_each_metric_that_is_exposed_is_in_the_reference(world: Any) -> None:
    """Goal: also those that a library names; tests/test_docs.py holds the headings to the source."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    families = text_string_to_metric_families((await world.http.get("/metrics")).text)
    assert {family.name for family in families if f"`{family.name}`" not in page} == set()


async def test_no_target_however_odd_breaks_the_edge(world: Any, fragment: Fragment) -> None:
    """Goal: any bytes as path and query get an answer below 500, and an error that is a problem."""
    await push(world, msgspec.json.encode([fragment("a")]))
    rng = random.Random(11)
    pieces = [
        b"/api/v1/entities",
        b"/node",
        b"/a",
        b"/explain",
        b"/",
        b"//",
        b"?",
        b"&",
        b"=",
        b"%",
        b"%2F",
        b"%00",
        b"%ff",
        b"type=",
        b"limit=",
        b"cursor=",
        b"field=a>1",
        b"label=a%3Db",
        b"q=",
        b"\xff",
        b"..",
        b"#",
        b"+",
        b" ",
        b";",
        b"/api/v1/watch",
        b"/schemas/",
        b"after=",
        b"kinds=",
        b"9" * 40,
        b"\xf0\x9f\x92\xa9",
        b"{type}",
        b"null",
        b"NaN",
    ]
    for _ in range(600):
        target = b"".join(rng.choices(pieces, k=rng.randrange(1, 9)))
        path, _, query = target.partition(b"?")
        if path == b"/api/v1/watch":
            continue  # a stream without an end where the query happens to be right
        status, body = await call(world, path, query)
        assert status < 500, target
        if status >= 400:
            assert msgspec.json.decode(body)["status"] == status, target


async def call(world: Any, path: bytes, query: bytes) -> tuple[int, bytes]:
    """One GET over bare ASGI, with bytes that no client library would send."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "scheme": "http",
    }
    empty = {"type": "http.request", "body": b"", "more_body": False}
    await world.api(scope, messages(empty), send)
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])
