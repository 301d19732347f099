"""The API as one ASGI application, built from a plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from litestar import Litestar
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import QueryParameter

from steersman.api import (
    applying,
    decisions,
    entities,
    operations,
    resources,
    story,
    subscriptions,
    system,
    tables,
    tokens,
    trials,
)
from steersman.api.edge import Edge
from steersman.api.exchange import RawHandler, Receive, Scope, Send
from steersman.api.fragments import FragmentDoor
from steersman.api.framework import error_answer
from steersman.api.metrics import ApiMetrics
from steersman.api.plane import Plane
from steersman.api.recording import serve_recording
from steersman.api.routes import ROUTES, Route
from steersman.api.site import Site
from steersman.api.streams import SHUTDOWN, Lines
from steersman.api.watch import Deltas, serve_watch
from steersman.kernel.tasks import ALWAYS
from steersman.observe.push import Push

HANDLERS: Mapping[str, Callable[..., Any]] = {
    "healthz": system.healthz,
    "readyz": system.readyz,
    "metrics": system.metrics,
    "openapi": system.openapi,
    "list_entities": entities.list_entities,
    "get_entity": entities.get_entity,
    "explain_entity": entities.explain_entity,
    "entity_history": entities.entity_history,
    "entity_at": entities.entity_at,
    "list_sources": system.list_sources,
    "list_drift": system.list_drift,
    "list_schemas": system.list_schemas,
    "get_schema": system.get_schema,
    "list_tokens": tokens.list_tokens,
    "create_token": tokens.create_token,
    "revoke_token": tokens.revoke_token,
    "status": system.status,
    "whoami": system.whoami,
    "list_kinds": resources.list_kinds,
    "list_resources": resources.list_resources,
    "create_resource": applying.create_resource,
    "get_resource": resources.get_resource,
    "apply_resource": applying.apply_resource,
    "delete_resource": resources.delete_resource,
    "set_desired_status": resources.set_desired_status,
    "transition_resource": resources.transition_resource,
    "resource_history": resources.resource_history,
    "resource_allowed": resources.resource_allowed,
    "resource_path": resources.resource_path,
    "explain_resource": story.explain_resource,
    "place_hold": resources.place_hold,
    "lift_hold": resources.lift_hold,
    "reconcile_resource": resources.reconcile_resource,
    "retry_phase": resources.retry_phase,
    "answer_step": operations.answer_step,
    "list_lifecycles": tables.list_lifecycles,
    "lint_lifecycle": tables.lint_lifecycle,
    "get_lifecycle": tables.get_lifecycle,
    "list_policies": decisions.list_policies,
    "dry_run_policies": trials.dry_run_policies,
    "policy_coverage": trials.policy_coverage,
    "get_policy": decisions.get_policy,
    "set_policy_mode": decisions.set_policy_mode,
    "list_recommendations": decisions.list_recommendations,
    "get_recommendation": decisions.get_recommendation,
    "approve_recommendation": decisions.approve_recommendation,
    "reject_recommendation": decisions.reject_recommendation,
    "snooze_recommendation": decisions.snooze_recommendation,
    "get_freeze": decisions.get_freeze,
    "set_freeze": decisions.set_freeze,
    "list_subscriptions": subscriptions.list_subscriptions,
    "create_subscription": subscriptions.create_subscription,
    "get_subscription": subscriptions.get_subscription,
    "change_subscription": subscriptions.change_subscription,
    "delete_subscription": subscriptions.delete_subscription,
    "list_dead_letters": subscriptions.list_dead_letters,
    "replay_subscription": subscriptions.replay_subscription,
    "test_subscription": subscriptions.test_subscription,
}
"""The framework's handlers by route name."""


class Api:
    """The ASGI application, with a start and an end of its own.

    A server that speaks ASGI's lifespan calls both. `drain` may be called before that, as soon as the process
    is told to end, so that event streams say `bye` instead of holding up the server's shutdown.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._started = False
        self.metrics = ApiMetrics(plane)
        self.lines = Lines(plane.supervisor, plane.tokens, self.metrics, plane.settings.server.streams_max)
        self._document: bytes | None = None
        self.framework = _framework(self, plane)
        self._edge = Edge(
            plane,
            self.framework,  # pyright: ignore[reportArgumentType] - the framework's ASGI types are narrower
            self._raw_handlers(),
            self._query_names(),
            self.metrics,
            (self.start, self.drain),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._edge(scope, receive, send)

    async def start(self) -> None:
        """Start the API's own tasks under the plane's supervisor. Repeating it does nothing."""
        if self._started:
            return
        self._started = True
        tasks, keep = self._plane.supervisor, ALWAYS
        tasks.start("api.tokens", self._plane.tokens.follow, keep)
        tasks.start("api.tokens.last_used", self._plane.tokens.keep_last_used, keep)

    async def drain(self) -> None:
        """End every stream with `bye` and take no new ones. Repeating it does nothing."""
        self.lines.end_all(SHUTDOWN)

    def document(self) -> bytes:
        """The OpenAPI document; made when it is first asked for."""
        if self._document is None:
            from steersman.api import openapi  # a tenth of a second that nobody should wait for at start

            said: dict[str, Any] = self.framework.openapi_schema.to_schema()
            paths: dict[str, dict[str, Any]] = said.get("paths") or {}
            self._document = msgspec.json.encode(openapi.build(paths, self._plane.version))
        return self._document

    def _raw_handlers(self) -> dict[str, RawHandler]:
        plane = self._plane
        site = Site(plane.dashboard)
        push = Push(plane.inlet, plane.clock, body_max_bytes=int(plane.settings.server.body_max_bytes))
        return {
            "push_fragments": FragmentDoor(push).serve,
            "watch": partial(
                serve_watch,
                bus=plane.bus,
                deltas=Deltas(self.metrics),
                lines=self.lines,
                metrics=self.metrics,
                tail=lambda: plane.tail,
            ),
            "recording": partial(serve_recording, plane=plane, lines=self.lines),
            "dashboard": site.page,
            "dashboard_asset": site.asset,
        }

    def _query_names(self) -> dict[str, dict[str, bool]]:
        """By route: its query parameters, and whether each may repeat."""
        names = {
            "push_fragments": {"results": False},
            "recording": {"seconds": False},
            "watch": {"kinds": True, "resources": True, "after": False},
        }
        for route in ROUTES:
            if not route.raw:
                names[route.name] = _declared_query(HANDLERS[route.name])
        return names


def build_asgi(plane: Plane) -> Api:
    """The application that serves a plane."""
    return Api(plane)


def _framework(api: Api, plane: Plane) -> Litestar:
    handlers = [_handler(route) for route in ROUTES if not route.raw]
    return Litestar(
        handlers,
        exception_handlers={Exception: error_answer},
        openapi_config=OpenAPIConfig(
            "Steersman", plane.version, path="/-", render_plugins=[JsonRenderPlugin()]
        ),
        logging_config=None,
        request_max_body_size=plane.settings.server.body_max_bytes,
        state=State(
            {
                "plane": plane,
                "metrics": api.metrics,
                "openapi": api.document,
                "streams": lambda: len(api.lines),
                "dashboard_built": (plane.dashboard / "index.html").is_file(),
            }
        ),
        debug=False,
    )


def _handler(route: Route) -> HTTPRouteHandler:
    """A route of the table as the framework wants it. Its parameters are untyped here: handlers take them
    decoded from the exchange."""
    path = route.path.replace("}", ":str}")
    # The method is a plain str in the table and a literal in the framework's signature.
    decorate = HTTPRouteHandler(path, http_method=route.method, name=route.name, status_code=200)  # pyright: ignore[reportArgumentType]
    return decorate(HANDLERS[route.name])


def _declared_query(handler: Callable[..., Any]) -> dict[str, bool]:
    """The query parameters that a handler declares: exactly these are accepted and documented. One that is
    read as a list may repeat."""
    declared: dict[str, bool] = {}
    for hint in get_type_hints(handler, include_extras=True).values():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, QueryParameter) and note.name:
                declared[note.name] = any(get_origin(arm) is list for arm in get_args(hint.__origin__))
    return declared
