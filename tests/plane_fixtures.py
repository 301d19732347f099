"""A plane with an API over it, for any test: in process, and behind a real server on a free loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from steersman.testing.plane import World, make_fragment, make_world
from steersman.testing.plane import serve as serve_world

MakeWorld = Callable[..., AbstractAsyncContextManager[World]]
ServeWorld = Callable[[World], AbstractAsyncContextManager[str]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A plane that asks for no tokens."""
    async with make_world() as made:
        yield made


@pytest.fixture
async def acting() -> AsyncIterator[World]:
    """A plane that asks for no tokens and manages resources."""
    async with make_world(control=True) as made:
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
