"""A Prometheus in a box: its query API over real HTTP, with the documented envelope, and it can misbehave.

It stores what `put` and `scrape` give it and answers the queries that this driver asks (see `fakequery`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from steersman.drivers.exposition.parse import read_series, read_value, split_line
from steersman.drivers.lane import Lane
from steersman.drivers.prometheus.fakequery import QueryInvalid, Rows, Series, evaluate
from steersman.drivers.web.fake import FakeSystem, Request, Response, WebFake
from steersman.kernel.clock import Clock, SystemClock

JSON = "application/json"
QUERY_PATH = "/api/v1/query"
EVALUATE_TIMEOUT_S = 60.0

Odd = Callable[[str], Response | None]


class FakePrometheus(FakeSystem):
    """Answers at `url`. Everything that is set is looked at with the next request:

    - `authorization` and `tenant` are demanded where they are set; `get_only` refuses POST;
    - `warnings`, `infos` go into every answer; `limit` cuts answers, with the warning of the real one;
    - `odd` may answer a query in its own way; `delay_s` makes every answer slow;
    - `shift_s` is how far its clock is ahead of ours. `web` has the faults of the transport.

    `queries` are those that were asked, `most_at_once` how many were there at one moment.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._stored: dict[str, dict[tuple[tuple[str, str], ...], Series]] = {}
        self.authorization = ""
        self.tenant = ""
        self.get_only = False
        self.warnings: list[str] = []
        self.infos: list[str] = []
        self.limit = 0
        self.odd: Odd | None = None
        self.delay_s = 0.0
        self.shift_s = 0.0
        self.queries: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._lane: Lane | None = None
        self.web = WebFake(self._answer)

    async def start(self) -> FakePrometheus:
        """Listen; returns itself."""
        self._lane = Lane("fake-prometheus", "the fake's evaluation")
        await self._lane.run(lambda: None, EVALUATE_TIMEOUT_S)  # its thread is there from now on
        await self.web.start()
        return self

    async def stop(self) -> None:
        """Close. Repeating it does nothing."""
        await self.web.stop()
        lane, self._lane = self._lane, None
        if lane is not None:
            await lane.close()

    @property
    def now_s(self) -> float:
        """Its own time."""
        return self._clock.now().timestamp() + self.shift_s

    def put(self, name: str, labels: dict[str, str], value: float, *, age_s: float = 0.0) -> None:
        """Store a sample that is `age_s` old."""
        whole = {"__name__": name, **labels}
        key = tuple(sorted(whole.items()))
        series = self._stored.setdefault(name, {}).setdefault(key, Series(whole, []))
        series.samples.append((_ms(self.now_s - age_s), value))
        series.samples.sort()

    def scrape(self, page: str, target: dict[str, str], *, age_s: float = 0.0, honor: bool = False) -> None:
        """Store a page as a scrape of a target with these labels does, `up` included. `honor` is
        honor_labels: without it a label of the page that the target has, too, is renamed exported_..."""
        self.put("up", target, 1.0, age_s=age_s)
        for line in page.splitlines():
            if not line or line.startswith("#"):
                continue
            found = split_line(line)
            name, own = read_series(found.series)
            labels = dict(target)
            for label, text in own.items():
                if label in target and not honor:
                    labels[f"exported_{label}"] = text
                else:
                    labels[label] = text
            self.put(name, labels, read_value(found.value), age_s=age_s)

    def clear(self) -> None:
        """Forget all samples, as one that began anew does."""
        self._stored.clear()

    def drop(self, name: str) -> None:
        """Forget the series of a name; without `up` no scrape target is configured any more."""
        self._stored.pop(name, None)

    def lose(self, **labels: str) -> None:
        """Drop the series that have all these labels, as a target that went does; `up` becomes 0."""
        for name, held in self._stored.items():
            for key, series in list(held.items()):
                if any(series.labels.get(label) != text for label, text in labels.items()):
                    continue
                if name == "up":
                    series.samples.append((_ms(self.now_s), 0.0))
                else:
                    del held[key]

    async def _answer(self, request: Request) -> Response:
        parts = urlsplit(request.path)
        if parts.path != QUERY_PATH:
            return Response(b"404 page not found", 404)
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Response(b"who are you?", 401)
        if self.tenant and request.headers.get("x-scope-orgid") != self.tenant:
            return Response(b"no org id", 401)
        if self.get_only and request.method != "GET":
            return Response(b"method not allowed", 405)
        form = parse_qs(request.body.decode() if request.method == "POST" else parts.query)
        text = form.get("query", [""])[0]
        self.queries.append(text)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._evaluated(text, form)
        finally:
            self.at_once -= 1

    async def _evaluated(self, text: str, form: dict[str, list[str]]) -> Response:
        if self.delay_s:
            await self._clock.sleep(self.delay_s)
        odd = self.odd(text) if self.odd is not None else None
        if odd is not None:
            return odd
        at_s = float(form["time"][0]) if "time" in form else self.now_s
        try:
            stored = {name: list(held.values()) for name, held in self._stored.items()}
            lane = self._lane
            if lane is None:
                return failure(503, "unavailable", "it is being stopped")
            found = await lane.run(lambda: evaluate(text, stored, at_s), EVALUATE_TIMEOUT_S)
        except QueryInvalid as error:
            return failure(400, "bad_data", str(error))
        notes = list(self.warnings)
        if isinstance(found, list) and self.limit and len(found) > self.limit:
            del found[self.limit :]
            notes.append("results truncated due to limit")
        return success(found, at_s, notes, self.infos)


def success(
    found: Rows | float, at_s: float, warnings: list[str] | None = None, infos: list[str] | None = None
) -> Response:
    """An answer as the API gives it."""
    if isinstance(found, list):
        result: Any = [{"metric": labels, "value": [at_s, _number(value)]} for labels, value in found]
        data = {"resultType": "vector", "result": result}
    else:
        data = {"resultType": "scalar", "result": [at_s, _number(found)]}
    body: dict[str, Any] = {"status": "success", "data": data}
    if warnings:
        body["warnings"] = warnings
    if infos:
        body["infos"] = infos
    return Response(msgspec.json.encode(body), 200, JSON)


def failure(status: int, kind: str, error: str, data: Any = None) -> Response:
    """An error as the API gives it; it may carry data."""
    body: dict[str, Any] = {"status": "error", "errorType": kind, "error": error}
    if data is not None:
        body["data"] = data
    return Response(msgspec.json.encode(body), status, JSON)


def _ms(time_s: float) -> float:
    """In whole milliseconds, as it counts time."""
    return math.floor(time_s * 1000) / 1000


def _number(value: float) -> str:
    """As Go writes it."""
    if value != value:
        return "NaN"
    return {float("inf"): "+Inf", float("-inf"): "-Inf"}.get(value) or f"{value:.17g}"
