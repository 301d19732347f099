"""What the framework's handlers share: the plane, the exchange, answers, and errors in our own shape."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from msgspec import Struct

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
from steersman.kernel.errors import SteersmanError

Asked = Request[Any, Any, State]
Answer = Response[bytes]

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
        msgspec.json.encode(value), status_code=status, media_type=JSON_MEDIA_TYPE, headers=headers
    )


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
        in_body = any(one.get("source") in ("body", None) for one in extra) or not extra
        lines = "; ".join(f"{one['key']}: {one['message']}" for one in failed) or "it has the wrong shape"
        if in_body:
            return BodyMalformed(f"the body can't be read: {lines}", failed=failed)
        return InvalidParameter(f"parameters can't be read: {lines}", failed=failed)
    if isinstance(error, HTTPException) and error.status_code < 500:
        return BodyMalformed("the body can't be read as JSON of the expected shape")
    return error


class Listed(Struct, frozen=True):
    """A whole list that is never long enough for pages."""

    items: list[Any]
