"""The registry: a bad file stops no other, versions never change, resources come over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from steersman.act.lifecycle import Lifecycles
from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import seeded_rng
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.refusal import UnknownLifecycle
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.store.sqlite import SqliteStore

SITE = """
name: site
version: "1"
states: {service: {schedulable: true}, shop: , lab: }
transitions:
  - {event: leave, from: service, to: shop}
  - {event: test, from: shop, to: lab}
  - {event: back, from: [shop, lab], to: service}
"""
NO_LAB = """
name: site
version: "2"
states: {service: {schedulable: true}, shop: }
transitions:
  - {event: leave, from: service, to: shop}
  - {event: back, from: shop, to: service}
"""


class Some(Struct):
    items: list[ResourceState]
    after: str | None


class Fleet:
    """Resources two to a page, moved as the registry asks; `dies_after` moves it is cut off."""

    def __init__(self, *states: ResourceState, dies_after: int | None = None) -> None:
        self.states = {state.id: state for state in states}
        self.dies_after = dies_after

    async def list(self, kind: str | None = None, *, limit: int = 100, after: str | None = None) -> Some:
        ids = [name for name in sorted(self.states) if after is None or name > after]
        page = ids[:2]
        return Some([self.states[name] for name in page], page[-1] if len(ids) > 2 else None)

    async def migrate(self, ref: ResourceRef, actor: Any, table: str, to: str = "", *, terms: Any = None):
        if self.dies_after == 0:
            raise ConnectionError("cut off")
        if self.dies_after is not None:
            self.dies_after -= 1
        assert terms.reason
        self.states[ref.id].status = to


def nodes(*statuses: str, table: str = "site") -> list[ResourceState]:
    return [
        NodeState(id=f"n{number}", status=status, lifecycle_table=table)
        for number, status in enumerate(statuses)
    ]


@pytest.fixture
async def reopened(tmp_path: Path) -> AsyncIterator[Callable[[], Lifecycles]]:
    """A registry over the same store, as after a restart."""
    store = SqliteStore(tmp_path / "s.db", clock=ManualClock(), rng=seeded_rng(1))
    async with store:
        yield lambda: Lifecycles(store)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def test_before_it_is_opened_it_knows_the_shipped_tables_and_the_planes_own():
    registry = Lifecycles(None)  # type: ignore[arg-type]
    for name in ("hpc-default", "hpc-default@1", "rfd-three-state", "recommendation", "policy", "freeze"):
        assert registry.machine(name).lifecycle.name == name.partition("@")[0]
    with pytest.raises(UnknownLifecycle, match="did you mean hpc-default"):
        registry.machine("hpc-defualt")


async def test_a_bad_file_is_told_with_its_line_and_stops_no_other(reopened, file: Path):
    bad = file.with_name("bad.yaml")
    bad.write_text("states: {a: }\ntransitons: []\n")
    registry = reopened()
    report = await registry.open([file.parent], Fleet())
    assert "site@1" in report.loaded
    (refusal,) = report.refused
    assert refusal.file == str(bad)
    assert refusal.error.facts["line"] == 2
    assert "did you mean transitions" in refusal.error.detail
    assert registry.refused == report.refused


async def test_a_phase_that_its_engine_refuses_is_told_with_its_file(tmp_path: Path, file: Path):
    def check(phase: LifecyclePhase) -> None:
        raise InvalidInput(f"phase {phase.name}: no such handler")

    file.write_text(SITE + "phases: {wash: {steps: [{name: a, uses: b}]}}\n")
    async with SqliteStore(tmp_path / "p.db", clock=ManualClock(), rng=seeded_rng(1)) as store:
        (refusal,) = (await Lifecycles(store, check).open([file], Fleet())).refused
    assert refusal.file == str(file)
    assert "wash" in refusal.error.detail


async def test_a_version_that_says_something_else_is_refused(reopened, file: Path):
    await reopened().open([file], Fleet())
    file.write_text(SITE.replace("event: back", "event: home"))
    registry = reopened()
    (refusal,) = (await registry.open([file], Fleet())).refused
    assert refusal.error.code == "lifecycle_changed"
    assert "back" in registry.machine("site").events
    file.write_text("# words only\n" + SITE)
    assert (await reopened().open([file], Fleet())).refused == ()


async def test_old_versions_stay_known(reopened, file: Path):
    await reopened().open([file], Fleet())
    file.write_text(NO_LAB)
    registry = reopened()
    await registry.open([file], Fleet(*nodes("lab", table="site@1")))
    assert registry.machine("site").name == "site@2"
    assert registry.machine("site@1").lifecycle.state("lab").name == "lab"
    assert [(info.name, info.version, info.in_force) for info in registry.list() if info.name == "site"] == [
        ("site", "1", False),
        ("site", "2", True),
    ]


async def test_without_its_file_the_version_in_force_stays(reopened, file: Path):
    await reopened().open([file], Fleet())
    registry = reopened()
    await registry.open([], Fleet())
    assert registry.machine("site").name == "site@1"


async def test_a_populated_state_is_not_removed_without_a_word(reopened, file: Path):
    await reopened().open([file], Fleet())
    file.write_text(NO_LAB)
    fleet = Fleet(*nodes("lab", "service", "lab"))
    registry = reopened()
    (refusal,) = (await registry.open([file], fleet)).refused
    assert refusal.error.code == "migration_missing"
    assert refusal.error.facts["states"] == {"lab": 2}
    assert refusal.error.facts["in_force"] == "1"
    assert registry.machine("site").name == "site@1"


async def test_migration_moves_each_once_and_goes_on_after_a_crash(reopened, file: Path):
    await reopened().open([file], Fleet())
    file.write_text(NO_LAB + "migrate: {lab: shop}\n")
    fleet = Fleet(*nodes("lab", "service", "lab", "lab"), dies_after=1)
    with pytest.raises(ConnectionError):
        await reopened().open([file], fleet)
    fleet.dies_after = None
    registry = reopened()
    report = await registry.open([file], fleet)
    assert report.migrated == 2
    assert [state.status for state in fleet.states.values()] == ["shop", "service", "shop", "shop"]
    assert (await reopened().open([file], fleet)).migrated == 0


async def test_two_files_of_one_name_and_the_planes_own_names_are_refused(reopened, file: Path):
    file.with_name("twin.yaml").write_text(NO_LAB)
    file.with_name("own.yaml").write_text(SITE.replace("name: site", "name: freeze"))
    report = await reopened().open([file.parent], Fleet())
    assert [Path(refusal.file).name for refusal in report.refused] == ["own.yaml", "twin.yaml"]
