"""The node: rates from two readings, limits beside the machine's own figures, and what is absent."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from steersman.drivers.host.cgroup import read_cgroup
from steersman.drivers.host.machine import LocalMachine, parse_pressure, read_small
from steersman.drivers.host.node import Rates, node_fields
from steersman.drivers.host.presence import look_for_accelerators
from steersman.drivers.host.readings import CgroupReading, DiskReading, MachineReading, NicReading
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import check_fields


def reading(**values: object) -> MachineReading:
    return MachineReading(hostname="n", **{"boot_id": "b1", **values})  # type: ignore[arg-type]


def test_the_first_reading_has_no_rates() -> None:
    """An average since boot would be a true number that answers another question."""
    fields = node_fields(reading(cpu_all_s=100.0, cpu_idle_s=50.0, nics={"e": NicReading(9, 1)}), Rates(), 0)
    assert fields["cpu_utilization"] is None
    assert fields["network_error_rate"] is None


def test_rates_are_of_the_time_between_two_readings() -> None:
    rates = Rates()
    node_fields(reading(cpu_all_s=100.0, cpu_idle_s=50.0, nics={"e": NicReading(1000, 10)}), rates, 0)
    fields = node_fields(
        reading(
            cpu_all_s=108.0,
            cpu_idle_s=52.0,
            nics={"e": NicReading(1100, 15), "new": NicReading(10**9, 10**9)},
        ),
        rates,
        0,
    )
    assert fields["cpu_utilization"] == 0.75
    assert fields["network_error_rate"] == 0.05, "an interface that is new has no base yet"


@pytest.mark.parametrize(
    ("all_s", "idle_s", "boot"),
    [(10.0, 5.0, "b1"), (200.0, 90.0, "b2"), (100.1, 50.0, "b1")],
    ids=["counters began anew", "another boot", "too short to tell"],
)
def test_no_rate_is_made_of_readings_that_do_not_compare(all_s: float, idle_s: float, boot: str) -> None:
    rates = Rates()
    node_fields(reading(cpu_all_s=100.0, cpu_idle_s=50.0), rates, 0)
    fields = node_fields(reading(cpu_all_s=all_s, cpu_idle_s=idle_s, boot_id=boot), rates, 0)
    assert fields["cpu_utilization"] is None


def test_short_spans_add_up_to_one_that_can_be_told() -> None:
    rates = Rates()
    used = [
        node_fields(reading(cpu_all_s=100 + 0.15 * turn, cpu_idle_s=50.0), rates, 0)["cpu_utilization"]
        for turn in range(3)
    ]
    assert used == [None, None, 1.0]


def test_an_idle_counter_that_steps_back_is_not_more_than_all() -> None:
    rates = Rates()
    node_fields(reading(cpu_all_s=100.0, cpu_idle_s=50.0), rates, 0)
    assert node_fields(reading(cpu_all_s=101.0, cpu_idle_s=49.9), rates, 0)["cpu_utilization"] == 1.0


def test_no_packets_is_no_error_rate() -> None:
    rates = Rates()
    for _ in range(2):
        fields = node_fields(reading(nics={"e": NicReading(5, 0)}), rates, 0)
    assert fields["network_error_rate"] is None


def test_no_swap_is_not_empty_swap_and_disks_are_shares() -> None:
    fields = node_fields(
        reading(swap_total=0, swap_used=0, disks=[DiskReading("/", 1, 4, 3, 4), DiskReading("/x", 0, 0)]),
        Rates(),
        0,
    )
    assert fields["swap_utilization"] is None
    assert fields["disks"] == {"/": 0.25}
    assert fields["disk_utilization"] == 0.25
    assert fields["disk_inode_utilization"] == 0.75


def test_a_mount_point_whose_name_is_not_utf_8_is_told_with_escapes() -> None:
    fields = node_fields(reading(disks=[DiskReading("/mnt/\udcff", 1, 4)]), Rates(), 0)
    assert fields["disks"] == {"/mnt/\\udcff": 0.25}
    assert check_fields(EntityType.NODE, {"disks": fields["disks"]}) == []


def test_limits_on_us_are_told_beside_the_machine() -> None:
    fields = node_fields(
        reading(memory_total=100, memory_available=75, cpu_count=64, affinity_count=2,
                cgroup=CgroupReading(2, 10, 5, 1.5)),
        Rates(), 0,
    )  # fmt: skip
    assert fields["memory_utilization"] == 0.25
    assert fields["cpu_count"] == 64
    assert fields["cpu_affinity_count"] == 2
    assert fields["cgroup_memory_limit_bytes"] == 10
    assert fields["cgroup_cpu_limit"] == 1.5


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=1.00 avg60=0 avg300=0 total=1\n",
         {"some": 0.125, "full": 0.01}),
        ("full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", {"full": 0.0}),
        ("", {}),
        ("some avg10=x total=1\nhalf avg10=3\n", {}),
        ("some avg10=200.00\n", {"some": 1.0}),
    ],
)  # fmt: skip
def test_pressure(text: str, shares: dict[str, float]) -> None:
    assert parse_pressure(text) == shares


def test_this_machine_is_read_as_psutil_reads_it() -> None:
    found = LocalMachine().read()
    assert found.warnings == []
    assert found.hostname == os.uname().nodename
    assert found.memory_total == psutil.virtual_memory().total
    assert found.cpu_count == psutil.cpu_count()
    assert found.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert found.cpu_all_s is not None
    assert found.cpu_idle_s is not None
    assert 0 < found.cpu_idle_s <= found.cpu_all_s
    assert all(not disk.mount.startswith(("/proc", "/sys")) for disk in found.disks)


def test_a_kernel_without_pressure_and_meminfo_costs_only_them(tmp_path: Path) -> None:
    found = LocalMachine(proc=tmp_path, sys=tmp_path).read()
    assert found.pressure == {}
    assert found.swap_total is None
    assert found.boot_id is None
    assert found.memory_total


def test_a_small_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_small(tmp_path / "nothing") is None
    assert read_small(Path("/proc/self/nothing/at/all")) is None


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cgroup_v2_takes_the_tightest_limit_above_us(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slice/unit\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/slice/memory.max": "1000\n",
            "sys/fs/cgroup/slice/cpu.max": "max 100000\n",
            "sys/fs/cgroup/slice/unit/memory.max": "max\n",
            "sys/fs/cgroup/slice/unit/memory.current": "400\n",
            "sys/fs/cgroup/slice/unit/cpu.max": "150000 100000\n",
        },
    )
    assert read_cgroup(tmp_path / "proc", tmp_path / "sys") == CgroupReading(2, 1000, 400, 1.5)


def test_cgroup_v1_knows_no_limit_when_it_sees_one(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n0::/\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "7\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
        },
    )
    assert read_cgroup(tmp_path / "proc", tmp_path / "sys") == CgroupReading(1, None, 7, None)


def test_no_cgroups(tmp_path: Path) -> None:
    assert read_cgroup(tmp_path, tmp_path) is None


def pci(kind: str, maker: str) -> dict[str, str]:
    folder = "sys/bus/pci/devices/0000:00:02.0"
    return {f"{folder}/class": kind, f"{folder}/vendor": maker}


@pytest.mark.parametrize(
    ("files", "known", "found"),
    [
        ({}, False, False),
        ({"sys/bus/cpu/x": ""}, True, False),
        (pci("0x030000", "0x8086"), True, False),
        (pci("0x030200", "0x10de"), True, True),
        (pci("0x120000", "0x1da3"), True, True),
        ({"dev/nvidia0": ""}, True, True),
        ({"proc/driver/nvidia/version": "", "sys/bus/pci/devices/.keep": ""}, True, True),
    ],
    ids=["nothing to look at", "no bus", "integrated", "3D controller", "accelerator", "device", "driver"],
)  # fmt: skip
def test_whether_there_are_accelerators(
    tmp_path: Path, files: dict[str, str], known: bool, found: bool
) -> None:
    presence = look_for_accelerators(tree(tmp_path, files))
    assert (presence.known, bool(presence.accelerators)) == (known, found)
