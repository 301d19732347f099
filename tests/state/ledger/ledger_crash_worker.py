"""The program that test_ledger_crash.py kills: many askers of one Ledger, telling what was acknowledged.

The line `ack Kind/id seq hash revision` is told after the answer came.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ledger_house import ALICE, draw, node, ref, tables

from steersman.kernel.clock import SystemClock
from steersman.kernel.errors import Refused, TooMany
from steersman.kernel.ids import Rng, seeded_rng
from steersman.kinds.command import Terms, Written
from steersman.kinds.refusal import ResourceNotFound
from steersman.state.ledger import Ledger
from steersman.store.sqlite import SqliteStore
from steersman.testing.killing import serve, tell

WRITERS = 24
NODES = 8


async def ask(ledger: Ledger, name: str, rng: Rng, key: str) -> Written:
    """One request of some kind."""
    terms = Terms(idempotency_key=key, reason="why")
    which = rng.random()
    if which < 0.1:
        return await ledger.create(node(name), ALICE, terms)
    if which < 0.15:
        return await ledger.delete(ref(name), ALICE, terms)
    if which < 0.3:
        return await ledger.set_desired(ref(name), ALICE, "busy" if rng.random() < 0.5 else "idle", terms)
    if which < 0.4:
        return await ledger.claim(ref(name), ALICE, draw(name, 3, 3600))
    event = ("start", "stop", "flash", "stop")[int(rng.random() * 4)]
    return await ledger.transition(ref(name), ALICE, event=event, terms=terms)


async def write(ledger: Ledger, run: int, writer: int, rng: Rng) -> None:
    number = 0
    while True:
        number += 1
        key = f"{run}.{writer}.{number}"
        name = f"n{int(rng.random() * NODES)}"
        try:
            written = await ask(ledger, name, rng, key)
        except (Refused, TooMany, ResourceNotFound):
            await asyncio.sleep(0)
            continue
        if not written.unchanged:
            tell(f"ack {written.entry.ref} {written.entry.seq} {written.entry.hash} {written.revision}")


async def main(path: Path, run: int, seed: int) -> None:
    async with SqliteStore(path, clock=SystemClock(), rng=seeded_rng(seed)) as store:
        tell("open")
        ledger = Ledger(store, SystemClock(), tables())
        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                group.create_task(write(ledger, run, writer, seeded_rng(seed * 1000 + writer)))


if __name__ == "__main__":
    tables()  # read before the forks: what is killed is a Ledger at work, not one that reads its lifecycles
    serve(main)
