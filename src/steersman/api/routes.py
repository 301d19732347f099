"""Every route of the API in one table: method, path, role, answers, errors.

The table is what the edge authorises by, what the OpenAPI document is made from, what `/metrics` names its
`route` label after, and what the tests walk. A route that is not here does not exist.

Paths are matched on their percent-encoded form, segment by segment, so an entity id may hold a slash
(`%2F`) or anything else.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct

API = "/api/v1"


class Role(IntEnum):
    """What a caller may do. Each role may do all that the ones below it may."""

    VIEWER = 1  # read everything but tokens
    OPERATOR = 2  # push fragments, record, and act
    ADMIN = 3  # make and revoke tokens, and force a resource against its table

    @property
    def label(self) -> str:
        """The word for it in tokens, documents and errors."""
        return self.name.lower()

    @classmethod
    def parse(cls, word: str) -> Role | None:
        """The role of that word, None for no role."""
        return cls.__members__.get(word.upper())


class Route(Struct, frozen=True):
    """One route.

    - `name`: operation id, and the name of its handler.
    - `role`: least role that may call it; None for a public one.
    - `errors`: codes of errors it may answer with beside those that any route may (see openapi.py).
    - `raw`: served by an ASGI function of its own, not by the framework: the hot paths and the streams.
    - `documented`: False for what is not part of the API (the dashboard's files).
    """

    name: str
    method: str
    path: str
    role: Role | None
    summary: str
    errors: tuple[str, ...] = ()
    raw: bool = False
    documented: bool = True


V, O, A = Role.VIEWER, Role.OPERATOR, Role.ADMIN  # noqa: E741 - a table reads better with short words

_PLAIN: tuple[Route, ...] = (
    Route("healthz", "GET", "/healthz", None, "Whether the process is alive"),
    Route("readyz", "GET", "/readyz", None, "Whether it can do its work", ("not_ready",)),
    Route("metrics", "GET", "/metrics", V, "Metrics in Prometheus' text format"),
    Route("openapi", "GET", "/openapi.json", None, "This document"),
    Route(
        "list_entities",
        "GET",
        f"{API}/entities",
        V,
        "Entities, page by page",
        ("unknown_kind", "cursor_invalid"),
    ),
    Route(
        "get_entity",
        "GET",
        f"{API}/entities/{{type}}/{{id}}",
        V,
        "One entity",
        ("unknown_kind", "entity_not_found", "ambiguous_scope"),
    ),
    Route(
        "explain_entity",
        "GET",
        f"{API}/entities/{{type}}/{{id}}/explain",
        V,
        "Where each value of an entity comes from, and why its health and confidence are what they are",
        ("unknown_kind", "entity_not_found", "ambiguous_scope"),
    ),
    Route(
        "entity_history",
        "GET",
        f"{API}/entities/{{type}}/{{id}}/history",
        V,
        "Recent samples of an entity's numeric fields, and its changes of health and state",
        ("unknown_kind", "entity_not_found", "ambiguous_scope"),
    ),
    Route(
        "entity_at",
        "GET",
        f"{API}/entities/{{type}}/{{id}}/at",
        V,
        "What an entity looked like at a moment",
        ("unknown_kind", "entity_not_found", "ambiguous_scope"),
    ),
    Route(
        "push_fragments",
        "POST",
        f"{API}/fragments",
        O,
        "Push fragments, with a verdict for each",
        ("push_malformed", "too_many", "too_large", "unsupported_media_type", "body_timed_out"),
        raw=True,
    ),
    Route("list_sources", "GET", f"{API}/sources", V, "Sources and how they do"),
    Route("list_drift", "GET", f"{API}/drift", V, "What sources said that nobody here knows"),
    Route(
        "watch",
        "GET",
        f"{API}/watch",
        V,
        "Changes as Server-Sent Events",
        ("unknown_kind", "too_many_streams", "streams_ended"),
        raw=True,
    ),
    Route("list_schemas", "GET", f"{API}/schemas", V, "Names of the published JSON Schemas"),
    Route("get_schema", "GET", f"{API}/schemas/{{name}}", V, "One JSON Schema", ("unknown_schema",)),
    Route("list_tokens", "GET", f"{API}/tokens", A, "Tokens, without their secrets"),
    Route(
        "create_token",
        "POST",
        f"{API}/tokens",
        A,
        "Make a token; the answer alone holds its secret",
        (
            "body_malformed",
            "invalid_input",
            "unsupported_media_type",
            "too_large",
            "too_many_tokens",
            "body_timed_out",
        ),
    ),
    Route("revoke_token", "DELETE", f"{API}/tokens/{{id}}", A, "Revoke a token", ("token_not_found",)),
    Route(
        "recording",
        "GET",
        f"{API}/recording",
        O,
        "Fragments as they arrive, as a recording",
        ("too_many_streams", "streams_ended"),
        raw=True,
    ),
    Route("status", "GET", f"{API}/status", V, "What runs here and how it does"),
    Route("whoami", "GET", f"{API}/whoami", V, "Who the caller is"),
    Route("dashboard", "GET", "/", None, "The dashboard", raw=True, documented=False),
    Route(
        "dashboard_asset",
        "GET",
        "/assets/{file}",
        None,
        "A file of the dashboard",
        raw=True,
        documented=False,
    ),
)

BODY_ERRORS = ("body_malformed", "unsupported_media_type", "too_large", "body_timed_out")
"""What may be wrong with a body of JSON."""
ONE = ("not_ready", "unknown_resource_kind", "resource_not_found")
"""What may be wrong with the address of a resource."""
CHANGE = (*BODY_ERRORS, "plane_owned", "version_conflict", "idempotency_mismatch")
"""What may be wrong with a change."""
MOVE = (
    "unknown_lifecycle",
    "unknown_event",
    "unknown_state",
    "not_allowed",
    "guard_failed",
    "requirement_missing",
    "terminal",
    "held",
    "budget_exhausted",
)
"""What may be wrong with moving a resource."""
KIND = f"{API}/resources/{{kind}}"
RESOURCE = f"{KIND}/{{id}}"
RECOMMENDATION = f"{API}/recommendations/{{id}}"
DECIDE = (
    "not_ready",
    "resource_not_found",
    *BODY_ERRORS,
    "not_allowed",
    "terminal",
    "requirement_missing",
    "version_conflict",
    "idempotency_mismatch",
)
"""What may be wrong with a decision."""
APPROVE = (*DECIDE, "policy_observes", "approved_already", "action_unknown", "action_invalid")

_RESOURCES: tuple[Route, ...] = (
    Route("list_kinds", "GET", f"{API}/resources", V, "Kinds of resources, with counts", ("not_ready",)),
    Route(
        "list_resources",
        "GET",
        KIND,
        V,
        "Resources of a kind, page by page",
        ("not_ready", "unknown_resource_kind", "cursor_invalid", "invalid_input"),
    ),
    Route(
        "create_resource",
        "POST",
        KIND,
        O,
        "Make a resource",
        ("not_ready", "unknown_resource_kind", *CHANGE, "spec_refused", "resource_exists", *MOVE),
    ),
    Route("get_resource", "GET", RESOURCE, V, "One resource", ONE),
    Route(
        "apply_resource",
        "PUT",
        RESOURCE,
        O,
        "Make a resource what the body says: create it, or change what differs",
        (*ONE, *CHANGE, "spec_refused", "resource_exists", *MOVE),
    ),
    Route(
        "delete_resource",
        "DELETE",
        RESOURCE,
        O,
        "Take a resource out; while an operation is under way it takes `force` and role admin",
        (*ONE, *CHANGE, "held", "operation_under_way"),
    ),
    Route(
        "set_desired_status",
        "PUT",
        f"{RESOURCE}/desired-status",
        O,
        "Say where a resource is meant to be",
        (*ONE, *CHANGE, *MOVE),
    ),
    Route(
        "transition_resource",
        "POST",
        f"{RESOURCE}/transitions",
        O,
        "Move a resource by an event of its lifecycle; a forced move takes role admin",
        (*ONE, *CHANGE, *MOVE),
    ),
    Route("resource_history", "GET", f"{RESOURCE}/history", V, "All that was ever done to a resource", ONE),
    Route(
        "resource_allowed",
        "GET",
        f"{RESOURCE}/allowed",
        V,
        "What the caller could ask of a resource now, and why not of what they could not",
        (*ONE, "unknown_lifecycle"),
    ),
    Route(
        "resource_path",
        "GET",
        f"{RESOURCE}/path",
        V,
        "The way from where a resource is to a state",
        (*ONE, "unknown_lifecycle", "unknown_state", "no_path"),
    ),
    Route(
        "explain_resource",
        "GET",
        f"{RESOURCE}/explain",
        V,
        "The whole story of a resource: where it is, where it goes and why, what it waits for",
        (*ONE, "unknown_state"),
    ),
    Route(
        "place_hold",
        "PUT",
        f"{RESOURCE}/holds/{{name}}",
        O,
        "Hold a resource: nothing more is done to it until its owner lets go",
        (*ONE, *CHANGE, "held", "invalid_input"),
    ),
    Route(
        "lift_hold",
        "DELETE",
        f"{RESOURCE}/holds/{{name}}",
        O,
        "Let go of a resource",
        (*ONE, *CHANGE, "held", "requirement_missing", "not_allowed"),
    ),
    Route(
        "reconcile_resource",
        "POST",
        f"{RESOURCE}/reconcile",
        O,
        "Look at a resource now; its failures so far no longer count",
        (*ONE, *CHANGE),
    ),
    Route(
        "retry_phase",
        "POST",
        f"{RESOURCE}/phases/{{name}}/retry",
        O,
        "Try a failed phase again",
        (*ONE, *CHANGE, "phase_invalid"),
    ),
    Route(
        "answer_step",
        "POST",
        f"{API}/operations/{{id}}/steps/{{step}}/result",
        O,
        "Answer a step that waits for an outside system",
        (
            *ONE,
            *BODY_ERRORS,
            "operation_not_found",
            "operation_over",
            "fenced",
            "ref_invalid",
            "invalid_input",
        ),
    ),
)
_DECISIONS: tuple[Route, ...] = (
    Route("list_lifecycles", "GET", f"{API}/lifecycles", V, "Lifecycles that are loaded", ("not_ready",)),
    Route(
        "lint_lifecycle",
        "POST",
        f"{API}/lifecycles/lint",
        V,
        "Judge a lifecycle that is being written",
        ("not_ready", *BODY_ERRORS),
    ),
    Route(
        "get_lifecycle",
        "GET",
        f"{API}/lifecycles/{{name}}",
        V,
        "A lifecycle as data, YAML or a drawing",
        ("not_ready", "unknown_lifecycle", "unknown_state"),
    ),
    Route("list_policies", "GET", f"{API}/policies", V, "Policies and their modes", ("not_ready",)),
    Route(
        "dry_run_policies",
        "POST",
        f"{API}/policies/dry-run",
        V,
        "What policies would say of the fleet as it is now",
        ("not_ready", *BODY_ERRORS),
    ),
    Route(
        "policy_coverage",
        "GET",
        f"{API}/policies/coverage",
        V,
        "Of how many entities each policy can tell",
        ("not_ready",),
    ),
    Route("get_policy", "GET", f"{API}/policies/{{name}}", V, "One policy", ("not_ready", "unknown_policy")),
    Route(
        "set_policy_mode",
        "PUT",
        f"{API}/policies/{{name}}/mode",
        O,
        "Say how far a policy may go",
        (*DECIDE, "unknown_policy", "policy_invalid", "action_unknown", "action_invalid", "invalid_input"),
    ),
    Route(
        "list_recommendations",
        "GET",
        f"{API}/recommendations",
        V,
        "Recommendations, page by page",
        ("not_ready", "cursor_invalid", "invalid_input"),
    ),
    Route(
        "get_recommendation",
        "GET",
        RECOMMENDATION,
        V,
        "One recommendation",
        ("not_ready", "resource_not_found"),
    ),
    Route("approve_recommendation", "POST", f"{RECOMMENDATION}/approve", O, "Agree to what it says", APPROVE),
    Route("reject_recommendation", "POST", f"{RECOMMENDATION}/reject", O, "Say no to what it says", DECIDE),
    Route(
        "snooze_recommendation",
        "POST",
        f"{RECOMMENDATION}/snooze",
        O,
        "Ask nobody about it for a while",
        (*DECIDE, "snooze_invalid"),
    ),
    Route(
        "get_freeze",
        "GET",
        f"{API}/freeze",
        V,
        "Whether acting is frozen",
        ("not_ready", "resource_not_found"),
    ),
    Route(
        "set_freeze",
        "PUT",
        f"{API}/freeze",
        O,
        "Freeze all that the plane does by itself, or let it go on",
        DECIDE,
    ),
)
SUBSCRIPTION = f"{API}/subscriptions/{{id}}"
SUBSCRIBED = ("events_unavailable", "subscription_not_found")
WISH = (*BODY_ERRORS, "url_invalid", "target_refused", "secret_invalid")

_SUBSCRIPTIONS: tuple[Route, ...] = (
    Route(
        "list_subscriptions",
        "GET",
        f"{API}/subscriptions",
        O,
        "Subscriptions to events and how they fare",
        ("events_unavailable",),
    ),
    Route(
        "create_subscription",
        "POST",
        f"{API}/subscriptions",
        A,
        "Subscribe an address to events; the answer alone holds the secret",
        ("events_unavailable", *WISH, "too_many_subscriptions"),
    ),
    Route("get_subscription", "GET", SUBSCRIPTION, O, "One subscription", SUBSCRIBED),
    Route("change_subscription", "PATCH", SUBSCRIPTION, A, "Change a subscription", (*SUBSCRIBED, *WISH)),
    Route("delete_subscription", "DELETE", SUBSCRIPTION, A, "Remove a subscription", SUBSCRIBED),
    Route(
        "list_dead_letters",
        "GET",
        f"{SUBSCRIPTION}/dead-letters",
        O,
        "Events that could not be delivered",
        SUBSCRIBED,
    ),
    Route(
        "replay_subscription",
        "POST",
        f"{SUBSCRIPTION}/replay",
        A,
        "Send events again",
        (*SUBSCRIBED, *BODY_ERRORS, "invalid_input", "subscription_disabled"),
    ),
    Route("test_subscription", "POST", f"{SUBSCRIPTION}/test", A, "Send a test event now", SUBSCRIBED),
)
ROUTES: tuple[Route, ...] = (*_PLAIN, *_RESOURCES, *_DECISIONS, *_SUBSCRIPTIONS)
"""Every route."""

_PARAMETER = re.compile(r"\{(\w+)\}")


class Match(NamedTuple):
    """What a path was found to be: its routes by method, and the percent-encoded values of its parameters."""

    routes: dict[str, Route]
    parameters: dict[str, str]


class RouteTable:
    """Finds routes by path."""

    def __init__(self, routes: tuple[Route, ...] = ROUTES) -> None:
        self.by_name: dict[str, Route] = {route.name: route for route in routes}
        if len(self.by_name) != len(routes):
            raise ValueError("two routes have one name")
        self._plain: dict[str, dict[str, Route]] = {}
        patterned: dict[str, dict[str, Route]] = {}
        for route in routes:
            table = patterned if _PARAMETER.search(route.path) else self._plain
            table.setdefault(route.path, {})[route.method] = route
        self._patterns = [(_pattern(path), by_method) for path, by_method in patterned.items()]

    def match(self, path: str) -> Match | None:
        """The routes of a percent-encoded path; None where there is none."""
        plain = self._plain.get(path)
        if plain is not None:
            return Match(plain, {})
        for pattern, by_method in self._patterns:
            found = pattern.fullmatch(path)
            if found is not None:
                return Match(by_method, found.groupdict())
        return None


def _pattern(path: str) -> re.Pattern[str]:
    """A pattern for a path template; a parameter is one segment."""
    parts = _PARAMETER.split(path)
    text = "".join(
        re.escape(part) if index % 2 == 0 else f"(?P<{part}>[^/]+)" for index, part in enumerate(parts)
    )
    return re.compile(text)
