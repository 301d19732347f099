"""A recording played against policies: the same bytes each time, and two sets of policies side by side."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from advice_house import CADENCE_S, policy

from steersman.act.advice.rerun import Rerun, Said, compare
from steersman.act.lifecycle import Lifecycles
from steersman.decide import PolicyRules
from steersman.kernel.clock import ManualClock, using_clock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.observe.entries import Entry
from steersman.observe.inlet import Inlet
from steersman.observe.recformat import Encoder, Header, Reader
from steersman.observe.replay import steps
from steersman.state.bus import StateBus
from steersman.state.ledger import Ledger
from steersman.state.sources import SourceInfo
from steersman.store.memory import MemoryStore

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour of twenty nodes whose disks fill and empty, one of them silent for a while."""
    path = tmp_path_factory.mktemp("hour") / "hour.rec"
    chance = Random(11)
    clock = ManualClock(START)
    entries: list[Entry] = []
    inlet = Inlet(StateBus(clock), clock)
    inlet.listen(entries.append)
    inlet.declare(SourceInfo("host", "host", CADENCE_S))
    disks = [chance.random() for _ in range(20)]
    for turn in range(360):
        clock.advance(10)
        disks = [min(1.0, max(0.0, disk + chance.uniform(-0.05, 0.055))) for disk in disks]
        inlet.take(
            [
                StateFragment(
                    "host",
                    EntityType.NODE,
                    f"n{number}",
                    clock.now(),
                    {"disk_utilization": disk, "cpu_utilization": 0.1},
                    {"cluster": "hpc"},
                )
                for number, disk in enumerate(disks)
                if number != 3 or turn not in range(100, 150)
            ]
        )
    encoder = Encoder()
    with path.open("wb") as file:
        file.write(encoder.begin(Header("test 1", START)))
        for at in range(0, len(entries), 50):
            file.write(encoder.frame(entries[at : at + 50]))
        file.write(encoder.end())
    return path


async def run(path: Path, text: str) -> Rerun:
    clock = ManualClock()
    bus = StateBus(clock)
    with path.open("rb") as stream, using_clock(clock):
        store = MemoryStore(clock=clock, rng=seeded_rng(1))
        async with store:
            lifecycles = Lifecycles(store)
            reader = Reader(stream, str(path))
            clock.set_wall(reader.header.began_at)
            rerun = Rerun(
                bus,
                clock,
                store,
                Ledger(store, clock, lifecycles),
                PolicyRules(),
                {"p.yaml": text},
                lambda table: lifecycles.machine(table).lifecycle,
            )
            assert await rerun.open() == ()
            for _ in steps(reader, bus, clock):
                await rerun.step()
            rerun.close()
            return rerun


async def test_the_same_hour_gives_the_same_bytes(hour: Path) -> None:
    first, second = await run(hour, policy()), await run(hour, policy())
    assert len(first.lines()) > 5
    assert first.lines() == second.lines()


async def test_another_policy_is_told_apart(hour: Path) -> None:
    first = await run(hour, policy())
    later = await run(hour, policy(**{"for": "2m"}))
    stricter = await run(hour, policy(when="entity.disk_utilization > 2.0"))
    assert compare(first.said(), first.said()).only_first == ()
    difference = compare(first.said(), later.said())
    assert difference.both
    assert all(late_s > 0 for _, _, late_s in difference.both[:1])
    assert len(difference.only_first) == len(first.said()) - len(difference.both)
    gone = compare(first.said(), stricter.said())
    assert (len(gone.only_first), gone.both, gone.only_second) == (len(first.said()), (), ())


def test_the_second_time_is_held_against_the_second() -> None:
    def said(minute: int, entity: str = "node/n1") -> Said:
        at = datetime(2026, 3, 1, 12, minute, tzinfo=UTC)
        return Said(policy="p", entity=entity, action="a", at=at, until=None, ended="", reason="")

    found = compare([said(1), said(20)], [said(2), said(21), said(40), said(3, "node/n2")])
    assert [late_s for _, _, late_s in found.both] == [60.0, 60.0]
    assert found.only_first == ()
    assert [(one.entity, one.at.minute) for one in found.only_second] == [("node/n1", 40), ("node/n2", 3)]
