"""A watch over cuts: where it goes on, what it leaves out, how long it tries, what it gives up on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from steersman.client.errors import AnswerTimedOut, BadAnswer, NotReachable, error_of
from steersman.client.shapes import Gone, Resync
from steersman.client.watching import PATIENCE_S, RECONNECT, ResourceWatch, WatchSession
from steersman.kernel.ids import seeded_rng
from steersman.kinds.command import ResourceEvent
from steersman.kinds.entity import EntityType, NodeEntity

AT = datetime(2026, 1, 1, tzinfo=UTC)


def session(after: int | None = None) -> WatchSession:
    return WatchSession((EntityType.NODE,), after, seeded_rng(1))


def said(name: str, data: Any, revision: int | None = None) -> bytes:
    head = "" if revision is None else f"id: {revision}\n"
    return f"{head}event: {name}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode()


def entity(name: str, revision: int) -> NodeEntity:
    return NodeEntity(entity_id=name, entity_type=EntityType.NODE, observed_at=AT, revision=revision)


def hello(revision: int) -> bytes:
    return said("hello", {"revision": revision}, revision)


def shown(changes: list[Any]) -> list[Any]:
    return [(c.key.entity_id, c.revision) if not isinstance(c, Resync) else c.revision for c in changes]


def last_event_id(one: WatchSession) -> str | None:
    return one.call().headers.get("last-event-id")


def test_it_goes_on_behind_the_last_complete_delta() -> None:
    watch = session()
    assert last_event_id(watch) is None
    changes = watch.feed(hello(5) + said("entity", entity("a", 6)) + said("entity", entity("b", 7), 7))
    assert shown(changes) == [("a", 6), ("b", 7)]
    assert last_event_id(watch) == "7"
    watch.feed(said("entity", entity("a", 8)))  # its delta is not complete: the id comes with its last event
    assert last_event_id(watch) == "7"


def test_what_is_told_twice_around_a_cut_is_given_once() -> None:
    watch = session()
    watch.feed(hello(5) + said("entity", entity("a", 8)))
    watch.cut(None, 0.0)
    watch.call()
    changes = watch.feed(hello(5) + said("entity", entity("a", 8)) + said("entity", entity("b", 9), 9))
    assert shown(changes) == [("b", 9)]
    assert shown(watch.feed(said("entity", entity("a", 10), 10))) == [("a", 10)]


def test_a_heartbeat_moves_it_on() -> None:
    watch = session()
    watch.feed(hello(5) + b": still here\nid: 70\n\n")
    assert last_event_id(watch) == "70"


def test_the_end_of_an_entity_and_a_gap_are_told() -> None:
    watch = session(3)
    gone = {
        "entity_type": "node",
        "scope": "c1",
        "entity_id": "a",
        "revision": 9,
        "deleted_at": AT.isoformat(),
    }
    changes = watch.feed(hello(3) + said("gone", gone, 9) + said("resync", {"revision": 2, "reason": "x"}, 2))
    assert changes == [Gone(EntityType.NODE, "a", 9, "c1", AT), Resync(2, "x")]
    assert last_event_id(watch) == "2", "a server that has lost its past counts from lower down"
    assert shown(watch.feed(said("entity", entity("a", 3), 3))) == [("a", 3)]


def test_events_of_a_newer_server_are_passed_over() -> None:
    watch = session()
    assert (
        watch.feed(hello(1) + said("surprise", {"x": 1}, 2) + said("bye", {"revision": 2, "reason": "x"}, 2))
        == []
    )
    assert last_event_id(watch) == "2"


@pytest.mark.parametrize(
    "data",
    [said("entity", {"entity_type": "cat"}), said("gone", []), b"event: hello\ndata: {\n\n", b"id: x\n\n"],
)
def test_nonsense_is_told_as_such(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        session().feed(data)


def problem(status: int, code: str) -> Exception:
    return error_of(
        status, msgspec.json.encode({"code": code, "detail": "d", "title": "t", "status": status})
    )


@pytest.mark.parametrize(
    "error", [NotReachable("x"), AnswerTimedOut("x"), problem(503, "unavailable"), problem(429, "too_many")]
)
def test_what_passes_is_waited_for_with_growing_pauses(error: Any) -> None:
    watch = session()
    watch.feed(hello(1))
    delays = [watch.cut(error, float(second)) for second in range(8)]
    assert all(0 < delay <= RECONNECT.max_s for delay in delays)
    assert delays[-1] > delays[0]
    watch.feed(hello(1))
    assert watch.cut(error, 1000.0) <= 2, "a connection that worked starts the count anew"


@pytest.mark.parametrize(
    "error", [problem(401, "token_invalid"), problem(403, "x"), problem(400, "x"), BadAnswer("x")]
)
def test_what_does_not_pass_is_raised(error: Any) -> None:
    watch = session()
    watch.feed(hello(1))
    with pytest.raises(type(error)):
        watch.cut(error, 0.0)


def test_a_server_that_never_answered_is_told_at_once() -> None:
    with pytest.raises(NotReachable):
        session().cut(NotReachable("x"), 0.0)


def test_patience_ends() -> None:
    watch = session()
    watch.feed(hello(1))
    watch.cut(NotReachable("x"), 0.0)
    watch.cut(NotReachable("x"), PATIENCE_S)
    with pytest.raises(NotReachable):
        watch.cut(NotReachable("x"), PATIENCE_S + 1)


def test_the_pause_that_the_server_asked_for_is_kept() -> None:
    watch = session()
    watch.feed(b"retry: 2000\n\n" + hello(1))
    assert watch.cut(None, 0.0) >= 2


def event(seq: int, place: str) -> bytes:
    data = {
        "id": f"Node/a/{seq}",
        "type": "steersman.resource.created.v1",
        "subject": "Node/a",
        "sequence": seq,
        "time": AT,
    }
    return f"id: {place}\nevent: resource\ndata: {msgspec.json.encode(data).decode()}\n\n".encode()


def test_a_watch_of_resources_goes_on_behind_the_last_event_of_either_place() -> None:
    watch = ResourceWatch(["Node"], "0-0", seeded_rng(1))
    first = watch.call()
    assert first.headers["last-event-id"] == "0-0"
    assert "kinds=none&resources=Node" in first.path
    told = watch.feed_events(hello(5) + event(1, "5-9") + event(2, "5-11")[:-2])
    assert [one.id for one in told if isinstance(one, ResourceEvent)] == ["Node/a/1"]
    watch.cut(None, 0.0)
    assert watch.call().headers["last-event-id"] == "5-9", "an event that was cut is told again"
    watch.feed_events(b": still here\nid: 6-11\n\n")
    assert watch.call().headers["last-event-id"] == "6-11"
    lost = watch.feed_events(said("resource_resync", {"resource_revision": 20, "reason": "history_lost"}))
    assert lost == [Resync(20, "history_lost")]
    with pytest.raises(BadAnswer):
        watch.feed_events(b"id: 1-2-3\n\n")
