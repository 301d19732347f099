"""A plane with an API over it: in process, and behind a real server on a free loopback port."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steersman.api.auth import NewToken, Tokens
from steersman.api.plane import Plane
from steersman.api.server import Api, build_asgi
from steersman.api.serving import HttpServer
from steersman.api.settings import ApiSettings
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import CountedIds, seeded_rng
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.settings import AuthSettings, ServerSettings
from steersman.observe.inlet import Inlet
from steersman.state.bus import StateBus
from steersman.store.memory import MemoryStore


@dataclass
class World:
    """One plane and its API. `http` asks it in process, as a caller on loopback would."""

    plane: Plane
    api: Api
    http: httpx2.AsyncClient
    tasks: Supervisor

    @property
    def bus(self) -> StateBus:
        return self.plane.bus

    async def token(self, role: str, **wish: Any) -> str:
        """The text of a new token."""
        return (await self.plane.tokens.create(NewToken(name=f"a {role}", role=role, **wish))).token

    async def bearer(self, role: str) -> dict[str, str]:
        """Headers with a new token."""
        return {"authorization": f"Bearer {await self.token(role)}"}


@asynccontextmanager
async def make_world(
    *, tokens: bool = False, dashboard: Path | None = None, start: bool = True, **server: Any
) -> AsyncIterator[World]:
    clock, rng = SystemClock(), seeded_rng(7)
    ids = CountedIds()
    settings = ApiSettings(ServerSettings(**server), AuthSettings(tokens=tokens))
    async with (
        MemoryStore(clock=clock, rng=rng) as store,
        Supervisor(clock, rng, name="test") as tasks,
    ):
        bus = StateBus(clock)
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
            settings=settings,
            dashboard=dashboard or Path("/nonexistent"),
        )
        await plane.tokens.load()
        api = build_asgi(plane)
        if start:
            await api.start()
            tasks.start("bus", plane.bus.pump, ALWAYS)
        transport = httpx2.ASGITransport(api, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7440") as http:
            yield World(plane, api, http, tasks)


@asynccontextmanager
async def serve_world(world: World) -> AsyncIterator[str]:
    """Serve it on a free port; gives the address."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server = HttpServer(world.api, world.plane.settings.server, listening)
    world.tasks.start("http", server.run)
    await server.started()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


MakeWorld = Callable[..., AbstractAsyncContextManager[World]]
ServeWorld = Callable[[World], AbstractAsyncContextManager[str]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A plane that asks for no tokens."""
    async with make_world() as made:
        yield made


@pytest.fixture
async def guarded() -> AsyncIterator[World]:
    """A plane that asks for tokens."""
    async with make_world(tokens=True) as made:
        yield made


@pytest.fixture
def new_world() -> MakeWorld:
    """`make_world`, for tests that need another one."""
    return make_world


@pytest.fixture
def serve() -> ServeWorld:
    """`serve_world`."""
    return serve_world


@pytest.fixture
async def address(world: World) -> AsyncIterator[str]:
    """Where `world` is served by a real server."""
    async with serve_world(world) as url:
        yield url


def make_fragment(
    entity_id: str = "n1", kind: str = "node", at: str | None = None, **fields: Any
) -> dict[str, Any]:
    """A fragment as JSON, observed now."""
    return {
        "source_type": "test",
        "entity_type": kind,
        "entity_id": entity_id,
        "observed_at": at or SystemClock().now().isoformat(),
        "fields": fields or {"cpu_utilization": 0.5},
        "labels": {"cluster": "c1"},
    }


@pytest.fixture
def fragment() -> Callable[..., dict[str, Any]]:
    """`make_fragment`."""
    return make_fragment
