"""Whatever comes first, the picture is the same: names are joined by what is known, not by when it came."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from identity_facts import GPU, JOB, NODE, at, door, picture, said
from msgspec import structs

from steersman.kinds.fragment import StateFragment

HOSTS = ("n1", "n2", "n1.east", "n1.west", "n2.east", "10.0.0.1", "10.0.0.2:9100", "ip-10-0-0-1")
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "172.17.0.1")
MACHINES = ("4c4c4544-0038-4210-8052-b4c04f4e4701", "4c4c4544-0038-4210-8052-b4c04f4e4702")
SOURCES = ("kubernetes", "slurm", "prometheus", "host-a", "host-b")


def _type(source: str) -> str:
    return source.partition("-")[0]


@st.composite
def nodes(draw: st.DrawFn) -> StateFragment:
    fields: dict[str, Any] = {}
    if draw(st.booleans()):
        fields["addresses"] = draw(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2, unique=True))
    if draw(st.integers(0, 3)) == 0:
        fields["system_uuid"] = draw(st.sampled_from(MACHINES))
    if draw(st.integers(0, 3)) == 0:
        fields["hostname"] = draw(st.sampled_from(HOSTS))
    fields[draw(st.sampled_from(["load_1m", "cpu_count"]))] = draw(st.integers(1, 9))
    source = draw(st.sampled_from(SOURCES))
    return said(_type(source), draw(st.sampled_from(HOSTS)), source=source, **fields)


@st.composite
def gpus(draw: st.DrawFn) -> StateFragment:
    source = draw(st.sampled_from(["dcgm", "kubernetes", "slurm"]))
    name = draw(st.sampled_from(["GPU-a", "GPU-b", "GPU-a/3", "MIG-m", "n1/0", "n1/1", "drv/n1/gpu0"]))
    fields: dict[str, Any] = {"node": draw(st.sampled_from(HOSTS))}
    if draw(st.booleans()):
        fields["pci_bus_id"] = draw(st.sampled_from(["0000:3b:00.0", "00000000:3B:00.0", "0000:5e:00.0"]))
    if draw(st.booleans()):
        fields["gpu_index"] = draw(st.integers(0, 1))
    if name == "MIG-m":
        fields |= {"parent_gpu": "GPU-a", "mig_instance": 3}
    return said(source, name, 0, GPU, **fields)


def _once(fragments: list[StateFragment]) -> list[StateFragment]:
    """One word of each source on each name (what a source says twice has an order, which is its own), and no
    two words at one instant (of which the later arrival has it)."""
    told = {(f.source, f.key): f for f in fragments}.values()
    return [structs.replace(f, observed_at=at(place)) for place, f in enumerate(told)]


@settings(max_examples=400, deadline=None)
@given(st.lists(nodes(), min_size=2, max_size=9), st.integers(0, 2**32), st.integers(1, 4))
def test_any_order_of_nodes_gives_the_same_picture(told: list[StateFragment], seed: int, size: int) -> None:
    """In batches of any size, too."""
    told = _once(told)
    other = random.Random(seed).sample(told, len(told))
    first, second = door(), door()
    first.take(told)
    for start in range(0, len(other), size):
        second.take(other[start : start + size])
    assert picture(first) == picture(second)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(nodes(), max_size=4),
    st.lists(gpus(), min_size=2, max_size=7),
    st.integers(0, 2**32),
    st.integers(1, 4),
)
def test_any_order_of_nodes_and_gpus_gives_the_same_picture(
    hosts: list[StateFragment], told: list[StateFragment], seed: int, size: int
) -> None:
    told = _once([*hosts, *told])
    other = random.Random(seed).sample(told, len(told))
    first, second = door(), door()
    first.take(told)
    for start in range(0, len(other), size):
        second.take(other[start : start + size])
    assert picture(first) == picture(second)


@settings(max_examples=200, deadline=None)
@given(st.lists(nodes(), min_size=2, max_size=9), st.lists(nodes(), max_size=5), st.integers(0, 2**32))
def test_what_was_told_before_and_holds_no_more_leaves_no_trace(
    told: list[StateFragment], before: list[StateFragment], seed: int
) -> None:
    """Names that were joined on evidence that is gone are what they would be had it never been."""
    told = _once(told)
    names = {(f.source, f.key) for f in told}
    earlier = [
        said(f.source_type, f.entity_id, -10, source=f.source, addresses=["10.0.0.1"])
        for f in before
        if (f.source, f.key) in names
    ]
    later = [_with_all(f) for f in told]
    first, second = door(), door()
    first.take([*earlier, *later])
    second.take(random.Random(seed).sample(later, len(later)))
    assert {name: seen[2] for name, seen in picture(first).items()} == {
        name: seen[2] for name, seen in picture(second).items()
    }
    assert {e.key for e in first.bus.entities(NODE)} == {e.key for e in second.bus.entities(NODE)}


def _with_all(one: StateFragment) -> StateFragment:
    """The fragment, saying also which addresses it has not."""
    fields = {"addresses": [], **one.fields}
    return said(one.source_type, one.entity_id, 1, source=one.source, **fields)


@settings(max_examples=200, deadline=None)
@given(st.permutations([0, 1, 2, 3, 4]))
def test_a_new_life_is_the_same_in_any_order_of_sources(order: list[int]) -> None:
    """The old life's words go and the new one's stay, whoever is late."""
    told = [
        said("slurm", "7", 0, JOB, submitted_at=at(0), job_state="failed", exit_code=1),
        said("slurm", "7", 20, JOB, submitted_at=at(19), job_state="running"),
        said("dcgm", "7", 10, JOB, gpu_memory_used=5),
        said("wandb", "7", 5, JOB, memory_used=4),
        said("host", "7", 30, JOB, process_count=3),
    ]
    inlet = door()
    for place in order:
        inlet.take([told[place]])
    job = inlet.bus.get(JOB, "7", "prod")
    assert job is not None
    assert (job.job_state, job.exit_code, job.gpu_memory_used, job.memory_used, job.process_count) == (
        "running",
        None,
        None,
        None,
        3,
    )
