"""A node is drained through Kubernetes by the lifecycle that the guide shows, and given back. `steersman up`
is killed with SIGKILL before and behind its writes, and started again. The end is the same."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from drain_story import KEPT_OUT, STORY, Plane, Up, guide_lifecycle
from kube_beside import KubeBeside, Write
from loop_story import states_of, type_ok

from steersman.drivers.kubernetes.marks import CORDON_MARK

KILLS = int(os.environ.get("LOOP_KILLS", "0")) // 10
"""`make chaos` kills by chance too: a tenth of what it asks for, because each costs the 15 s that a dead
process's lease on its resources lasts."""
KILLS_A_STORY = 4
COUNT = 6
THEIRS = "gpu99"
"""The node that a person has cordoned."""


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


class KubePlane(Plane):
    """On the cluster of these tests."""

    def __init__(self, up: Up, kube: KubeBeside, folder: Path) -> None:
        self.kube = kube
        source = {"name": "kube", "driver": "kubernetes", "url": kube.url, "resources": ["nodes", "pods"]}
        others = {entity(number): called(number) for number in range(1, COUNT + 1)}
        super().__init__(up, folder, source, guide_lifecycle(), ALL, others)
        kube.victim = self.running.process.pid

    def start_again(self) -> None:
        super().start_again()
        self.kube.victim = self.running.process.pid


def check_drained(plane: KubePlane, told: str = "") -> None:
    """What is the same however often it was killed."""
    assert sorted(plane.kube.accepted) == sorted(PODS), f"each pod was sent away once {told}"
    for number in range(1, COUNT + 1):
        assert plane.kube.pods_on(called(number)) == []
        history = json.dumps(plane.history(entity(number)))
        assert f"to kube {entity(number)} is {called(number)}; " in history, "the other name is on record"


def check_ends(plane: KubePlane, told: str = "") -> None:
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
@pytest.mark.parametrize("story", range(1 + -(-KILLS // KILLS_A_STORY)))
def test_killed_within_its_writes_each_drain_ends_the_same(
    up: Up, kube: KubeBeside, tmp_path: Path, story: int
) -> None:
    plane = KubePlane(up, kube, tmp_path)
    told = kill_at_once(plane) if story == 0 else kill_by_chance(plane)
    plane.until_is("maintenance", *(name for name in ALL if name != entity(GIVEN_BACK)), told=told)
    check_drained(plane, told)
    check_ends(plane, told)


def kill_at_once(plane: KubePlane) -> str:
    """Once, within many writes."""
    given_back, others = entity(GIVEN_BACK), [name for name in ALL if name != entity(GIVEN_BACK)]
    plane.want("maintenance", given_back)
    plane.until_is("maintenance", given_back)
    plane.kube.kill_within(WRITES)
    plane.want("in_service", given_back)
    plane.want("maintenance", *others, may_die=True)
    plane.start_again()
    assert plane.kube.missing == [], plane.running.err[-4000:]
    plane.running.wait_healthy()
    plane.want("maintenance", *others)
    return "within many writes"


def kill_by_chance(plane: KubePlane) -> str:
    """Several times, within a write that is drawn, while the other nodes are wherever they are then."""
    seed = random.SystemRandom().getrandbits(32)
    chance, told, kube = random.Random(seed), f"(seed {seed})", plane.kube
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
    plane.want("maintenance", *ALL)  # also those that were not asked for before the first kill
    plane.until_is("maintenance", entity(GIVEN_BACK), told=told)
    return told
