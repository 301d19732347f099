"""The tables of model servers through a Prometheus say what they say of a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.prometheus.fake import FakePrometheus
from steersman.drivers.prometheus.observe import PrometheusDriver
from steersman.drivers.prometheus.options import PrometheusOptions
from steersman.drivers.serving.fake import MODEL, PAGES, Load, sglang_page, tgi_page
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.entity import EntityType

TABLES = {name: open_mapping(name) for name in PAGES}
SERVICES = {"ray-serve": "chat/Model", "knative": "prod/chat", "kserve": MODEL, "tgi": "a:8000"}


async def look(flavor: str, *pages: str) -> dict[str, dict[str, Any]]:
    """The services after some scrapes, twenty seconds apart, as exactly as a busy machine puts them there."""
    fake = FakePrometheus()
    for number, page in enumerate(pages):
        fake.scrape(page, {"job": flavor, "instance": "a:8000"}, age_s=20.0 * (len(pages) - number - 1))
    await fake.start()
    context = DriverContext("metrics", "lab", SystemClock(), seeded_rng(1), 15.0, 5.0)
    driver = PrometheusDriver(PrometheusOptions(url=fake.url, mapping=TABLES[flavor]), context)
    try:
        seen: Observation = await driver.observe()
    finally:
        await driver.close()
        await fake.stop()
    return {f.entity_id: f.fields for f in seen.fragments if f.entity_type is EntityType.SERVICE}


def pages_of(page: Callable[..., str], **shape: Any) -> list[str]:
    load = Load(well=5, failed=1, in_flight=2, waiting=1)
    load.latencies.append((4.0, 5))
    pages = [page(load, **shape)]
    for _ in range(2):
        load.serve(30, latency_s=0.2, failed=10)
        pages.append(page(load, **shape))
    return pages


@pytest.mark.parametrize("flavor", sorted(PAGES))
async def test_each_stack_has_the_same_figures_through_prometheus(flavor: str) -> None:
    fields = (await look(flavor, *pages_of(PAGES[flavor])))[SERVICES.get(flavor, MODEL)]
    assert fields["up"] is True
    if flavor in ("triton", "torchserve"):
        assert fields["latency_mean_ms"] == pytest.approx(200.0, rel=0.02)
    else:
        assert fields["latency_p95_ms"] == pytest.approx(242.5, rel=0.02)
    if flavor not in ("torchserve", "kserve", "sglang"):
        assert fields["error_rate"] == pytest.approx(0.25, rel=0.02)


async def test_ranks_are_copies_for_an_expression_too() -> None:
    fields = (await look("sglang", *pages_of(sglang_page, tp=2, pp=2, dp=2)))[MODEL]
    assert (fields["in_flight"], fields["queue_depth"]) == (4, 2)


async def test_requests_on_their_way_are_no_failures_for_an_expression_either() -> None:
    first, second = Load(well=5), Load(well=5, in_flight=30, waiting=10)
    fields = (await look("tgi", tgi_page(first), tgi_page(first), tgi_page(second)))["a:8000"]
    assert fields.get("error_rate", 0.0) == pytest.approx(0.0, abs=1e-6)
