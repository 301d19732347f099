"""A node is drained through Kubernetes by the lifecycle that the guide shows, and given back. `steersman up`
is killed with SIGKILL before and behind its writes, and started again. The end is the same."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kube_beside import KubeBeside, Write
from loop_story import states_of, type_ok
from plane_calls import ask

from steersman.drivers.kubernetes.marks import CORDON_MARK

Up = Callable[..., Any]

KILLS = int(os.environ.get("LOOP_KILLS", "0"))
"""`make chaos` kills by chance too."""
KILLS_A_STORY = 4
"""Each costs the 15 s that a dead process's lease on its resources lasts."""
KILL_TIMEOUT_S = 40.0
END_TIMEOUT_S = 60.0
COUNT = 6
THEIRS = "gpu99"
"""The node that a person has cordoned."""
STORY = ["in_service", "draining", "maintenance", "returning", "in_service"]
KEPT_OUT = ["in_service", "draining", "maintenance", "returning", "maintenance"]
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-lifecycle.md"

CONFIG = """
sources:
  - {{name: kube, driver: kubernetes, url: "{url}", resources: [nodes, pods]}}
identity: {{aliases: {{{aliases}}}}}
lifecycles: [lifecycles]
policies: []
"""


def entity(number: int) -> str:
    """What Steersman calls a node."""
    return f"gpu{number:02}.dc1.example"


def called(number: int) -> str:
    """What Kubernetes calls it."""
    return f"ip-10-0-0-{number}"


ENTITIES = [entity(number) for number in range(1, COUNT + 1)]
ALL = [*ENTITIES, THEIRS]
GIVEN_BACK = 6
"""The node that is given back already when the kill comes."""
PODS = {
    **{f"p{number}-{pod}": called(number) for number in range(1, COUNT + 1) for pod in range(2)},
    "q-0": THEIRS,
}
"""Each with its node."""
WRITES = [
    Write(f"PATCH nodes/{called(2)}?", done=True),
    Write("POST pods/p4-0/eviction", done=True),
    Write("POST pods/q-0/eviction", done=False),
    Write(f"PATCH nodes/{called(GIVEN_BACK)}?", done=True),
]
"""Where the process is killed, at all of these places at once: a node was cordoned, a pod was evicted, a pod
of somebody else's node was about to be, a node was uncordoned. The driver has so many requests under way."""


@pytest.fixture
def kube() -> Iterator[KubeBeside]:
    """Nodes with two pods each; of those on the fourth only one at a time may be away."""
    cluster = KubeBeside()
    for name in sorted({*PODS.values(), "spare"}):
        cluster.add_node(name)
    for pod, node in PODS.items():
        cluster.add_pod(pod, node, app="web" if node == called(4) else "")
    cluster.guard("web")
    cluster.cordon_as_a_person(THEIRS)
    try:
        yield cluster
    finally:
        cluster.stop()


class Plane:
    """`steersman up` over its lives, on the guide's lifecycle at a quicker pace."""

    def __init__(self, up: Up, kube: KubeBeside, folder: Path) -> None:
        self.up, self.kube = up, kube
        self.config = folder / "steersman.yaml"
        aliases = ", ".join(f"node/{called(n)}: node/{entity(n)}" for n in range(1, COUNT + 1))
        self.config.write_text(CONFIG.format(url=kube.url, aliases=aliases))
        (folder / "lifecycles").mkdir()
        (folder / "lifecycles" / "gpu-nodes.yaml").write_text(guide_lifecycle())
        self.running = up("-c", str(self.config)).wait_healthy()
        kube.victim = self.running.process.pid
        document = self.running.home / "nodes.yaml"
        nodes = [{"kind": "Node", "id": name, "lifecycle": "gpu-nodes"} for name in ALL]
        document.write_text("\n---\n".join(map(json.dumps, nodes)))
        type_ok(self.running, "apply", "-f", str(document))

    def start_again(self) -> None:
        """Once it is dead. It may be killed again before it is healthy."""
        self.running.process.wait(KILL_TIMEOUT_S)
        home, port = self.running.home, self.running.port
        self.running = self.up("-c", str(self.config), home=home, port=port)
        self.kube.victim = self.running.process.pid

    def want(self, state: str, *names: str, may_die: bool = False) -> None:
        for name in names:
            path = f"/api/v1/resources/node/{name}/desired-status"
            try:
                answer = ask(self.running, "PUT", path, {"status": state, "reason": "new firmware"})
            except OSError:
                if may_die:
                    return
                raise
            assert answer.status in (200, 201), answer

    def until_is(self, state: str, *names: str, told: str = "") -> None:
        for name in names:
            self.running.until(lambda name=name: self.status(name) == state, f"{name} {told}", END_TIMEOUT_S)

    def status(self, name: str) -> str:
        return str(self.running.get(f"/api/v1/resources/node/{name}")["status"])

    def history(self, name: str) -> list[dict[str, Any]]:
        path = f"/api/v1/resources/node/{name}/history?limit=1000"
        items: list[dict[str, Any]] = self.running.get(path)["items"]
        return items


def guide_lifecycle() -> str:
    """The guide's own, with waits of a fraction of a second in place of minutes."""
    (text,) = re.findall(r"^```yaml\n(name: gpu-nodes\n.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    quick, count = re.subn(r"delay: \d+[sm]", "delay: 200ms", text)
    assert count == 2
    return str(quick)


def check_drained(plane: Plane, told: str = "") -> None:
    """What is the same however often it was killed."""
    assert sorted(plane.kube.accepted) == sorted(PODS), f"each pod was sent away once {told}"
    for number in range(1, COUNT + 1):
        assert plane.kube.pods_on(called(number)) == []
        history = json.dumps(plane.history(entity(number)))
        assert f"to kube {entity(number)} is {called(number)}; " in history, "the other name is on record"


def check_ends(plane: Plane, told: str = "") -> None:
    """All are given back but the one that a person had cordoned: theirs is taken by nobody."""
    plane.want("in_service", *ALL)
    plane.until_is("in_service", *ENTITIES, told=told)
    for number in range(1, COUNT + 1):
        assert states_of(plane.history(entity(number))) == STORY, f"{entity(number)} {told}"
        node = plane.kube.node(called(number))
        assert not node["spec"].get("unschedulable"), f"{called(number)} takes pods again {told}"
        assert CORDON_MARK not in node["metadata"].get("annotations", {}), told
    plane.running.until(lambda: states_of(plane.history(THEIRS))[:5] == KEPT_OUT, f"a refusal {told}")
    assert "somebody else cordoned it" in json.dumps(plane.history(THEIRS))
    theirs = plane.kube.node(THEIRS)
    assert theirs["spec"]["unschedulable"] is True, told
    assert CORDON_MARK not in theirs["metadata"].get("annotations", {}), told
    assert plane.running.stop()[0] == 0
    type_ok(plane.running, "store", "verify")


@pytest.mark.timeout(240)
def test_killed_within_many_writes_at_once_each_drain_ends_the_same(
    up: Up, kube: KubeBeside, tmp_path: Path
) -> None:
    plane = Plane(up, kube, tmp_path)
    given_back, others = entity(GIVEN_BACK), [name for name in ALL if name != entity(GIVEN_BACK)]
    plane.want("maintenance", given_back)
    plane.until_is("maintenance", given_back)
    kube.kill_within(WRITES)
    plane.want("in_service", given_back)
    plane.want("maintenance", *others)
    try:
        plane.start_again()
    finally:
        assert kube.missing == [], plane.running.err[-4000:]
    plane.running.wait_healthy()
    plane.until_is("maintenance", *others)
    check_drained(plane)
    check_ends(plane)


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not KILLS, reason="make chaos")
@pytest.mark.parametrize("story", range(max(1, -(-KILLS // KILLS_A_STORY))))
def test_killed_at_any_moment_each_drain_ends_the_same(
    up: Up, kube: KubeBeside, tmp_path: Path, story: int
) -> None:
    """Within a write that is drawn by chance, while the other nodes are wherever they are then."""
    seed = random.SystemRandom().getrandbits(32)
    chance, told = random.Random(seed), f"(seed {seed})"
    plane = Plane(up, kube, tmp_path)
    for number in range(KILLS_A_STORY):
        left = sorted(set(PODS) - set(kube.accepted))
        if not left:
            break
        pod, done = chance.choice(left), chance.random() < 0.5
        writes = [f"POST pods/{pod}/eviction", f"PATCH nodes/{PODS[pod]}?"]
        kube.kill_within([Write(chance.choice(writes), done)])
        if number == 0:
            plane.want("maintenance", *chance.sample(ALL, len(ALL)), may_die=True)
        plane.start_again()
        assert kube.missing == [], f"{told} {plane.running.err[-4000:]}"
    plane.running.wait_healthy()
    plane.want("maintenance", *ALL)  # of those that were not asked for before the first kill
    plane.until_is("maintenance", *ALL, told=told)
    check_drained(plane, told)
    check_ends(plane, told)
