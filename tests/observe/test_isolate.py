"""A foreign driver that blocks holds up itself and nobody else."""

from __future__ import annotations

import asyncio
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from steersman.drivers.api import Observation, SourceError
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.settings import SourceSettings
from steersman.observe.isolate import Isolated
from steersman.observe.registry import Drivers, make_sources
from steersman.testing.sources import ScriptedDriver


async def test_it_observes_and_closes_over_there() -> None:
    driver = ScriptedDriver()
    isolated = Isolated(driver, "a")
    assert [fragment.entity_id for fragment in (await isolated.observe()).fragments] == ["n1"]

    async def fail() -> Observation:
        raise SourceError("down")

    driver.script = fail
    with pytest.raises(SourceError, match="down"):
        await isolated.observe()
    await isolated.close()
    assert driver.closed == 1


async def test_a_driver_that_blocks_is_not_waited_for() -> None:
    """Goal: while the driver sits in a blocking call, this loop runs, and the next observation says why."""
    driver = ScriptedDriver()
    isolated = Isolated(driver, "a")
    began, release = threading.Event(), threading.Event()

    async def block() -> Observation:
        began.set()
        release.wait()
        return Observation()

    driver.script = block
    call = asyncio.ensure_future(isolated.observe())
    assert await asyncio.to_thread(began.wait, 10)
    call.cancel()
    await asyncio.wait({call})
    with pytest.raises(SourceError, match="the driver blocks: an earlier observation has not ended"):
        await isolated.observe()
    release.set()
    driver.script = driver.node
    while True:
        try:
            await isolated.observe()
        except SourceError:
            await asyncio.sleep(0.001)
        else:
            break
    await isolated.close()


def test_only_foreign_drivers_are_isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from steersman.testing.sources import ScriptedDriver as ForeignDriver"
    (tmp_path / "isolate_foreign.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    drivers = Drivers(
        [
            EntryPoint("own", "steersman.testing.sources:ScriptedDriver", "steersman.drivers"),
            EntryPoint("foreign", "isolate_foreign:ForeignDriver", "steersman.drivers"),
        ]
    )
    assert drivers.is_own("own")
    assert not drivers.is_own("foreign")
    settings = [SourceSettings(name=name, driver=name) for name in ("own", "foreign")]
    own, foreign = make_sources(settings, clock=SystemClock(), rng=seeded_rng(1), drivers=drivers)
    assert isinstance(own.driver, ScriptedDriver)
    assert isinstance(foreign.driver, Isolated)
