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
    OPERATOR = 2  # push fragments, record, and (later) act
    ADMIN = 3  # make and revoke tokens

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

ROUTES: tuple[Route, ...] = (
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
        "Recent samples of an entity's numeric fields, and its changes of health",
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
