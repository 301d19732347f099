"""The serving driver over HTTP: readiness, the list of models, what is gone, and where credentials go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.serving import ServingDriver, ServingOptions
from steersman.drivers.serving.fake import MODEL, FakeServer
from steersman.drivers.serving.models import MODELS_MAX, read_models
from steersman.drivers.serving.options import TABLES
from steersman.drivers.web.fake import Request, Response, WebFake
from steersman.kernel.clock import SystemClock
from steersman.kernel.config import ConfigInvalid, convert
from steersman.kernel.confread import Rest
from steersman.kernel.ids import seeded_rng
from steersman.kernel.secret import Secret
from steersman.kernel.yamltext import parse
from steersman.kinds.entity import EntityKey, EntityType

CONTEXT = DriverContext("serve", "prod", SystemClock(), seeded_rng(1), 15.0, 5.0)
for table in {name for names in TABLES.values() for name in names}:
    open_mapping(table)  # as the configuration does, before any loop runs


@asynccontextmanager
async def watched(flavor: str, **options: Any) -> AsyncIterator[tuple[FakeServer, ServingDriver]]:
    fake = await FakeServer(flavor).start()
    given: dict[str, Any] = {"url": fake.url, **options}
    if given.get("health_url") == "own":
        given["health_url"] = fake.health_url
    driver = ServingDriver(ServingOptions(flavor=flavor, **given), CONTEXT)  # type: ignore[arg-type]  # a flavor
    try:
        yield fake, driver
    finally:
        await driver.close()
        await fake.stop()


def services(seen: Observation) -> Iterator[dict[str, Any]]:
    return (f.fields for f in seen.fragments if f.entity_type is EntityType.SERVICE)


async def test_a_page_that_is_served_by_a_server_that_is_not_ready() -> None:
    """vLLM's metrics answer though its engine is dead: only its health says so."""
    async with watched("vllm", health_url="own") as (fake, driver):
        assert all(fields["up"] for fields in services(await driver.observe()))
        fake.ready = False
        seen = await driver.observe()
        for fields in services(seen):
            assert fields["up"] is False
            assert fields["last_error"].endswith("/health answered status 503")
        assert seen.complete
        fake.ready = True
        assert all(fields["up"] for fields in services(await driver.observe()))


@pytest.mark.parametrize("flavor", ["triton", "openai"])
async def test_readiness_that_nobody_answers_is_not_ready(flavor: str) -> None:
    closed = await WebFake(lambda _: _never()).start()
    await closed.stop()
    async with watched(flavor, health_url=f"{closed.url}/v2/health/ready") as (_, driver):
        (fields,) = services(await driver.observe())
        assert fields["up"] is False
        assert "refused" in fields["last_error"]


async def _never() -> Response:
    raise AssertionError("nobody asks")


async def test_a_health_url_that_is_wrong_is_told_and_says_nothing_of_the_server() -> None:
    async with watched("vllm") as (fake, _):
        wrong = f"{fake.web.url}/helth"
        driver = ServingDriver(ServingOptions(flavor="vllm", url=fake.url, health_url=wrong), CONTEXT)
        seen = await driver.observe()
        await driver.close()
        assert not seen.complete
        assert "answered status 404: is health_url right?" in seen.warnings[0]
        assert all(fields["up"] for fields in services(seen))


async def test_credentials_go_to_no_other_server() -> None:
    async def answer(_: Request) -> Response:
        return Response()

    other = await WebFake(answer).start()
    async with watched("vllm", token=Secret("s3cret"), health_url=f"{other.url}/health") as (fake, driver):
        await driver.observe()
        assert fake.web.requests[-1].headers["authorization"] == "Bearer s3cret"
        assert "authorization" not in other.requests[-1].headers
    async with watched("vllm", token=Secret("s3cret"), health_url="own") as (fake, driver):
        await driver.observe()
        assert fake.web.requests[-1].path == "/health"
        assert fake.web.requests[-1].headers["authorization"] == "Bearer s3cret"
    await other.stop()


async def test_the_list_of_models_is_a_service_and_its_revisions() -> None:
    async with watched("openai") as (fake, driver):
        fake.models = [
            {"id": "base", "object": "model", "created": 1, "owned_by": "vllm", "root": "org/base"},
            {"id": "tuned", "parent": "base", "root": "/adapters/tuned"},
            {"id": "later", "status": {"value": "unloaded"}},
        ]
        seen = await driver.observe()
        found = {f.entity_id: f for f in seen.fragments}
        service = found.pop(f"127.0.0.1:{fake.web.port}")
        assert service.fields["up"] is True
        assert 0 < service.fields["probe_latency_ms"] < 5000
        assert service.fields["models"] == 3
        assert not [name for name in service.fields if name.startswith("latency")], "a look is no request"
        assert {name: f.fields["revision_state"] for name, f in found.items()} == {
            "base": "listed",
            "tuned": "listed",
            "later": "unloaded",
        }
        assert found["tuned"].labels["parent"] == "base"
        assert "model_version" not in found["base"].fields, "created is the moment of the answer"
        assert {request.path for request in fake.web.requests} == {"/v1/models"}, "no model is asked anything"


async def test_a_model_that_is_no_longer_listed_is_gone() -> None:
    async with watched("openai", service="blue") as (fake, driver):
        fake.models = [{"id": "a"}, {"id": "b"}]
        assert (await driver.observe()).whole == (EntityType.MODEL_REVISION,)
        fake.models = [{"id": "b"}, {"nothing": 1}]
        seen = await driver.observe()
        assert (seen.gone, seen.complete) == ([], False), "what can't be read may be the one that is missed"
        fake.models = None
        assert (await driver.observe()).gone == [
            EntityKey(EntityType.MODEL_REVISION, "prod", f"blue/{name}") for name in ("a", "b")
        ]


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/models"])
async def test_the_url_may_name_server_api_or_list(path: str) -> None:
    async with watched("openai") as (fake, _):
        options = ServingOptions(flavor="openai", url=f"{fake.web.url}{path}")
        driver = ServingDriver(options, CONTEXT)
        assert len((await driver.observe()).fragments) == 2
        await driver.close()


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"data": {}}', '{"data": "x"}', "nonsense", '{"object": "list"}', "\xff"]
)
def test_what_is_no_list_of_models_is_a_source_error(body: str) -> None:
    with pytest.raises(SourceError):
        read_models(body.encode("latin-1"), "http://h/v1/models")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.text() | st.just("id")


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_any_item_costs_itself_alone(item: Any) -> None:
    body = json.dumps({"data": [item, {"id": "good", "status": item}]}).encode()
    try:
        found = read_models(body, "http://h")
    except SourceError:  # a number that no JSON reader takes
        return
    assert "good" in {model.id for model in found.models}


def test_a_list_without_an_end_is_cut_and_told() -> None:
    body = json.dumps({"data": [{"id": str(n)} for n in range(MODELS_MAX + 1)]}).encode()
    found = read_models(body, "http://h")
    assert len(found.models) == MODELS_MAX
    assert found.warnings == [f"http://h: {MODELS_MAX + 1} models; the first {MODELS_MAX} are told"]


async def test_a_stack_is_read_with_the_name_that_was_given() -> None:
    async with watched("vllm", service="llama-blue", labels={"pool": "a"}) as (fake, driver):
        fake.load.in_flight = 1
        (fragment,) = (await driver.observe()).fragments
        assert fragment.entity_id == "llama-blue"
        assert fragment.labels["model_name"] == MODEL
        assert fragment.labels["pool"] == "a"
        assert fragment.fields["service_state"] == "active"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flavor: vlm\nurl: http://h/metrics\n", r"s\.yaml:1"),
        ("url: http://h/metrics\n", "flavor"),
        ("flavor: vllm\nurl: http://h/metrics\nhealth_url: ftp://h\n", r"s\.yaml:3"),
        ("flavor: vllm\nurl: http://h/metrics\nhealth_url: 'http://h:x/'\n", "host or port"),
        ("flavor: vllm\nurl: http://h/metrics\nservice: '{x}'\n", "braces"),
    ],
)
def test_options_that_can_not_be_right_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigInvalid, match=says):
        convert(Rest(parse(text, "s.yaml")), ServingOptions)
