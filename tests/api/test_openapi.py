"""The OpenAPI document: true to the routes, their errors and their answers."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from steersman.api.openapi import ANSWERS, error_codes
from steersman.api.routes import ROUTES, Role, Route
from steersman.kernel.errors import SteersmanError
from steersman.kinds.fragment import StateFragment


@pytest.fixture
async def document(world: Any) -> dict[str, Any]:
    answer = await world.http.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def refs(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(refs(value) for value in part.values()))
    return set().union(*(refs(value) for value in part)) if isinstance(part, list) else set()


async def test_it_describes_every_route_and_no_other(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    described = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert described == {(route.method, route.path) for route in ROUTES if route.documented}
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    ids = [one["operationId"] for one in operations]
    assert len(ids) == len(set(ids))
    for one in operations:
        assert one["x-role"] in ("public", "viewer", "operator", "admin")
        assert (one["security"] == []) == (one["x-role"] == "public")
        assert one["summary"]
        assert {"400", "500", "503"} <= set(one["responses"])


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    broken = [ref for ref in refs(document) if ref.removeprefix("#/components/schemas/") not in schemas]
    assert broken == []


async def test_every_error_answer_is_a_problem(document: dict[str, Any]) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    content = response["content"]["application/problem+json"]
                    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                    assert response["description"].startswith("Codes: ")


@pytest.mark.parametrize("route", [r for r in ROUTES if r.documented], ids=lambda r: r.name)
def test_each_route_names_errors_that_exist_and_an_answer(route: Route) -> None:
    codes = error_codes()
    assert [code for code in route.errors if code not in codes] == []
    assert route.name in ANSWERS


async def test_path_parameters_are_declared(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path)), path


async def test_the_document_is_made_once_and_the_same_each_time(world: Any) -> None:
    first = (await world.http.get("/openapi.json")).content
    assert (await world.http.get("/openapi.json")).content == first
    assert msgspec.json.decode(first)["info"]["version"] == "0.0.0-test"


def test_error_codes_are_unique_and_each_family_keeps_its_status() -> None:
    for code, cls in error_codes().items():
        assert issubclass(cls, SteersmanError)
        assert 400 <= cls.status <= 599, code


def codes_of(operation: dict[str, Any]) -> set[str]:
    """Every code that the document gives an operation, but those of faults and of a store that is away."""
    said = [one["description"].removeprefix("Codes: ") for one in operation["responses"].values()]
    return {code for one in said for code in one.split(", ") if re.fullmatch("[a-z_]+", code)} - FAULTS


FAULTS = {"internal", "unavailable", "not_ready", "streams_ended", "body_timed_out", "too_many_tokens"}
FAULTS |= {"too_many", "too_many_streams"}
"""Not to be had by a request alone; tests of their own provoke them."""


MANAGED = re.compile(
    "/api/v1/(resources|operations|lifecycles|policies|recommendations|freeze|subscriptions)"
)
"""Routes whose errors depend on what is managed: test_resources_http.py and test_subscriptions.py beside this
file provoke these."""


def filled(path: str, kind: str, name: str, schema: str) -> str:
    """A path template with names in it."""
    for parameter, value in (
        ("type", kind),
        ("kind", kind),
        ("id", name),
        ("step", "flush"),
        ("name", schema),
    ):
        path = path.replace(f"{{{parameter}}}", value)
    return path


async def provoke(route: Route, world: Any, guarded: Any) -> set[str]:
    """The codes of all that can be done wrong with a route."""
    path = filled(route.path, "node", "n1", "StateFragment")
    needed = "?time=2026-01-01T03:10:00Z" if route.name == "entity_at" else ""
    admin = await world.bearer("admin")
    other = filled(route.path, "nodle", "nobody", "Nothing")
    wrong = [
        (path + "?no_such=1", {}, b""),
        (path + "?" + "type=a&" * 80, {}, b""),
        (path, {"host": "evil.example"}, b""),
        (path, {"sec-fetch-site": "cross-site"}, b""),
        (other + needed, {}, b""),
        (other.replace("nodle", "node") + needed, {}, b""),
        (
            (path.replace("/n1", "/twice") if "entities/node/n1" in path else path) + needed,
            {},
            b"",
        ),
        (path + "?type=nodle", {}, b""),
        (path + "?kinds=nodle", {}, b""),
        (path + "?cursor=x", {}, b""),
    ]
    if route.method in ("POST", "PUT"):
        json = {"content-type": "application/json"}
        wrong += [(path, {}, b"x"), (path, json, b"{"), (path, json, b" " * 9_000_000)]
        wrong += [(path, json, b'{"name": "x", "role": "king"}')]
    seen: set[str] = set()
    for address, headers, body in wrong:
        if route.name in ("watch", "recording") and "?" not in address and not headers:
            continue  # these would go on and on
        answer = await world.http.request(route.method, address, headers={**admin, **headers}, content=body)
        seen.add(answer.json().get("code", "") if answer.status_code >= 400 else "")
    viewer = await guarded.bearer("viewer")
    for headers in (
        {},
        viewer if route.role is not Role.VIEWER else {},
        *[{"authorization": "Bearer x"}] * 22,
    ):
        answer = await guarded.http.request(route.method, path, headers=headers)
        seen.add(answer.json().get("code", "") if answer.status_code >= 400 else "")
    return seen - {""}


@pytest.mark.parametrize("route", [r for r in ROUTES if r.documented], ids=lambda r: r.name)
async def test_each_error_of_the_document_occurs_and_each_that_occurs_is_in_it(
    route: Route, world: Any, guarded: Any, document: dict[str, Any], fragment: Any
) -> None:
    """Goal: who reads the document knows which codes to match on, and none that can never come."""
    for cluster in ("a", "b"):
        world.bus.put(msgspec.convert({**fragment("twice"), "labels": {"cluster": cluster}}, StateFragment))
    seen = await provoke(route, world, guarded)
    told = codes_of(document["paths"][route.path][route.method.lower()])
    assert seen - told - FAULTS == set()
    if MANAGED.match(route.path) is None:
        assert told - seen == set()
