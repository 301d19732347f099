"""What the framework's handlers share: the plane, the exchange, answers, and errors in our own shape."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException

from steersman.api.exchange import Disconnected, Exchange
from steersman.api.metrics import ApiMetrics
from steersman.api.plane import Plane
from steersman.api.problems import (
    BodyMalformed,
    InvalidParameter,
    as_steersman_error,
    problem_body,
    problem_headers,
)
from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.kinds.managed import send_managed

Asked = Request[Any, Any, State]
Answer = Response[bytes]

T = TypeVar("T")

JSON_MEDIA_TYPE = "application/json"


def plane_of(request: Asked) -> Plane:
    """The plane that this API serves."""
    return cast("Plane", request.app.state["plane"])


def metrics_of(request: Asked) -> ApiMetrics:
    """The API's metrics."""
    return cast("ApiMetrics", request.app.state["metrics"])


def exchange_of(request: Asked) -> Exchange:
    """The exchange as the edge made it: caller, decoded path parameters, query."""
    return cast("Exchange", cast("dict[str, Any]", request.scope)["steersman.exchange"])


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer of JSON. Structs are encoded as they are; nothing is validated twice."""
    return Response(
        msgspec.json.encode(value, enc_hook=send_managed),
        status_code=status,
        media_type=JSON_MEDIA_TYPE,
        headers=headers,
    )


async def read_json(exchange: Exchange, kind: type[T]) -> T:
    """A small JSON body as `kind`. Raises `BodyMalformed`, which names the member at fault."""
    exchange.media_type((JSON_MEDIA_TYPE,))
    body = await exchange.body()
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyMalformed(f"the body can't be read as {kind.__name__}: {error}") from None


def error_answer(request: Asked, error: Exception) -> Answer:
    """Any exception of a handler or of the framework as problem+json."""
    if isinstance(error, Disconnected):
        raise error
    ours = error if isinstance(error, SteersmanError) else _translated(error)
    ours = as_steersman_error(ours, plane_of(request).ids.new("incident"))
    headers = {
        name.decode(): value.decode() for name, value in problem_headers(ours) if name != b"content-type"
    }
    return Response(
        problem_body(ours, request.scope["path"][:2048]),
        status_code=ours.status,
        media_type="application/problem+json",
        headers=headers,
    )


def _translated(error: Exception) -> Exception:
    """The framework's own refusals in our words; anything else as it is."""
    if isinstance(error, ValidationException):
        extra = cast("list[dict[str, Any]]", error.extra or [])
        failed = [{"key": str(one.get("key", "")), "message": str(one.get("message", ""))} for one in extra]
        lines = "; ".join(f"{one['key']}: {one['message']}" for one in failed) or "one has the wrong shape"
        return InvalidParameter(f"parameters can't be read: {lines}", failed=failed)
    if isinstance(error, HTTPException) and error.status_code < 500:
        return InvalidInput(f"the request can't be read: {error.detail}")
    return error
