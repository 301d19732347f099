"""Events of a real `steersman up` over `kill -9` and a restart: webhooks at least once, streams exactly once.

What must have been told is what history holds; nothing here believes the plane's own counters.
"""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from loop_story import NODE, history_of, node_of, type_ok, wait_for_node
from plane_calls import Told, ask, told
from webhook_receiver import Received, Receiver

Up = Callable[..., Any]

CONFIG = """
sources:
  - {name: this-host, driver: host, interval: 300ms, gpus: false}
"""
ALLOWED = CONFIG + "events: {allow_targets: [127.0.0.1/32]}\n"
STRUCTURED, BINARY = "/structured", "/binary"
OTHERS = ("w1", "w2", "w3", "w/4")
WRITES_BEFORE, WRITES_REFUSED, WRITES_AFTER = 24, 24, 24


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def start(up: Up, folder: Path, text: str, **more: Any) -> Any:
    config = folder / "steersman.yaml"
    config.write_text(text)
    running = up("-c", str(config), **more).wait_healthy()
    wait_for_node(running)
    return running


def kill(running: Any) -> None:
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()


def subscribe(running: Any, receiver: Receiver, path: str) -> tuple[str, str]:
    """A subscription to what happens to nodes; its id and its secret."""
    wish = {"url": receiver.url + path, "kinds": ["Node"], "format": path.removeprefix("/")}
    made = ask(running, "POST", "/api/v1/subscriptions", wish)
    assert made.status == 201, made
    return made.body["subscription"]["id"], made.body["secret"]


def write(running: Any, numbers: Iterator[int], count: int) -> None:
    """Change labels of several nodes in turn."""
    for number in itertools.islice(numbers, count):
        name = OTHERS[number % len(OTHERS)].replace("/", "%2F")
        done = ask(running, "PUT", f"/api/v1/resources/node/{name}", {"labels": {"n": str(number)}})
        assert done.status in (200, 201), done


def histories(running: Any) -> dict[str, list[int]]:
    """The numbers of all history rows, by node."""
    found: dict[str, list[int]] = {}
    for name in (NODE, *OTHERS):
        path = f"/api/v1/resources/node/{name.replace('/', '%2F')}/history?limit=1000"
        found[name] = [entry["seq"] for entry in running.get(path)["items"]]
    return found


def check_order(taken: list[Received], first: dict[str, int], restarts: int) -> None:
    """In order: no number comes before the one below it was there, and only a restart goes back."""
    highest, before, back = dict(first), dict(first), dict.fromkeys(first, 0)
    for one in taken:
        event = one.event()
        name, number = event["data"]["id"], int(event["sequence"])
        assert number <= highest[name] + 1, f"{name}: {number} came, and {highest[name] + 1} never did"
        back[name] += number <= before[name]
        before[name], highest[name] = number, max(number, highest[name])
    assert max(back.values()) <= restarts, f"went back {back} times with {restarts} restarts"


def test_webhooks_reach_their_receiver_in_order_over_kill_9_with_nothing_lost(
    up: Up, tmp_path: Path, receiver: Receiver
) -> None:
    """Two subscriptions, both forms. The plane dies while its receiver refuses everything, and once more in
    the middle of writing."""
    running = start(up, tmp_path, ALLOWED)
    secrets = {path: subscribe(running, receiver, path)[1] for path in (STRUCTURED, BINARY)}
    first = {NODE: node_of(running)["version"], **dict.fromkeys(OTHERS, 0)}
    numbers = itertools.count()
    write(running, numbers, WRITES_BEFORE)
    type_ok(running, "set", f"node/{NODE}", "maintenance", "--reason", "a disk is changed")
    running.until(lambda: node_of(running)["status"] == "maintenance", "maintenance")

    running.until(lambda: len(receiver.taken(BINARY)) >= WRITES_BEFORE, "what was written before")
    receiver.refusing = True
    write(running, numbers, WRITES_REFUSED)
    running.until(lambda: any(not one.taken for one in receiver.received), "a request that is refused")
    kill(running)
    running = start(up, tmp_path, ALLOWED, home=running.home, port=running.port)
    receiver.refusing = False
    write(running, numbers, WRITES_AFTER)
    kill(running)
    running = start(up, tmp_path, ALLOWED, home=running.home, port=running.port)
    type_ok(running, "set", f"node/{NODE}", "in_service", "--reason", "it is changed")
    running.until(lambda: node_of(running)["status"] == "in_service", "its return")

    for path, secret in secrets.items():

        def all_there(path: str = path) -> bool:
            last = {name: rows[-1] for name, rows in histories(running).items()}
            come = {(e["data"]["id"], int(e["sequence"])) for e in map(Received.event, receiver.taken(path))}
            return all((name, seq) in come for name, seq in last.items())

        running.until(all_there, f"the last event of each node at {path}")
        taken = receiver.taken(path)
        check_order(taken, first, restarts=2)
        check_complete(running, taken, first)
        check_form(taken, secret, path)
    moves = [e["data"]["to"] for e in unique(receiver.taken(STRUCTURED)) if e["data"]["id"] == NODE]
    assert [to for to in moves if to] == ["draining", "maintenance", "in_service"]
    assert running.stop()[0] == 0


def check_complete(running: Any, taken: list[Received], first: dict[str, int]) -> None:
    """Every row of history was told, and nothing that is none."""
    come: dict[str, set[int]] = {name: set() for name in first}
    for one in taken:
        event = one.event()
        come[event["data"]["id"]].add(int(event["sequence"]))
    for name, rows in histories(running).items():
        wanted = {seq for seq in rows if seq > first[name]}
        assert come[name] >= wanted, f"{name}: {sorted(wanted - come[name])} never came"
        assert rows == list(range(1, len(rows) + 1))


def check_form(taken: list[Received], secret: str, path: str) -> None:
    """CloudEvents 1.0, each signed; and a signature is of one body alone."""
    for one in taken:
        assert one.is_signed_with(secret), one
        event = one.event()
        assert event["specversion"] == "1.0"
        assert event["type"].startswith("steersman.resource.")
        assert event["id"] == unquote(one.headers["webhook-id"])
        assert {"source", "subject", "time", "datacontenttype", "data"} <= event.keys()
        assert one.headers["content-type"] == (
            "application/json" if path == BINARY else "application/cloudevents+json"
        )
    assert not taken[0]._replace(body=taken[0].body + b" ").is_signed_with(secret)
    assert not taken[0].is_signed_with("whsec_" + "b3RoZXI=" * 4)


def unique(taken: list[Received]) -> list[dict[str, Any]]:
    """The events, each once, in the order in which they first came."""
    return list({one.event()["id"]: one.event() for one in reversed(taken)}.values())[::-1]


def test_loopback_is_refused_in_words_without_leave(up: Up, tmp_path: Path, receiver: Receiver) -> None:
    """A subscription to this machine is refused; one that was made with leave is sent nothing without it."""
    running = start(up, tmp_path, ALLOWED)
    made, _ = subscribe(running, receiver, STRUCTURED)
    assert running.stop()[0] == 0
    running = start(up, tmp_path, CONFIG, home=running.home)
    wish = {"url": receiver.url + "/other", "kinds": ["Node"]}
    refused = ask(running, "POST", "/api/v1/subscriptions", wish)
    assert (refused.status, refused.body["code"]) == (409, "target_refused")
    for word in ("127.0.0.1", "not public", "events.allow_targets"):
        assert word in refused.body["detail"], refused.body
    (kept,) = ask(running, "GET", "/api/v1/subscriptions").body["items"]
    assert kept["subscription"]["id"] == made

    write(running, itertools.count(), 4)

    def delivery() -> Any:
        return ask(running, "GET", f"/api/v1/subscriptions/{made}").body["delivery"]

    running.until(lambda: delivery()["failed_attempts"], "an attempt")
    assert "events.allow_targets" in delivery()["last_error"]
    assert receiver.received == []
    assert running.stop()[0] == 0


class Listener:
    """Reads a stream in a thread until it ends."""

    def __init__(self, url: str) -> None:
        self.told: list[Told] = []
        self._events = told(url, "resources=Node&kinds=none&after=0-0")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for one in self._events:
            self.told.append(one)

    def rows(self) -> list[Told]:
        """Events of this machine's node."""
        return [one for one in list(self.told) if one.name == "resource" and one.data["data"]["id"] == NODE]

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(30)
        assert not self._thread.is_alive()


def resumed(running: Any, last_id: str, up_to: int) -> list[int]:
    """What a stream that goes on behind `last_id` tells of the node, up to that number and what was told
    right behind it."""
    found: list[int] = []
    for one in told(running.url, "resources=Node&kinds=none", last_id):
        assert one.name != "resource_resync", one
        if one.name == "resource" and one.data["data"]["id"] == NODE:
            found.append(one.data["sequence"])
            if found[-1] >= up_to:
                return found
    return found


def test_a_stream_goes_on_behind_any_id_from_before_kill_9(up: Up, tmp_path: Path) -> None:
    """The plane dies as soon as a stream has told of draining. Whoever comes back with any id that it gave
    gets every later row of history once, in order."""
    running = start(up, tmp_path, CONFIG)
    listener = Listener(running.url)
    type_ok(running, "set", f"node/{NODE}", "maintenance", "--reason", "a disk is changed")
    running.until(lambda: any(one.data["data"]["to"] == "draining" for one in listener.rows()), "draining")
    kill(running)
    listener.join()
    before = listener.rows()
    running = start(up, tmp_path, CONFIG, home=running.home)
    running.until(lambda: node_of(running)["status"] == "maintenance", "maintenance")
    type_ok(running, "set", f"node/{NODE}", "in_service", "--reason", "it is changed")
    running.until(lambda: node_of(running)["status"] == "in_service", "its return")

    entries = history_of(running)
    rows = [entry["seq"] for entry in entries]
    assert [one.data["sequence"] for one in before] == rows[: len(before)]
    assert len(rows) > len(before), "it was killed before the end of the story"
    for one in before:
        seq = one.data["sequence"]
        assert resumed(running, one.id, rows[-1]) == rows[seq:], f"behind {one.id}"
    moved = [entry["to_state"] for entry in entries if entry["action"] == "transitioned"]
    assert moved == ["draining", "maintenance", "in_service"]
    assert running.stop()[0] == 0
