"""What a call may raise. Errors of the API are rebuilt from their problem+json.

Each is of the family of `steersman.kernel.errors` that its status names, so `except NotFound` means the same
on both sides of the wire; `error.code` tells the exact one, and `error.facts` holds what the server added.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.kernel.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    Refused,
    SteersmanError,
    TimedOut,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)

BODY_SHOWN_CHARS = 200
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading JSON of somebody else may raise."""
_MEMBERS = frozenset({"type", "title", "status", "detail", "code", "instance"})


class NotReachable(Unavailable):
    """Nobody answers at the address: refused, unknown host, cut before an answer came."""

    code = "not_reachable"
    title = "Not reachable"


class AnswerTimedOut(TimedOut):
    """No answer within the call's time. Whether the server did what was asked is not known."""

    code = "answer_timed_out"
    title = "No answer in time"


class BadAnswer(SteersmanError):
    """The answer is not what this client understands: another program, or a version too far apart."""

    code = "bad_answer"
    title = "Answer not understood"


class ApiError(SteersmanError):
    """An error that the API answered with. `code`, `title` and `status` are the answer's; the classes' own
    codes are never seen."""

    code = "api_error"

    def __init__(self, detail: str, *, code: str, title: str, status: int, facts: dict[str, Any]) -> None:
        super().__init__(detail)
        # The families have these per class; here each answer brings its own.
        self.__dict__.update(code=code, title=title, status=status)
        self.facts = facts


class ApiInvalidInput(ApiError, InvalidInput):
    """400, 408, 415, 422: the request itself is wrong."""

    code = "api_invalid_input"


class ApiUnauthenticated(ApiError, Unauthenticated):
    """401: no token, or one that is not accepted."""

    code = "api_unauthenticated"


class ApiForbidden(ApiError, Forbidden):
    """403: the token's role does not reach this far, or the request comes from elsewhere."""

    code = "api_forbidden"


class ApiNotFound(ApiError, NotFound):
    """404."""

    code = "api_not_found"


class ApiRefused(ApiError, Refused):
    """409: a rule of the system refuses it in its present state."""

    code = "api_refused"


class ApiVersionConflict(ApiRefused):
    """412: it has changed since the caller read it, or somebody took it over. `facts["current"]`."""

    code = "api_version_conflict"


class ApiGuardFailed(ApiRefused):
    """422 of a lifecycle: a guard does not hold, a requirement is missing, or a key was used for something
    else. `facts`: `failed`, `missing`, `allowed`."""

    code = "api_guard_failed"


class ApiTooLarge(ApiError, TooLarge):
    """413."""

    code = "api_too_large"


class ApiTooMany(ApiError, TooMany):
    """429: a bound is reached; `facts["retry_after_s"]` where the server said when to come back."""

    code = "api_too_many"


class ApiUnavailable(ApiError, Unavailable):
    """503, and what proxies answer in its place."""

    code = "api_unavailable"


_RULES = frozenset({"guard_failed", "requirement_missing", "idempotency_mismatch"})
"""Codes of 422 that are a rule's refusal of a good request."""
_BY_STATUS: dict[int, type[ApiError]] = {
    400: ApiInvalidInput,
    401: ApiUnauthenticated,
    403: ApiForbidden,
    404: ApiNotFound,
    408: ApiInvalidInput,
    409: ApiRefused,
    412: ApiVersionConflict,
    413: ApiTooLarge,
    415: ApiInvalidInput,
    422: ApiInvalidInput,
    429: ApiTooMany,
    502: ApiUnavailable,
    503: ApiUnavailable,
    504: ApiUnavailable,
}


def error_of(status: int, body: bytes) -> ApiError:
    """The error behind an answer. An answer that is no problem+json gives the family of its status."""
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE:
        problem = {}
    detail = problem.get("detail")
    if not isinstance(detail, str):
        text = body[: BODY_SHOWN_CHARS * 4].decode("utf-8", "replace").strip()[:BODY_SHOWN_CHARS]
        detail = f"the server answered {status}" + (f": {text}" if text else "")
    code, title = problem.get("code"), problem.get("title")
    family = ApiGuardFailed if code in _RULES else _BY_STATUS.get(status, ApiError)
    return family(
        detail,
        code=code if isinstance(code, str) else f"http_{status}",
        title=title if isinstance(title, str) else f"HTTP {status}",
        status=status,
        facts={name: value for name, value in problem.items() if name not in _MEMBERS},
    )
