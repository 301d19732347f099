"""What an exporter's page tells of another unit or a label that is gone: told, once, and never put right."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.exposition.mapping import Mapping, open_mapping
from steersman.drivers.exposition.plan import Plan
from steersman.drivers.exposition.rules import rules_of
from steersman.drivers.exposition.series import SeriesCache
from steersman.drivers.exposition.shape import LOOK_PAGES, PageShape, factor_off, stem_of, told_unit

AT = datetime(2026, 1, 1, tzinfo=UTC)
GPU = '{gpu="0",UUID="GPU-1",device="nvidia0",Hostname="n1"}'


class Pages:
    """The drift of one endpoint's pages, as its reader sees them."""

    def __init__(self, *mappings: Mapping) -> None:
        self._plan = Plan(mappings, "source", {})
        self._cache = SeriesCache(self._plan.want, self._plan.forget)
        self._shape = PageShape(rules_of(mappings).known, self._plan.unnamed)
        self._at_s = 0.0
        self.entities = 0

    def drift(self, text: str) -> list[str]:
        self._at_s += 10
        read = self._plan.build(self._cache.read(text), AT, self._at_s, {"@instance": "n1:9"})
        self.entities = len(read.fragments)
        return [*read.drift, *self._shape.signs(text, read.drift)]


def dcgm() -> Pages:
    return Pages(open_mapping("dcgm"))


def page(metric: str, said: str, value: float = 5, labels: str = GPU) -> str:
    return f"# HELP {metric} {said}\n# TYPE {metric} gauge\n{metric}{labels} {value}\n"


def test_a_declared_unit_that_is_another_is_told_with_what_to_do() -> None:
    pages = dcgm()
    text = page("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in bytes).")
    (line,) = pages.drift(text)
    assert line.startswith(
        "DCGM_FI_DEV_FB_USED: its # HELP says B, and the mapping reads MiB; nothing is conv"
    )
    assert "set `unit`" in line
    assert pages.drift(text) == [line], "the same line, so that it is counted and not listed again"


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB)."),
        ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MB)."),
        ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used."),
        ("DCGM_FI_DEV_FB_USED", "Memory used, as seen in seconds of waiting."),
        ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)."),
        ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in pct)."),
        ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "Ratio of cycles the tensor pipe is active (in %)."),
        ("DCGM_FI_DEV_POWER_VIOLATION", "Throttling duration due to power constraints (in us)."),
        ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W)."),
        ("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz)."),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ)."),
    ],
)
def test_what_exporters_really_say_is_no_drift(metric: str, said: str) -> None:
    """DCGM's counters of violations are nanoseconds, whatever its HELP says."""
    assert dcgm().drift(page(metric, said, value=1)) == []


def test_a_unit_line_is_believed_whatever_the_dimension() -> None:
    pages = Pages(open_mapping("node-exporter"))
    text = "# UNIT node_memory_MemTotal_bytes {}\nnode_memory_MemTotal_bytes 5\n"
    assert pages.drift(text.format("bytes")) == []
    (line,) = Pages(open_mapping("node-exporter")).drift(text.format("seconds"))
    assert "its # UNIT says s, and the mapping reads B" in line


def test_a_metric_that_is_there_in_another_unit_alone_is_told() -> None:
    vllm = 'vllm:e2e_request_latency_{}_bucket{{model_name="m",le="+Inf"}} 4\n'
    (line,) = Pages(open_mapping("vllm")).drift(vllm.format("milliseconds"))
    assert line.startswith(
        "vllm:e2e_request_latency_milliseconds is on this page and vllm:e2e_request_latency_s"
    )
    both = vllm.format("milliseconds") + vllm.format("seconds")
    assert Pages(open_mapping("vllm")).drift(both) == []
    node = Pages(open_mapping("node-exporter"))
    (line,) = node.drift("node_load1 1\nnode_memory_MemTotal_mebibytes 5\n")
    assert "node_memory_MemTotal_bytes is not" in line


def test_a_page_is_looked_at_again_when_it_changes_and_now_and_then() -> None:
    pages = dcgm()
    well = page("DCGM_FI_DEV_FB_USED", "memory (in MiB)")
    odd = page("DCGM_FI_DEV_FB_USED", "memory (in bytes)")
    assert pages.drift(well) == []
    assert [bool(pages.drift(odd)) for _ in range(LOOK_PAGES)] == [False] * (LOOK_PAGES - 1) + [True]
    pages = dcgm()
    pages.drift(well + page("DCGM_FI_DEV_GPU_UTIL", "util (in %)"))
    lost, unit = pages.drift(odd)
    assert lost == "DCGM_FI_DEV_GPU_UTIL was on this page before and no longer is"
    assert "its # HELP says B" in unit


def test_a_value_out_of_bounds_by_a_unit_is_told_and_not_corrected() -> None:
    pages = Pages(open_mapping("vllm"))
    (line,) = pages.drift('vllm:kv_cache_usage_perc{model_name="m"} 55\n')
    assert line.startswith(
        "vllm:kv_cache_usage_perc: kv_cache_utilization is out of bounds as if its unit were"
    )
    assert "(by about 100)" in line
    assert pages.drift('vllm:kv_cache_usage_perc{model_name="m"} 71\n') == [line], (
        "one line for all its values"
    )
    assert pages.drift('vllm:kv_cache_usage_perc{model_name="m"} 1.01\n') == [], "a little over is no unit"
    assert pages.drift('vllm:kv_cache_usage_perc{model_name="m"} -3\n') == []


def test_a_label_by_which_an_entity_is_named_is_missed() -> None:
    pages = Pages(open_mapping("vllm"))
    (line,) = pages.drift("vllm:num_requests_waiting 3\n")
    assert line.startswith(
        "vllm:num_requests_waiting: its series have no label model_name, by which a service is"
    )
    assert "look for relabelling" in line
    assert pages.entities == 0
    assert pages.drift("vllm:num_requests_waiting 3\n") == [line]
    assert pages.drift('vllm:num_requests_waiting{model_name="m"} 3\n') == []


def test_a_label_that_series_used_to_have_is_missed_instead_of_the_metric() -> None:
    pages = Pages(open_mapping("vllm"))
    text = 'vllm:num_requests_running{model_name="m"} 1\nvllm:num_requests_waiting'
    assert pages.drift(text + '{model_name="m"} 3\n') == []
    (line,) = pages.drift(text + '{model="m"} 3\n')
    assert "have no label model_name" in line


BARE = '{gpu="0",device="nvidia0"}'


def test_a_series_beside_those_with_a_name_is_no_drift() -> None:
    """An exporter may tell of its other devices under the same metric."""
    assert dcgm().drift(f"DCGM_FI_DEV_GPU_TEMP{GPU} 50\nDCGM_FI_DEV_GPU_TEMP{BARE} 51\n") == []


def test_a_metric_that_went_is_no_longer_missed_for_its_label() -> None:
    pages = dcgm()
    clock = f"DCGM_FI_DEV_SM_CLOCK{GPU} 1000\n"
    (line,) = pages.drift(clock + f"DCGM_FI_DEV_GPU_TEMP{BARE} 50\n")
    assert line.startswith(
        "DCGM_FI_DEV_GPU_TEMP: its series have no label UUID or uuid, by which a gpu is named"
    )
    assert pages.drift(clock + f"DCGM_FI_DEV_GPU_TEMP{BARE} 51\n") == [line]
    for _ in range(LOOK_PAGES):
        pages.drift(clock)
    assert pages.drift(clock) == []


def test_units_in_words() -> None:
    assert told_unit("Latency in milliseconds.") == ("ms",)
    assert told_unit("Time in microseconds (does not include cached requests)") == ("us",)
    assert told_unit("Bytes in seconds, in bytes") == (), "two units are none"
    assert told_unit("in s") == (), "a letter is only believed in brackets"
    assert told_unit("Wait (in s)") == ("s",)
    assert told_unit("requests in flight") == ()
    assert stem_of("a_seconds_total") == ("a_{}_total", "seconds")
    assert stem_of("seconds") == ("", "")
    assert factor_off(55.0, 0.0, 1.0) == 100.0
    assert factor_off(2e9, 0.0, 200.0) == 1e9


@given(st.text(max_size=300))
def test_any_page_is_looked_at_without_a_fault(text: str) -> None:
    known = rules_of([open_mapping("dcgm"), open_mapping("vllm")])
    plan = Plan(known.mappings, "s", {})
    assert PageShape(known.known, plan.unnamed).signs(f"# HELP DCGM_FI_DEV_FB_USED {text}\n{text}\n", []) in (
        [],
        PageShape(known.known, plan.unnamed).signs(f"# HELP DCGM_FI_DEV_FB_USED {text}\n{text}\n", []),
    )
