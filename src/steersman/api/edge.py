"""The outermost layer: finds the route, lets the caller pass or not, answers every error, counts.

It runs before the framework, so that the raw routes (the hot paths and the streams) and the framework's are
held by the same rules. An answer always has a body that says what it is: problem+json for each error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from steersman.api.access import Gate
from steersman.api.exchange import AsgiApp, Disconnected, Exchange, Message, RawHandler, Receive, Scope, Send
from steersman.api.exchange import decoded as decode_segment
from steersman.api.metrics import ApiMetrics
from steersman.api.plane import Plane
from steersman.api.problems import (
    Headers,
    MethodNotAllowed,
    RouteNotFound,
    as_steersman_error,
    problem_body,
    problem_headers,
    reveal,
)
from steersman.api.routes import Route, RouteTable
from steersman.kernel.logging import get_logger
from steersman.kernel.nearest import nearest

UNMATCHED = "unmatched"
"""The `route` label of requests that matched no route: their paths are not made labels."""

SECURITY_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
API_CSP = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
NO_STORE = (b"cache-control", b"no-store")

_NOT_FOUND = Route("unmatched", "GET", UNMATCHED, None, "", documented=False)

_log = get_logger("api.edge")


class Edge:
    """The ASGI application that the server runs. `handlers` serve the raw routes, `framework` the rest."""

    def __init__(
        self,
        plane: Plane,
        framework: AsgiApp,
        handlers: Mapping[str, RawHandler],
        query_names: Mapping[str, Mapping[str, bool]],
        metrics: ApiMetrics,
        lifespan: tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]],
    ) -> None:
        self._plane = plane
        self._framework = framework
        self._handlers = handlers
        self._query_names = query_names
        self._metrics = metrics
        self._lifespan = lifespan
        self._table = RouteTable()
        self._gate = Gate(plane.settings, plane.tokens, plane.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's event: a request, or the server's start and end."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Receive, send: Send) -> None:
        start, stop = self._lifespan
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or scope["path"].encode()
        path = raw.partition(b"?")[0].decode("latin-1")
        method: str = scope["method"]
        match = self._table.match(path)
        routes = match.routes if match is not None else {}
        bodiless = method == "HEAD"
        route = routes.get("GET" if bodiless else method)
        if route is not None and route.name in ("watch", "recording") and bodiless:
            route = None  # an answer without end has no length to tell
        template = route.path if route is not None else next(iter(routes.values()), _NOT_FOUND).path
        answer = _Answer(send, bodiless)
        limit = int(self._plane.settings.server.body_max_bytes)
        exchange = Exchange(scope, receive, answer, route or _NOT_FOUND, limit)
        started_s = self._plane.clock.monotonic()
        try:
            if match is None:
                raise self._not_found(path)
            if route is None:
                allowed = [*routes, "HEAD"] if "GET" in routes else [*routes]
                raise MethodNotAllowed(f"{template} does not take {reveal(method)}", allowed=allowed)
            await self._pass(exchange, path, match.parameters)
        except Disconnected:
            answer.status = answer.status or 499
        except Exception as error:  # noqa: BLE001 - every fault of a request ends here, as an answer
            await self._fail(exchange, answer, error, path)
        finally:
            seconds = self._plane.clock.monotonic() - started_s
            self._metrics.request(template, method if route is not None else "other", answer.status, seconds)

    async def _pass(self, exchange: Exchange, path: str, parameters: dict[str, str]) -> None:
        """Check the caller and the parameters, then hand on."""
        scope, route = exchange.scope, exchange.route
        client = scope.get("client")
        exchange.caller = self._gate.admit(route, exchange.headers, client[0] if client else "")
        exchange.parameters = {name: decode_segment(value) for name, value in parameters.items()}
        names = self._query_names.get(route.name)
        if names is not None:
            exchange.check_query(names)
        handler = self._handlers.get(route.name)
        if handler is not None:
            await handler(exchange)
            return
        inner: dict[str, Any] = dict(scope)
        # The framework routes on the encoded path too, so that %2F within an id stays within its segment.
        inner["path"] = path
        inner["root_path"] = ""
        inner["method"] = route.method
        inner["steersman.exchange"] = exchange
        await self._framework(inner, exchange.receive, exchange.send)

    async def _fail(self, exchange: Exchange, answer: _Answer, error: Exception, path: str) -> None:
        if answer.status:
            # Too late for a status: the connection is cut, which the caller can tell from a proper end.
            _log.error("answer_broken", route=exchange.route.path, exc_info=error)
            raise error
        ours = as_steersman_error(error, self._plane.ids.new("incident"))
        await exchange.answer(ours.status, problem_body(ours, path[:2048]), problem_headers(ours))

    def _not_found(self, path: str) -> RouteNotFound:
        near = nearest(path[:200], [route.path for route in self._table.by_name.values() if route.documented])
        hint = f"; did you mean {near}?" if near else "; /openapi.json lists what there is"
        return RouteNotFound(f"there is no path {reveal(path)!r}{hint}", nearest=near)


class _Answer:
    """A `send` that adds the headers each answer has, and remembers the status."""

    def __init__(self, send: Send, bodiless: bool) -> None:
        self._send = send
        self._bodiless = bodiless
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: Headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += SECURITY_HEADERS
            if API_CSP[0] not in present:
                headers.append(API_CSP)
            if b"cache-control" not in present:
                headers.append(NO_STORE)
            message = {**message, "headers": headers}
        elif self._bodiless and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)
