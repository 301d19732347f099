"""The OpenAPI 3.1 document: the framework's view of parameters, our own of everything else.

Schemas come from msgspec, the same that `/api/v1/schemas` publishes; answers, errors, roles and the raw
routes come from the route table. It is made at the first request, not at start.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.api.access import (
    CrossSite,
    HostNotAllowed,
    RoleTooLow,
    TokenNeeded,
    TooManyFailures,
)
from steersman.api.auth import IssuedToken, NewToken, TokenInvalid
from steersman.api.entities import EntityPage
from steersman.api.problems import InvalidParameter, UnknownParameter
from steersman.api.recording import SECONDS_MAX
from steersman.api.routes import API, ROUTES, Role, Route
from steersman.api.system import Alive, Ready, SchemaNames, SourceList, Status, WhoAmI
from steersman.api.tokens import TokenList
from steersman.api.watch import Bye, Gone, Hello, Resync
from steersman.kernel.errors import PROBLEM_MEDIA_TYPE, SteersmanError, Unavailable
from steersman.kinds.entity import ENTITY_CLASSES
from steersman.kinds.explanation import EntityHistory, Explanation
from steersman.kinds.fragment import StateFragment
from steersman.observe.push import PushAnswer

JSON = "application/json"
REF = "#/components/schemas/"
SCHEME = "token"

ANSWERS: dict[str, tuple[int, str, Any]] = {
    "healthz": (200, JSON, Alive),
    "readyz": (200, JSON, Ready),
    "metrics": (200, "text/plain", str),
    "openapi": (200, JSON, dict[str, Any]),
    "list_entities": (200, JSON, EntityPage),
    "get_entity": (200, JSON, "AnyEntity"),
    "explain_entity": (200, JSON, Explanation),
    "entity_history": (200, JSON, EntityHistory),
    "push_fragments": (200, JSON, PushAnswer),
    "list_sources": (200, JSON, SourceList),
    "watch": (200, "text/event-stream", str),
    "list_schemas": (200, JSON, SchemaNames),
    "get_schema": (200, JSON, dict[str, Any]),
    "list_tokens": (200, JSON, TokenList),
    "create_token": (201, JSON, IssuedToken),
    "revoke_token": (204, "", None),
    "recording": (200, "application/octet-stream", str),
    "status": (200, JSON, Status),
    "whoami": (200, JSON, WhoAmI),
}
"""What each route answers when all is well: status, media type, type."""

EXTRA_TYPES: tuple[Any, ...] = (NewToken, StateFragment, Hello, Resync, Bye, Gone)
"""Types that are documented though no answer is one of them."""

WATCH_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "kinds",
        "in": "query",
        "description": "Kinds to watch, in any spelling; may repeat or be joined by commas; all without it",
        "schema": {"type": "array", "items": {"type": "string"}},
    },
    {
        "name": "after",
        "in": "query",
        "description": "First send what changed after this revision; Last-Event-ID counts before it",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    },
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The id of the last event that was received",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    },
]
PUSH_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "results",
        "in": "query",
        "description": "Answer with a verdict for every fragment, or for those that were not taken alone",
        "schema": {"type": "string", "enum": ["all", "errors"], "default": "all"},
    }
]
RECORDING_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "seconds",
        "in": "query",
        "description": "How long to record; without it, until the connection ends",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": SECONDS_MAX},
    }
]
RAW_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "watch": WATCH_PARAMETERS,
    "push_fragments": PUSH_PARAMETERS,
    "recording": RECORDING_PARAMETERS,
}
"""Parameters of the routes that the framework does not serve."""

COMMON_ERRORS: tuple[type[SteersmanError], ...] = (
    UnknownParameter,
    InvalidParameter,
    SteersmanError,
    Unavailable,
)
GATED_ERRORS: tuple[type[SteersmanError], ...] = (TokenNeeded, TokenInvalid, TooManyFailures)

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "An error (RFC 9457). Programs match on `code`; refusals carry further members as facts.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "instance": {"type": "string"},
    },
}


def raw_query_names() -> dict[str, tuple[str, ...]]:
    """Query parameters of the raw routes, by route name."""
    return {
        name: tuple(one["name"] for one in parameters if one["in"] == "query")
        for name, parameters in RAW_PARAMETERS.items()
    }


def error_codes() -> dict[str, type[SteersmanError]]:
    """Every error class that is loaded, by code."""
    codes: dict[str, type[SteersmanError]] = {}

    def visit(cls: type[SteersmanError]) -> None:
        codes.setdefault(cls.code, cls)
        for child in cls.__subclasses__():
            visit(child)

    for family in SteersmanError.__subclasses__():
        visit(family)
    return codes


def build(paths: dict[str, dict[str, Any]], version: str) -> dict[str, Any]:
    """The document. `paths` is what the framework says of its routes."""
    entity_types = tuple(ENTITY_CLASSES.values())
    named = [
        kind for _, _, kind in ANSWERS.values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ]
    _, components = msgspec.json.schema_components(
        [*named, *entity_types, *EXTRA_TYPES], ref_template=REF + "{name}"
    )
    components["Problem"] = PROBLEM_SCHEMA
    components["AnyEntity"] = {
        "title": "AnyEntity",
        "description": "An entity of any kind; `entity_type` says which.",
        "anyOf": [{"$ref": REF + cls.__name__} for cls in entity_types],
    }
    components["EntityPage"]["properties"]["items"]["items"] = {"$ref": REF + "AnyEntity"}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Steersman",
            "version": version,
            "description": "One true picture of a mixed fleet. Each error is problem+json.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {},
        "components": {
            "schemas": components,
            "securitySchemes": {
                SCHEME: {"type": "http", "scheme": "bearer", "description": "A token: `stm_...`"}
            },
        },
    }
    codes = error_codes()
    for route in ROUTES:
        if route.documented:
            of_path = document["paths"].setdefault(route.path, {})
            framework = paths.get(route.path, {}).get(route.method.lower(), {})
            of_path[route.method.lower()] = _operation(route, framework, codes)
    return document


def _operation(
    route: Route, framework: dict[str, Any], codes: dict[str, type[SteersmanError]]
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.path.removeprefix("/api/v1/").strip("/").partition("/")[0]],
    }
    parameters = framework.get("parameters") or RAW_PARAMETERS.get(route.name, [])
    known = {one["name"] for one in parameters}
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in ("type", "id", "name")
        if f"{{{name}}}" in route.path and name not in known
    ]
    if in_path or parameters:
        operation["parameters"] = [*in_path, *parameters]
    if route.name == "push_fragments":
        operation["requestBody"] = _push_body()
    elif route.name == "create_token":
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": {"$ref": REF + "NewToken"}}},
        }
    operation["responses"] = _responses(route, codes)
    security: list[dict[str, list[str]]] = [] if route.role is None else [{SCHEME: []}]
    if route.role is not None and route.role < Role.ADMIN:
        security.append({})  # a caller on loopback needs none unless auth.tokens says so
    operation["security"] = security
    operation["x-role"] = route.role.label if route.role is not None else "public"
    return operation


def _push_body() -> dict[str, Any]:
    fragment = {"$ref": REF + "StateFragment"}
    return {
        "required": True,
        "description": "Fragments. Each gets its own verdict: a bad one does not spoil the others.",
        "content": {
            JSON: {"schema": {"type": "array", "items": fragment}},
            "application/x-ndjson": {"schema": {"type": "string", "description": "One fragment a line"}},
        },
    }


def _responses(route: Route, codes: dict[str, type[SteersmanError]]) -> dict[str, Any]:
    status, media_type, kind = ANSWERS[route.name]
    fine: dict[str, Any] = {"description": route.summary}
    if media_type:
        fine["content"] = {media_type: {"schema": _schema(kind)}}
    responses: dict[str, Any] = {str(status): fine}
    if route.name == "get_entity":
        fine["headers"] = {"ETag": {"schema": {"type": "string"}}}
        responses["304"] = {"description": "It has not changed since the tag that was sent"}
    errors: list[type[SteersmanError]] = [*COMMON_ERRORS, HostNotAllowed]
    if route.path.startswith(API):
        errors.append(CrossSite)
    if route.role is not None:
        errors += GATED_ERRORS
        if route.role > min(Role):
            errors.append(RoleTooLow)
    errors += [codes[code] for code in route.errors]
    by_status: dict[int, list[str]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error.code)
    for error_status, words in sorted(by_status.items()):
        responses[str(error_status)] = {
            "description": "Codes: " + ", ".join(sorted(set(words))),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}}},
        }
    return responses


def _schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"$ref": REF + kind}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {"$ref": REF + kind.__name__}
    return msgspec.json.schema(kind)
