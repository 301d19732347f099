"""Slurm's small languages: lists of hosts, GRES and TRES, numbers, durations, states, records of text."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.slurm import text, values
from steersman.drivers.slurm.hostlist import HostListInvalid, expand_hosts
from steersman.drivers.slurm.states import NODE_FLAGS, job_state, node_state, queue_state
from steersman.drivers.slurm.tres import Gres, gpus_of, gpus_of_tres, parse_gres, parse_tres, slices_of
from steersman.kernel.bounds import MIB
from steersman.kinds.entity import JOB_STATES


@pytest.mark.parametrize(
    ("listed", "hosts"),
    [
        ("", ()),
        ("n1", ("n1",)),
        (
            "n[1-3,07-09],x[1-2]y[3-4]",
            ("n1", "n2", "n3", "n07", "n08", "n09", "x1y3", "x1y4", "x2y3", "x2y4"),
        ),
        ("gpu[098-101]", ("gpu098", "gpu099", "gpu100", "gpu101")),
        ("gpu[9-11]", ("gpu9", "gpu10", "gpu11")),
        ("a,b[1]c,a", ("a", "b1c")),
        ("r[1-2].example,login", ("r1.example", "r2.example", "login")),
    ],
)
def test_a_list_of_hosts_is_written_out(listed: str, hosts: tuple[str, ...]) -> None:
    assert expand_hosts(listed) == hosts


@pytest.mark.parametrize("listed", ["n[1-", "n1]", "n[[1-2]]", "n[3-1]", "n[a-b]", "n[1-2", "n[]", "a b"])
def test_what_is_no_list_of_hosts_is_refused(listed: str) -> None:
    with pytest.raises(HostListInvalid):
        expand_hosts(listed)


@pytest.mark.parametrize("listed", ["n[0-999999999]", "n" + "[0-9]" * 7, "x[1-2]" * 9, "n[0-500],m[0-500]"])
def test_a_short_text_can_not_name_a_million_hosts(listed: str) -> None:
    with pytest.raises(HostListInvalid):
        expand_hosts(listed, 1_000)


@given(st.integers(0, 500), st.integers(0, 200), st.integers(1, 6))
def test_a_padded_range_has_every_host_once_and_in_order(low: int, more: int, width: int) -> None:
    first, last = f"{low:0{width}d}", f"{low + more:0{width}d}"
    hosts = expand_hosts(f"n[{first}-{last}]")
    assert hosts[0] == f"n{first}"
    assert hosts[-1] == f"n{last}"
    assert len(set(hosts)) == more + 1
    assert all(int(after[1:]) == int(before[1:]) + 1 for before, after in pairwise(hosts))


@given(st.text(alphabet="n0123456789[]-,. x", max_size=60))
def test_any_text_is_a_list_of_hosts_or_refused(listed: str) -> None:
    try:
        hosts = expand_hosts(listed, 10_000)
    except HostListInvalid:
        return
    assert all(host and not {"[", "]", ","} & set(host) for host in hosts)


@pytest.mark.parametrize(
    ("said", "gpus"),
    [
        ("gpu:a100:8(S:0-1)", 8),
        ("gpu:8", 8),
        ("gpu", 1),
        ("gpu:a:4,gpu:b:4", 8),
        ("gres:gpu:2", 2),
        ("gres/gpu:8", 8),
        ("gres/gpu:h100=4", 4),
        ("gpu:8,gpu:a100:8", 8),
        ("gpu:a100:3(IDX:0-1,5),shard:16", 3),
        ("gpu:1g.10gb:21(S:1)", 0),
        ("gpu:1g.10gb:21(S:1),gpu:h100:7(S:0)", 7),
        ("craynetwork:4", None),
        ("(null)", None),
        ("N/A", None),
        ("", None),
        (None, None),
    ],
)
def test_gpus_of_a_gres(said: str | None, gpus: int | None) -> None:
    assert gpus_of(parse_gres(said).entries) == gpus


def test_indexes_and_types_of_a_gres() -> None:
    (one,) = parse_gres("gpu:a100:4(IDX:0-1,5,7)").entries
    assert one == Gres("gpu", "a100", 4, (0, 1, 5, 7))
    assert parse_gres("gpu:h100:0(IDX:N/A)").entries == (Gres("gpu", "h100", 0, None),)
    (mig,) = parse_gres("gpu:1g.10gb:21(S:1)").entries
    assert (mig.type, mig.is_slice, slices_of([mig])) == ("1g.10gb", True, 21)
    assert parse_gres("gpu:a100:4(IDX:0-3),???:x").odd == ("???:x",)


@pytest.mark.parametrize(
    ("said", "gpus"),
    [
        ("cpu=64,mem=500000M,billing=64,gres/gpu=8,gres/gpu:a100=8", 8),
        ("cpu=1,gres/gpu:a100=2,gres/gpu:h100=3", 5),
        ("gres/gpu=8,gres/gpu:1g.10gb=7,gres/gpu:h100=1", 1),
        ("cpu=64,mem=500G", None),
        ("", None),
    ],
)
def test_typed_and_untyped_gpus_are_never_added(said: str, gpus: int | None) -> None:
    assert gpus_of_tres(parse_tres(said)) == gpus


def test_a_tres_has_memory_in_bytes_and_leaves_out_what_it_can_not_read() -> None:
    assert parse_tres("cpu=2,mem=1000M,node=1,x=y,=3,zz") == {"cpu": 2, "mem": 1000 * MIB, "node": 1}
    assert parse_tres("mem=500G")["mem"] == 500 * 1024 * MIB


@given(st.text(max_size=80), st.text(alphabet="gpu:/=0123456789(IDX-),.ab", max_size=60))
def test_any_text_may_stand_in_a_gres(some: str, likely: str) -> None:
    for said in (some, likely):
        parsed = parse_gres(said)
        assert all(entry.count >= 0 for entry in parsed.entries)
        parse_tres(said)


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ({"set": True, "infinite": False, "number": 5}, 5),
        ({"set": False, "infinite": False, "number": 5}, None),
        ({"set": False, "infinite": True, "number": 0}, values.INFINITE),
        (0, 0),
        (4_294_967_294, None),
        (2**64 - 2, None),
        (65_534, 65_534),
        (4_294_967_295, values.INFINITE),
        (-1, values.INFINITE),
        (-2, None),
        ("UNLIMITED", values.INFINITE),
        ("7", 7),
        ("N/A", None),
        (None, None),
        (True, None),
        ([], None),
        (float("nan"), None),
    ],
)
def test_a_number_of_any_version(said: object, number: float | None) -> None:
    assert values.number_of(said) == number


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1-02:03:04", 93_784),
        ("1-02:03", 93_780),
        ("1-02", 93_600),
        ("02:03:04", 7_384),
        ("03:04", 184),
        ("90", 5_400),
        ("00:00:00", 0),
        ("UNLIMITED", values.INFINITE),
        ("NONE", None),
        ("N/A", None),
        ("1-2-3", None),
        ("", None),
    ],
)
def test_a_duration_is_read(said: str, seconds: float | None) -> None:
    assert values.duration_s(said) == seconds


@given(st.integers(0, 9_999), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_each_way_to_write_a_duration_means_the_same(
    days: int, hours: int, minutes: int, seconds: int
) -> None:
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert values.duration_s(f"{days}-{hours:02}:{minutes:02}:{seconds:02}") == whole
    assert values.duration_s(f"{days * 24 + hours}:{minutes:02}:{seconds:02}") == whole


def test_memory_counts_units_of_1024() -> None:
    assert values.memory_bytes(512_000) == 512_000 * MIB
    assert values.memory_bytes("1G") == 1024 * MIB
    assert values.memory_bytes("1024K") == MIB
    assert values.memory_bytes({"set": True, "infinite": False, "number": 3}) == 3 * MIB
    assert values.memory_bytes({"set": False, "infinite": False, "number": 3}) is None
    assert values.memory_bytes("N/A") is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (768, 3),
        (9, 137),
        (0, 0),
        ("3:0", 3),
        ("0:9", 137),
        ("0:0", 0),
        ({"return_code": {"set": True, "infinite": False, "number": 3}, "signal": {}}, 3),
        ({"return_code": {"set": True, "number": 0}, "signal": {"id": {"set": True, "number": 9}}}, 137),
        ({"return_code": 2, "signal": {"signal_id": 0}}, 2),
        ({"return_code": {"set": False}}, None),
        ("?", None),
    ],
)
def test_an_exit_code_of_any_version(said: object, code: int | None) -> None:
    assert values.exit_code_of(said) == code


@pytest.mark.parametrize(
    ("given_words", "said"),
    [
        ((["IDLE", "DRAIN"],), "IDLE+DRAIN"),
        (("idle", ["DRAIN"]), "IDLE+DRAIN"),
        (("IDLE+DRAIN",), "IDLE+DRAIN"),
        (("drained",), "IDLE+DRAIN"),
        (("drained*",), "IDLE+DRAIN+NOT_RESPONDING"),
        (("IDLE*+DRAIN",), "IDLE+DRAIN+NOT_RESPONDING"),
        (("draining",), "ALLOCATED+DRAIN"),
        (("drng",), "ALLOCATED+DRAIN"),
        (("mix-",), "MIXED+PLANNED"),
        (("idle~",), "IDLE+POWERED_DOWN"),
        (("idle#",), "IDLE+POWERING_UP"),
        (("idle%",), "IDLE+POWERING_DOWN"),
        (("idle$",), "IDLE+MAINTENANCE"),
        (("idle@",), "IDLE+REBOOT_REQUESTED"),
        (("idle^",), "IDLE+REBOOT_ISSUED"),
        (("idle!",), "IDLE+POWER_DOWN"),
        (("down*",), "DOWN+NOT_RESPONDING"),
        (("failing",), "ALLOCATED+FAIL"),
        (("alloc",), "ALLOCATED"),
        (("comp",), "IDLE+COMPLETING"),
        (("maint",), "IDLE+MAINTENANCE"),
        ((["MIXED", "CLOUD", "DYNAMIC_NORM"],), "MIXED+CLOUD+DYNAMIC_NORM"),
        (([],), "UNKNOWN"),
    ],
)
def test_a_nodes_state_in_every_spelling(given_words: tuple[str | list[str], ...], said: str) -> None:
    state = node_state(*given_words)
    assert state.text == said
    assert state.odd == ()


def test_an_unknown_flag_is_kept_and_named() -> None:
    state = node_state(["IDLE", "LEVITATING"])
    assert (state.text, state.odd) == ("IDLE+LEVITATING", ("LEVITATING",))


@pytest.mark.parametrize("flag", sorted(NODE_FLAGS))
def test_every_flag_of_slurm_is_known_in_either_case(flag: str) -> None:
    assert node_state(["IDLE", flag]) == node_state("idle", [flag.lower()])
    assert node_state(["IDLE", flag]).odd == ()


def test_what_states_mean() -> None:
    assert node_state("IDLE+DRAIN").drained
    assert node_state("MIXED+DRAIN").draining
    assert node_state("IDLE+DRAIN+COMPLETING").draining
    assert node_state("ALLOCATED+FAIL").failing
    assert node_state("MIXED+PLANNED").schedulable is True
    assert node_state("IDLE+CLOUD+POWERED_DOWN").schedulable is True
    assert node_state("IDLE+MAINTENANCE").schedulable is False
    assert node_state("DOWN").schedulable is False
    assert node_state("UNKNOWN").schedulable is None


@pytest.mark.parametrize(
    ("said", "canonical"),
    [
        ("RUNNING", "running"),
        (["RUNNING", "COMPLETING"], "completing"),
        (["PENDING", "REQUEUED"], "pending"),
        (["RUNNING", "CONFIGURING"], "running"),
        ("CANCELLED by 1000", "cancelled"),
        ("OUT_OF_MEMORY", "failed"),
        ("NODE_FAIL", "failed"),
        ("DEADLINE", "failed"),
        ("BOOT_FAIL", "failed"),
        ("TIMEOUT", "failed"),
        ("PREEMPTED", "cancelled"),
        ("CG", "completing"),
        ("PD", "pending"),
        ("SOMETHING_NEW", "unknown"),
        ([], "unknown"),
    ],
)
def test_a_jobs_state(said: str | list[str], canonical: str) -> None:
    assert job_state(said).canonical == canonical


@given(st.text(max_size=40))
def test_any_word_is_a_state(said: str) -> None:
    assert job_state(said).canonical in JOB_STATES
    node_state(said)
    assert queue_state(said)[0] in ("up", "down", "drain", "inactive", "unknown")


def test_a_record_has_values_with_blanks_and_equal_signs() -> None:
    record = text.read_record(
        "NodeName=n1 Arch=x86_64 OS=Linux 6.1 #1 SMP a=b @0  RealMemory=512000 State=IDLE+DRAIN "
        "Comment=see ticket=12 Reason=bad = disk x=y [ada@2026-03-01T10:20:30]"
    )
    assert record["OS"] == "Linux 6.1 #1 SMP a=b @0"
    assert record["RealMemory"] == "512000"
    assert record["Comment"] == "see ticket=12"
    (node,) = text.read_nodes(
        "NodeName=n1 State=IDLE+DRAIN Reason=bad = disk x=y [ada@2026-03-01T10:20:30]\nnoise\n"
    ).items
    assert (node.reason, node.reason_by) == ("bad = disk x=y", "ada")
    assert node.reason_at == datetime(2026, 3, 1, 10, 20, 30, tzinfo=UTC)


def test_no_jobs_is_an_empty_list() -> None:
    assert text.read_jobs("No jobs in the system\n").items == []


@given(st.lists(st.text(alphabet="NodeNameJobId=PartitionStateReason[]@ ,1-\n", max_size=80), max_size=6))
def test_any_text_is_read_or_left(lines: list[str]) -> None:
    said = "\n".join(f"{key}={line}" for line in lines for key in ("NodeName", "JobId", "PartitionName"))
    text.read_nodes(said)
    text.read_jobs(said)
    text.read_partitions(said)
    text.read_reservations(said.replace("JobId", "ReservationName"))
