"""From a URL to a store, and what is said of URLs that name none."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.store.open import StoreUrlInvalid, open_store
from steersman.store.sqlite import SqliteStore
from steersman.testing.store_expect import put


def make(url: str, base: Path | None = None) -> Store:
    return open_store(url, clock=ManualClock(), rng=seeded_rng(0), base=base)


@pytest.mark.parametrize("url", ["memory:", "memory://"])
async def test_memory(url: str) -> None:
    assert isinstance(make(url), MemoryStore)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///steersman.db", "base/steersman.db"),
        ("sqlite:///data/a b%20#.db", "base/data/a b%20#.db"),
        ("sqlite:////var/lib/steersman.db", "/var/lib/steersman.db"),
    ],
)
def test_the_path_is_taken_as_it_is(url: str, path: str) -> None:
    store = make(url, base=Path("base"))
    assert isinstance(store, SqliteStore)
    assert store.path == Path(path)


async def test_a_path_with_odd_characters_is_that_file(tmp_path: Path) -> None:
    """What SQLite would read as an escape, an anchor or an option is part of the name."""
    name = "a%20b #é'.db"
    async with make(f"sqlite:///{name}", base=tmp_path) as store:
        await put(store, "k")
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    ("url", "says", "nearest"),
    [
        ("postgresql://user:secret@db/steersman", "not in this build yet", None),
        ("postgres://user:secret@db/steersman", "not in this build yet", "postgresql"),
        ("etcd://a:2379,b:2379", "not in this build yet", None),
        ("sqllite:///secret.db", "no store with the scheme 'sqllite'", "sqlite"),
        ("SQLite:///secret.db", "no store with the scheme", "sqlite"),
        ("memry:", "no store with the scheme", "memory"),
        ("redis://secret", "no store with the scheme", None),
        ("secret", "no scheme", None),
        ("", "no scheme", None),
        ("memory:secret", "nothing behind the colon", None),
        ("sqlite://secret.db", "three slashes", None),
        ("sqlite:secret.db", "three slashes", None),
        ("sqlite:///", "three slashes", None),
        ("sqlite:///secret.db?mode=memory", "takes no options", None),
    ],
)
def test_refusals(url: str, says: str, nearest: str | None) -> None:
    """Each says what is wrong, what is expected, and the nearest; none repeats what may be a password."""
    with pytest.raises(StoreUrlInvalid) as caught:
        make(url)
    detail = caught.value.detail
    assert says in detail
    assert "Expected memory: or sqlite:///path" in detail
    assert caught.value.facts.get("nearest") == nearest
    assert "secret" not in detail
