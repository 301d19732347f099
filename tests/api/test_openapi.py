"""The OpenAPI document: true to the routes, their errors and their answers."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from steersman.api.openapi import ANSWERS, error_codes
from steersman.api.routes import ROUTES, Route
from steersman.kernel.errors import SteersmanError


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
