"""Commands that act, typed against a server that really acts: what they print, and how they exit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from steersman.cli.program import run_program
from steersman.kinds.fragment import StateFragment
from steersman.testing.plane import World, make_fragment, make_world, serve

Type = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def acting() -> AsyncIterator[World]:
    async with make_world(control=True) as made:
        yield made


@pytest.fixture
async def type_in(
    acting: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Type]:
    """Run a command line against the plane: exit code, stdout, stderr."""
    async with serve(acting) as address:
        monkeypatch.setenv("STEERSMAN_SERVER", address)
        monkeypatch.delenv("STEERSMAN_TOKEN", raising=False)

        async def typed(*words: str) -> tuple[int, str, str]:
            capsys.readouterr()
            code = await asyncio.to_thread(run_program, words)
            return code, *capsys.readouterr()

        yield typed


NODES = """\
kind: Node
id: n1
scope: c1
labels: {rack: r7}
---
kind: Node
id: n2
status: in_service
---
kind: Node
id: n3
lifecycle: no-such
"""


async def test_good_documents_beside_bad_ones_are_applied(type_in: Type, tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(NODES)
    code, out, err = await type_in("apply", "-f", str(path))
    assert code == 1
    assert out == "node/n1 created\n"
    assert f"{path}:8: unknown key 'status'" in err
    assert f"node/n3: {path}:10: " in err
    code, out, err = await type_in("apply", "-f", str(path))
    assert (code, out) == (1, "node/n1 unchanged\n")
    path.write_text(NODES.partition("---")[0].replace("r7", "r8"))
    code, out, err = await type_in("apply", "-f", str(path))
    assert (code, out, err) == (0, "node/n1 changed (labels)\n", "")
    code, out, _ = await type_in("apply", "-f", str(path), "-o", "json")
    assert json.loads(out)["items"][0]["outcome"] == "unchanged"
    code, _, err = await type_in("apply", "-f", str(tmp_path / "none.yaml"))
    assert (code, "can't be read" in err) == (2, True)


async def make_node(world: World) -> None:
    body = {"id": "n1", "status": "in_service", "scope": "c1"}
    assert (await world.http.post("/api/v1/resources/node", json=body)).status_code == 201


async def test_a_node_is_set_and_seen_on_its_way(acting: World, type_in: Type) -> None:
    await make_node(acting)
    await acting.http.post("/api/v1/fragments", json=[make_fragment("n1", memory_utilization=0.5)])
    code, out, _ = await type_in("path", "n1", "maintenance")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["EVENT", "drain", "drained"])
    code, out, err = await type_in("set", "n1", "maintenance", "--reason", "fan", "--wait", "20s")
    assert (code, err) == (0, "")
    assert out.endswith("node/n1: maintenance\n")
    code, out, _ = await type_in("history", "node/n1")
    assert (code, "in_service -> draining (drain)" in out) == (0, True)
    assert "draining -> maintenance (drained)" in out
    code, out, _ = await type_in("get", "nodes")
    heads, row = (line.split() for line in out.splitlines())
    shown = dict(zip(heads, row, strict=False))
    assert (shown["STATUS"], shown["DESIRED"], shown["WORK"]) == ("maintenance", "maintenance", "no")
    code, out, _ = await type_in("explain", "node/n1")
    for word in ("maintenance", "user:local", "fan", "drain", "memory_utilization", "Last changes"):
        assert word in out, out
    code, out, _ = await type_in("describe", "node", "n1")
    assert "May take work:" in out
    assert "memory_utilization" in out


async def test_what_is_observed_of_a_thing_is_shown_with_its_own_resource(
    acting: World, type_in: Type
) -> None:
    """A job has no scope as a resource and has one as an entity; of nodes there may be one in each scope."""
    acting.bus.put(msgspec.convert(make_fragment("7", "job", job_state="running"), StateFragment))
    acting.bus.put(msgspec.convert(make_fragment("n1"), StateFragment))
    acting.bus.flush()
    for kind, wish in (
        ("job", {"id": "7", "lifecycle": "hpc-default"}),
        ("node", {"id": "n1", "scope": "c2"}),
        ("node", {"id": "n1@c1", "scope": "c1"}),
    ):
        assert (await acting.http.post(f"/api/v1/resources/{kind}", json=wish)).status_code == 201
    for word, shown in (("job/7", "Job/7"), ("node/n1", "Node/n1@c1"), ("node/n1@c1", "Node/n1@c1")):
        code, out, err = await type_in("explain", word)
        assert (code, err) == (0, "")
        assert f"Managed as:     {shown}, version " in out, out


async def test_a_refusal_is_one_line_with_what_is_allowed(acting: World, type_in: Type) -> None:
    await make_node(acting)
    code, out, err = await type_in("set", "n1", "maintenence")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "maintenance" in err
    code, _, err = await type_in("delete", "policy/node-pressure")
    assert (code, "plane's own" in err) == (1, True)
    code, _, err = await type_in("set", "n9", "maintenance")
    assert code == 1
    code, out, _ = await type_in("set", "n1", "maintenance", "--reason", "x", "--dry-run")
    assert (code, "not done" in out) == (0, True)


async def test_holds_freeze_policies_and_lifecycles(acting: World, type_in: Type, tmp_path: Path) -> None:
    await make_node(acting)
    assert (await type_in("hold", "place", "n1", "repair", "--ttl", "2h", "--reason", "disk"))[0] == 0
    code, out, _ = await type_in("get", "node/n1", "--managed")
    assert "user:local:repair" in out
    assert (await type_in("hold", "lift", "n1", "repair"))[0] == 0
    code, _, err = await type_in("freeze")
    assert (code, "reason" in err) == (1, True)
    assert (await type_in("freeze", "--reason", "storm"))[1].startswith("frozen since")
    assert (await type_in("freeze", "--off", "--reason", "over"))[1].startswith("not frozen")
    code, out, _ = await type_in("policy", "list")
    assert "node-pressure" in out
    code, out, _ = await type_in("policy", "set", "node-pressure", "controlled_auto_act", "--reason", "ok")
    assert (code, out) == (0, "policy/node-pressure: controlled_auto_act\n")
    assert "node-pressure" in (await type_in("policy", "coverage"))[1]
    assert "when:" in (await type_in("policy", "show", "node-pressure"))[1]
    bad = tmp_path / "bad.yaml"
    bad.write_text("states: {a: {}}\ntransitions:\n  - {event: go, from: a, to: b}\n")
    code, out, _ = await type_in("lifecycle", "lint", str(bad))
    assert (code, out.startswith(f"{bad}:3:")) == (1, True)
    table = tmp_path / "mine.yaml"
    table.write_text((await type_in("lifecycle", "show", "hpc-default"))[1])
    assert (await type_in("lifecycle", "lint", str(table)))[0] == 0
    assert (await type_in("lifecycle", "draw", "hpc-default", "--format", "dot"))[1].startswith("digraph")
    assert "hpc-default" in (await type_in("lifecycle", "list"))[1]
    assert "drain" in (await type_in("allowed", "n1"))[1]
    code, out, err = await type_in("get", "recommendations")
    assert (code, out, err) == (0, "", "no recommendations found\n")
    assert "node-pressure" in (await type_in("get", "policies"))[1]


async def test_nobody_at_the_address_is_exit_code_3(tmp_path: Path) -> None:
    path = tmp_path / "n.yaml"
    path.write_text("kind: Node\nid: n1\n")
    words = ("apply", "-f", str(path), "--server", "http://127.0.0.1:9")
    assert await asyncio.to_thread(run_program, words) == 3
