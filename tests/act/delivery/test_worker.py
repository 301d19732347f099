"""The pace of one subscriber's delivery on virtual time: backoff, asked-for silence, how often it writes."""

from __future__ import annotations

import asyncio

import looptime  # noqa: F401 - makes the loop's time virtual
import pytest
from receiver import row

from steersman.act.delivery.deliveries import Deliveries
from steersman.act.delivery.worker import Pace
from steersman.drivers.webhook.client import Answer, WebhookFailed
from steersman.drivers.webhook.message import Message
from steersman.drivers.webhook.targets import Targets
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import CountedIds, seeded_rng
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.subscription import NewSubscription
from steersman.state.tail import Tail
from steersman.store.memory import MemoryStore

pytestmark = pytest.mark.looptime


class Script:
    """A poster that answers by a list; what is over is taken."""

    def __init__(self, *answers: int | float | str) -> None:
        self.answers = list(answers)
        self.at: list[tuple[float, str]] = []

    async def post(self, url: str, message: Message, timeout_s: float) -> Answer:
        self.at.append((asyncio.get_running_loop().time(), message.headers["webhook-id"]))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, str):
            raise WebhookFailed(answer)
        return Answer(503, answer) if isinstance(answer, float) else Answer(answer)

    async def close(self) -> None:
        pass


class Life:
    """One plane on virtual time with one subscription that `script` receives."""

    def __init__(self, script: Script, pace: Pace) -> None:
        self.script = script
        self.pace = pace

    async def __aenter__(self) -> Life:
        clock, rng = SystemClock(), seeded_rng(1)
        self.store = await MemoryStore(clock=clock, rng=rng).__aenter__()
        self.tasks = await Supervisor(clock, rng).__aenter__()
        tail = Tail(self.store, clock)
        self.tasks.start("tail", tail.run, ALWAYS)
        self.deliveries = Deliveries(
            self.store,
            tail,
            clock=clock,
            rng=rng,
            ids=CountedIds(),
            tasks=self.tasks,
            targets=Targets(),
            pace=self.pace,
            make_poster=lambda: self.script,
        )
        await self.deliveries.load()
        self.deliveries.start()
        issued = await self.deliveries.create(NewSubscription(url="https://example.org/hook"))
        self.id = issued.subscription.id
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.tasks.__aexit__(None, None, None)
        await self.store.close()

    def offsets(self) -> list[float]:
        """Seconds of each attempt since the first."""
        return [round(at - self.script.at[0][0], 3) for at, _ in self.script.at]


EXACT = Pace(attempts_max=6, backoff=Backoff(first_s=1.0, factor=2.0, max_s=5.0, jitter=0.0))


async def test_waits_grow_to_their_bound_and_end_in_a_dead_letter() -> None:
    async with Life(Script(500, "no connection", 500, 302, 404, 500), EXACT) as life:
        await life.store.commit([], [row("a", 1)])
        await asyncio.sleep(120)
        assert life.offsets() == [0, 1, 3, 7, 12, 17]
        assert len(await life.deliveries.dead_letters(life.id)) == 1
        status = life.deliveries.status(life.id)
        assert (status.failed_attempts, status.dead, status.delivered) == (6, 1, 0)


async def test_other_resources_go_on_while_one_waits() -> None:
    async with Life(Script(500, 200, 200), EXACT) as life:
        await life.store.commit([], [row("a", 1)])
        await asyncio.sleep(0.1)
        for name in ("b", "c"):
            await life.store.commit([], [row(name, 1)])
        await asyncio.sleep(0.5)
        assert [name for _, name in life.script.at] == ["Node/a/1", "Node/b/1", "Node/c/1"]
        await asyncio.sleep(10)
        assert life.script.at[-1][1] == "Node/a/1"


async def test_a_receiver_that_asks_for_silence_gets_it() -> None:
    async with Life(Script(90.0), EXACT) as life:
        await life.store.commit([], [row("a", 1)])
        await asyncio.sleep(1)
        await life.store.commit([], [row("b", 1)])
        await asyncio.sleep(200)
        assert life.offsets() == [0, 90, 90], "the whole receiver is left alone, not one event"


async def test_the_cursor_is_written_at_its_pace_however_much_is_delivered() -> None:
    pace = Pace(cursor_s=2.0)
    async with Life(Script(), pace) as life:
        key = f"deliveries/{life.id}/cursor"
        for seq in range(1, 101):
            await life.store.commit([], [row("a", seq)])
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        record = await life.store.get(key)
        assert record is not None
        assert record.version <= 9
        assert life.deliveries.passed() == life.deliveries.status(life.id).cursor
        assert len(life.script.at) == 100


async def test_a_stop_leaves_the_cursor_behind_what_was_delivered() -> None:
    async with Life(Script(), Pace(cursor_s=1000.0)) as life:
        await life.store.commit([], [row("a", 1)])
        await asyncio.sleep(1)
        revision = await life.store.commit([], [row("a", 2)])
        await asyncio.sleep(1)
        await life.deliveries.stop()
        assert life.deliveries.passed() >= revision
