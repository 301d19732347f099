"""The one error tree, and its one mapping to HTTP (RFC 9457 problem details).

Every error we raise on purpose is a `SteersmanError`. It carries a stable `code` that programs match on, a
sentence for people (`detail`: what was refused, where, what was expected, what to do), and facts as plain
data (`facts`: e.g. `allowed`, `failed`, `current`, `file`, `line`) that travel to the caller unchanged.
A message never holds a secret and never repeats its cause: the chain is printed once, at the top.

The classes here are the families that callers tell apart. A room adds its own subclasses beside the code
that raises them, with a code of their own; docs/reference/errors.md has a heading for each code, and a
test holds that.
"""

from __future__ import annotations

from typing import Any, ClassVar

PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE_BASE = "urn:steersman:error:"  # a URN, so that no error names a host


class SteersmanError(Exception):
    """The root. Never raised itself."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts: dict[str, Any] = facts

    def problem(self, instance: str | None = None) -> dict[str, Any]:
        """This error as a problem+json object. `facts` become members beside the standard ones."""
        body: dict[str, Any] = {
            "type": PROBLEM_TYPE_BASE + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if instance is not None:
            body["instance"] = instance
        for name, value in self.facts.items():
            body.setdefault(name, value)
        return body


class InvalidInput(SteersmanError):
    """What the caller gave can't be read or breaks a rule; asking again unchanged gives the same answer."""

    code = "invalid_input"
    title = "Invalid input"
    status = 400


class Unauthenticated(SteersmanError):
    """No token, or one we do not know."""

    code = "unauthenticated"
    title = "A token is needed"
    status = 401


class Forbidden(SteersmanError):
    """We know who asks, and their role does not reach this far."""

    code = "forbidden"
    title = "Not allowed for this role"
    status = 403


class NotFound(SteersmanError):
    """There is no such thing; `detail` names it and, where there is one, the nearest name."""

    code = "not_found"
    title = "Not found"
    status = 404


class Refused(SteersmanError):
    """The request is well formed, and a rule of the system refuses it in the present state."""

    code = "refused"
    title = "Refused"
    status = 409


class TooLarge(SteersmanError):
    """The body, page, line or batch is over its bound; `facts` hold `limit`."""

    code = "too_large"
    title = "Too large"
    status = 413


class TooMany(SteersmanError):
    """A rate, stream or queue bound is reached; `facts` hold `limit` and, where known, `retry_after_s`."""

    code = "too_many"
    title = "Too many requests"
    status = 429


class Unavailable(SteersmanError):
    """Something we need does not answer now: a database, a disk, an outside system. Trying later may help."""

    code = "unavailable"
    title = "Unavailable"
    status = 503


class TimedOut(Unavailable):
    """No answer within the time that was allowed; the outcome on the other side is not known."""

    code = "timed_out"
    title = "Timed out"
    status = 504
