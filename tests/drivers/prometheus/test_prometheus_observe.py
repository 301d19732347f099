"""The prometheus driver on the API in a box: ages, labels, partial failures, what an answer may look like."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.exposition.fake import dcgm_page
from steersman.drivers.exposition.mapping import EntityRule, Mapping, MetricRule, open_mapping
from steersman.drivers.prometheus import PrometheusDriver, PrometheusOptions
from steersman.drivers.prometheus.ask import QUERIES_AT_ONCE
from steersman.drivers.prometheus.fake import FakePrometheus, failure
from steersman.drivers.web.fake import Response
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import ByteSize
from steersman.kernel.secret import Secret
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment

DCGM = open_mapping("dcgm")
NODE_EXPORTER = open_mapping("node-exporter")
VLLM = open_mapping("vllm")
CLOCK = SystemClock()
NODE_PAGE = (
    'node_uname_info{nodename="n1",release="6.1"} 1\nnode_load1 1.5\nnode_memory_MemTotal_bytes 1000\n'
    'node_memory_MemAvailable_bytes 250\nnode_cpu_seconds_total{cpu="0",mode="idle"} %d\n'
    'node_cpu_seconds_total{cpu="0",mode="user"} %d\n'
)
TARGET = {"job": "node", "instance": "10.0.0.1:9100"}


@asynccontextmanager
async def driving(
    fake: FakePrometheus, timeout_s: float = 5.0, interval_s: float = 15.0, **options: Any
) -> AsyncIterator[PrometheusDriver]:
    await fake.start()
    context = DriverContext("metrics", "lab", CLOCK, seeded_rng(1), interval_s, timeout_s)
    driver = PrometheusDriver(
        PrometheusOptions(url=fake.url, **{"mapping": NODE_EXPORTER, **options}), context
    )
    try:
        yield driver
    finally:
        await driver.close()
        await fake.stop()


async def look(fake: FakePrometheus, **options: Any) -> Observation:
    async with driving(fake, **options) as driver:
        return await driver.observe()


def age_s(fragment: StateFragment) -> float:
    return (CLOCK.now() - fragment.observed_at).total_seconds()


def a_node() -> FakePrometheus:
    fake = FakePrometheus()
    for age, ticks in ((60, 0), (40, 10), (20, 20)):
        fake.scrape(NODE_PAGE % (ticks, ticks), TARGET, age_s=age)
    return fake


async def test_the_age_is_that_of_the_sample_and_not_of_the_evaluation() -> None:
    seen = await look(a_node())
    (node,) = seen.fragments
    assert 20 <= age_s(node) < 30
    assert node.entity_id == "n1"
    assert node.fields["cpu_utilization"] == pytest.approx(0.5, abs=0.01)
    assert node.fields["memory_utilization"] == pytest.approx(0.75)
    assert seen.warnings == []


async def test_what_is_old_is_told_with_its_age_and_a_line() -> None:
    fake = FakePrometheus()
    fake.scrape("node_load1 3\n", TARGET, age_s=250)
    seen = await look(fake)
    (node,) = seen.fragments
    assert age_s(node) >= 250
    assert "last sampled more than 2m ago" in " ".join(seen.warnings)


async def test_an_entity_is_as_old_as_the_oldest_of_its_newest_samples() -> None:
    fake = FakePrometheus()
    fake.scrape("node_load1 3\n", TARGET, age_s=1)
    fake.put("node_load5", TARGET, 2, age_s=100)
    (node,) = (await look(fake)).fragments
    assert node.fields == {"load_1m": 3.0, "load_5m": 2.0}
    assert age_s(node) >= 100


async def test_no_number_and_infinities_are_absent() -> None:
    fake = FakePrometheus()
    fake.scrape("node_load1 NaN\nnode_load5 +Inf\nnode_load15 -Inf\nnode_memory_MemTotal_bytes 7\n", TARGET)
    (node,) = (await look(fake)).fragments
    assert node.fields == {"memory_total": 7}


async def test_a_histogram_without_traffic_has_no_latency() -> None:
    fake = FakePrometheus()
    target = {"job": "vllm", "instance": "a:8000"}
    name = "vllm:e2e_request_latency_seconds"
    for age, count in ((40, 5), (10, 5)):
        page = "".join(f'{name}_bucket{{model_name="m",le="{le}"}} {count}\n' for le in ("1", "+Inf"))
        page += f'{name}_count{{model_name="m"}} {count}\nvllm:num_requests_waiting{{model_name="m"}} 4\n'
        fake.scrape(page, target, age_s=age)
    (service,) = (await look(fake, mapping=VLLM)).fragments
    assert service.fields["queue_depth"] == 4
    assert "latency_p95_ms" not in service.fields
    for count in (9,):
        page = "".join(f'{name}_bucket{{model_name="m",le="{le}"}} {count}\n' for le in ("1", "+Inf"))
        fake.scrape(page + f'{name}_count{{model_name="m"}} {count}\n', target)
    (service,) = (await look(fake, mapping=VLLM)).fragments
    assert 0 < service.fields["latency_p95_ms"] <= 1000


async def test_engines_behind_several_targets_are_added_up() -> None:
    fake = FakePrometheus()
    for instance in ("a:8000", "b:8000"):
        fake.scrape('vllm:num_requests_waiting{model_name="m"} 4\n', {"job": "vllm", "instance": instance})
    seen = await look(fake, mapping=VLLM)
    assert sum(fragment.fields["queue_depth"] for fragment in seen.fragments) in (4, 8)


async def test_a_target_that_is_down_is_a_warning_and_no_zero() -> None:
    fake = a_node()
    other = {"job": "node", "instance": "10.0.0.2:9100"}
    fake.scrape(NODE_PAGE.replace("n1", "n2") % (1, 1), other)
    async with driving(fake) as driver:
        assert len((await driver.observe()).fragments) == 2
        fake.lose(instance="10.0.0.2:9100")
        seen = await driver.observe()
        assert [node.entity_id for node in seen.fragments] == ["n1"]
        assert not seen.complete
        assert "1 of 2 targets of scrape job 'node' are down: 10.0.0.2:9100" in seen.warnings[0]
        assert seen.gone == []


async def test_a_scrape_job_without_any_target_left_is_told() -> None:
    fake = a_node()
    async with driving(fake) as driver:
        assert (await driver.observe()).complete
        fake.drop("up")
        fake.put("up", {"job": "else", "instance": "x:1"}, 1)
        seen = await driver.observe()
        assert not seen.complete
        assert "no target of scrape job 'node' is there any more" in seen.warnings[0]


async def test_queries_go_beside_each_other_and_never_too_many() -> None:
    fake = a_node()
    fake.delay_s = 0.02
    seen = await look(fake, mapping=DCGM)
    assert 1 < fake.most_at_once <= QUERIES_AT_ONCE
    assert not seen.fragments


async def test_targets_of_other_scrape_jobs_are_no_matter_of_ours() -> None:
    fake = a_node()
    fake.put("up", {"job": "else", "instance": "x:1"}, 0)
    assert (await look(fake)).complete


async def test_an_empty_answer_is_a_warning_and_not_the_picture_of_nothing() -> None:
    seen = await look(FakePrometheus())
    assert (seen.fragments, seen.complete) == ([], False)
    assert "no series of the mappings" in seen.warnings[0]


GPU_TARGET = {
    "job": "dcgm",
    "instance": "10.0.0.1:9400",
    "pod": "dcgm-x",
    "namespace": "mon",
    "container": "exp",
}


@pytest.mark.parametrize("honor", [False, True])
async def test_the_workload_of_a_gpu_is_never_the_exporters_own_pod(honor: bool) -> None:
    fake = FakePrometheus()
    page = dcgm_page(seeded_rng(1), gpus=1, pod="train-1")
    fake.scrape(page, GPU_TARGET, honor=honor)
    idle = page.replace("GPU-gpu-0001-0", "GPU-idle").replace(
        ',container="c",namespace="ns",pod="train-1"', ""
    )
    fake.scrape(idle, GPU_TARGET, honor=honor)
    seen = await look(fake, mapping=DCGM)
    by_id = {gpu.entity_id: gpu.labels for gpu in seen.fragments}
    assert by_id["GPU-gpu-0001-0"]["pod"] == "train-1"
    assert by_id["GPU-gpu-0001-0"]["namespace"] == "ns"
    assert not {"pod", "namespace", "container"} & by_id["GPU-idle"].keys()


async def test_without_up_a_pod_is_only_believed_where_it_is_exported() -> None:
    fake = FakePrometheus()
    fake.scrape(dcgm_page(seeded_rng(1), gpus=1, pod="train-1"), {"instance": "i"})
    fake.drop("up")
    fake.odd = lambda text: failure(422, "execution", "no up here") if '"up"' in text else None
    (gpu,) = (await look(fake, mapping=DCGM)).fragments
    assert "pod" not in gpu.labels


async def test_a_gpu_that_moves_to_another_pod_is_one_entity() -> None:
    fake = FakePrometheus()
    async with driving(fake, mapping=DCGM) as driver:
        fake.scrape(dcgm_page(seeded_rng(1), gpus=1, pod="old"), GPU_TARGET, age_s=10)
        (before,) = (await driver.observe()).fragments
        fake.lose(exported_pod="old")
        fake.scrape(dcgm_page(seeded_rng(1), gpus=1, pod="new"), GPU_TARGET)
        (after,) = (await driver.observe()).fragments
        assert (before.key, before.labels["pod"], after.labels["pod"]) == (after.key, "old", "new")


async def test_an_instance_that_gets_another_name_is_told_under_it() -> None:
    fake = FakePrometheus()
    async with driving(fake) as driver:
        fake.scrape(NODE_PAGE % (0, 0), TARGET)
        assert [node.entity_id for node in (await driver.observe()).fragments] == ["n1"]
        fake.lose(__name__="node_uname_info")
        fake.scrape(NODE_PAGE.replace("n1", "n9") % (0, 0), TARGET)
        assert [node.entity_id for node in (await driver.observe()).fragments] == ["n9"]


async def test_two_names_for_one_instance_are_told_and_neither_is_guessed() -> None:
    fake = FakePrometheus()
    fake.scrape(NODE_PAGE % (0, 0), TARGET)
    fake.put("node_uname_info", {**TARGET, "nodename": "n2"}, 1)
    seen = await look(fake)
    assert {node.entity_id for node in seen.fragments} == {"10.0.0.1:9100"}
    assert "{@nodename} has several values on 10.0.0.1:9100" in " ".join(seen.warnings)


async def test_without_the_names_nobody_gets_a_second_one() -> None:
    """The query for node names fails: nodes are not told by host and port, which would be other entities."""
    fake = a_node()
    fake.odd = lambda text: failure(503, "timeout", "query timed out") if _names(text) else None
    seen = await look(fake)
    assert seen.fragments == []
    assert "status 503 (timeout): query timed out" in " ".join(seen.warnings)


async def test_names_that_are_known_are_kept_while_their_query_fails() -> None:
    fake = a_node()
    async with driving(fake) as driver:
        await driver.observe()
        fake.odd = lambda text: failure(503, "timeout", "query timed out") if _names(text) else None
        seen = await driver.observe()
        assert [node.entity_id for node in seen.fragments] == ["n1"]
        assert not seen.complete


def _names(text: str) -> bool:
    return text.startswith("max by (instance, exported_nodename")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (failure(400, "bad_data", "parse error"), "status 400 (bad_data): parse error"),
        (failure(422, "execution", "too many samples"), "status 422 (execution): too many samples"),
        (failure(503, "timeout", "timed out"), "status 503 (timeout): timed out"),
        (failure(200, "execution", "half", {"resultType": "vector", "result": []}), "(execution): half"),
        (Response(b"<html>bad gateway</html>", 502), "status 502; expected 200"),
        (Response(b"<html>hello</html>", 200), "no answer of the Prometheus API"),
        (Response(b'{"status":"success"}', 200), "has no data"),
        (Response(b'{"status":"success","data":{"resultType":"matrix","result":[]}}'), "and 'matrix' came"),
        (
            Response(b'{"status":"success","data":{"resultType":"string","result":[1,"x"]}}'),
            "and 'string' came",
        ),
        (Response(b'{"status":"success","data":{"resultType":"vector","result":[1]}}'), "can't be read"),
        (Response(b"[" * 100_000, 200), "no answer of the Prometheus API"),
        (Response(b"x" * 2_000_000, 200), "max_bytes"),
    ],
)
async def test_one_failing_query_costs_its_own_fields_alone(answer: Response, said: str) -> None:
    fake = a_node()
    fake.odd = lambda text: answer if "node_load1" in text and "timestamp" not in text else None
    seen = await look(fake, max_bytes=ByteSize(1 << 20))
    (node,) = seen.fragments
    assert "load_1m" not in node.fields
    assert node.fields["cpu_utilization"] == pytest.approx(0.5, abs=0.01)
    assert not seen.complete
    assert said in " ".join(seen.warnings)


async def test_when_all_queries_fail_the_source_is_down() -> None:
    fake = a_node()
    fake.odd = lambda text: failure(422, "execution", "no") if text != "time()" else None
    async with driving(fake) as driver:
        with pytest.raises(SourceError, match="status 422"):
            await driver.observe()


async def test_refused_credentials_are_said_and_never_shown() -> None:
    fake = a_node()
    fake.authorization = "Bearer other"
    async with driving(fake, token=Secret("hunter2")) as driver:
        with pytest.raises(SourceError) as refused:
            await driver.observe()
    assert "status 401" in refused.value.detail
    assert "hunter2" not in refused.value.detail


async def test_warnings_infos_and_a_cut_answer_mean_that_something_may_be_missing() -> None:
    for change in ({"warnings": ["w1"]}, {"infos": ["i1"]}):
        fake = a_node()
        for name, value in change.items():
            setattr(fake, name, value)
        seen = await look(fake)
        assert seen.fragments
        assert not seen.complete
        assert next(iter(change.values()))[0] in " ".join(seen.warnings)
    fake = FakePrometheus()
    for n in range(20):
        fake.scrape(NODE_PAGE.replace("n1", f"n{n}") % (1, 1), {"job": "node", "instance": f"{n}:9100"})
    fake.limit = 5
    seen = await look(fake)
    assert not seen.complete
    assert "truncated" in " ".join(seen.warnings)


async def test_native_histograms_strange_numbers_and_twins_are_told_and_cost_only_themselves() -> None:
    result: list[dict[str, Any]] = [
        {"metric": {"__name__": "node_load1", "instance": "10.0.0.1:9100"}, "value": [1, "2"]},
        {"metric": {"__name__": "node_load1", "instance": "10.0.0.1:9100"}, "value": [1, "9"]},
        {"metric": {"__name__": "node_load5", "instance": "10.0.0.1:9100"}, "histogram": [1, {"count": "1"}]},
        {"metric": {"__name__": "node_load15", "instance": "10.0.0.1:9100"}, "value": [1, "two"]},
        {"metric": {"__name__": "node_load15", "instance": 4}, "value": [1, "2"]},
    ]
    body = msgspec.json.encode({"status": "success", "data": {"resultType": "vector", "result": result}})
    fake = a_node()
    fake.odd = lambda text: Response(body) if "node_load1" in text and "timestamp" not in text else None
    seen = await look(fake)
    (node,) = seen.fragments
    assert node.fields["load_1m"] == 2
    assert not {"load_5m", "load_15m"} & node.fields.keys()
    assert "native histogram" in " ".join(seen.drift)
    assert "no number" in " ".join(seen.warnings)
    assert "twice" in " ".join(seen.warnings)
    assert "labels of a series can't be read" in " ".join(seen.warnings)


async def test_slow_queries_end_within_the_time_out() -> None:
    fake = a_node()
    fake.delay_s = 30.0
    async with driving(fake, timeout_s=0.5) as driver:
        began_s = CLOCK.monotonic()
        with pytest.raises(SourceError, match="no whole answer"):
            await driver.observe()
        assert CLOCK.monotonic() - began_s < 5


@pytest.mark.parametrize("shift_s", [-3600.0, 3600.0])
async def test_ages_are_by_the_clock_of_the_server(shift_s: float) -> None:
    fake = FakePrometheus()
    fake.shift_s = shift_s
    fake.scrape("node_load1 3\n", TARGET, age_s=100)
    async with driving(fake) as driver:
        seen = await driver.observe()
        assert "its clock is 1h" in seen.warnings[0]
        assert 100 <= age_s(seen.fragments[0]) < 110
        again = await driver.observe()
        assert again.fragments[0].observed_at == seen.fragments[0].observed_at
        fake.shift_s = 0.0
        fake.scrape("node_load1 3\n", TARGET)
        (right,) = (await driver.observe()).fragments
        assert age_s(right) < 10


async def test_queries_are_posted_and_a_proxy_that_wants_get_gets_it() -> None:
    fake = a_node()
    await look(fake)
    assert {request.method for request in fake.web.requests} == {"POST"}
    fake = a_node()
    fake.get_only = True
    assert len((await look(fake)).fragments) == 1


async def test_the_tenant_goes_with_any_credential() -> None:
    for options in ({}, {"token": Secret("t")}, {"username": "u", "password": Secret("p")}):
        fake = a_node()
        fake.tenant = "team-a"
        assert len((await look(fake, tenant="team-a", **options)).fragments) == 1


async def test_a_base_with_a_path_and_a_query_is_kept() -> None:
    """As VictoriaMetrics and some gateways have them; what the query holds is shown nowhere."""
    fake = a_node()
    async with driving(fake) as driver:
        await driver.observe()
        context = DriverContext("metrics", "lab", CLOCK, seeded_rng(1), 15.0, 5.0)
        url = f"{fake.url}/select/0?extra_label=secret"
        other = PrometheusDriver(PrometheusOptions(url=url, mapping=NODE_EXPORTER), context)
        try:
            with pytest.raises(SourceError, match="status 404") as refused:
                await other.observe()
        finally:
            await other.close()
        assert fake.web.requests[-1].path == "/select/0/api/v1/query?extra_label=secret"
        assert "secret" not in refused.value.detail


async def test_only_series_that_match_are_asked_for() -> None:
    fake = FakePrometheus()
    for cluster in ("a", "b"):
        fake.scrape(NODE_PAGE.replace("n1", f"n-{cluster}") % (1, 1), {**TARGET, "cluster": cluster})
    seen = await look(fake, match={"cluster": ["b*"]})
    assert [node.entity_id for node in seen.fragments] == ["n-b"]


async def test_large_answers_are_read_beside_the_loop() -> None:
    fake = FakePrometheus()
    for n in range(800):
        target = {"job": "node", "instance": f"10.0.0.{n}:9100"}
        fake.scrape(f'node_uname_info{{nodename="n{n}"}} 1\nnode_load1 {n}\n', target)
    async with driving(fake, timeout_s=60.0) as driver:
        for _ in range(2):
            seen = await driver.observe()
            assert {node.entity_id: node.fields["load_1m"] for node in seen.fragments} == {
                f"n{n}": float(n) for n in range(800)
            }
        assert seen.complete


async def test_series_that_left_are_forgotten() -> None:
    fake = FakePrometheus()
    async with driving(fake, timeout_s=60.0) as driver:
        for turn in range(4):
            for n in range(600):
                fake.scrape("node_load1 1\n", {"job": "node", "instance": f"{turn}-{n}:9100"})
            seen = await driver.observe()
            assert len(seen.fragments) == 600
            for n in range(600):
                fake.lose(instance=f"{turn}-{n}:9100")
        board = driver._board
        assert sum(len(known) for known in board._known) < 3_000
        assert len(board._keys) < 3_000
        assert len(board._shared) < 3_000


OWN = Mapping(
    name="own",
    entities={"fleet": EntityRule(EntityType.DEPLOYMENT, ["fleet"])},
    metrics=[MetricRule(["m"], "fleet", "replica_count", query='max by () ({__name__="m"})', stamp="time()")],
)


async def test_a_table_may_ask_in_its_own_words() -> None:
    fake = FakePrometheus()
    fake.put("m", {}, 5)
    (fragment,) = (await look(fake, mapping=OWN)).fragments
    assert (fragment.entity_id, fragment.fields) == ("fleet", {"replica_count": 5})
    assert CLOCK.now() - fragment.observed_at < timedelta(seconds=5)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://h:1/x#y"},
        {"tenant": "a", "follow_redirects": True},
        {"tenant": "a", "header": "x-scope-orgid", "header_value": Secret("b")},
        {"match": {"a": []}},
        {"mapping": None},
    ],
)
def test_options_that_contradict_themselves_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"url|tenant|match|mapping"):
        PrometheusOptions(**{"url": "http://h:1", "mapping": NODE_EXPORTER, **options})
