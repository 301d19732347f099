"""`Steersman`: the blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from datetime import datetime
from typing import Any

from steersman.client import calls, shapes
from steersman.client.acting import Acting
from steersman.client.arguments import DEFAULT_SERVER, Kind, Kinds, read_kind, read_kinds, user_agent
from steersman.client.subscribing import Subscribing
from steersman.client.transport import Transport
from steersman.client.watching import Change, ResourceWatch, Told, WatchSession
from steersman.kernel.errors import SteersmanError
from steersman.kernel.ids import Rng
from steersman.kinds.drift import DriftList
from steersman.kinds.entity import CanonicalEntity, HealthState
from steersman.kinds.explanation import EntityAt, EntityHistory, Explanation, SourceStatus
from steersman.kinds.fragment import StateFragment


class Steersman(Acting, Subscribing):
    """One server, asked synchronously: `with Steersman() as plane: plane.entity("node", "n1")`.

    Each call raises a family of `steersman.kernel.errors`: what the server answered (`error.code` says which
    error exactly), `NotReachable`, `AnswerTimedOut`, `BadAnswer`. Calls that may be repeated are, twice.
    """

    def __init__(
        self, server: str = DEFAULT_SERVER, *, token: str | None = None, rng: Rng | None = None
    ) -> None:
        self._transport = Transport(server, token, user_agent(), rng)
        self._rng = self._transport.rng

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._transport.address

    def __enter__(self) -> Steersman:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Repeating it does nothing."""
        self._transport.close()

    def entities(
        self,
        kinds: Kinds = (),
        *,
        healths: Iterable[HealthState] = (),
        scope: str | None = None,
        labels: Mapping[str, str] | None = None,
        fields: Iterable[str] = (),
        search: str = "",
        page: int = calls.PAGE_DEFAULT,
    ) -> Generator[CanonicalEntity]:
        """Entities that match, page by page as they are taken. `fields`: comparisons as text,
        `temperature_celsius>=80`."""
        pager = calls.Pager(
            read_kinds(kinds), tuple(healths), scope, dict(labels or {}), tuple(fields), search, page
        )
        while (call := pager.next()) is not None:
            yield from pager.take(self._transport.run(call))

    def entity(self, kind: Kind, entity_id: str, scope: str | None = None) -> CanonicalEntity:
        """One entity; `scope` may be left out where only one matches."""
        return self._transport.run(calls.entity(read_kind(kind), entity_id, scope))

    def explain(self, kind: Kind, entity_id: str, scope: str | None = None) -> Explanation:
        """Where its values come from, and why health and confidence are what they are."""
        return self._transport.run(calls.explain(read_kind(kind), entity_id, scope))

    def history(self, kind: Kind, entity_id: str, scope: str | None = None) -> EntityHistory:
        """How it was lately."""
        return self._transport.run(calls.history(read_kind(kind), entity_id, scope))

    def entity_at(self, kind: Kind, entity_id: str, time: datetime, scope: str | None = None) -> EntityAt:
        """What it looked like at a moment, as far as that is remembered."""
        return self._transport.run(calls.entity_at(read_kind(kind), entity_id, time, scope))

    def push(self, fragments: Iterable[StateFragment | Mapping[str, Any]]) -> shapes.PushAnswer:
        """Push fragments, in as many requests as it takes; each fragment gets its verdict."""
        return calls.together([self._transport.run(calls.push(lines)) for lines in calls.batches(fragments)])

    def watch(self, kinds: Kinds = (), *, after: int | None = None) -> Generator[Change]:
        """Changes as they come, until the iterator is closed. A cut connection is taken up again without a
        gap and without repeats; a `Resync` says that the list must be read."""
        session = WatchSession(read_kinds(kinds), after, self._rng)
        while not self._transport.closed:
            failure: SteersmanError | None = None
            try:
                with self._transport.stream(session.call()) as chunks:
                    for chunk in chunks:
                        yield from session.feed(chunk)
            except SteersmanError as error:
                failure = error
            self._transport.pause(session.cut(failure, self._transport.now_s()))

    def watch_resources(self, kinds: Iterable[str] = (), *, after: str | None = None) -> Generator[Told]:
        """Events of resources of these kinds (all without any) as they come, until the iterator is closed.
        `after` is an event id, `0-0` for all that are kept. Cuts are taken up again; a `Resync` says that
        events were left out and the resources must be read."""
        session = ResourceWatch(kinds, after, self._rng)
        while not self._transport.closed:
            failure: SteersmanError | None = None
            try:
                with self._transport.stream(session.call()) as chunks:
                    for chunk in chunks:
                        yield from session.feed_events(chunk)
            except SteersmanError as error:
                failure = error
            self._transport.pause(session.cut(failure, self._transport.now_s()))

    def record(self, limit_s: float | None = None) -> Generator[bytes]:
        """The bytes of a recording of what arrives from now on, until the iterator is closed. One that ends
        by itself after `limit_s` is whole; one that is closed early is good up to its last frame."""
        with self._transport.stream(calls.recording(limit_s)) as chunks:
            yield from chunks

    def sources(self) -> list[SourceStatus]:
        """Sources and how they do."""
        return self._transport.run(calls.sources())

    def drift(self) -> DriftList:
        """What sources said that the server does not know, and names that leave a doubt."""
        return self._transport.run(calls.drift())

    def status(self) -> shapes.Status:
        """What runs there and how it does."""
        return self._transport.run(calls.status())

    def whoami(self) -> shapes.WhoAmI:
        """Who the server takes us for."""
        return self._transport.run(calls.whoami())

    def tokens(self) -> list[shapes.TokenInfo]:
        """All tokens; takes role admin."""
        return self._transport.run(calls.tokens())

    def create_token(self, name: str, role: str = "viewer", ttl_s: float | None = None) -> shapes.IssuedToken:
        """Make a token; takes role admin."""
        return self._transport.run(calls.create_token(name, role, ttl_s))

    def revoke_token(self, token_id: str) -> None:
        """Revoke a token; takes role admin."""
        self._transport.run(calls.revoke_token(token_id))
