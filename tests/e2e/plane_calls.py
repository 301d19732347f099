"""Requests to a real `steersman up`: as its first admin, and streams that are read event by event."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

CALL_TIMEOUT_S = 20.0
STREAM_TIMEOUT_S = 60.0


class Answer(NamedTuple):
    """A status and the JSON that came with it (None where there was no body)."""

    status: int
    body: Any


class Told(NamedTuple):
    """One event of a stream; `id` is the last one that was told by then."""

    id: str
    name: str
    data: dict[str, Any]


def ask(running: Any, method: str, path: str, body: Any = None) -> Answer:
    """One call as the first admin. A refusal is an answer as well."""
    token = (running.home / "admin.token").read_text().strip()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{running.url}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:
            text = answer.read()
            return Answer(answer.status, json.loads(text) if text else None)
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.loads(error.read()))


def told(url: str, query: str, last_id: str = "") -> Iterator[Told]:
    """The events of a stream as they come; ends where the other side does."""
    headers = {"last-event-id": last_id} if last_id else {}
    request = urllib.request.Request(f"{url}/api/v1/watch?{query}", headers=headers)
    name, seen_id = "", last_id
    try:
        with urllib.request.urlopen(request, timeout=STREAM_TIMEOUT_S) as answer:
            for raw in answer:
                word, _, value = raw.decode().rstrip("\n").partition(": ")
                if word == "id":
                    seen_id = value
                elif word == "event":
                    name = value
                elif word == "data":
                    yield Told(seen_id, name, json.loads(value))
    except (OSError, ValueError):
        return  # it was cut, by a kill or by the end of the test
