"""What policies would have recommended over a recording, from the files as a person has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from steersman.app.replaying import PolicyFileMissing, replay_policies
from steersman.cli.program import run_program
from steersman.kernel.clock import ManualClock
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.observe.entries import Entry
from steersman.observe.inlet import Inlet
from steersman.observe.recformat import Encoder, Header
from steersman.state.bus import StateBus
from steersman.state.sources import SourceInfo

START = datetime(2026, 3, 1, tzinfo=UTC)
CADENCE_S = 10.0


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour in which one machine's disk is full for ten minutes, and another's never is."""
    clock = ManualClock(START)
    entries: list[Entry] = []
    inlet = Inlet(StateBus(clock), clock)
    inlet.listen(entries.append)
    inlet.declare(SourceInfo("host", "host", CADENCE_S))
    for turn in range(360):
        clock.advance(CADENCE_S)
        disks = {"full": 0.95 if 60 <= turn < 120 else 0.3, "fine": 0.3}
        inlet.take(
            [
                StateFragment(
                    "host",
                    EntityType.NODE,
                    name,
                    clock.now(),
                    {
                        "disk_utilization": disk,
                        "cpu_utilization": 0.1,
                        "memory_utilization": 0.2,
                        "load_1m": 0.1,
                    },
                    {"cluster": "hpc"},
                )
                for name, disk in disks.items()
            ]
        )
    path = tmp_path_factory.mktemp("hour") / "hour.rec"
    encoder = Encoder()
    with path.open("wb") as file:
        file.write(encoder.begin(Header("test 1", START)))
        for at in range(0, len(entries), 50):
            file.write(encoder.frame(entries[at : at + 50]))
        file.write(encoder.end())
    return path


async def test_the_shipped_policies_say_the_same_each_time(hour: Path) -> None:
    first, second = await replay_policies(hour), await replay_policies(hour)
    assert first.lines == second.lines
    assert first.problems == ()
    assert {said.entity for said in first.said} == {"node/hpc/full"}
    assert {said.policy for said in first.said} == {"node-pressure"}


async def test_two_sets_are_held_side_by_side(hour: Path, tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "src" / "steersman" / "decide" / "shipped"
    never = tmp_path / "never.yaml"
    never.write_text(
        "name: node-pressure\nmatch: {entity_type: node}\nwhen: disk_utilization > 2.0\n"
        "action: drain_or_avoid_node\n"
    )
    told = await replay_policies(hour, [shipped], [never])
    assert told.difference is not None
    assert len(told.difference.only_first) == len(told.said) > 0
    assert told.difference.only_second == ()


async def test_what_can_t_be_read_is_told(hour: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nmatch: {entity_type: node}\nwhen: memry > 1\naction: recommend_no_action\n")
    told = await replay_policies(hour, [bad])
    assert "memry" in told.problems[0].detail
    assert told.problems[0].line == 3
    with pytest.raises(PolicyFileMissing):
        await replay_policies(hour, [tmp_path / "none.yaml"])


def test_the_command_prints_them(hour: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(["policy", "replay", str(hour), "-o", "ndjson"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[0])["recommendation"]["policy"] == "node-pressure"
    assert run_program(["policy", "replay", str(hour)]) == 0
    assert "node/hpc/full" in capsys.readouterr().out
