"""The plane about itself: health, status, sources, schemas, the caller, metrics, this API's document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime

from litestar import Response
from msgspec import Struct, structs

from steersman.api.framework import Answer, Asked, exchange_of, json_answer, metrics_of, plane_of
from steersman.api.metrics import CONTENT_TYPE
from steersman.api.plane import Plane
from steersman.api.problems import NotReady
from steersman.kernel.errors import SteersmanError
from steersman.kernel.redact import redact_text
from steersman.kernel.tasks import ENDED, FAILED, STUCK, WAITING, TaskSnapshot
from steersman.kinds.drift import DriftList
from steersman.kinds.explanation import SourceStatus
from steersman.kinds.running import ActingStatus, AdviceStatus, EventsStatus, LeftOut, LoopStatus
from steersman.kinds.schema import PUBLISHED, schema_of
from steersman.observe.judge import SourceHealth

STORE_ANSWER_MAX_S = 2.0
"""How long the store may take to answer for `/readyz`."""
LOOP_WAIT_MAX_S = 300.0
"""Where a resource waits longer for its turn, turns do not end: the first sweep of 100,000 resources takes a
fraction of this."""
_DIED = {
    FAILED: FAILED,
    STUCK: STUCK,
    WAITING: "died, and waits to be started again",
}
_PER_SUBSCRIBER = "delivery."
"""Begins the names of tasks that serve one subscriber: their trouble is not the plane's."""


class Alive(Struct, frozen=True):
    """The process runs. Nothing more is said: `/readyz` says whether it can do its work."""

    status: str = "ok"


class Ready(Struct, frozen=True):
    """Everything that is needed works."""

    status: str = "ready"


class StoreStatus(Struct, frozen=True):
    """The store: what it is, whether it answers, where it stands."""

    name: str
    ok: bool
    revision: int | None = None
    detail: str = ""


class Status(Struct, frozen=True):
    """What runs here and how it does. `sources` are all, as the bus hears them; `intake` the configured
    ones, as they are observed: latency, failures, warnings, what comes next. `acting` is None where this
    process only observes.
    """

    version: str
    started_at: datetime
    now: datetime
    uptime_s: float
    ready: bool
    failed: list[str]
    store: StoreStatus
    bus: dict[str, int]
    tasks: list[TaskSnapshot]
    sources: list[SourceStatus]
    intake: list[SourceHealth]
    streams: int
    tokens_required: bool
    dashboard_built: bool
    acting: ActingStatus | None = None


class SourceList(Struct, frozen=True):
    """All sources, by name."""

    items: list[SourceStatus]


class SchemaNames(Struct, frozen=True):
    """Names of published schemas."""

    items: list[str]


class WhoAmI(Struct, frozen=True):
    """The caller, as the API sees them."""

    name: str
    role: str
    anonymous: bool
    token: str


async def healthz() -> Answer:
    """The process is alive."""
    return json_answer(Alive())


async def readyz(request: Asked) -> Answer:
    """Store, intake, tasks and loop work; else 503 with a line for each that does not."""
    plane = plane_of(request)
    failed = failures(plane, await ask_store(plane))
    if failed:
        raise NotReady("not ready: " + "; ".join(failed), failed=failed)
    return json_answer(Ready())


async def status(request: Asked) -> Answer:
    """What runs here and how it does: what `steersman doctor` shows."""
    plane = plane_of(request)
    store = await ask_store(plane)
    failed = failures(plane, store)
    now = plane.clock.now()
    return json_answer(
        Status(
            version=plane.version,
            started_at=plane.started_at,
            now=now,
            uptime_s=max(0.0, (now - plane.started_at).total_seconds()),
            ready=not failed,
            failed=failed,
            store=store,
            bus=plane.bus.counters(),
            tasks=plane.supervisor.snapshot(),
            sources=_sources(plane),
            intake=_intake(plane),
            streams=request.app.state["streams"](),
            tokens_required=plane.settings.auth.tokens,
            dashboard_built=request.app.state["dashboard_built"],
            acting=acting_status(plane),
        )
    )


async def list_sources(request: Asked) -> Answer:
    """Every source: what it promised, when it was last heard, how it does."""
    return json_answer(SourceList(_sources(plane_of(request))))


async def list_drift(request: Asked) -> Answer:
    """Signs that a source's shape is not the one we know, and names that leave a doubt."""
    log = plane_of(request).bus.drift_log
    items = [structs.replace(one, detail=redact_text(one.detail)) for one in log.read()]
    return json_answer(DriftList(items, log.dropped))


async def whoami(request: Asked) -> Answer:
    """The caller's name and role."""
    caller = exchange_of(request).caller
    assert caller is not None  # noqa: S101 - the edge lets nobody reach a route with a role without one
    return json_answer(WhoAmI(caller.name, caller.role, caller.anonymous, caller.token))


async def metrics(request: Asked) -> Answer:
    """Prometheus' text exposition."""
    store = await ask_store(plane_of(request))
    return Response(metrics_of(request).expose(store_revision=store.revision), media_type=CONTENT_TYPE)


async def openapi(request: Asked) -> Answer:
    """The OpenAPI 3.1 document of this API."""
    document: bytes = request.app.state["openapi"]()
    return Response(document, media_type="application/json", headers={"cache-control": "no-cache"})


async def list_schemas() -> Answer:
    """Names of all published schemas."""
    return json_answer(SchemaNames(sorted(PUBLISHED)))


async def get_schema(request: Asked) -> Answer:
    """The JSON Schema (2020-12) of that name."""
    return json_answer(schema_of(exchange_of(request).parameters["name"]))


def _sources(plane: Plane) -> list[SourceStatus]:
    return [structs.replace(one, detail=redact_text(one.detail)) for one in plane.bus.sources()]


def _intake(plane: Plane) -> list[SourceHealth]:
    return [
        structs.replace(
            one, last_error=redact_text(one.last_error), warnings=tuple(map(redact_text, one.warnings))
        )
        for one in plane.intake_sources()
    ]


async def ask_store(plane: Plane) -> StoreStatus:
    """Whether the store answers, within a bound."""
    try:
        async with asyncio.timeout(STORE_ANSWER_MAX_S):
            revision = await plane.store.revision()
    except TimeoutError:
        detail = f"no answer within {STORE_ANSWER_MAX_S:g} s"
        return StoreStatus(plane.store_name, ok=False, detail=detail)
    except SteersmanError as error:
        return StoreStatus(plane.store_name, ok=False, detail=redact_text(error.detail))
    return StoreStatus(plane.store_name, ok=True, revision=revision)


def failures(plane: Plane, store: StoreStatus) -> list[str]:
    """Why the plane is not ready, one line each; empty where it is."""
    lines = [] if store.ok else [f"store: {store.detail}"]
    lines += [f"intake: {line}" for line in plane.intake_failures()]
    lines += _task_failures(plane)
    return lines + list(_loop_failures(plane))


def _task_failures(plane: Plane) -> Iterator[str]:
    """Tasks that died, whether or not they are started again; and those of the acting half that are over."""
    needed = () if plane.control is None else plane.control.tasks
    tasks = plane.supervisor.snapshot()
    for task in tasks:
        if task.state == WAITING and task.name.startswith(_PER_SUBSCRIBER):
            continue
        if task.state in _DIED:
            yield f"task {task.name}: {_DIED[task.state]}"
        elif task.state == ENDED and task.name in needed:
            yield f"task {task.name}: ended"
    known = {task.name for task in tasks}
    yield from (f"task {name}: does not run" for name in needed if name not in known)


def _loop_failures(plane: Plane) -> Iterator[str]:
    loop = None if plane.control is None else plane.control.loop
    if loop is None:
        return
    for task in loop.tasks():
        if task.state in (*_DIED, ENDED):
            yield f"loop: its task {task.name} {_DIED.get(task.state, task.state)}"
    yield from stall_of(loop.snapshot().oldest_wait_s)


def stall_of(oldest_wait_s: float) -> list[str]:
    """The line for a loop in which nobody's turn comes; none where the longest wait is within the bound."""
    if oldest_wait_s <= LOOP_WAIT_MAX_S:
        return []
    return [f"loop: a resource has waited for its turn for {oldest_wait_s:.0f} s"]


def acting_status(plane: Plane) -> ActingStatus | None:
    """How the acting half fares; None where this process has none."""
    control = plane.control
    if control is None:
        return None
    loop = advice = None
    if control.loop is not None:
        now = control.loop.snapshot()
        loop = LoopStatus(**{name: getattr(now, name) for name in LoopStatus.__struct_fields__})
    if control.advice is not None:
        said = control.advice.snapshot()
        advice = AdviceStatus(**{name: getattr(said, name) for name in AdviceStatus.__struct_fields__})
    return ActingStatus(loop=loop, advice=advice, events=_events(plane), left_out=tuple(_left_out(plane)))


def _events(plane: Plane) -> EventsStatus | None:
    if plane.deliveries is None:
        return None
    each = plane.deliveries.snapshot()
    horizon = 0 if plane.tail is None else plane.tail.horizon
    return EventsStatus(
        subscriptions=len(each),
        pending=sum(one.pending for one in each),
        behind=max((max(0, horizon - one.cursor) for one in each if one.running), default=0),
        failing=sum(one.failing > 0 for one in each),
        dead_letters=sum(one.dead_letters for one in each),
    )


def _left_out(plane: Plane) -> Iterator[LeftOut]:
    """What was given to this process and is not in force."""
    control = plane.control
    if control is None:
        return
    if control.advice is not None:
        for one in control.advice.policies.problems:
            detail = redact_text(one.detail)
            yield LeftOut(what="policy", file=one.file, detail=detail, line=one.line, column=one.column)
    for one in control.lifecycles.refused:
        detail = redact_text(one.detail)
        yield LeftOut(what="lifecycle", file=one.file, detail=detail, line=one.line, column=one.column)
