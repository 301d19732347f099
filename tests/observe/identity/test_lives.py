"""Lives of a name: what is over does not come back, over a restart too; hardware that returns does."""

from __future__ import annotations

import pytest
from identity_facts import JOB, NODE, at, door, ids, key, said

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.observe.inlet import Inlet
from steersman.state.bus import StateBus
from steersman.state.checkpoint import Checkpoint
from steersman.state.lives import NAMES_MAX
from steersman.store.memory import MemoryStore


async def restarted(inlet: Inlet) -> Inlet:
    """A door to a bus that came back from a checkpoint of the one behind `inlet`."""
    clock = ManualClock(at(60))
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
        await Checkpoint(inlet.bus, store, clock).save()
        bus = StateBus(clock, first_revision=inlet.bus.revision)
        await Checkpoint(bus, store, clock).restore()
    return Inlet(bus, clock)


@pytest.mark.asyncio
@pytest.mark.parametrize("source", ["kubernetes", "a-cache-of-it"])
async def test_a_late_word_of_the_life_before_begins_no_new_one_after_a_restart(source: str) -> None:
    inlet = door()
    inlet.take([said("kubernetes", "n1", 0, uid="u1", cpu_count=8)])
    inlet.take([said("kubernetes", "n1", 10, uid="u2", cpu_count=16)])
    again = await restarted(inlet)
    (late,) = again.take([said("kubernetes", "n1", 20, source=source, uid="u1", cpu_count=8)])
    assert late.verdict == "stale"
    node = again.bus.get(NODE, "n1", "prod")
    assert node is not None
    assert (node.uid, node.cpu_count) == ("u2", 16)
    history = again.bus.history(NODE, "n1", "prod")
    assert history is not None
    assert [(one.before, one.after) for one in history.lives] == [("u1", "u2")]


@pytest.mark.asyncio
async def test_a_late_word_of_what_was_deleted_does_not_bring_it_back_after_a_restart() -> None:
    inlet = door()
    inlet.take([said("kubernetes", "n1", 0, uid="u1", cpu_count=8)])
    inlet.take([said("slurm", "7", 0, JOB, submitted_at=at(0), job_state="running")])
    inlet.forget(key("n1"), at(30))
    inlet.forget(key("7", JOB), at(30))
    again = await restarted(await restarted(inlet))
    late = again.take(
        [
            said("kubernetes", "n1", 40, uid="u1", cpu_count=8),
            said("slurm", "7", 40, JOB, submitted_at=at(0), job_state="running"),
        ]
    )
    assert [one.verdict for one in late] == ["stale", "stale"]
    assert ids(again) == []
    assert ids(again, JOB) == []
    (new,) = again.take([said("kubernetes", "n1", 25, uid="u2", cpu_count=16)])
    assert new.verdict == "created", "made before the deletion was seen, and another one"


@pytest.mark.asyncio
async def test_a_life_that_began_under_another_name_holds_after_a_restart() -> None:
    inlet = door()
    inlet.take(
        [
            said("kubernetes", "n1", uid="u1", addresses=["10.0.0.1"]),
            said("slurm", "s1", addresses=["10.0.0.1"], scheduler_state="DOWN"),
        ]
    )
    inlet.take([said("kubernetes", "n1", 10, uid="u2", addresses=["10.0.0.1"])])
    again = await restarted(inlet)
    (late,) = again.take([said("slurm", "s1", 9, addresses=["10.0.0.1"], scheduler_state="DOWN")])
    assert late.verdict == "stale"
    assert ids(again) == ["n1"]


@pytest.mark.parametrize("told", ["uid", "system_uuid"])
def test_a_machine_that_registers_anew_is_back(told: str) -> None:
    firmware = "11111111-2222-3333-4444-555555555555"
    inlet = door()
    inlet.take([said("kubernetes", "n1", 0, uid="u1", system_uuid=firmware, provider_id="aws:///a/i-1")])
    inlet.forget(key("n1"), at(30))
    fields = {"uid": "u2"} if told == "uid" else {}
    (new,) = inlet.take(
        [said("kubernetes", "n1", 40, system_uuid=firmware, provider_id="aws:///a/i-1", **fields)]
    )
    assert new.verdict == "created"
    assert ids(inlet) == ["n1"]


def test_a_machine_that_comes_back_from_repair_takes_its_name_again() -> None:
    first, spare = "11111111-2222-3333-4444-555555555555", "66666666-2222-3333-4444-555555555555"
    inlet = door()
    inlet.take([said("kubernetes", "n1", 0, uid="u1", system_uuid=first, cpu_count=8)])
    inlet.take([said("kubernetes", "n1", 10, uid="u2", system_uuid=spare, cpu_count=16)])
    (back,) = inlet.take([said("kubernetes", "n1", 20, uid="u3", system_uuid=first)])
    assert back.verdict != "stale"
    node = inlet.bus.get(NODE, "n1", "prod")
    assert node is not None
    assert (node.uid, node.system_uuid, node.cpu_count) == ("u3", first, None)
    (late,) = inlet.take([said("kubernetes", "n1", 15, uid="u2", system_uuid=spare, cpu_count=16)])
    assert late.verdict == "stale"


def test_the_lives_that_are_remembered_are_bounded() -> None:
    bus = StateBus(ManualClock(at(60)))
    for number in range(NAMES_MAX + 10):
        bus.links.end(key(f"j{number}", JOB), "submitted_at", at(0))
    assert bus.links.ended(key("j0", JOB)) == ()
    assert bus.links.ended(key(f"j{NAMES_MAX + 9}", JOB)) == (("submitted_at", at(0)),)


def test_a_copy_that_lags_does_not_bring_replaced_hardware_back() -> None:
    first, spare = "11111111-2222-3333-4444-555555555555", "66666666-2222-3333-4444-555555555555"
    inlet = door()
    inlet.take([said("kubernetes", "n1", 0, system_uuid=first)])
    inlet.take([said("kubernetes", "n1", 10, system_uuid=spare, cpu_count=16)])
    inlet.take([said("prometheus", "n1", 20, system_uuid=first)])
    node = inlet.bus.get(NODE, "n1", "prod")
    assert node is not None
    assert node.cpu_count == 16, "nothing of the present one is lost"
    why = inlet.bus.explain(NODE, "n1", "prod")
    assert why is not None
    assert why.identity.ambiguities, "and that they differ is told"
