"""What a source calls a node, as the picture has it: the answer that operations on outside systems act by."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from steersman.app.acting import names_of
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.settings import IdentitySettings
from steersman.observe.inlet import Inlet
from steersman.state.bus import StateBus
from steersman.state.checkpoint import Checkpoint
from steersman.state.sources import SourceInfo
from steersman.store.memory import MemoryStore

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


class Picture:
    """A bus with its door and the question."""

    def __init__(self, **identity: Any) -> None:
        self.clock = ManualClock(BEGIN)
        self.bus = StateBus(self.clock)
        settings = IdentitySettings(**identity)
        self.inlet = Inlet(self.bus, self.clock, settings)
        self.called = names_of(self.bus, settings)

    def say(self, source: str, name: str, scope: str = "dc1", **fields: Any) -> None:
        self.clock.advance(1)
        fragment = StateFragment(
            source, EntityType.NODE, name, self.clock.now(), fields, {"cluster": scope}, source
        )
        self.inlet.take([fragment])


def one_machine(picture: Picture) -> None:
    """Three sources that name one machine three ways."""
    address = {"addresses": ("10.0.0.1",)}
    picture.say("host", "gpu01.dc1.example", hostname="gpu01.dc1.example", **address)
    picture.say("slurm", "gpu01", **address)
    picture.say("kubernetes", "ip-10-0-0-1", **address)


def test_each_source_has_its_own_name_whichever_name_is_asked_for() -> None:
    picture = Picture()
    one_machine(picture)
    assert len(picture.bus) == 1
    for name in ("gpu01.dc1.example", "gpu01", "ip-10-0-0-1"):
        assert picture.called("host", "dc1", name) == ("gpu01.dc1.example",)
        assert picture.called("slurm", "dc1", name) == ("gpu01",)
        assert picture.called("kubernetes", "dc1", name) == ("ip-10-0-0-1",)


def test_a_source_that_reports_no_such_node_has_no_name_and_one_that_was_not_heard_can_not_tell() -> None:
    picture = Picture()
    one_machine(picture)
    assert picture.called("slurm", "dc1", "gpu02") == ()
    assert picture.called("slurm", "dc2", "gpu01") == (), "another scope's"
    assert picture.called("other", "dc1", "gpu01") is None
    picture.bus.declare_source(SourceInfo("other", "slurm", 30.0))
    assert picture.called("other", "dc1", "gpu01") is None
    picture.bus.report_source("other", False, "connection refused")
    assert picture.called("other", "dc1", "gpu01") is None, "a failure tells nothing of names"
    picture.bus.report_source("other", True)
    assert picture.called("other", "dc1", "gpu01") == ()


def test_what_a_source_no_longer_reports_has_no_name_of_its() -> None:
    picture = Picture()
    one_machine(picture)
    picture.clock.advance(1)
    picture.inlet.forget(EntityKey(EntityType.NODE, "dc1", "gpu01"), picture.clock.now(), "slurm")
    assert picture.called("slurm", "dc1", "gpu01.dc1.example") == ()
    assert picture.called("kubernetes", "dc1", "gpu01.dc1.example") == ("ip-10-0-0-1",)


def test_a_source_with_two_names_for_one_node_has_both() -> None:
    picture = Picture(aliases={"node/login": "node/gpu01"})
    picture.say("slurm", "gpu01")
    picture.say("slurm", "login")
    assert picture.called("slurm", "dc1", "gpu01") == ("gpu01", "login")


def test_a_node_is_found_over_scopes_that_are_one_by_configuration_and_its_own_scope_goes_first() -> None:
    picture = Picture(scopes={"hpc": "dc1"})
    picture.say("host", "gpu01.dc1.example", scope="dc1", addresses=("10.0.0.1",))
    picture.say("slurm", "gpu01", scope="hpc", addresses=("10.0.0.1",))
    assert picture.called("slurm", "hpc", "gpu01.dc1.example") == ("gpu01",)
    assert picture.called("host", "dc1", "gpu01") == ("gpu01.dc1.example",)
    apart = Picture()
    apart.say("host", "gpu01", scope="dc1")
    apart.say("slurm", "gpu01", scope="hpc")
    assert apart.called("slurm", "dc1", "gpu01") == ()


async def test_names_are_known_after_a_restart_before_a_source_is_heard_again() -> None:
    picture = Picture()
    one_machine(picture)
    again = Picture()
    async with MemoryStore(clock=picture.clock, rng=seeded_rng(1)) as store:
        await Checkpoint(picture.bus, store, picture.clock).save()
        await Checkpoint(again.bus, store, again.clock).restore()
    assert again.called("slurm", "dc1", "gpu01.dc1.example") == ("gpu01",)
