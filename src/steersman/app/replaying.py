"""`steersman policy replay`: what policies would have recommended, and how two sets of them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from steersman.kernel.clock import ManualClock, using_clock
from steersman.kernel.errors import NotFound
from steersman.kernel.ids import seeded_rng

if TYPE_CHECKING:
    from steersman.act.advice.rerun import Difference, Rerun, Said
    from steersman.kinds.deciding import PolicyProblem

FILE_ENDINGS = (".yaml", ".yml")


class PolicyFileMissing(NotFound):
    """There is no file or folder of policies there. `facts`: `file`."""

    code = "policy_file_missing"
    title = "No policies there"


class PolicyReplay(Struct, frozen=True):
    """What a replay came to.

    `lines` are all recommendations in full, a JSON object each: the same bytes for the same recording and
    policies. `difference` is there where a second set was given.
    """

    said: tuple[Said, ...]
    lines: tuple[bytes, ...]
    problems: tuple[PolicyProblem, ...]
    difference: Difference | None = None


async def replay_policies(
    recording: Path, policies: Sequence[Path] = (), against: Sequence[Path] = ()
) -> PolicyReplay:
    """Play a recording against policies (the shipped ones where none are named), and against a second set.

    Raises `ReplayUnreadable`, `RecordingInvalid`, `RecordingCorrupt`, `PolicyFileMissing`, OSError.
    """
    from steersman.act.advice.rerun import compare
    from steersman.decide import shipped_policies

    texts = _read(policies) if policies else shipped_policies()
    first, problems = await _run(recording, texts)
    difference = None
    if against:
        second, more = await _run(recording, _read(against))
        problems = (*problems, *more)
        difference = compare(first.said(), second.said())
    return PolicyReplay(tuple(first.said()), tuple(first.lines()), problems, difference)


async def _run(recording: Path, texts: Mapping[str, str]) -> tuple[Rerun, tuple[PolicyProblem, ...]]:
    from steersman.act.advice.rerun import Rerun
    from steersman.act.lifecycle import Lifecycles
    from steersman.decide import PolicyRules
    from steersman.observe.recformat import Reader
    from steersman.observe.replay import ReplayUnreadable, steps
    from steersman.state.bus import StateBus
    from steersman.state.ledger import Ledger
    from steersman.store.memory import MemoryStore

    clock = ManualClock()
    try:
        stream = recording.open("rb")
    except OSError as error:
        raise ReplayUnreadable(
            f"{recording} can't be opened: {error.strerror}", file=str(recording)
        ) from error
    with stream, using_clock(clock):
        async with MemoryStore(clock=clock, rng=seeded_rng(0)) as store:
            bus, lifecycles = StateBus(clock), Lifecycles(store)
            reader = Reader(stream, str(recording))
            clock.set_wall(reader.header.began_at)
            rerun = Rerun(
                bus,
                clock,
                store,
                Ledger(store, clock, lifecycles),
                PolicyRules(),
                texts,
                lambda table: lifecycles.machine(table).lifecycle,
            )
            problems = await rerun.open()
            try:
                for _ in steps(reader, bus, clock):
                    await rerun.step()
            finally:
                rerun.close()
            return rerun, problems


def _read(places: Sequence[Path]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for place in places:
        files = sorted(p for p in place.iterdir() if p.suffix in FILE_ENDINGS) if place.is_dir() else [place]
        for file in files:
            if not file.is_file():
                raise PolicyFileMissing(f"there are no policies at {file}", file=str(file))
            texts[str(file)] = file.read_text()
    return texts
