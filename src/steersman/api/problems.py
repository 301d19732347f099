"""Errors of the edge, and the one way any error becomes an answer."""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.kernel.errors import (
    PROBLEM_MEDIA_TYPE,
    InvalidInput,
    NotFound,
    SteersmanError,
    TimedOut,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from steersman.kernel.logging import get_logger
from steersman.kernel.redact import redact

Headers = list[tuple[bytes, bytes]]

_log = get_logger(__name__)


class RouteNotFound(NotFound):
    """There is no such path. `facts`: `nearest` where one is near."""

    code = "route_not_found"
    title = "No such path"


class MethodNotAllowed(SteersmanError):
    """The path exists and does not take this method. `facts`: `allowed`."""

    code = "method_not_allowed"
    title = "Method not allowed"
    status = 405


class UnsupportedMediaType(SteersmanError):
    """The body is of a type that this route does not read. `facts`: `allowed`."""

    code = "unsupported_media_type"
    title = "Unsupported media type"
    status = 415


class BodyMalformed(InvalidInput):
    """The body is not what its content type says, or not of the shape this route reads."""

    code = "body_malformed"
    title = "Body malformed"


class BodyTimedOut(SteersmanError):
    """The body did not arrive within its time."""

    code = "body_timed_out"
    title = "Body too slow"
    status = 408


class UnknownParameter(InvalidInput):
    """A query parameter that this route does not have. `facts`: `parameter`, `allowed`, `nearest`."""

    code = "unknown_parameter"
    title = "Unknown query parameter"


class InvalidParameter(InvalidInput):
    """A parameter's value can't be read. `facts`: `failed`, one line for each."""

    code = "invalid_parameter"
    title = "Invalid parameter"


class NotReady(Unavailable):
    """The process is alive and can't do its work yet, or no longer. `facts`: `failed`, one line for each."""

    code = "not_ready"
    title = "Not ready"


def problem_body(error: SteersmanError, instance: str) -> bytes:
    """The error as problem+json; a fact that JSON can't hold is shown as text.

    What failed on our side may speak of places with credentials in them, so it is searched for these.
    """
    problem = error.problem(instance)
    if error.status >= 500:
        problem = redact(problem)
    return msgspec.json.encode(problem, enc_hook=str)


def problem_headers(error: SteersmanError) -> Headers:
    """Headers that go with an error's answer, its content type among them."""
    headers: Headers = [
        (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
        (b"cache-control", b"no-store"),
    ]
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="steersman"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.facts.get("allowed", ())).encode()))
    if isinstance(error, TooMany):
        headers.append((b"retry-after", str(int(error.facts.get("retry_after_s", 1))).encode()))
    return headers


def as_steersman_error(error: Exception, incident: str) -> SteersmanError:
    """The error to answer with. What is not ours is logged in full here and told to nobody: the answer is the
    root of the error tree and names the `incident` that the log has it under."""
    if isinstance(error, SteersmanError) and error.status < 500:
        return error
    if isinstance(error, Unavailable | TimedOut):
        _log.warning("request_failed", code=error.code, detail=error.detail, incident=incident)
        return error
    _log.error("request_crashed", incident=incident, exc_info=error)
    return SteersmanError(
        "something went wrong here that should not have; the log has it under the incident's name",
        incident=incident,
    )


def reveal(value: Any) -> str:
    """A caller's own value as it may be shown back: bounded, and on one line."""
    text = str(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    return text.encode("unicode_escape", "replace").decode("ascii", "replace")
