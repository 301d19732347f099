"""A whole plane in one process, with its API: for tests and benchmarks of whatever talks to the API.

    async with make_world() as world, serve(world) as address:
        ...

In process, `world.http` asks the API as a caller on loopback would; `serve` puts it behind the real server on
a free port.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from steersman.act.delivery.deliveries import Deliveries
from steersman.act.delivery.worker import Pace
from steersman.api.auth import NewToken, Tokens
from steersman.api.plane import Plane
from steersman.api.server import Api, build_asgi
from steersman.api.serving import HttpServer
from steersman.api.settings import ApiSettings
from steersman.app.acting import open_acting
from steersman.drivers.webhook.targets import Targets
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import CountedIds, Rng, seeded_rng
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.settings import AuthSettings, ServerSettings, Settings
from steersman.observe.inlet import Inlet
from steersman.state.bus import StateBus
from steersman.state.limits import BusLimits
from steersman.state.tail import Tail
from steersman.store.memory import MemoryStore

LOOPBACK = "http://127.0.0.1:7440"
"""The address that calls in process are made to; nothing listens there."""
NO_DASHBOARD = Path("no-dashboard-was-built")


@dataclass
class World:
    """One plane and its API."""

    plane: Plane
    api: Api
    http: httpx2.AsyncClient
    tasks: Supervisor

    @property
    def bus(self) -> StateBus:
        """The plane's bus."""
        return self.plane.bus

    async def token(self, role: str, **wish: Any) -> str:
        """The text of a new token."""
        return (await self.plane.tokens.create(NewToken(name=f"a {role}", role=role, **wish))).token

    async def bearer(self, role: str) -> dict[str, str]:
        """Headers with a new token."""
        return {"authorization": f"Bearer {await self.token(role)}"}


@asynccontextmanager
async def make_world(
    *,
    tokens: bool = False,
    dashboard: Path = NO_DASHBOARD,
    limits: BusLimits | None = None,
    events: bool = False,
    control: bool = False,
    **server: Any,
) -> AsyncGenerator[World]:
    """A plane over a store in memory, its bus turning. `server`: settings of the API's server. With `events`
    it tells of resources too, and delivers to receivers on loopback. With `control` it acts: the Ledger, the
    shipped lifecycles and policies, the loop and its engines, as a program of its own would run them."""
    clock, rng = SystemClock(), seeded_rng(7)
    ids = CountedIds()
    async with (
        AsyncExitStack() as kept,
        MemoryStore(clock=clock, rng=rng) as store,
        Supervisor(clock, rng, name="test") as tasks,
    ):
        bus = StateBus(clock, limits=limits)
        plane = Plane(
            bus=bus,
            inlet=Inlet(bus, clock),
            store=store,
            clock=clock,
            ids=ids,
            supervisor=tasks,
            tokens=Tokens(store, clock, ids),
            version="0.0.0-test",
            started_at=clock.now(),
            settings=ApiSettings(ServerSettings(**server), AuthSettings(tokens=tokens)),
            dashboard=dashboard,
        )
        await plane.tokens.load()
        if events:
            await _start_events(plane)
        if control:
            # A command's wrapper outlives its plane, by design, and may write once more into the folder.
            made = TemporaryDirectory(prefix="steersman-plane-", ignore_cleanup_errors=True)
            folder = Path(kept.enter_context(made))
            await _start_acting(plane, folder, rng)
        api = build_asgi(plane)
        await api.start()
        tasks.start("bus", bus.pump, ALWAYS)
        transport = httpx2.ASGITransport(api, raise_app_exceptions=False)  # pyright: ignore[reportArgumentType] - its ASGI types are narrower
        async with httpx2.AsyncClient(transport=transport, base_url=LOOPBACK) as http:
            yield World(plane, api, http, tasks)


async def _start_acting(plane: Plane, folder: Path, rng: Rng) -> None:
    """Give a plane its acting half."""
    acting = await open_acting(
        Settings(),
        folder,
        plane.store,
        plane.bus,
        plane.supervisor,
        clock=plane.clock,
        rng=rng,
        ids=plane.ids,
    )
    plane.control = acting.control()
    if plane.tail is None:
        plane.tail, plane.deliveries = acting.tail, acting.deliveries
    acting.start(plane.supervisor)


async def _start_events(plane: Plane) -> None:
    """Give a plane its tail and its deliveries."""
    store, clock, tasks = plane.store, plane.clock, plane.supervisor
    plane.tail = Tail(store, clock)
    tasks.start("tail", plane.tail.run, ALWAYS)
    await plane.tail.ready()
    plane.deliveries = Deliveries(
        store,
        plane.tail,
        clock=clock,
        rng=seeded_rng(7),
        ids=plane.ids,
        tasks=tasks,
        targets=Targets(["127.0.0.0/8"]),
        pace=Pace(attempts_max=3, backoff=Backoff(first_s=0.01, max_s=0.02), cursor_s=0.0),
    )
    await plane.deliveries.load()
    plane.deliveries.start()


@asynccontextmanager
async def serve(world: World) -> AsyncGenerator[str]:
    """Serve it on a free loopback port; gives the address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listening.setblocking(False)
    server = HttpServer(world.api, world.plane.settings.server, listening)
    world.tasks.start("http", server.run)
    await server.started()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


def make_fragment(entity_id: str = "n1", kind: str = "node", at: str = "", **fields: Any) -> dict[str, Any]:
    """A fragment as JSON would have it, observed now unless `at` says otherwise."""
    return {
        "source_type": "test",
        "entity_type": kind,
        "entity_id": entity_id,
        "observed_at": at or SystemClock().now().isoformat(),
        "fields": fields or {"cpu_utilization": 0.5},
        "labels": {"cluster": "c1"},
    }
