"""From the configuration's `store:` to a store.

`memory:`, `sqlite:///relative/path` and `sqlite:////absolute/path` are built in. The path is what stands
behind the third slash, taken as it is: nothing in it is decoded, so what is configured is what `ls` shows.
A backend is imported when it is asked for, so a process pays for its own only.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from steersman.kernel.clock import Clock
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import Rng
from steersman.store.api import Store

SCHEMES = ("memory", "sqlite", "postgresql", "etcd")
_LATER = {"postgresql": "PostgreSQL", "postgres": "PostgreSQL", "etcd": "etcd"}


class StoreUrlInvalid(InvalidInput):
    """The URL names no store that this build has. `facts`: `schemes`, and `nearest` where one is near."""

    code = "store_url_invalid"
    title = "Store URL not usable"


def open_store(url: str, *, clock: Clock, rng: Rng, base: Path | None = None) -> Store:
    """The store that `url` names; open it with `async with`.

    A relative path starts at `base` (the configuration file's folder), or where the program runs. Raises
    `StoreUrlInvalid`. What is wrong with a file or a server shows when the store is opened. A message never
    repeats the URL behind its scheme: it may hold a password.
    """
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise _refusal("the store's URL has no scheme.", scheme)
    if scheme == "memory":
        if rest not in ("", "//"):
            raise _refusal("the store memory: takes nothing behind the colon.", scheme)
        from steersman.store.memory import MemoryStore

        return MemoryStore(clock=clock, rng=rng)
    if scheme == "sqlite":
        from steersman.store.sqlite import SqliteStore

        return SqliteStore(_sqlite_path(rest, base), clock=clock, rng=rng)
    if scheme in _LATER:
        raise _refusal(
            f"the store {scheme}: is not in this build yet; a later one brings {_LATER[scheme]}.", scheme
        )
    raise _refusal(f"there is no store with the scheme {scheme[:20]!r}.", scheme)


def file_of(url: str, base: Path | None = None) -> Path | None:
    """The file that `url` keeps its store in; None where it is no file, or the URL names no store."""
    scheme, _, rest = url.partition(":")
    try:
        return _sqlite_path(rest, base) if scheme == "sqlite" else None
    except StoreUrlInvalid:
        return None


def _sqlite_path(rest: str, base: Path | None) -> Path:
    path = rest.removeprefix("///")
    if path == rest or not path:
        raise _refusal("the store sqlite: needs a path behind three slashes.", "sqlite")
    if "?" in path or "\0" in path:
        raise _refusal("the store sqlite: takes no options, and its path no question mark or NUL.", "sqlite")
    return (base or Path()) / path  # an absolute path stays as it is


def _refusal(what: str, scheme: str) -> StoreUrlInvalid:
    near = get_close_matches(scheme.lower(), SCHEMES, n=1, cutoff=0.5)
    facts = {"nearest": near[0]} if near and near[0] != scheme else {}
    hint = f" Did you mean {near[0]}:?" if facts else ""
    return StoreUrlInvalid(f"{what}{hint} Expected memory: or sqlite:///path", schemes=list(SCHEMES), **facts)
