"""An event as an HTTP request: CloudEvents 1.0 in the structured or the binary mode, signed.

The signature is that of Standard Webhooks (https://www.standardwebhooks.com), so that receivers find a
library for it: HMAC-SHA256 over `<id>.<timestamp>.<body>`, where the id is the event's and the timestamp the
attempt's, both in headers. A receiver that refuses old timestamps and drops ids it has seen can't be fooled
by a request that was recorded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from steersman.kernel.clock import iso_utc
from steersman.kernel.errors import InvalidInput
from steersman.kinds.command import ResourceEvent
from steersman.kinds.subscription import Format

SPEC_VERSION = "1.0"
STRUCTURED_TYPE = "application/cloudevents+json"
BINARY_TYPE = "application/json"
SECRET_WORD = "whsec_"  # noqa: S105 - the visible start of every secret that is made here
SIGNATURE_VERSION = "v1"
USER_AGENT = "Steersman-Webhook"
SEQUENCE_DIGITS = 12
"""CloudEvents' `sequence` is text that sorts."""
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""Characters that a `ce-` header holds as they are (CloudEvents HTTP binding, 3.1.3.2)."""


class SecretInvalid(InvalidInput):
    """The secret starts as ours do and what follows is not base64. It is not repeated."""

    code = "secret_invalid"
    title = "Secret not usable"


class Message(Struct, frozen=True):
    """A request's headers and body."""

    headers: dict[str, str]
    body: bytes


def write_secret(random_text: str) -> str:
    """A secret made of random text, in the form that libraries of Standard Webhooks read."""
    return SECRET_WORD + base64.b64encode(random_text.encode()).decode()


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: base64 behind `whsec_`, else the text itself. Raises
    `SecretInvalid`."""
    if not secret.startswith(SECRET_WORD):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_WORD), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < 16:
        raise SecretInvalid("secret: behind whsec_ must stand base64 of at least 16 bytes")
    return key


def sign(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = b"%s.%d.%s" % (event_id.encode(), timestamp, body)
    digest = hmac.new(signing_key(secret), signed, hashlib.sha256).digest()
    return f"{SIGNATURE_VERSION},{base64.b64encode(digest).decode()}"


def write_message(event: ResourceEvent, source: str, form: Format, secret: str, now: datetime) -> Message:
    """The request for one attempt at `now` to deliver an event that `source` (a URI) tells of."""
    attributes = {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": source,
        "type": event.type,
        "subject": event.subject,
        "time": iso_utc(event.time),
        "sequence": f"{event.sequence:0{SEQUENCE_DIGITS}d}",
        "partitionkey": event.subject,
    }
    attributes = {name: value for name, value in attributes.items() if value}  # empty ones are not allowed
    if form is Format.BINARY:
        body = msgspec.json.encode(event.data)
        headers = {f"ce-{name}": quote(value, safe=_SAFE) for name, value in attributes.items()}
        headers["content-type"] = BINARY_TYPE
    else:
        envelope: dict[str, Any] = {**attributes, "datacontenttype": BINARY_TYPE, "data": event.data}
        body = msgspec.json.encode(envelope)
        headers = {"content-type": STRUCTURED_TYPE}
    event_id = quote(event.id, safe=_SAFE)
    timestamp = int(now.timestamp())
    headers["webhook-id"] = event_id
    headers["webhook-timestamp"] = str(timestamp)
    headers["webhook-signature"] = sign(secret, event_id, timestamp, body)
    headers["user-agent"] = USER_AGENT
    return Message(headers, body)
