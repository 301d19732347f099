"""`explain` tells what a thing is called elsewhere and where sources disagree; `get drift` and `doctor` tell
what nobody here knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from steersman.cli.checks import WARN, check_words
from steersman.cli.program import run_program
from steersman.client import AsyncSteersman
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.testing.plane import World, make_world, serve

Type = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def telling() -> AsyncIterator[World]:
    async with make_world() as made:
        yield made


@pytest.fixture
async def address(telling: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    async with serve(telling) as address:
        monkeypatch.setenv("STEERSMAN_SERVER", address)
        yield address


@pytest.fixture
def type_in(address: str, capsys: pytest.CaptureFixture[str]) -> Type:
    async def typed(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run_program, words)
        return code, *capsys.readouterr()

    return typed


def tell(world: World, source: str, name: str, ago_s: float = 1.0, **fields: Any) -> None:
    at = world.plane.clock.now() - timedelta(seconds=ago_s)
    world.plane.inlet.take([StateFragment(source, EntityType.NODE, name, at, fields, {"cluster": "prod"})])


async def test_explain_shows_names_units_ages_and_who_disagrees(telling: World, type_in: Type) -> None:
    tell(telling, "slurm", "node001", 9, addresses=["10.0.0.7"], cpu_count=64)
    tell(telling, "kubernetes", "ip-10-0-0-7", 2, addresses=["10.0.0.7"], cpu_count=96, memory_total=2**30)
    code, out, _ = await type_in("explain", "node/node001")
    assert code == 0
    assert "node/ip-10-0-0-7" in out
    (names,) = [line for line in out.splitlines() if line.strip().startswith("node001 ")]
    assert names.split()[1:4] == ["slurm", "address", "10.0.0.7"]
    (cpus,) = [line for line in out.splitlines() if line.strip().startswith("cpu_count")]
    assert "slurm: 64 (older)" in cpus
    assert "conflict" in cpus
    (memory,) = [line for line in out.splitlines() if line.strip().startswith("memory_total")]
    assert "1.0 GiB" in memory or "1 GiB" in memory
    code, out, _ = await type_in("explain", "node/node001", "-o", "json")
    told = json.loads(out)
    assert told["fields"]["cpu_count"]["agreement"] == "conflict"
    assert told["fields"]["cpu_count"]["others"][0]["lost_by"] == "older"
    assert told["identity"]["aliases"][0]["name"] == "node001"


async def test_a_doubt_is_in_explain_in_drift_in_metrics_and_in_doctor(telling: World, type_in: Type) -> None:
    for source, name in (("kubernetes", "n1.east"), ("kubernetes", "n1.west"), ("dcgm", "n1")):
        tell(telling, source, name, load_1m=1.0)
    telling.plane.inlet.drifted("prom", "DCGM_FI_X was on this page before; token=hunter2secret")
    code, out, _ = await type_in("explain", "node/n1")
    assert code == 0
    assert "n1.east, n1.west" in out
    assert "identity_ambiguous" in out
    code, out, _ = await type_in("get", "drift")
    assert code == 0
    assert "n1 is ambiguous" in out
    assert "hunter2secret" not in out
    code, out, _ = await type_in("get", "drift", "-o", "json")
    assert {one["kind"] for one in json.loads(out)["items"]} == {"identity", "shape"}
    metrics = (await telling.http.get("/metrics")).text
    assert 'steersman_drift_signals{kind="identity"} 1.0' in metrics
    assert "steersman_identity_ambiguous 1.0" in metrics
    code, out, _ = await type_in("get", "drift", "-l", "a=b")
    assert code == 2
    _, out, _ = await type_in("doctor")
    assert "steersman get drift" in out


async def test_nothing_unknown_is_said_as_such(telling: World, address: str, type_in: Type) -> None:
    assert "all that sources say is known" in (await type_in("get", "drift"))[2]
    async with AsyncSteersman(address) as plane:
        status = await plane.status()
        assert list(check_words(status)) == []
        assert (await plane.drift()).items == []
    telling.plane.bus.note_drift(EntityType.NODE, "x", "odd")
    async with AsyncSteersman(address) as plane:
        (check,) = check_words(await plane.status())
        assert (check.verdict, check.name) == (WARN, "drift")


async def test_only_a_viewer_may_read_drift() -> None:
    async with make_world(tokens=True) as world:
        assert (await world.http.get("/api/v1/drift")).status_code == 401
        answer = await world.http.get("/api/v1/drift", headers=await world.bearer("viewer"))
        assert answer.json() == {"items": [], "dropped": 0}
