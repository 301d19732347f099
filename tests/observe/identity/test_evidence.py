"""What names, addresses and ids are read as; nothing that a source can say makes the reader fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from identity_facts import GPU, JOB, NODE, SERVICE, TENANT, door, ids, said

from steersman.observe.identity.evidence import FIELDS_READ, LABELS_READ, address_of, evidence_of
from steersman.observe.inlet import cleaned

odd = st.one_of(st.text(max_size=40), st.integers(), st.none(), st.lists(st.text(max_size=20), max_size=3))
kinds = st.sampled_from([NODE, GPU, JOB, SERVICE, TENANT])


def texts(kind: Any, name: str, **fields: Any) -> set[str]:
    return {text for _, text in evidence_of(kind, name, fields).tokens}


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("N1.East.Example.", {"name n1.east.example", "short name n1"}),
        ("n1:9100", {"name n1", "short name n1"}),
        ("10.0.0.7:9100", {"10.0.0.7"}),
        ("[2001:db8::7]:9100", {"2001:db8::7"}),
        ("2001:DB8:0::7", {"2001:db8::7"}),
        ("::ffff:10.0.0.7", {"10.0.0.7"}),
        ("127.0.0.1:9100", set()),
        ("localhost", set()),
        ("aws:///us-east-1a/i-0abc", {"provider id aws:///us-east-1a/i-0abc", "instance i-0abc"}),
        ("gce://p/zone/n1", {"provider id gce://p/zone/n1"}),
    ],
)
def test_a_nodes_name_is_read_for_what_it_is(name: str, tokens: set[str]) -> None:
    assert texts(NODE, name) == tokens


def test_addresses_that_no_machine_alone_has_are_empty() -> None:
    assert [address_of(text) for text in ("169.254.1.1", "0.0.0.0", "224.0.0.1", "fe80::1")] == [""] * 4
    assert address_of("10.0.0") is None


def test_a_slice_has_none_of_its_gpus_places() -> None:
    place = {"node": "n1", "pci_bus_id": "0000:3b:00.0", "gpu_index": 0, "gpu_uuid": "GPU-1"}
    assert texts(GPU, "GPU-1/3", **place) == {"name GPU-1/3", "MIG instance 3 of gpu-1"}


@settings(max_examples=300, deadline=None)
@given(kinds, st.text(min_size=1, max_size=60), st.data())
def test_nothing_that_is_said_makes_it_fail(kind: Any, name: str, data: st.DataObject) -> None:
    keys = [*FIELDS_READ[kind], *(f"labels.{label}" for label in LABELS_READ.get(kind, ()))]
    told = data.draw(st.dictionaries(st.sampled_from(keys), st.text(max_size=40), max_size=len(keys)))
    told = {n: v for n, v in told.items() if n not in ("submitted_at", "addresses")}
    evidence = evidence_of(kind, name, told)
    assert len(set(evidence.tokens)) == len(evidence.tokens)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            kinds,
            st.sampled_from("abc"),
            st.dictionaries(
                st.sampled_from(
                    [
                        "addresses",
                        "hostname",
                        "uid",
                        "node",
                        "nodes",
                        "submitted_at",
                        "gpu_index",
                        "scope_type",
                        "mig_instance",
                    ]
                ),
                odd,
                max_size=4,
            ),
        ),
        max_size=8,
    )
)
def test_the_door_takes_whatever_passes_the_types(told: list[tuple[Any, str, dict[str, Any]]]) -> None:
    """Fields are held to their declared types before names are read from them."""
    inlet = door()
    for kind, name, fields in told:
        clean = cleaned(said("x", name, 0, kind, **fields))
        if hasattr(clean, "fields"):
            inlet.take([clean])
    assert ids(inlet) == sorted(ids(inlet))
