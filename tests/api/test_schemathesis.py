"""Schemathesis reads the OpenAPI document and tries to make the real application break it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from steersman.api.routes import ROUTES
from steersman.testing.plane import make_fragment, make_world, serve

EXAMPLES = 25
"""For each operation; the documented bounds, not chance, are what most of them try."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]

STREAMS = ["watch", "recording"]
"""Answers without an end: their parameters are tested in test_api_watch.py."""


class Running:
    """The application behind a real server, in a thread with an event loop of its own."""

    def __init__(self) -> None:
        self.address = ""
        self.headers: dict[str, str] = {}
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._loop is not None
        assert self._end is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with make_world(tokens=True, control=True) as world, serve(world) as self.address:
            import msgspec

            from steersman.kinds.fragment import StateFragment

            fragments = [
                make_fragment("n1"),
                make_fragment("g/1", "gpu", gpu_utilization=0.5, odd={"deep": [1, None, "x"]}),
                make_fragment("s1", "service", error_rate=0.1, last_error="x", url="http://a"),
            ]
            world.bus.put_many([msgspec.convert(one, StateFragment) for one in fragments])
            self.headers = await world.bearer("admin")
            self._ready.set()
            await self._end.wait()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with Running() as server:
        yield server


@pytest.fixture(scope="module")
def schema(running: Running) -> Any:
    return schemathesis.openapi.from_url(f"{running.address}/openapi.json")


@pytest.mark.parametrize("name", [r.name for r in ROUTES if r.documented and r.name not in STREAMS])
def test_no_call_breaks_the_document(name: str, schema: Any, running: Running) -> None:
    """Goal: no 5xx, and every answer has a documented status, media type and shape."""
    operation = schema.find_operation_by_id(name)
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes]))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def check(case: Any) -> None:
        answer = case.call(headers=running.headers)
        case.validate_response(answer, checks=CHECKS)

    check()


@pytest.mark.parametrize("part", ["get_entity", "explain_entity", "entity_history"])
@pytest.mark.parametrize(("kind", "entity_id"), [("node", "n1"), ("gpu", "g%2F1"), ("service", "s1")])
def test_answers_that_are_full_keep_to_the_document(
    part: str, kind: str, entity_id: str, schema: Any, running: Running
) -> None:
    operation = schema.find_operation_by_id(part)
    case = operation.Case(path_parameters={"type": kind, "id": entity_id})
    answer = case.call(headers=running.headers)
    assert answer.status_code == 200, answer.text
    case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize(
    "name", ["list_entities", "status", "list_sources", "list_tokens", "whoami", "readyz"]
)
def test_lists_that_are_full_keep_to_the_document(name: str, schema: Any, running: Running) -> None:
    case = schema.find_operation_by_id(name).Case()
    answer = case.call(headers=running.headers)
    assert answer.status_code == 200, answer.text
    case.validate_response(answer, checks=CHECKS)
