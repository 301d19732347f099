"""The API's errors: status objects with the reasons and codes of the real server.

Constants: k8s.io/apimachinery api/errors and meta/v1 StatusReason.
"""

from __future__ import annotations

from steersman.drivers.kubernetes.fake.tree import Object

CODES = {
    "BadRequest": 400, "Unauthorized": 401, "Forbidden": 403, "NotFound": 404, "MethodNotAllowed": 405,
    "NotAcceptable": 406, "AlreadyExists": 409, "Conflict": 409, "Expired": 410, "Gone": 410,
    "RequestEntityTooLarge": 413, "UnsupportedMediaType": 415, "Invalid": 422, "TooManyRequests": 429,
    "InternalError": 500, "ServiceUnavailable": 503, "Timeout": 504,
}  # fmt: skip


class Refusal(Exception):
    """A request that the server refuses. `details` go into the status object as they are."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        details: Object | None = None,
        retry_after_s: int | None = None,
        token: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s
        self.token = token
        if retry_after_s is not None:
            self.details["retryAfterSeconds"] = retry_after_s

    @property
    def code(self) -> int:
        """The HTTP status."""
        return CODES[self.reason]

    def status(self) -> Object:
        """The status object."""
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.token} if self.token else {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def success(details: Object | None = None) -> Object:
    """The status object of what went well and has no object to show."""
    body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return {**body, "details": details} if details else body


def not_found(plural: str, group: str, name: str) -> Refusal:
    """There is no such object."""
    kind = f"{plural}.{group}" if group else plural
    return Refusal(
        "NotFound", f'{kind} "{name}" not found', details={"name": name, "group": group, "kind": plural}
    )


def expired(message: str = "", token: str = "") -> Refusal:
    """The history that is asked for is no longer kept."""
    return Refusal(
        "Expired", message or "The resourceVersion for the provided watch is too old.", token=token
    )


def conflict(plural: str, name: str, why: str) -> Refusal:
    """A precondition does not hold."""
    return Refusal(
        "Conflict",
        f'Operation cannot be fulfilled on {plural} "{name}": {why}',
        details={"name": name, "kind": plural},
    )


def invalid(kind: str, name: str, field: str, why: str) -> Refusal:
    """An object breaks a rule."""
    return Refusal(
        "Invalid",
        f'{kind} "{name}" is invalid: {field}: {why}',
        details={
            "name": name,
            "kind": kind,
            "causes": [{"reason": "FieldValueInvalid", "message": why, "field": field}],
        },
    )
