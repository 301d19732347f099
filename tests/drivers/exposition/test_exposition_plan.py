"""Mappings carried out: units, kinds, blanks, labels, derived fields, and what a page does not have."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from steersman.drivers.exposition.fold import quantile
from steersman.drivers.exposition.mapping import (
    Derived,
    EntityRule,
    Mapping,
    MappingInvalid,
    MetricRule,
    open_mapping,
    shipped_mappings,
)
from steersman.drivers.exposition.plan import Plan, Reading
from steersman.drivers.exposition.series import SeriesCache
from steersman.drivers.exposition.units import UNITS, factor
from steersman.kernel.config import ConfigInvalid
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Pages:
    """Pages read one after the other, ten seconds apart."""

    def __init__(self, *mappings: Mapping) -> None:
        self._plan = Plan(mappings, "source", {"cluster": "lab"})
        self._cache = SeriesCache(self._plan.want, self._plan.forget)
        self._at_s = 0.0

    def read(self, text: str) -> Reading:
        self._at_s += 10
        page = self._cache.read(text)
        assert page.problems == []
        return self._plan.build(page, AT, self._at_s, {"@instance": "n1:9100"})

    def one(self, text: str) -> StateFragment:
        (fragment,) = self.read(text).fragments
        return fragment


def mapping(*metrics: MetricRule, derive: list[Derived] | None = None, blanks: Any = "none") -> Mapping:
    entity = EntityRule(type=EntityType.NODE, id=["{host}"])
    return Mapping(
        name="test", entities={"node": entity}, metrics=list(metrics), derive=derive or [], blanks=blanks
    )


def test_every_shipped_mapping_is_valid() -> None:
    assert {"dcgm", "node-exporter", "vllm", "triton", "knative"} <= set(shipped_mappings())
    for name in shipped_mappings():
        assert open_mapping(name).name == name


def test_units_are_converted_by_declaration_and_never_by_size() -> None:
    """One percent is 0.01 although it looks like a ratio of one."""
    pages = Pages(open_mapping("dcgm"))
    fragment = pages.one(
        'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1"} 1\nDCGM_FI_DEV_FB_USED{UUID="GPU-1"} 2\n'
        'DCGM_FI_PROF_GR_ENGINE_ACTIVE{UUID="GPU-1"} 1\n'
    )
    assert fragment.fields["gpu_utilization"] == 0.01
    assert fragment.fields["gpu_memory_used"] == 2 * 1024 * 1024
    assert fragment.fields["engine_active"] == 1.0


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [("ms", "s", 0.001), ("KiB", "B", 1024), ("W", "B", None), ("x", "s", None)],
)
def test_factors(given: str, wanted: str, expected: float | None) -> None:
    assert factor(given, wanted) == expected


def test_every_unit_is_one_of_itself() -> None:
    assert {factor(unit, unit) for unit in UNITS} == {1.0}


@pytest.mark.parametrize(
    "value",
    ["NaN", "+Inf", "-Inf", "9223372036854775792", "9223372036854775793", "9223372036854775794",
     "9223372036854775795", "9.223372036854776e+18",
     "2147483632", "2147483635", "140737488355328", "140737488355331.0"],
)  # fmt: skip
def test_a_blank_is_absent_and_no_warning(value: str) -> None:
    """dcgm-exporter prints these for what a GPU does not have; none of them is a temperature, or zero."""
    read = Pages(open_mapping("dcgm")).read(
        f'DCGM_FI_DEV_MEMORY_TEMP{{UUID="GPU-1"}} {value}\nDCGM_FI_DEV_XID_ERRORS{{UUID="GPU-1"}} {value}\n'
        f'DCGM_FI_DEV_ROW_REMAP_FAILURE{{UUID="GPU-1"}} {value}\nDCGM_FI_DEV_GPU_TEMP{{UUID="GPU-1"}} 50\n'
    )
    assert read.fragments[0].fields == {"temperature_celsius": 50.0}
    assert read.warnings == []


def test_what_the_page_does_not_have_is_absent() -> None:
    """ECC is not collected by default: absent, never zero. The total needs all three of its parts."""
    fields = (
        Pages(open_mapping("dcgm"))
        .one('DCGM_FI_DEV_FB_USED{UUID="GPU-1"} 10\nDCGM_FI_DEV_FB_FREE{UUID="GPU-1"} 20\n')
        .fields
    )
    assert fields == {"gpu_memory_used": 10 * 1024**2}


def test_the_total_counts_what_is_reserved() -> None:
    fields = (
        Pages(open_mapping("dcgm"))
        .one(
            'DCGM_FI_DEV_FB_USED{UUID="G"} 10\nDCGM_FI_DEV_FB_FREE{UUID="G"} 20\n'
            'DCGM_FI_DEV_FB_RESERVED{UUID="G"} 3\n'
        )
        .fields
    )
    assert fields["gpu_memory_total"] == 33 * 1024**2


def test_a_value_out_of_bounds_is_left_out_and_named() -> None:
    read = Pages(open_mapping("dcgm")).read(
        'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1"} 4000\nDCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 50\n'
    )
    assert read.fragments[0].fields == {"temperature_celsius": 50.0}
    assert "gpu_utilization out of bounds: 4000" in read.warnings[0]


def test_a_mig_instance_is_named_by_parent_and_instance() -> None:
    page = 'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7"} 50\n'
    fragment = Pages(open_mapping("dcgm")).one(page)
    assert fragment.entity_id == "GPU-1/7"
    assert fragment.labels == {"gpu_index": "0", "mig_profile": "1g.10gb", "cluster": "lab"}
    assert fragment.fields["gpu_index"] == 0


def test_a_gpu_that_changed_its_pod_has_the_labels_of_this_page() -> None:
    pages = Pages(open_mapping("dcgm"))
    assert pages.one('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1",pod="a"} 50\n').labels["pod"] == "a"
    assert pages.one('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1",pod="b"} 50\n').labels["pod"] == "b"
    assert "pod" not in pages.one('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 50\n').labels
    assert pages.one('DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1",pod="a"} 50\n').labels["pod"] == "a"


def test_a_counter_is_a_rate_and_survives_its_reset() -> None:
    rule = MetricRule(metric=["hits_total"], entity="node", field="throughput", kind="counter")
    pages = Pages(mapping(rule, MetricRule(metric=["load"], entity="node", field="load_1m")))
    page = 'load{{host="n"}} 1\nhits_total{{host="n"}} {}\n'
    rates = [pages.one(page.format(value)).fields.get("throughput") for value in (100, 150, 150, 30, 40)]
    assert rates == [None, 5.0, 0.0, 3.0, 1.0]


def test_a_counter_with_a_timestamp_is_rated_by_it() -> None:
    """Twice the same sample is no rate of zero: nothing new was measured."""
    rule = MetricRule(metric=["hits_total"], entity="node", field="throughput", kind="counter")
    pages = Pages(mapping(rule))
    pages.read('hits_total{host="n"} 100 1000000\n')
    assert pages.read('hits_total{host="n"} 100 1000000\n').fragments == []
    assert pages.one('hits_total{host="n"} 160 1020000\n').fields == {"throughput": 3.0}


@pytest.mark.parametrize(("ahead_s", "told"), [(3600, True), (2, False)])
def test_a_timestamp_ahead_of_us_is_worth_the_time_of_reading(ahead_s: int, told: bool) -> None:
    pages = Pages(mapping(MetricRule(["load"], "node", field="load_1m")))
    read = pages.read(f'load{{host="a"}} 1 {(int(AT.timestamp()) + ahead_s) * 1000}\n')
    assert read.fragments[0].observed_at == AT
    assert any("clock is ahead" in warning for warning in read.warnings) is told


def test_the_timestamp_is_the_time_of_observation() -> None:
    rules = [MetricRule(metric=[name], entity="node", field=name) for name in ("load_1m", "load_5m")]
    pages = Pages(mapping(*rules))
    mixed = pages.one('load_1m{host="n"} 1 1700000000000\nload_5m{host="n"} 1 1600000000000\n')
    assert mixed.observed_at == datetime.fromtimestamp(1_600_000_000, UTC), (
        "the oldest, or age is understated"
    )
    assert pages.one('load_1m{host="n"} 1\n').observed_at == AT


def test_series_of_one_field_are_combined() -> None:
    def pages(combine: Any) -> Pages:
        return Pages(mapping(MetricRule(metric=["q"], entity="node", field="x", combine=combine)))

    page = 'q{host="n",i="1"} 1\nq{host="n",i="2"} 5\nq{host="n",i="3"} 3\n'
    for combine, expected in (("sum", 9.0), ("max", 5.0), ("min", 1.0), ("mean", 3.0)):
        assert pages(combine).one(page).fields == {"x": expected}
    count = Pages(mapping(MetricRule(metric=["q"], entity="node", field="cpu_count", kind="count")))
    assert count.one(page).fields == {"cpu_count": 3}


def test_matchers() -> None:
    rule = MetricRule(metric=["q"], entity="node", field="x", match={"a": ["1", "2*"]}, unless={"b": ["no*"]})
    pages = Pages(mapping(rule))
    assert pages.read('q{host="n",a="3"} 1\nq{host="n"} 1\nq{host="n",a="1",b="nope"} 1\n').fragments == []
    assert pages.one('q{host="n",a="22"} 7\n').fields == {"x": 7.0}


def test_words_and_an_unknown_number() -> None:
    pages = Pages(open_mapping("dcgm"))
    page = 'DCGM_FI_DEV_GPU_RECOVERY_ACTION{{UUID="GPU-1"}} {}\n'
    assert pages.one(page.format(2)).fields == {"recovery_action": "node_reboot"}
    read = pages.read(page.format(77))
    assert read.fragments[0].fields == {"recovery_action": "unknown"}
    assert read.drift


BUCKETS = [(0.1, 10.0), (0.5, 90.0), (1.0, 100.0), (float("inf"), 100.0)]


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, BUCKETS, 0.1 + 0.4 * 40 / 80),
        (0.05, BUCKETS, 0.05),
        (0.99, BUCKETS, 0.95),
        (0.99, [(1.0, 1.0), (float("inf"), 100.0)], 1.0),
        (0.5, [(1.0, 0.0), (float("inf"), 0.0)], None),
        (0.5, [(1.0, 5.0)], None),
        (0.5, [], None),
        (0.5, [(float("inf"), 3.0)], None),
    ],
)
def test_quantiles_are_prometheus_own(
    share: float, buckets: list[tuple[float, float]], expected: float | None
) -> None:
    found = quantile(share, buckets)
    assert found == (None if expected is None else pytest.approx(expected))


def vllm(requests: int, slow: int, waiting: int = 3) -> str:
    name = "vllm:e2e_request_latency_seconds_bucket"
    return "".join(
        f'{name}{{engine="{engine}",model_name="m",le="{le}"}} {count}\n'
        for engine in (0, 1)
        for le, count in (("0.5", requests - slow), ("2.0", requests), ("+Inf", requests))
    ) + "".join(
        f'vllm:num_requests_waiting{{engine="{engine}",model_name="m"}} {waiting}\n'
        f'vllm:request_success_total{{engine="{engine}",model_name="m",finished_reason="stop"}} {requests}\n'
        for engine in (0, 1)
    )


def test_vllm_in_milliseconds_over_all_engines() -> None:
    """Latencies of what happened between two scrapes; none where nothing happened, and never zero."""
    pages = Pages(open_mapping("vllm"))
    first = pages.one(vllm(100, 0)).fields
    assert first == {"queue_depth": 6, "up": True, "workload_type": "llm_serving"}
    second = pages.one(vllm(200, 50)).fields
    assert second["latency_p50_ms"] == pytest.approx(500.0)
    assert second["latency_p95_ms"] == pytest.approx(500 + 1500 * 0.9)
    assert second["throughput"] == 20.0
    assert "latency_p95_ms" not in pages.one(vllm(200, 50)).fields


def buckets(fast: int, every: int) -> str:
    name = 'vllm:e2e_request_latency_seconds_bucket{{model_name="m",le="{}"}} {}\n'
    return "".join(
        name.format(bound, count) for bound, count in (("0.1", fast), ("1", every), ("+Inf", every))
    )


def test_a_histogram_that_was_begun_anew_is_so_as_a_whole() -> None:
    """After a restart a bucket that had few may have more than before, while the others fell."""
    pages = Pages(open_mapping("vllm"))
    pages.read(buckets(10, 1000))
    fields = pages.one(buckets(100, 100)).fields  # all 100 since then took less than 0.1 s
    assert fields["latency_p95_ms"] == pytest.approx(95.0)


def test_rates_come_back_after_time_stamps_went_back_or_away() -> None:
    pages = Pages(open_mapping("vllm"))
    line = 'vllm:generation_tokens_total{{model_name="m"}} {} {}\n'
    now_ms = int(AT.timestamp()) * 1000
    stamps = [now_ms, now_ms + 10_000, now_ms - 3_600_000, now_ms - 3_590_000, "", "", now_ms]
    told = [
        pages.one(line.format(100 * number, stamp)).fields.get("generation_tokens_per_second")
        for number, stamp in enumerate(stamps)
    ]
    assert told == [None, 10.0, None, 10.0, None, 10.0, None]


def test_a_bucket_without_a_number_as_bound_disorders_no_others() -> None:
    pages = Pages(open_mapping("vllm"))
    broken = 'vllm:e2e_request_latency_seconds_bucket{{engine="0",model_name="m",le="NaN"}} {}\n'
    pages.read(vllm(100, 0) + broken.format(1))
    read = pages.read(vllm(200, 50) + broken.format(900))
    assert read.warnings == []
    assert read.fragments[0].fields["latency_p50_ms"] == pytest.approx(500.0)


NODE = """node_cpu_seconds_total{{cpu="0",mode="idle"}} {idle}
node_cpu_seconds_total{{cpu="0",mode="user"}} {user}
node_memory_MemTotal_bytes 1000
node_memory_MemAvailable_bytes 250
node_memory_SwapTotal_bytes 0
node_memory_SwapFree_bytes 0
node_filesystem_size_bytes{{device="/dev/a",fstype="ext4",mountpoint="/"}} 100
node_filesystem_avail_bytes{{device="/dev/a",fstype="ext4",mountpoint="/"}} 25
node_filesystem_size_bytes{{device="tmpfs",fstype="tmpfs",mountpoint="/run"}} 100
node_filesystem_avail_bytes{{device="tmpfs",fstype="tmpfs",mountpoint="/run"}} 0
node_boot_time_seconds 1.7e+09
node_uname_info{{nodename="gpu-7",release="6.1",sysname="Linux"}} 1
"""


def test_node_exporter_is_one_node_by_its_own_name() -> None:
    pages = Pages(open_mapping("node-exporter"))
    pages.read(NODE.format(idle=100, user=100))
    fragment = pages.one(NODE.format(idle=107.5, user=102.5))
    assert fragment.entity_id == "gpu-7"
    assert fragment.labels == {"instance": "n1:9100", "cluster": "lab"}
    assert fragment.fields["cpu_utilization"] == pytest.approx(0.25)
    assert fragment.fields["memory_utilization"] == 0.75
    assert fragment.fields["disks"] == {"/": 0.75}
    assert fragment.fields["disk_utilization"] == 0.75
    assert fragment.fields["booted_at"] == datetime.fromtimestamp(1_700_000_000, UTC)
    assert fragment.fields["hostname"] == "gpu-7"
    assert "swap_utilization" not in fragment.fields, "no swap is not empty swap"
    assert not [name for name in fragment.fields if name.startswith("_")]


def test_blocks_kept_for_root_are_not_in_use() -> None:
    pages = Pages(open_mapping("node-exporter"))
    free = 'node_filesystem_free_bytes{device="/dev/a",fstype="ext4",mountpoint="/"} 30\n'
    pages.read(NODE.format(idle=100, user=100))
    assert pages.one(NODE.format(idle=105, user=105) + free).fields["disks"] == {"/": pytest.approx(70 / 95)}


NETWORK = """\
node_network_receive_errs_total{{device="eth0"}} {in_errors}
node_network_transmit_errs_total{{device="eth0"}} {out_errors}
node_network_receive_drop_total{{device="eth0"}} {in_drops}
node_network_transmit_drop_total{{device="eth0"}} {out_drops}
node_network_receive_packets_total{{device="eth0"}} {packets}
node_network_transmit_packets_total{{device="eth0"}} {packets}
node_network_receive_errs_total{{device="lo"}} {packets}
"""


@pytest.mark.parametrize("where", ["in_errors", "out_errors", "in_drops", "out_drops"])
def test_each_way_to_lose_a_packet_counts_and_packets_of_both_ways(where: str) -> None:
    pages = Pages(open_mapping("node-exporter"))
    none = dict.fromkeys(("in_errors", "out_errors", "in_drops", "out_drops", "packets"), 0)
    pages.read(NETWORK.format(**none))
    fields = pages.one(NETWORK.format(**{**none, "packets": 1000, where: 80})).fields
    assert fields["network_error_rate"] == pytest.approx(0.04)


def test_without_its_name_a_node_is_the_endpoint() -> None:
    assert Pages(open_mapping("node-exporter")).one("node_load1 1\n").entity_id == "n1:9100"


def test_two_mappings_on_one_page() -> None:
    read = Pages(open_mapping("node-exporter"), open_mapping("dcgm")).read(
        'node_load1 1\nDCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 50\n'
    )
    assert {f.source_type for f in read.fragments} == {"node-exporter", "dcgm"}


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (MetricRule(metric=["m"], entity="nobody", field="load_1m"), "no entity 'nobody'"),
        (MetricRule(metric=["m"], entity="node", field="load_1m", unit="s"), "does not convert"),
        (MetricRule(metric=["m"], entity="node", field="memory_total", unit="Cel"), "does not convert"),
        (MetricRule(metric=["m"], entity="node", field="x", unit="furlong"), "does not convert"),
        (MetricRule(metric=["m"], entity="node"), "fills no field"),
        (
            MetricRule(metric=["m"], entity="node", field="load_1m", unit="B", kind="counter"),
            "does not convert",
        ),
        (
            MetricRule(metric=["m"], entity="node", kind="histogram", quantiles={"load_1m": 2}),
            "between 0 and 1",
        ),
    ],
)
def test_a_table_that_can_not_be_right_is_refused(rule: MetricRule, says: str) -> None:
    with pytest.raises(MappingInvalid, match=says):
        mapping(rule)


def test_a_mapping_file_with_a_mistake_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nentities:\n  n: {type: node, id: ['{h}']}\nmetrics:\n  - {metric: [m], entty: n}\n"
    )
    with pytest.raises(ConfigInvalid) as refused:
        open_mapping(str(file))
    assert "mine.yaml:5" in str(refused.value)
    assert "entity" in str(refused.value)


def test_an_unknown_mapping_names_the_shipped_ones() -> None:
    with pytest.raises(MappingInvalid, match=r"dcgm, .*node-exporter, .*vllm"):
        open_mapping("dgcm")


def test_a_metric_that_was_renamed_is_drift() -> None:
    """The field grows old; without this nobody would say why."""
    pages = Pages(open_mapping("dcgm"))
    page = 'DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 50\nDCGM_FI_DEV_POWER_USAGE{UUID="GPU-1"} 100\n'
    assert pages.read(page).drift == []
    renamed = page.replace("POWER_USAGE", "POWER_DRAWN")
    for _ in range(2):
        assert pages.read(renamed).drift == [
            "DCGM_FI_DEV_POWER_USAGE was on this page before and no longer is"
        ]
    assert pages.read(page).drift == []


def test_a_count_of_what_happened_lately_that_left_is_no_drift() -> None:
    pages = Pages(open_mapping("dcgm"))
    page = 'DCGM_FI_DEV_GPU_TEMP{UUID="GPU-1"} 50\n'
    lately = 'DCGM_EXP_XID_ERRORS_COUNT{UUID="GPU-1",xid="31"} 1\n'
    lately += 'DCGM_EXP_CLOCK_EVENTS_COUNT{UUID="GPU-1",clock_event="sw_thermal"} 1\n'
    assert pages.read(page + lately).drift == []
    assert pages.read(page).drift == []


ENERGY = """\
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{UUID="GPU-1"}} {millijoules}
DCGM_FI_DEV_THERMAL_VIOLATION{{UUID="GPU-1"}} {nanoseconds}
"""


def collected(number: int, held_share: float = 0.0) -> str:
    """The page of the n-th collection, 30 s apart, of a GPU that draws 700 W."""
    held_ns = round(number * 30e9 * held_share)
    return ENERGY.format(millijoules=10**12 + number * 30 * 700_000, nanoseconds=held_ns)


def test_rates_of_an_exporter_that_collects_more_seldom_than_it_is_asked() -> None:
    """Three looks at each collection: not two rates of zero and one that is three times too high."""
    pages = Pages(open_mapping("dcgm"))
    told = [pages.one(collected(look // 3, 0.2)).fields for look in range(9)]
    assert all("power_average_watts" not in fields for fields in told[:3]), "one collection is no rate"
    assert [fields["power_average_watts"] for fields in told[3:]] == [pytest.approx(700.0)] * 6
    assert [fields["thermal_throttled"] for fields in told[3:]] == [pytest.approx(0.2)] * 6


def test_a_share_that_was_seen_in_too_short_a_time_is_all_of_it() -> None:
    pages = Pages(open_mapping("dcgm"))
    pages.read(collected(0, 0.5))
    read = pages.read(collected(1, 0.5))  # 15 s, seen within 10 s
    assert read.warnings == []
    assert read.fragments[0].fields["thermal_throttled"] == 1.0
    far = pages.read(collected(4, 0.5))  # 45 s within 10 s is no matter of when it was looked
    assert "thermal_throttled" not in far.fragments[0].fields
    assert far.warnings != []


def test_numbers_that_stand_still_for_long_are_not_a_rate_for_ever() -> None:
    pages = Pages(open_mapping("dcgm"))
    pages.read(collected(0))
    assert pages.one(collected(1)).fields["power_average_watts"] == pytest.approx(2100.0)
    still = [pages.one(collected(1)).fields["power_average_watts"] for _ in range(10)]
    assert still == [pytest.approx(2100.0)] * 9 + [0.0]


def test_labels_longer_than_anything_takes_cost_their_entity_alone() -> None:
    pages = Pages(open_mapping("dcgm"))
    read = pages.read(
        f'DCGM_FI_DEV_GPU_TEMP{{UUID="GPU-1",pod="{"x" * 60_000}"}} 50\n'
        'DCGM_FI_DEV_GPU_TEMP{UUID="GPU-2"} 50\n'
        f'DCGM_FI_DEV_GPU_TEMP{{UUID="GPU-3",modelName="{"x" * 60_000}"}} 50\n'
        f'DCGM_FI_DEV_GPU_TEMP{{UUID="{"y" * 600}"}} 50\n'
    )
    assert [fragment.entity_id for fragment in read.fragments] == ["GPU-2", "GPU-3"]
    assert "model_name" not in read.fragments[1].fields
    assert len(read.warnings) == 2
