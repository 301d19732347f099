"""Tokens: made, checked, expired, revoked, kept over restarts and between processes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from steersman.api.auth import (
    LAST_USED_STEP_S,
    PREFIX,
    TOKENS_MAX,
    IssuedToken,
    NewToken,
    TokenInvalid,
    TokenNotFound,
    TokenRecord,
    Tokens,
    TooManyTokens,
)
from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import CountedIds, seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.store.api import Put
from steersman.store.memory import MemoryStore


class Setup:
    """Tokens over a store in memory, on a clock that stands still."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock, rng=seeded_rng(1))
        self.tokens = self.again()

    def again(self) -> Tokens:
        """As another process, or this one after a restart."""
        return Tokens(self.store, self.clock, CountedIds())


@pytest.fixture
async def setup():
    made = Setup()
    async with made.store:
        yield made


async def test_a_token_opens_what_its_role_says(setup: Setup) -> None:
    issued = await setup.tokens.create(NewToken(name="ci", role="Operator"))
    caller = setup.tokens.authenticate(issued.token)
    assert (caller.name, caller.role, caller.token, caller.anonymous) == (
        "ci",
        "operator",
        issued.info.id,
        False,
    )


async def test_the_secret_is_nowhere_in_the_store(setup: Setup) -> None:
    issued = await setup.tokens.create(NewToken(name="ci"))
    secret = issued.token.split("_", 2)[2]  # it may hold an underscore itself
    page = await setup.store.list("")
    assert page.records
    assert all(secret.encode() not in record.value and secret not in record.key for record in page.records)
    assert secret not in msgspec.json.encode(setup.tokens.list()).decode()
    assert issued.token.startswith(issued.info.prefix)


async def test_two_tokens_never_share_a_secret(setup: Setup) -> None:
    made = [await setup.tokens.create(NewToken(name="x")) for _ in range(50)]
    assert len({one.token for one in made}) == 50
    assert all(len(one.token.split("_", 2)[2]) >= 43 for one in made), "256 bits"


def spoiled(issued: IssuedToken) -> list[str]:
    token = issued.token
    return [
        token[:-1],
        token + "x",
        token.upper(),
        token.replace("stm_", "abc_"),
        f"stm_{issued.info.id}_",
        f"stm_{issued.info.id}",
        f"stm__{token.split('_', 2)[2]}",
        token + "\u2028",
        "",
        "x" * 10_000,
    ]


async def test_whatever_is_not_the_token_is_refused(setup: Setup) -> None:
    issued = await setup.tokens.create(NewToken(name="x"))
    for text in spoiled(issued):
        with pytest.raises(TokenInvalid):
            setup.tokens.authenticate(text)


async def test_a_token_ends_at_its_time(setup: Setup) -> None:
    issued = await setup.tokens.create(NewToken(name="x", ttl_s=60))
    setup.clock.advance(59.9)
    setup.tokens.authenticate(issued.token)
    setup.clock.advance(0.1)
    with pytest.raises(TokenInvalid):
        setup.tokens.authenticate(issued.token)


async def test_a_revoked_token_is_refused_at_once_and_after_a_restart(setup: Setup) -> None:
    kept = await setup.tokens.create(NewToken(name="kept"))
    gone = await setup.tokens.create(NewToken(name="gone"))
    await setup.tokens.revoke(gone.info.id)
    restarted = setup.again()
    await restarted.load()
    for tokens in (setup.tokens, restarted):
        assert tokens.authenticate(kept.token).name == "kept"
        with pytest.raises(TokenInvalid):
            tokens.authenticate(gone.token)
    with pytest.raises(TokenNotFound):
        await setup.tokens.revoke(gone.info.id)


async def test_another_process_learns_of_new_and_revoked_tokens(setup: Setup) -> None:
    """Goal: a token that is revoked over one replica is refused by all."""
    other = setup.again()
    await other.load()
    async with Supervisor(setup.clock, seeded_rng(2)) as tasks:
        tasks.start("follow", other.follow)
        issued = await setup.tokens.create(NewToken(name="x"))
        while len(other) == 0:
            await asyncio.sleep(0)
        assert other.authenticate(issued.token).name == "x"
        await setup.tokens.revoke(issued.info.id)
        while len(other) == 1:
            await asyncio.sleep(0)
        with pytest.raises(TokenInvalid):
            other.authenticate(issued.token)


async def test_a_token_just_revoked_does_not_come_back_with_old_news(setup: Setup) -> None:
    """Goal: the watch may lag behind our own writes; it never undoes them."""
    issued = await setup.tokens.create(NewToken(name="x"))
    await setup.tokens.revoke(issued.info.id)
    kept = await setup.tokens.create(NewToken(name="y"))
    async with Supervisor(setup.clock, seeded_rng(2)) as tasks:
        tasks.start("follow", setup.tokens.follow)
        for _ in range(100):
            with pytest.raises(TokenInvalid):
                setup.tokens.authenticate(issued.token)
            assert setup.tokens.authenticate(kept.token).name == "y"
            await asyncio.sleep(0)


async def test_following_survives_a_compaction(setup: Setup) -> None:
    other = setup.again()
    issued = await setup.tokens.create(NewToken(name="x"))
    for _ in range(5):
        await setup.store.commit([], [Put("other", b"")])
    await setup.store.compact(await setup.store.revision())
    async with Supervisor(setup.clock, seeded_rng(2)) as tasks:
        tasks.start("follow", other.follow)
        while len(other) == 0:
            await asyncio.sleep(0)
    assert other.authenticate(issued.token).name == "x"


async def test_an_unreadable_record_opens_nothing_and_hides_no_other(setup: Setup) -> None:
    issued = await setup.tokens.create(NewToken(name="x"))
    await setup.store.commit([], [Put(PREFIX + "broken", b"{not json")])
    tokens = setup.again()
    await tokens.load()
    assert [one.name for one in tokens.list()] == ["x"]
    tokens.authenticate(issued.token)


async def test_last_use_is_noted_coarsely(setup: Setup) -> None:
    issued = await setup.tokens.create(NewToken(name="x"))
    for _ in range(10):
        setup.tokens.authenticate(issued.token)
    before = await setup.store.revision()
    await setup.tokens.flush_last_used()
    assert await setup.store.revision() == before + 1
    assert setup.tokens.list()[0].last_used_at == setup.clock.now()
    setup.clock.advance(LAST_USED_STEP_S - 1)
    setup.tokens.authenticate(issued.token)
    await setup.tokens.flush_last_used()
    assert await setup.store.revision() == before + 1, "within the hour nothing is written"
    setup.clock.advance(1)
    setup.tokens.authenticate(issued.token)
    await setup.tokens.flush_last_used()
    assert setup.tokens.list()[0].last_used_at == setup.clock.now()


async def test_noting_the_last_use_never_brings_a_revoked_token_back(setup: Setup) -> None:
    issued = await setup.tokens.create(NewToken(name="x"))
    setup.tokens.authenticate(issued.token)
    other = setup.again()
    await other.load()
    await other.revoke(issued.info.id)
    await setup.tokens.flush_last_used()
    assert await setup.store.get(PREFIX + issued.info.id) is None


async def test_a_role_that_does_not_exist_is_refused(setup: Setup) -> None:
    with pytest.raises(InvalidInput) as caught:
        await setup.tokens.create(NewToken(name="x", role="root"))
    assert caught.value.facts["allowed"] == ["viewer", "operator", "admin"]


async def test_tokens_are_bounded(setup: Setup) -> None:
    now = setup.clock.now()
    for first in range(0, TOKENS_MAX, 1000):
        records = [
            TokenRecord(id=f"t-{n}", name="x", role="viewer", hash="0" * 64, created_at=now)
            for n in range(first, first + 1000)
        ]
        await setup.store.commit([], [Put(PREFIX + r.id, msgspec.json.encode(r)) for r in records])
    await setup.tokens.load()
    assert len(setup.tokens) == TOKENS_MAX
    with pytest.raises(TooManyTokens):
        await setup.tokens.create(NewToken(name="x"))


async def test_expiry_is_by_the_wall_clock(setup: Setup) -> None:
    issued = await setup.tokens.create(NewToken(name="x", ttl_s=60))
    assert issued.info.expires_at == setup.clock.now() + timedelta(seconds=60)


async def test_an_answer_without_end_asks_whether_its_token_still_lives(setup: Setup) -> None:
    brief = (await setup.tokens.create(NewToken(name="x", ttl_s=60))).info.id
    lasting = (await setup.tokens.create(NewToken(name="y"))).info.id
    assert setup.tokens.lives(brief)
    setup.clock.advance(60)
    assert not setup.tokens.lives(brief)
    assert setup.tokens.lives(lasting)
    await setup.tokens.revoke(lasting)
    assert not setup.tokens.lives(lasting)
    assert not setup.tokens.lives("")
