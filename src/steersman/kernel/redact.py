"""Keeping secrets out of what people read: logs, errors, status texts, explain output.

Two nets. A value under a key that names a secret is masked whatever it is. A text is searched for the
shapes in which secrets travel: credentials in a URL, an Authorization header, `token=...` in a query. The
second net is the last one, not the first: code that has a secret in hand holds it as a `Secret`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

MASK = "***"
DEPTH_MAX = 8
"""Deeper structures are shown as `...`: a log line is not a place for them."""
ERROR_TEXT_MAX_CHARS = 2000
"""What is shown of an error's text: some carry the whole answer that they could not read."""

# Words are matched as whole parts of a key (`api_key`, `X-Auth-Token`, `dbPassword`), so that `tokens_total`
# or `keyboard` are not masked by accident.
_SECRET_PARTS = frozenset(
    {
        "token", "password", "passwd", "passphrase", "pwd", "secret", "secrets", "authorization", "apikey",
        "cookie", "credential", "credentials", "jwt", "bearer", "signature",
    }
)  # fmt: skip
_SECRET_PAIRS = frozenset(
    {("api", "key"), ("private", "key"), ("access", "key"), ("signing", "key"), ("encryption", "key")}
)
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z0-9]+")

_URL_CREDENTIALS = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.\-]{0,30}://)[^\s/@?#\"']{1,512}@")
_HEADER = re.compile(r"(?i)\b(?P<kind>bearer|basic|digest)\s+[A-Za-z0-9._~+/=\-]{6,}")
# From the telling word on: with what stands before it in the pattern too, the time would grow with the square
# of the length of a long word.
_PAIR = re.compile(
    r"(?i)(?P<key>(?:token|passw(?:or)?d|secret|api[_-]?key|jwt|credential|authorization|cookie)[\w\-]{0,64})"
    r"(?P<sep>\"?'?\s*[=:]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^\s&,;\"'})\]]+)"
)


def is_secret_key(name: str) -> bool:
    """Whether a key of this name holds a secret by what it is called."""
    parts = [part.lower() for part in _PARTS.findall(name)]
    if any(part in _SECRET_PARTS for part in parts):
        return True
    return any(pair in _SECRET_PAIRS for pair in pairwise(parts))


def redact_text(text: str) -> str:
    """`text` with what looks like a credential masked; the rest, names included, stays readable."""
    if "://" in text:
        text = _URL_CREDENTIALS.sub(rf"\g<scheme>{MASK}@", text)
    text = _HEADER.sub(rf"\g<kind> {MASK}", text)
    return _PAIR.sub(_mask_pair, text)


def shortened_middle(text: str, chars_max: int) -> str:
    """`text` with what is too much taken out of its middle: beginning and end tell most."""
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return f"{text[:half]} ... {len(text) - 2 * half} characters left out ... {text[-half:]}"


def error_text(error: BaseException) -> str:
    """An error of any origin as `Type: text` for people: bounded, masked, and of whole characters. Given also
    where the error fails to tell its own text."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - foreign code: it must not spoil the report of its own failure
        text = "(it can't tell its text)"
    text = shortened_middle(text, ERROR_TEXT_MAX_CHARS).encode(errors="backslashreplace").decode()
    return redact_text(f"{type(error).__name__}: {text}")


def redact(value: Any, depth: int = 0) -> Any:
    """A copy of plain data with secrets masked, at every depth; other objects are kept as they are."""
    if isinstance(value, str):
        return redact_text(value)
    if depth >= DEPTH_MAX:
        return "..." if isinstance(value, Mapping | list | tuple) else value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {
            key: MASK if is_secret_key(str(key)) and item is not None else redact(item, depth + 1)
            for key, item in items
        }
    if isinstance(value, list | tuple):
        return [redact(item, depth + 1) for item in cast("list[Any]", value)]
    return value


def _mask_pair(match: re.Match[str]) -> str:
    value = match["value"]
    if not is_secret_key(match["key"]):
        return match[0]  # `tokens=4096` is a number of tokens
    if value.lower() in {"bearer", "basic", "digest"} or value.startswith(MASK):
        return match[0]  # the header net has masked what follows
    return f"{match['key']}{match['sep']}{MASK}"
