"""The reflector against the fake API server: lost history, cut and silent streams, deaths, bounds, faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Struct

from steersman.drivers.kubernetes.access import KubernetesAccess
from steersman.drivers.kubernetes.client import KubeClient
from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.drivers.kubernetes.reflector import Reflector, Timing
from steersman.drivers.kubernetes.resources import CONFIG_MAPS
from steersman.drivers.kubernetes.shapes import Thing
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import ByteSize
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import Supervisor

TIMEOUT_S = 10.0
FAST = Timing(
    list_timeout_s=2.0,
    connect_timeout_s=1.0,
    idle_timeout_s=1.0,
    absent_again_s=0.05,
    backoff=Backoff(first_s=0.01, max_s=0.05),
)
PAGES = pytest.mark.parametrize("streaming", [False, True], ids=["pages", "stream"])


class ConfigMap(Thing, frozen=True):
    data: dict[str, str] | None = None


class Rig(Struct):
    server: FakeApiServer
    client: KubeClient
    reflector: Reflector[Any]
    tasks: Supervisor

    def put(self, name: str, value: str, namespace: str = "default") -> None:
        """Write a config map."""
        old = self.server.storage.get("configmaps", (namespace, name))
        if old is None:
            body = {"metadata": {"name": name}, "data": {"v": value}}
            self.server.create("configmaps", body, namespace)
        else:
            self.server.change("configmaps", old, data={"v": value})

    def remove(self, name: str, namespace: str = "default") -> None:
        """Delete one."""
        old = self.server.storage.get("configmaps", (namespace, name))
        assert old is not None
        self.server.remove("configmaps", old)

    def truth(self) -> dict[Any, Any]:
        """What the server has."""
        return {
            (thing["metadata"]["namespace"], thing["metadata"]["name"]): (
                thing["metadata"]["uid"],
                thing["data"]["v"],
            )
            for thing in self.server.all("configmaps")
        }

    def picture(self) -> dict[Any, Any]:
        """What the reflector has."""
        return {key: (held.uid, held.value) for key, held in self.reflector.objects.items()}

    async def settled(self) -> None:
        """The picture is the server's."""
        await until(lambda: self.picture() == self.truth(), lambda: (self.picture(), self.truth()))


async def until(holds: Callable[[], bool], shown: Callable[[], Any] = lambda: "") -> None:
    """Wait until something holds."""
    clock = SystemClock()
    end_s = clock.monotonic() + TIMEOUT_S
    while not holds():
        assert clock.monotonic() < end_s, f"it never came to hold: {shown()}"
        await clock.sleep(0.005)


@asynccontextmanager
async def rig(
    *, server: FakeApiServer | None = None, max_bytes: int = 1 << 26, start: bool = True, **options: Any
) -> AsyncIterator[Rig]:
    """A server, a client, and a reflector of config maps that runs."""
    server = server or FakeApiServer(bookmark_s=0.05)
    await server.start()
    clock = SystemClock()
    client = KubeClient(KubernetesAccess(url=server.url, max_bytes=ByteSize(max_bytes)), clock)
    given: dict[str, Any] = {
        "keep": lambda thing: (thing.data or {}).get("v"),
        "timing": FAST,
        "page_limit": 3,
        **options,
    }
    resource, shape = given.pop("resource", CONFIG_MAPS), given.pop("shape", ConfigMap)
    reflector: Reflector[Any] = Reflector(client, resource, shape, clock=clock, rng=seeded_rng(1), **given)
    try:
        async with Supervisor(clock, seeded_rng(1), name="test") as tasks:
            if start:
                reflector.start(tasks)
            yield Rig(server, client, reflector, tasks)
    finally:
        await client.close()
        await server.stop()


@PAGES
async def test_the_picture_follows_the_server(streaming: bool) -> None:
    async with rig(streaming=streaming) as it:
        for number in range(10):
            it.put(f"m-{number}", "1")
        await it.reflector.ready(TIMEOUT_S)
        await it.settled()
        first = it.reflector.changes()
        assert first.whole
        assert len(first.changed) == 10
        it.put("m-3", "2")
        it.remove("m-4")
        await it.settled()
        told = it.reflector.changes()
        assert [held.value for held in told.changed] == ["2"]
        assert [held.key for held in told.gone] == [("default", "m-4")]
        assert it.reflector.lists == 1
        paged = any("limit=3" in request.path for request in it.server.web.requests)
        assert paged is not streaming
