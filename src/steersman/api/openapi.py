"""The OpenAPI 3.1 document: the framework's view of parameters, our own of everything else.

Schemas come from msgspec, the same that `/api/v1/schemas` publishes; answers, errors, roles and the raw
routes come from the route table. It is made at the first request, not at start.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from steersman.act.advice import people, policies
from steersman.act.managers import phases
from steersman.api import wishes
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
from steersman.api.subscriptions import DeadLetterList, SubscriptionAnswer, SubscriptionList
from steersman.api.system import Alive, Ready, SchemaNames, SourceList, Status, WhoAmI
from steersman.api.tokens import TokenList
from steersman.api.watch import Bye, Gone, Hello, ResourceResync, Resync
from steersman.kernel.errors import PROBLEM_MEDIA_TYPE, SteersmanError, Unavailable
from steersman.kinds.advice import (
    DryRun,
    FreezeInfo,
    ModeSet,
    PolicyBook,
    PolicyCoverage,
    PolicyInfo,
    RecommendationInfo,
)
from steersman.kinds.command import ResourceEvent
from steersman.kinds.drift import DriftList
from steersman.kinds.entity import ENTITY_CLASSES
from steersman.kinds.explanation import EntityAt, EntityHistory, Explanation
from steersman.kinds.fragment import StateFragment
from steersman.kinds.managed import (
    Allowed,
    Applied,
    Changed,
    HistoryPage,
    KindCounts,
    Managed,
    ManagedPage,
    StepTaken,
    Way,
)
from steersman.kinds.plane_resources import KINDS
from steersman.kinds.story import Story
from steersman.kinds.subscription import (
    IssuedSubscription,
    NewSubscription,
    Replay,
    Replayed,
    SubscriptionChange,
    TestSent,
)
from steersman.kinds.tables import Linted, TableInfos
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
    "entity_at": (200, JSON, EntityAt),
    "push_fragments": (200, JSON, PushAnswer),
    "list_sources": (200, JSON, SourceList),
    "list_drift": (200, JSON, DriftList),
    "watch": (200, "text/event-stream", str),
    "list_schemas": (200, JSON, SchemaNames),
    "get_schema": (200, JSON, dict[str, Any]),
    "list_tokens": (200, JSON, TokenList),
    "create_token": (201, JSON, IssuedToken),
    "revoke_token": (204, "", None),
    "recording": (200, "application/octet-stream", str),
    "status": (200, JSON, Status),
    "whoami": (200, JSON, WhoAmI),
    "list_kinds": (200, JSON, KindCounts),
    "list_resources": (200, JSON, ManagedPage),
    "create_resource": (201, JSON, Changed),
    "get_resource": (200, JSON, "AnyResource"),
    "apply_resource": (200, JSON, Applied),
    "delete_resource": (200, JSON, Changed),
    "set_desired_status": (200, JSON, Changed),
    "transition_resource": (200, JSON, Changed),
    "resource_history": (200, JSON, HistoryPage),
    "resource_allowed": (200, JSON, Allowed),
    "resource_path": (200, JSON, Way),
    "explain_resource": (200, JSON, Story),
    "place_hold": (200, JSON, Changed),
    "lift_hold": (200, JSON, Changed),
    "reconcile_resource": (202, JSON, "AnyResource"),
    "retry_phase": (202, JSON, "AnyResource"),
    "answer_step": (200, JSON, StepTaken),
    "list_lifecycles": (200, JSON, TableInfos),
    "lint_lifecycle": (200, JSON, Linted),
    "get_lifecycle": (200, JSON, dict[str, Any]),
    "list_policies": (200, JSON, PolicyBook),
    "dry_run_policies": (200, JSON, DryRun),
    "policy_coverage": (200, JSON, PolicyCoverage),
    "get_policy": (200, JSON, PolicyInfo),
    "set_policy_mode": (200, JSON, ModeSet),
    "list_recommendations": (200, JSON, ManagedPage),
    "get_recommendation": (200, JSON, RecommendationInfo),
    "approve_recommendation": (200, JSON, Changed),
    "reject_recommendation": (200, JSON, Changed),
    "snooze_recommendation": (200, JSON, Changed),
    "get_freeze": (200, JSON, FreezeInfo),
    "set_freeze": (200, JSON, FreezeInfo),
    "list_subscriptions": (200, JSON, SubscriptionList),
    "create_subscription": (201, JSON, IssuedSubscription),
    "get_subscription": (200, JSON, SubscriptionAnswer),
    "change_subscription": (200, JSON, SubscriptionAnswer),
    "delete_subscription": (204, "", None),
    "list_dead_letters": (200, JSON, DeadLetterList),
    "replay_subscription": (202, JSON, Replayed),
    "test_subscription": (200, JSON, TestSent),
}
"""What each route answers when all is well: status, media type, type."""

BODIES: dict[str, tuple[Any, bool]] = {
    "create_token": (NewToken, True),
    "create_resource": (wishes.ResourceSpec, True),
    "apply_resource": (wishes.ResourceSpec, True),
    "delete_resource": (wishes.Why, False),
    "set_desired_status": (wishes.DesiredStatus, True),
    "transition_resource": (wishes.TransitionWish, True),
    "place_hold": (wishes.HoldWish, False),
    "lift_hold": (wishes.Why, False),
    "reconcile_resource": (wishes.Why, False),
    "retry_phase": (wishes.Why, False),
    "answer_step": (wishes.StepAnswer, True),
    "lint_lifecycle": (wishes.TextWish, True),
    "dry_run_policies": (wishes.TextWish, True),
    "set_policy_mode": (wishes.ModeWish, True),
    "approve_recommendation": (wishes.Why, False),
    "reject_recommendation": (wishes.Why, False),
    "snooze_recommendation": (wishes.SnoozeWish, True),
    "set_freeze": (wishes.FreezeWish, True),
    "create_subscription": (NewSubscription, True),
    "change_subscription": (SubscriptionChange, True),
    "replay_subscription": (Replay, True),
}
"""Bodies of JSON by route, and whether each must be there."""

OTHER_STATUSES: dict[str, int] = {"apply_resource": 201}
"""A further status of an answer that is well: something was made."""
OTHER_MEDIA: dict[str, tuple[str, ...]] = {
    "get_lifecycle": ("application/yaml", "text/vnd.mermaid", "text/vnd.graphviz")
}
"""Further media types of an answer."""
REFUSING_ROOMS = (people, policies, phases)
"""Rooms whose errors are in the document: naming one loads its classes."""
TAGGED = (
    "get_entity",
    "get_resource",
    "explain_resource",
    "apply_resource",
    "create_resource",
    "set_desired_status",
    "transition_resource",
)
"""Routes whose answers have an ETag that matters."""

CHANGE_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "If-Match",
        "in": "header",
        "description": "The version that the caller saw (an ETag); another one refuses the change",
        "schema": {"type": "string", "pattern": '^"[0-9]{1,15}"$'},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key and change give the same answer and are done once",
        "schema": {"type": "string", "pattern": "^[0-9A-Za-z_-]{1,64}$"},
    },
]
"""Headers of every change of a resource."""

EXTRA_TYPES: tuple[Any, ...] = (StateFragment, Hello, Resync, ResourceResync, Bye, Gone, ResourceEvent)
"""Types that are documented though no answer is one of them."""

WATCH_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "kinds",
        "in": "query",
        "description": "Kinds of entities and resources, or `none`; may repeat or be joined by commas",
        "schema": {"type": "array", "items": {"type": "string"}},
    },
    {
        "name": "resources",
        "in": "query",
        "description": "Kinds of resources whose events are told, `all` or `none`; counts before `kinds`",
        "schema": {"type": "array", "items": {"type": "string"}},
    },
    {
        "name": "after",
        "in": "query",
        "description": "First send what changed after this event id; Last-Event-ID counts before it",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}(-[0-9]{1,18})?$"},
    },
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The id of the last event that was received",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}(-[0-9]{1,18})?$"},
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
    states = tuple(dict.fromkeys(cls.STATE for cls in KINDS.values()))
    bodies = [kind for kind, _ in BODIES.values()]
    _, components = msgspec.json.schema_components(
        list(dict.fromkeys([*named, *entity_types, *states, *bodies, *EXTRA_TYPES])),
        ref_template=REF + "{name}",
        schema_hook=_managed_schema,
    )
    components["Problem"] = PROBLEM_SCHEMA
    components["AnyEntity"] = {
        "title": "AnyEntity",
        "description": "An entity of any kind; `entity_type` says which.",
        "anyOf": [{"$ref": REF + cls.__name__} for cls in entity_types],
    }
    components["AnyResource"] = {
        "title": "AnyResource",
        "description": "A resource of any kind; `resource_type` says which. `work`: may it take work?",
        "anyOf": [{"$ref": REF + cls.__name__} for cls in states],
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
        for name in re.findall(r"\{(\w+)\}", route.path)
        if name not in known
    ]
    body = BODIES.get(route.name)
    if body is not None and route.role == Role.OPERATOR:
        parameters = [*parameters, *CHANGE_PARAMETERS]
    if in_path or parameters:
        operation["parameters"] = [*in_path, *parameters]
    if route.name == "push_fragments":
        operation["requestBody"] = _push_body()
    elif body is not None:
        operation["requestBody"] = {
            "required": body[1],
            "content": {JSON: {"schema": {"$ref": REF + body[0].__name__}}},
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
    for other in OTHER_MEDIA.get(route.name, ()):
        fine["content"][other] = {"schema": {"type": "string"}}
    responses: dict[str, Any] = {str(status): fine}
    if route.name in TAGGED:
        fine["headers"] = {"ETag": {"schema": {"type": "string"}}}
    if route.name in OTHER_STATUSES:
        responses[str(OTHER_STATUSES[route.name])] = fine
    if route.name == "get_entity":
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


def _managed_schema(kind: type) -> dict[str, Any]:
    """What the schema of a type that is no Struct is: a resource as it is shown."""
    if kind is Managed:
        return {"$ref": REF + "AnyResource"}
    raise TypeError(kind.__name__)


def _schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"$ref": REF + kind}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {"$ref": REF + kind.__name__}
    return msgspec.json.schema(kind)
