"""The reflector against the fake API server: lost history, cut and silent streams, deaths, bounds, faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from steersman.drivers.api import SourceError
from steersman.drivers.kubernetes.access import KubernetesAccess
from steersman.drivers.kubernetes.client import KubeClient, KubernetesRefused
from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.drivers.kubernetes.reflector import Reflector, Timing
from steersman.drivers.kubernetes.resources import CONFIG_MAPS, JOB_SETS, NODES
from steersman.drivers.kubernetes.shapes import Thing
from steersman.drivers.web.fake import Request, Response
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import ByteSize
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import Supervisor

TIMEOUT_S = 10.0
FAST = Timing(
    list_timeout_s=2.0,
    connect_timeout_s=1.0,
    idle_timeout_s=1.0,
    absent_again_s=0.05,
    backoff=Backoff(first_s=0.01, max_s=0.05),
)
PAGES = pytest.mark.parametrize("streaming", [False, True], ids=["pages", "stream"])


class ConfigMap(Thing, frozen=True):
    data: dict[str, str] | None = None


class Rig(Struct):
    server: FakeApiServer
    client: KubeClient
    reflector: Reflector[Any]
    tasks: Supervisor

    def put(self, name: str, value: str, namespace: str = "default") -> None:
        """Write a config map."""
        old = self.server.storage.get("configmaps", (namespace, name))
        if old is None:
            body = {"metadata": {"name": name}, "data": {"v": value}}
            self.server.create("configmaps", body, namespace)
        else:
            self.server.change("configmaps", old, data={"v": value})

    def remove(self, name: str, namespace: str = "default") -> None:
        """Delete one."""
        old = self.server.storage.get("configmaps", (namespace, name))
        assert old is not None
        self.server.remove("configmaps", old)

    def truth(self) -> dict[Any, Any]:
        """What the server has."""
        return {
            (thing["metadata"]["namespace"], thing["metadata"]["name"]): (
                thing["metadata"]["uid"],
                thing["data"]["v"],
            )
            for thing in self.server.all("configmaps")
        }

    def picture(self) -> dict[Any, Any]:
        """What the reflector has."""
        return {key: (held.uid, held.value) for key, held in self.reflector.objects.items()}

    async def settled(self) -> None:
        """The picture is the server's."""
        await until(lambda: self.picture() == self.truth(), lambda: (self.picture(), self.truth()))


async def until(holds: Callable[[], bool], shown: Callable[[], Any] = lambda: "") -> None:
    """Wait until something holds."""
    clock = SystemClock()
    end_s = clock.monotonic() + TIMEOUT_S
    while not holds():
        assert clock.monotonic() < end_s, f"it never came to hold: {shown()}"
        await clock.sleep(0.005)


@asynccontextmanager
async def rig(
    *, server: FakeApiServer | None = None, max_bytes: int = 1 << 26, start: bool = True, **options: Any
) -> AsyncIterator[Rig]:
    """A server, a client, and a reflector of config maps that runs."""
    server = server or FakeApiServer(bookmark_s=0.05)
    await server.start()
    clock = SystemClock()
    client = KubeClient(KubernetesAccess(url=server.url, max_bytes=ByteSize(max_bytes)), clock)
    given: dict[str, Any] = {
        "keep": lambda thing: (thing.data or {}).get("v"),
        "timing": FAST,
        "page_limit": 3,
        **options,
    }
    resource, shape = given.pop("resource", CONFIG_MAPS), given.pop("shape", ConfigMap)
    reflector: Reflector[Any] = Reflector(client, resource, shape, clock=clock, rng=seeded_rng(1), **given)
    try:
        async with Supervisor(clock, seeded_rng(1), name="test") as tasks:
            if start:
                reflector.start(tasks)
            yield Rig(server, client, reflector, tasks)
    finally:
        await client.close()
        await server.stop()


@PAGES
async def test_the_picture_follows_the_server(streaming: bool) -> None:
    async with rig(streaming=streaming) as it:
        for number in range(10):
            it.put(f"m-{number}", "1")
        await it.reflector.ready(TIMEOUT_S)
        await it.settled()
        first = it.reflector.changes()
        assert first.whole
        assert len(first.changed) == 10
        it.put("m-3", "2")
        it.remove("m-4")
        await it.settled()
        told = it.reflector.changes()
        assert [held.value for held in told.changed] == ["2"]
        assert [held.key for held in told.gone] == [("default", "m-4")]
        assert it.reflector.lists == 1
        paged = any("limit=3" in request.path for request in it.server.web.requests)
        assert paged is not streaming


@PAGES
async def test_a_stream_that_ends_is_resumed_and_nothing_is_lost_or_listed_again(streaming: bool) -> None:
    async with rig(streaming=streaming) as it:
        it.put("a", "1")
        await it.reflector.ready(TIMEOUT_S)
        for value in range(5):
            it.server.watches.end_all()
            it.put("a", str(value))
            await it.settled()
        assert it.reflector.lists == 1


async def test_a_stream_cut_in_the_middle_of_an_event_is_resumed_before_it() -> None:
    async with rig() as it:
        await it.reflector.ready(TIMEOUT_S)
        it.server.watches.cut = True
        it.server.watches.end_all()  # the cut is of streams that begin now
        await until(lambda: it.server.watches.running == 1 and it.reflector.following)
        it.put("a", "1")
        await until(lambda: it.reflector.failure is not None)
        it.server.watches.cut = False
        await it.settled()
        assert it.reflector.lists == 1


@pytest.mark.parametrize("in_http", [False, True], ids=["in-stream", "in-http"])
@PAGES
async def test_lost_history_is_a_new_list_that_replaces_all(streaming: bool, in_http: bool) -> None:
    async with rig(streaming=streaming) as it:
        it.server.gone_in_http = in_http
        for name in "abc":
            it.put(name, "1")
        await it.reflector.ready(TIMEOUT_S)
        it.reflector.changes()
        await it.server.web.fail("close")  # what happens now, nobody is told
        uid = it.truth()[("default", "b")][0]
        it.remove("a")
        it.remove("b")
        it.put("b", "1")
        it.put("d", "1")
        it.server.storage.expire()
        await it.server.web.mend()
        await it.settled()
        assert it.reflector.lists == 2
        told = it.reflector.changes()
        assert not told.whole
        assert {held.key[1] for held in told.gone} == {"a", "b"}, "b is another one of the same name"
        assert uid in {held.uid for held in told.gone}
        assert {held.key[1] for held in told.changed} == {"b", "d"}


async def test_a_slow_watcher_loses_its_history_in_the_stream() -> None:
    async with rig() as it:
        await it.reflector.ready(TIMEOUT_S)
        it.server.watches.silent = True
        it.put("a", "1")
        it.put("b", "1")
        it.server.storage.expire()
        it.server.watches.silent = False
        it.server.storage.wake()
        await it.settled()
        assert it.reflector.lists == 2


async def test_a_pages_token_that_grew_too_old_begins_the_list_anew() -> None:
    async with rig(start=False, streaming=False) as it:
        for number in range(9):
            it.put(f"m-{number}", "1")
        pages = 0
        answer = it.server.web.answer

        async def respond(request: Request) -> Response:
            nonlocal pages
            pages += "continue" in request.path or "limit" in request.path
            if pages in (2, 4):
                it.put("m-1", str(pages))
                it.server.storage.expire()
            return await answer(request)

        it.server.web.answer = respond
        it.reflector.start(it.tasks)
        await it.reflector.ready(TIMEOUT_S)
        await it.settled()
        assert it.reflector.lists == 1
        assert pages >= 6


async def test_a_list_that_never_fits_the_history_is_read_in_one() -> None:
    async with rig(start=False, streaming=False) as it:
        for number in range(9):
            it.put(f"m-{number}", "1")
        answer = it.server.web.answer

        async def respond(request: Request) -> Response:
            if "continue" in request.path:
                it.server.storage.pass_versions()
                it.server.storage.expire()
            return await answer(request)

        it.server.web.answer = respond
        it.reflector.start(it.tasks)
        await it.reflector.ready(TIMEOUT_S)
        await it.settled()


async def test_a_dead_stream_is_noticed_and_left() -> None:
    quick = Timing(idle_timeout_s=0.2, backoff=FAST.backoff, connect_timeout_s=1.0)
    async with rig(timing=quick) as it:
        await it.reflector.ready(TIMEOUT_S)
        it.server.watches.silent = True
        it.put("a", "1")
        await until(lambda: it.reflector.failure is not None)
        assert it.picture() == {}
        it.server.watches.silent = False
        await it.settled()


async def test_a_quiet_cluster_is_in_contact_by_bookmarks_and_they_are_where_it_resumes() -> None:
    async with rig() as it:
        it.put("a", "1")
        await it.reflector.ready(TIMEOUT_S)
        await it.settled()
        seen_s = it.reflector.last_contact_s
        assert seen_s is not None
        it.server.storage.pass_versions(100)
        await until(lambda: (it.reflector.last_contact_s or 0.0) > seen_s + 0.1)
        it.server.storage.expire()  # what was before the last bookmark is not needed any more
        it.server.watches.end_all()
        it.put("a", "2")
        await it.settled()
        assert it.reflector.lists == 1
        assert it.reflector.last_contact_at is not None


@pytest.mark.parametrize(
    "tail",
    [b"\x00\xff\n", b'{"type": "ADDED"\n', b"[]\n", b'"x"\n', b'{"type": 5}\n'],
    ids=["bytes", "half", "list", "text", "number"],
)
async def test_a_line_that_is_no_event_ends_the_stream_and_costs_nothing_else(tail: bytes) -> None:
    async with rig() as it:
        await it.reflector.ready(TIMEOUT_S)
        it.server.watches.tail = tail
        it.put("a", "1")
        await until(lambda: not it.server.watches.tail)
        it.put("b", "1")
        await it.settled()
        assert it.reflector.lists == 1


@pytest.mark.parametrize(
    "tail",
    [
        b'{"type":"ADDED","object":5}\n',
        b'{"type":"MODIFIED","object":{"metadata":null}}\n',
        b'{"type":"DELETED","object":{"metadata":5}}\n',
    ],
)
async def test_an_event_that_names_no_object_is_asked_for_again_and_leaves_nothing_behind(
    tail: bytes,
) -> None:
    async with rig() as it:
        await it.reflector.ready(TIMEOUT_S)
        it.server.watches.tail = tail
        it.put("a", "1")
        await until(lambda: it.reflector.failure is not None)
        await it.settled()
        assert it.reflector.complete


async def test_an_object_with_odd_metadata_is_known_by_its_name_and_its_deletion_is_seen() -> None:
    async with rig() as it:
        it.put("a", "1")
        it.put("b", "1")
        await it.reflector.ready(TIMEOUT_S)
        await it.settled()
        odd = it.server.storage.get("configmaps", ("default", "a"))
        assert odd is not None
        it.server.change("configmaps", odd, metadata={"labels": {"n": 5}})
        await until(lambda: set(it.reflector.unreadable) == {("default", "a")})
        it.remove("a")
        await it.settled()
        assert it.reflector.complete


@PAGES
async def test_a_server_that_was_set_back_to_a_backup_is_believed(streaming: bool) -> None:
    async with rig(streaming=streaming) as it:
        it.put("a", "1")
        it.put("b", "1")
        await it.reflector.ready(TIMEOUT_S)
        backup = it.server.storage.backup()
        it.put("a", "2")
        it.remove("b")
        it.put("c", "1")
        it.server.storage.pass_versions(100)
        await it.settled()
        it.reflector.changes()
        it.server.restore(backup)
        await it.settled()
        assert it.reflector.lists == 2
        assert {held.key[1] for held in it.reflector.changes().gone} == {"c"}
        it.put("d", "1")
        await it.settled()


async def test_a_server_that_gives_the_first_page_for_each_is_told_and_left_in_peace() -> None:
    async with rig(start=False, streaming=False) as it:
        for number in range(9):
            it.put(f"m-{number}", "1")
        answer = it.server.web.answer

        async def respond(request: Request) -> Response:
            it.server.storage.pass_versions()  # so that no token is like another
            return await answer(structs.replace(request, path=request.path.partition("&continue")[0]))

        it.server.web.answer = respond
        it.reflector.start(it.tasks)
        with pytest.raises(SourceError, match="gives the first page"):
            await it.reflector.ready(0.5)
        assert len(it.server.web.requests) < 100


async def test_an_event_of_an_unknown_type_changes_nothing() -> None:
    async with rig() as it:
        await it.reflector.ready(TIMEOUT_S)
        it.server.watches.tail = (
            b'{"type":"RENAMED","object":{"metadata":{"name":"z","namespace":"default"}}}\n'
        )
        it.put("a", "1")
        await it.settled()


async def test_an_event_that_can_never_be_read_ends_in_a_new_list() -> None:
    async with rig() as it:
        await it.reflector.ready(TIMEOUT_S)
        for _ in range(4):  # the first stream had the list in it, so it was not in vain
            it.server.watches.tail = b"garbage\n"
            it.server.storage.wake()
            await until(lambda: not it.server.watches.tail)
            await until(lambda: not it.reflector.following)
            await until(lambda: it.reflector.following)
        assert it.reflector.lists == 2
        it.put("a", "1")
        await it.settled()


async def test_a_server_without_streaming_lists_is_read_by_pages() -> None:
    for server in (FakeApiServer(watch_list=False), FakeApiServer(git_version="v1.26.3-gke.1")):
        async with rig(server=server) as it:
            it.put("a", "1")
            await it.reflector.ready(TIMEOUT_S)
            await it.settled()


async def test_a_kind_that_is_not_there_is_no_failure_and_may_come() -> None:
    server = FakeApiServer()
    server.uninstall("jobsets")
    async with rig(server=server, resource=JOB_SETS, shape=Thing, keep=lambda thing: 1) as it:
        await it.reflector.ready(TIMEOUT_S)
        assert (it.reflector.served, it.reflector.failure, it.reflector.synced) == (False, None, True)
        server.install("jobsets")
        server.create("jobsets", {"metadata": {"name": "j"}})
        await until(lambda: len(it.reflector.objects) == 1)
        assert it.reflector.served
        it.reflector.changes()
        server.uninstall("jobsets")
        await until(lambda: it.reflector.served is False)
        assert [held.key for held in it.reflector.changes().gone] == [("default", "j")]


async def test_what_may_not_be_read_is_a_failure_with_its_reason() -> None:
    server = FakeApiServer()
    server.denied |= {("list", "configmaps"), ("watch", "configmaps")}
    async with rig(server=server) as it:
        with pytest.raises(SourceError, match="403 Forbidden"):
            await it.reflector.ready(0.3)
        failure = it.reflector.failure
        assert isinstance(failure, KubernetesRefused)
        assert failure.forbidden
        server.denied.clear()
        it.put("a", "1")
        await it.settled()


async def test_a_server_that_asks_to_wait_is_left_in_peace() -> None:
    server = FakeApiServer()
    server.throttled = 1
    async with rig(server=server, streaming=False) as it:
        await until(lambda: it.reflector.failure is not None)
        began_s = SystemClock().monotonic()
        await it.reflector.ready(TIMEOUT_S)
        assert SystemClock().monotonic() - began_s > 0.9
        assert len(server.web.requests) <= 3


async def test_one_object_that_cant_be_read_costs_itself_alone() -> None:
    async with rig() as it:
        it.put("a", "1")
        odd = it.server.create("configmaps", {"metadata": {"name": "odd"}, "data": {"v": 5}})
        it.server.create("configmaps", {"metadata": {"name": "big"}, "data": {"v": "x" * (2 << 20)}})
        await it.reflector.ready(TIMEOUT_S)
        assert set(it.reflector.objects) == {("default", "a")}
        assert set(it.reflector.unreadable) == {("default", "odd"), ("default", "big")}
        assert "xxx" not in str(it.reflector.unreadable)
        assert not it.reflector.complete
        it.server.change("configmaps", odd, data={"v": "5"})
        await until(lambda: ("default", "odd") in it.reflector.objects)
        assert set(it.reflector.unreadable) == {("default", "big")}


async def test_what_keep_can_not_take_is_told_and_what_it_does_not_want_is_not_held() -> None:
    def keep(thing: ConfigMap) -> int | None:
        value = (thing.data or {})["v"]
        return None if value == "no" else int(value)

    async with rig(keep=keep) as it:
        it.put("a", "1")
        it.put("b", "no")
        it.put("c", "word")
        await it.reflector.ready(TIMEOUT_S)
        assert set(it.reflector.objects) == {("default", "a")}
        assert "ValueError" in it.reflector.unreadable[("default", "c")].why
        it.reflector.changes()
        it.put("a", "no")
        it.put("b", "2")
        await until(lambda: set(it.reflector.objects) == {("default", "b")})
        assert [held.key for held in it.reflector.changes().gone] == [("default", "a")]


@PAGES
async def test_more_objects_than_are_held_are_counted_and_read_once_there_is_room(streaming: bool) -> None:
    async with rig(streaming=streaming, objects_max=10) as it:
        for number in range(12):
            it.put(f"m-{number:02}", "1")
        await it.reflector.ready(TIMEOUT_S)
        assert (len(it.reflector.objects), it.reflector.complete) == (10, False)
        for number in range(5):
            it.remove(f"m-{number:02}")
        await it.settled()
        assert it.reflector.complete


async def test_pages_that_are_too_large_are_made_smaller() -> None:
    async with rig(streaming=False, page_limit=100, max_bytes=60_000) as it:
        for number in range(50):
            it.put(f"m-{number}", "x" * 3000)
        await it.reflector.ready(TIMEOUT_S)
        await it.settled()


async def test_a_choice_is_the_servers_and_what_leaves_it_is_gone() -> None:
    server = FakeApiServer()
    for name, pool in {"a": "gpu", "b": "cpu"}.items():
        server.create("nodes", {"metadata": {"name": name, "labels": {"pool": pool}}})
    options = {"resource": NODES, "shape": Thing, "keep": lambda thing: thing.metadata.uid}
    async with rig(server=server, labels="pool in (gpu,tpu)", **options) as it:
        await it.reflector.ready(TIMEOUT_S)
        assert set(it.reflector.objects) == {("", "a")}
        for name, pool in {"a": "cpu", "b": "gpu"}.items():
            node = server.storage.get("nodes", ("", name))
            assert node is not None
            server.change("nodes", node, metadata={"labels": {"pool": pool}})
        await until(lambda: set(it.reflector.objects) == {("", "b")})


@pytest.mark.parametrize("fault", ["hang", "refuse", "garbage", "half", "close", "error"])
async def test_a_server_that_fails_is_told_and_comes_back(fault: str) -> None:
    async with rig() as it:
        it.put("a", "1")
        await it.reflector.ready(TIMEOUT_S)
        await it.server.web.fail(fault)
        await until(lambda: not it.reflector.following)
        it.put("b", "1")
        if fault != "half":  # where a watch opens as ever, and only its first event shows what is wrong
            with pytest.raises(SourceError, match=r"127\.0\.0\.1"):
                await it.reflector.ready(0.1)
        await it.server.web.mend()
        await it.reflector.ready(TIMEOUT_S)
        await it.settled()


async def test_an_answer_that_is_no_list_does_not_empty_the_picture() -> None:
    async with rig(streaming=False) as it:
        it.put("a", "1")
        await it.reflector.ready(TIMEOUT_S)
        for body in (b"<html>please log in</html>", b"{}", b'{"items":[]}', b'{"kind":"Status"}', b"null"):
            it.server.garbled = body
            it.server.storage.expire()
            it.server.storage.pass_versions()
            it.server.watches.end_all()
            await until(lambda: it.reflector.failure is not None)
            assert it.picture() == it.truth()
        it.server.garbled = None
        it.put("b", "1")
        await it.settled()


async def test_ending_leaves_no_stream_behind() -> None:
    server = FakeApiServer()
    async with rig(server=server) as it:
        await it.reflector.ready(TIMEOUT_S)
        assert server.watches.running == 1
        await it.tasks.stop()
        await until(lambda: server.watches.running == 0)
        assert not it.reflector.following


NAMES = st.sampled_from("abcde")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "put", "remove", "anew"]), NAMES, st.sampled_from("123")),
        st.tuples(
            st.sampled_from(
                [
                    "expire",
                    "end",
                    "cut",
                    "garbage",
                    "http",
                    "close",
                    "mend",
                    "pass",
                    "turn",
                    "drain",
                    "throttle",
                ]
            ),
            st.just(""),
            st.just(""),
        ),
    ),
    min_size=1,
    max_size=25,
)


async def act(it: Rig, follower: dict[Any, Any], step: tuple[str, str, str]) -> None:
    """One random event."""
    what, name, value = step
    server = it.server
    there = server.storage.get("configmaps", ("default", name)) is not None
    if what == "put" or (what == "anew" and not there):
        it.put(name, value)
    elif what == "remove":
        it.remove(name) if there else None
    elif what == "anew":
        it.remove(name)
        it.put(name, value)
    elif what == "expire":
        server.storage.expire()
    elif what == "end":
        server.watches.end_all()
    elif what == "cut":
        server.watches.cut = not server.watches.cut
    elif what == "garbage":
        server.watches.tail = b'{"type":"ADD\n'
    elif what == "http":
        server.gone_in_http = not server.gone_in_http
    elif what == "close":
        await server.web.fail("close")
    elif what == "mend":
        await server.web.mend()
    elif what == "pass":
        server.storage.pass_versions(3)
    elif what == "drain":
        drain(it, follower)
    else:
        await SystemClock().sleep(0.01)


def drain(it: Rig, follower: dict[Any, Any]) -> None:
    """Follow the changes as a driver does."""
    told = it.reflector.changes()
    if told.whole:
        follower.clear()
    for held in told.gone:
        del follower[(held.key, held.uid)]
    follower.update({(held.key, held.uid): held.value for held in told.changed})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.booleans(), st.integers(1, 4))
def test_whatever_happens_the_picture_comes_to_be_the_servers(
    steps: list[tuple[str, str, str]], streaming: bool, page_limit: int
) -> None:
    async def scenario() -> None:
        async with rig(streaming=streaming, page_limit=page_limit) as it:
            follower: dict[Any, Any] = {}
            for step in steps:
                await act(it, follower, step)
            it.server.watches.cut = False
            it.server.watches.end_all()
            await it.server.web.mend()
            await it.reflector.ready(TIMEOUT_S)
            await it.settled()
            drain(it, follower)
            assert follower == {(key, uid): value for key, (uid, value) in it.truth().items()}

    asyncio.run(scenario())
