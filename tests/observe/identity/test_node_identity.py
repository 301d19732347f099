"""One node, whatever its sources call it; two nodes where nobody knows better."""

from __future__ import annotations

from identity_facts import GPU, NODE, at, door, ids, key, said

from steersman.kinds.settings import IdentitySettings

KUBERNETES = said(
    "kubernetes",
    "ip-10-0-0-7",
    addresses=["10.0.0.7"],
    hostname="ip-10-0-0-7",
    system_uuid="4c4c4544-0038-4210-8052-b4c04f4e4732",
    provider_id="aws:///us-east-1a/i-0abcdef1234567890",
    cpu_count=96,
)
SLURM = said(
    "slurm", "node001", addresses=["10.0.0.7"], hostname="node001.hpc.example", scheduler_state="IDLE"
)
PROMETHEUS = said("prometheus", "10.0.0.7:9100", load_1m=3.0)


def test_three_sources_name_one_node_by_its_address() -> None:
    inlet = door()
    inlet.take([SLURM, PROMETHEUS, KUBERNETES])
    assert ids(inlet) == ["ip-10-0-0-7"]
    node = inlet.bus.get(NODE, "ip-10-0-0-7", "prod")
    assert node is not None
    assert (node.load_1m, node.cpu_count, node.scheduler_state) == (3.0, 96, "IDLE")
    assert node.sources == ("kubernetes", "prometheus", "slurm")


def test_explain_tells_who_calls_it_what_by_which_rule_and_since_when() -> None:
    inlet = door()
    inlet.take([SLURM, PROMETHEUS, KUBERNETES])
    why = inlet.bus.explain(NODE, "ip-10-0-0-7", "prod")
    assert why is not None
    told = [(a.name, a.rule, a.evidence, a.sources, a.since) for a in why.identity.aliases]
    assert told == [
        ("10.0.0.7:9100", "address", "10.0.0.7", ("prometheus",), at(60)),
        ("node001", "address", "10.0.0.7", ("slurm",), at(60)),
    ]


def test_an_entity_is_found_by_any_of_its_names() -> None:
    inlet = door()
    inlet.take([SLURM, KUBERNETES])
    found = inlet.bus.get(NODE, "node001", "prod")
    assert found is not None
    assert found.entity_id == "ip-10-0-0-7"
    assert inlet.bus.get(NODE, "node001") == found


def test_a_name_that_is_found_out_late_leaves_a_tombstone_that_says_which_it_is() -> None:
    inlet = door()
    inlet.take([SLURM])
    inlet.bus.flush()
    feed = inlet.bus.subscribe()
    inlet.take([KUBERNETES])
    inlet.bus.flush()
    delta = feed.poll()
    assert delta is not None
    told = {e.entity_id: (e.deleted_at is not None, e.merged_into) for e in delta.entities}
    assert told == {"node001": (True, "ip-10-0-0-7"), "ip-10-0-0-7": (False, "")}
    dead = [e for e in inlet.bus.entities(NODE, deleted=True) if e.deleted_at is not None]
    assert [(e.entity_id, e.merged_into) for e in dead] == [("node001", "ip-10-0-0-7")]
    assert len(inlet.bus) == 1


def test_later_words_land_in_the_entity_of_the_name() -> None:
    inlet = door()
    inlet.take([SLURM, KUBERNETES])
    (outcome,) = inlet.take([said("slurm", "node001", 5, scheduler_state="DOWN")])
    assert outcome.verdict == "merged"
    node = inlet.bus.get(NODE, "ip-10-0-0-7", "prod")
    assert node is not None
    assert node.scheduler_state == "DOWN"
    assert ids(inlet) == ["ip-10-0-0-7"]


def test_an_id_of_the_machine_joins_where_no_address_does() -> None:
    inlet = door()
    swapped = "44454c4c-3800-1042-8052-b4c04f4e4732"  # the same firmware UUID, first parts in the other order
    inlet.take(
        [
            KUBERNETES,
            said("host", "n7", system_uuid=swapped),
            said("slurm", "s7", instance_id="i-0abcdef1234567890"),
        ]
    )
    assert ids(inlet) == ["ip-10-0-0-7"]
    why = inlet.bus.explain(NODE, "n7", "prod")
    assert why is not None
    assert {a.name: a.rule for a in why.identity.aliases} == {"n7": "system_id", "s7": "system_id"}


def test_a_short_name_joins_only_where_one_node_has_it() -> None:
    inlet = door()
    inlet.take([said("kubernetes", "n1.east.example"), said("dcgm", "n1")])
    assert ids(inlet) == ["n1.east.example"]
    inlet.take([said("kubernetes", "n1.west.example")])
    assert ids(inlet) == ["n1", "n1.east.example", "n1.west.example"]
    lone = inlet.bus.get(NODE, "n1", "prod")
    why = inlet.bus.explain(NODE, "n1", "prod")
    assert lone is not None
    assert why is not None
    (doubt,) = why.identity.ambiguities
    assert (doubt.rule, doubt.candidates) == ("short_name", ("n1.east.example", "n1.west.example"))
    assert [c.name for c in why.health.conditions] == ["identity_ambiguous"]
    assert "identity_ambiguous" in [reason.rule for reason in lone.health_reasons]
    assert any(s.field == "identity" and "n1 is ambiguous" in s.detail for s in inlet.bus.drift())
    assert inlet.bus.counters()["ambiguous"] == 1


def test_what_tells_which_of_two_ends_the_doubt() -> None:
    inlet = door()
    inlet.take(
        [said("kubernetes", "n1.east.example", addresses=["10.0.0.1"]), said("kubernetes", "n1.west.example")]
    )
    inlet.take([said("dcgm", "n1")])
    assert len(ids(inlet)) == 3
    inlet.take([said("dcgm", "n1", 1, addresses=["10.0.0.1"])])
    assert ids(inlet) == ["n1.east.example", "n1.west.example"]
    assert inlet.bus.counters()["ambiguous"] == 0


def test_an_address_that_two_nodes_have_is_nobodys_proof() -> None:
    inlet = door()
    inlet.take(
        [
            said("kubernetes", "a", addresses=["10.0.0.1"]),
            said("kubernetes", "b", addresses=["10.0.0.1"]),
            said("slurm", "s", addresses=["10.0.0.1"]),
        ]
    )
    assert ids(inlet) == ["a", "b", "s"]
    why = inlet.bus.explain(NODE, "s", "prod")
    assert why is not None
    assert why.identity.ambiguities[0].candidates == ("a", "b")


def test_an_address_that_another_node_took_over_moves_the_name_and_takes_nothing_along() -> None:
    inlet = door()
    inlet.take(
        [
            said("kubernetes", "a", addresses=["10.0.0.1"], cpu_count=8),
            said("slurm", "s", addresses=["10.0.0.1"], scheduler_state="IDLE"),
        ]
    )
    assert ids(inlet) == ["a"]
    inlet.take([said("kubernetes", "a", 1, addresses=["10.0.0.2"], cpu_count=8)])
    inlet.take([said("kubernetes", "b", 2, addresses=["10.0.0.1"], cpu_count=16)])
    assert ids(inlet) == ["a", "b"]
    a, b = inlet.bus.get(NODE, "a", "prod"), inlet.bus.get(NODE, "b", "prod")
    assert a is not None
    assert b is not None
    assert (a.scheduler_state, a.sources) == (None, ("kubernetes",))
    assert (b.scheduler_state, b.cpu_count) == ("IDLE", 16)


def test_agents_that_share_a_bridge_address_stay_apart() -> None:
    inlet = door()
    inlet.take(
        [
            said("host", f"n{i}", source=f"agent-{i}", addresses=["172.17.0.1", f"10.0.0.{i}"])
            for i in range(5)
        ]
    )
    assert len(ids(inlet)) == 5
    assert inlet.bus.counters()["ambiguous"] == 0


def test_several_slurm_nodes_on_one_host_are_not_that_host() -> None:
    inlet = door()
    inlet.take([said("kubernetes", "big")] + [said("slurm", f"v{i}", hostname="big") for i in range(3)])
    assert len(ids(inlet)) == 4


def test_machines_with_different_firmware_ids_are_two_whatever_their_address() -> None:
    inlet = door()
    inlet.take(
        [said("kubernetes", "a", addresses=["10.0.0.1"], system_uuid="4c4c4544-0038-4210-8052-b4c04f4e4732")]
    )
    inlet.take(
        [said("host", "z", addresses=["10.0.0.1"], system_uuid="4c4c4544-0038-4210-8052-b4c04f4e4799")]
    )
    assert ids(inlet) == ["a", "z"]


def test_loopback_and_firmware_defaults_prove_nothing() -> None:
    inlet = door()
    zero = "00000000-0000-0000-0000-000000000000"
    inlet.take(
        [said("kubernetes", "a", addresses=["127.0.0.1", "::1"], hostname="localhost", system_uuid=zero)]
    )
    inlet.take(
        [said("host", "b", addresses=["127.0.0.1", "fe80::1"], hostname="localhost", system_uuid=zero)]
    )
    assert ids(inlet) == ["a", "b"]


def test_two_clusters_with_a_node_of_one_name_have_two_nodes() -> None:
    inlet = door()
    inlet.take(
        [
            said("kubernetes", "n1", scope="east", cpu_count=1),
            said("kubernetes", "n1", scope="west", cpu_count=2),
        ]
    )
    assert [(e.scope, e.cpu_count) for e in inlet.bus.entities(NODE)] == [("east", 1), ("west", 2)]


def test_scopes_are_joined_only_where_that_is_configured() -> None:
    both = [
        said("slurm", "node001", scope="hpc-1", addresses=["10.0.0.7"], scheduler_state="IDLE"),
        KUBERNETES,
    ]
    apart, joined = door(), door(IdentitySettings(scopes={"hpc-1": "prod"}))
    apart.take(both)
    joined.take(both)
    assert len(ids(apart)) == 2
    assert [(e.scope, e.entity_id, e.scheduler_state) for e in joined.bus.entities(NODE)] == [
        ("prod", "ip-10-0-0-7", "IDLE")
    ]
    joined.take([said("slurm", "node001", 1, scope="hpc-1", scheduler_state="DOWN")])
    node = joined.bus.get(NODE, "node001", "hpc-1")
    assert node is not None
    assert node.scheduler_state == "DOWN"


def test_configuration_joins_what_no_rule_would() -> None:
    inlet = door(IdentitySettings(rules=False, aliases={"node/blue": "node/n9"}))
    inlet.take([said("slurm", "blue", addresses=["10.0.0.7"], scheduler_state="IDLE"), KUBERNETES])
    assert ids(inlet) == ["ip-10-0-0-7", "n9"]  # rules are off, and nobody else told of n9
    inlet.take([said("dcgm", "n9", load_1m=1.0)])
    node = inlet.bus.get(NODE, "n9", "prod")
    assert node is not None
    assert (node.scheduler_state, node.load_1m) == ("IDLE", 1.0)
    why = inlet.bus.explain(NODE, "blue", "prod")
    assert why is not None
    assert [(a.name, a.rule) for a in why.identity.aliases] == [("blue", "manual")]


def test_a_name_that_is_gone_takes_only_its_own_words_along() -> None:
    inlet = door()
    inlet.take([KUBERNETES, SLURM])
    assert inlet.forget(key("node001"), at(10))
    node = inlet.bus.get(NODE, "ip-10-0-0-7", "prod")
    assert node is not None
    assert (node.sources, node.scheduler_state) == (("kubernetes",), None)
    (late,) = inlet.take([said("slurm", "node001", 9, scheduler_state="IDLE")])
    assert late.verdict == "stale"
    inlet.take([said("slurm", "node001", 11, addresses=["10.0.0.7"], scheduler_state="DOWN")])
    assert ids(inlet) == ["ip-10-0-0-7"]


def test_what_is_left_of_a_node_that_its_first_source_lost_has_its_own_name_again() -> None:
    inlet = door()
    inlet.take([KUBERNETES, SLURM])
    inlet.forget(key("ip-10-0-0-7"), at(10))
    assert ids(inlet) == ["node001"]
    node = inlet.bus.get(NODE, "node001", "prod")
    assert node is not None
    assert (node.sources, node.cpu_count) == (("slurm",), None)
    gone = [e for e in inlet.bus.entities(NODE, deleted=True) if e.deleted_at is not None]
    assert [e.entity_id for e in gone] == ["ip-10-0-0-7"]


def test_what_refers_to_a_node_means_it_by_any_name_and_is_told_of_a_change() -> None:
    inlet = door()
    inlet.take([said("dcgm", "GPU-1", kind=GPU, node="node001", gpu_utilization=0.5), SLURM])
    inlet.bus.sweep()
    inlet.bus.flush()
    feed = inlet.bus.subscribe()
    inlet.take([KUBERNETES])
    inlet.bus.sweep()
    inlet.bus.flush()
    delta = feed.poll()
    assert delta is not None
    (gpu,) = [e for e in delta.entities if e.entity_type is GPU]
    assert gpu.node == "ip-10-0-0-7"
    inlet.take([said("kubelet", "GPU-1", 0, GPU, node="ip-10-0-0-7")])
    why = inlet.bus.explain(GPU, "GPU-1", "prod")
    assert why is not None
    assert (why.fields["node"].value, why.fields["node"].agreement) == ("ip-10-0-0-7", "agree")
    (agreement,) = [item for item in why.confidence.items if item.name == "agreement"]
    assert agreement.score == 1.0


def test_rules_that_are_off_join_nothing() -> None:
    inlet = door(IdentitySettings(rules=False))
    inlet.take([SLURM, PROMETHEUS, KUBERNETES])
    assert len(ids(inlet)) == 3


def test_a_name_that_a_resource_bears_stays_the_entitys_in_either_order() -> None:
    """Goal: what was done to a machine stays under its resource's name, and no second one is made for it."""
    for order in ([SLURM, KUBERNETES], [KUBERNETES, SLURM]):
        inlet = door(managed={key("node001")})
        for fragment in order:
            inlet.take([fragment])
        assert ids(inlet) == ["node001"]
        node = inlet.bus.get(NODE, "ip-10-0-0-7", "prod")
        assert node is not None
        assert (node.entity_id, node.cpu_count) == ("node001", 96)


def test_gpus_are_told_apart_again_when_their_nodes_turn_out_to_be_two() -> None:
    """An address was one machine's, then another has it too: what stood at it has other neighbours."""
    inlet = door()
    machine = "4c4c4544-0038-4210-8052-b4c04f4e4701"
    inlet.take([said("slurm", "n1", 2, addresses=["10.0.0.1"], system_uuid=machine, load_1m=1)])
    inlet.take([said("dcgm", "GPU-a", 3, GPU, node="10.0.0.1", gpu_index=1)])
    inlet.take([said("dcgm", "GPU-b", 4, GPU, node="n1", gpu_index=1)])
    inlet.take([said("dcgm", "n1/0", 5, GPU, node="n1", gpu_index=1)])
    doubtful = inlet.bus.get(GPU, "n1/0", "prod")
    assert doubtful is not None, "it may be either"
    inlet.take([said("kubernetes", "n1", 6, system_uuid=machine, load_1m=1)])
    inlet.take([said("kubernetes", "n2", 7, addresses=["10.0.0.1"], load_1m=1)])
    assert {gpu.entity_id for gpu in inlet.bus.entities(GPU)} == {"GPU-a", "GPU-b"}
