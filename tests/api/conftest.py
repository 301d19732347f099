"""A plane with an API over it: in process, and behind a real server on a free loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from steersman.testing.plane import World, make_fragment, make_world
from steersman.testing.plane import serve as serve_world

MakeWorld = Callable[..., AbstractAsyncContextManager[World]]
ServeWorld = Callable[[World], AbstractAsyncContextManager[str]]


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[None]:
    """A call of ours that blocks the event loop is an error in every test here."""
    with blockbuster_ctx(["steersman.api", "steersman.observe", "steersman.state"]) as watcher:
        for function in watcher.functions.values():
            # It reads /proc, which is memory; and code is loaded at the first request that needs it.
            function.can_block_in("prometheus_client/process_collector.py", {"collect"})
            function.can_block_in("steersman/api/server.py", {"_framework"})  # at the start
            function.can_block_in("steersman/state/health/table.py", {"_read"})  # once for each kind
            function.can_block_in("<frozen importlib._bootstrap_external>", {"get_data", "path_stats"})
        yield


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
    """`serve`, to end a server within a test."""
    return serve_world


@pytest.fixture
async def address(world: World) -> AsyncIterator[str]:
    """Where `world` is served by a real server."""
    async with serve_world(world) as url:
        yield url


@pytest.fixture
def fragment() -> Callable[..., dict[str, Any]]:
    """`make_fragment`."""
    return make_fragment
