"""A fleet on real servers, observed by a real `steersman up`: all types, one node of five sources, and what
is seen while each server is away.

The servers are those of scripts/demo-fleet, so the tutorial's fleet is the one that is tried here.
"""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect, sync_playwright

from servers.slurm import PROGRAMS

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "demo-fleet"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
NODE = "n0.hpc-1.example"
GPU = "GPU-7a1e55c0-0000-4000-8000-000000000003"
TYPES = (
    "service", "deployment", "gpu", "node", "job", "queue", "model_revision", "scheduler_domain",
    "tenant_scope", "experiment_tracker", "data_pipeline_stage", "config_snapshot",
)  # fmt: skip
SERVERS = {
    "prometheus": ("metrics", "data_pipeline_stage/tokenizer/documents", "lag_messages"),
    "slurm": ("hpc", "scheduler_domain/slurm/hpc-1", "total_nodes"),
    "kubernetes": ("k8s", "deployment/serving/llama-predictor", "available_replicas"),
    "mlflow": ("tracking", "model_revision/chat/1", "revision_state"),
    "dcgm": ("gpus", f"node/{NODE}", "gpus_visible"),
    "vllm": ("llama", "service/serving/llama", "kv_cache_utilization"),
    "airflow": ("airflow", "data_pipeline_stage/tokenize", "stage_state"),
}
"""A server, the source that reads it, and an entity's field that only that source tells."""
AWAY = [
    ("prometheus", "stop"), ("prometheus", "hang"), ("slurm", "hang"), ("kubernetes", "stop"),
    ("mlflow", "hang"), ("dcgm", "stop"), ("vllm", "stop"), ("airflow", "hang"),
]  # fmt: skip
"""How each goes away: its connections are refused, or it takes them and answers nothing."""
SENSIBLE: dict[str, tuple[str, dict[str, Any]]] = {
    "service": ("serving/llama", {"available_replicas": 1, "service_state": "active", "up": True}),
    "deployment": ("serving/llama-predictor", {"desired_replicas": 1, "available_replicas": 1}),
    "gpu": (GPU, {"node": NODE, "gpu_memory_total": 80_600 * 1024**2, "ecc_errors": None}),
    "node": (NODE, {"gpu_count": 8, "gpus_visible": 8, "schedulable": True, "pod_count": 2}),
    "job": ("1", {"job_state": "running", "assigned_gpu_count": 2, "nodes": [NODE]}),
    "queue": ("main", {"active_jobs": 1, "pending_jobs": 0}),
    "model_revision": ("chat/1", {"model_name": "chat", "model_version": "1", "revision_state": "READY"}),
    "scheduler_domain": (
        "kubernetes/hpc-1",
        {"domain_type": "kubernetes", "total_nodes": 3, "total_gpus": 24},
    ),
    "tenant_scope": ("namespace/research", {"scope_type": "namespace"}),
    "experiment_tracker": ("", {"run_state": "RUNNING", "experiment": "pretraining", "job_id": "1"}),
    "data_pipeline_stage": ("tokenizer/documents", {"partitions": 1}),
    "config_snapshot": ("serving/configmap/gateway", {"present": True}),
}
"""An entity of each type by its id (the only one where that is empty), and what is known. None is absent: the
exporter's default counters have no ECC errors, which is not zero of them."""


class Demo:
    """`demo-fleet up` in a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with (home / "fleet.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, SCRIPT, "up"], cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + START_TIMEOUT_S
        while "ready;" not in self.said:
            if self.process.poll() is not None or time.monotonic() > until:
                self.close()
                pytest.fail(f"the fleet did not start\n{self.said}")
            time.sleep(0.1)

    @property
    def said(self) -> str:
        return (self.home / "fleet.log").read_text()

    def do(self, deed: str, name: str) -> None:
        done = subprocess.run(
            [sys.executable, SCRIPT, deed, name], cwd=self.home, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, real_program: Callable[[str], str]) -> Iterator[Demo]:
    for program in ("prometheus", "prometheus-node-exporter", "mlflow", *PROGRAMS):
        real_program(program)
    demo = Demo(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def running(demo: Demo, tmp_path_factory: pytest.TempPathFactory, running_class: type[Any]) -> Iterator[Any]:
    """A plane that observes the fleet, and has heard of all of it."""
    home = tmp_path_factory.mktemp("plane")
    running = running_class(home, None, "-c", str(demo.home / ".fleet" / "steersman.yaml"))
    try:
        running.wait_healthy()
        running.until(lambda: all(entities(running, kind) for kind in TYPES), "an entity of each type")
        for _, name, field in SERVERS.values():
            running.until(lambda name=name, field=field: fresh(running, name, field), f"{field} of {name}")
        yield running
    finally:
        running.close()


def entities(running: Any, kind: str) -> dict[str, Any]:
    found = running.get(f"/api/v1/entities?type={kind}")["items"]
    return {one["entity_id"]: one for one in found if not one["entity_id"].startswith("source/")}


def explained(running: Any, name: str) -> Any:
    """The story of an entity; one without fields where there is none yet."""
    kind, _, rest = name.partition("/")
    try:
        return running.get(f"/api/v1/entities/{kind}/{quote(rest, safe='')}/explain?scope=hpc-1")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return {"fields": {}}


def field_of(running: Any, name: str, field: str) -> dict[str, Any]:
    return dict(explained(running, name)["fields"].get(field, {}))


def fresh(running: Any, name: str, field: str) -> bool:
    return field_of(running, name, field).get("freshness") == "fresh"


def trust(running: Any, name: str) -> float:
    """Confidence apart from whether sources agree, which on a busy machine they do now more, now less."""
    items = explained(running, name)["confidence"]["items"]
    return math.prod(one["score"] for one in items if one["name"] != "agreement")


def source(running: Any, name: str) -> dict[str, Any]:
    (found,) = [one for one in running.get("/api/v1/sources")["items"] if one["name"] == name]
    return dict(found)


def refreshed(running: Any, name: str, field: str, after: str) -> bool:
    """Whether it is fresh by a word that came later."""
    now = field_of(running, name, field)
    return now.get("freshness") == "fresh" and now["received_at"] > after


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_is_there_with_what_its_systems_tell(running: Any, kind: str) -> None:
    name, expected = SENSIBLE[kind]
    found = entities(running, kind)
    entity = found[name] if name else next(iter(found.values()))
    everything = {**entity.get("extra", {}), **entity}
    assert {field: everything.get(field) for field in expected} == expected
    if kind != "node":  # this machine may be as busy as it is
        here = entity["entity_id"]
        running.until(lambda: entities(running, kind)[here]["health_state"] == "healthy", "its health")
    running.until(
        lambda: explained(running, f"{kind}/{entity['entity_id']}")["confidence"]["score"] > 0.3, "trust"
    )


def test_all_of_it_is_in_one_command(running: Any) -> None:
    done = running.type("get", "--all")
    assert done.returncode == 0, done.stderr
    headings = [line.removesuffix("s:") for line in done.stdout.splitlines() if line.endswith("s:")]
    assert headings == list(TYPES)
    told = json.loads(running.type("get", "--all", "-o", "json").stdout)
    assert {one["entity_type"] for one in told["items"]} == set(TYPES)


def test_one_node_of_five_sources_is_one_entity(running: Any) -> None:
    nodes = entities(running, "node")
    assert set(nodes) == {NODE, "n1.hpc-1.example", "n2.hpc-1.example"}
    five = {"k8s", "hpc", "metrics", "gpus", "this-host"}
    running.until(
        lambda: {one["name"] for one in explained(running, f"node/{NODE}")["sources"]} >= five, "five sources"
    )
    running.until(lambda: running.get("/api/v1/resources/node")["items"], "the machine's resource")
    shown = running.type("explain", "node/n0").stdout  # by another of its names
    assert f"\nEntity:     node/{NODE}" in shown
    assert shown.startswith(f"Managed as:     Node/{NODE}, version "), "it is enrolled under one name, once"
    resources = running.get("/api/v1/resources/node")["items"]
    assert [one["id"] for one in resources] == [NODE]
    assert "Also called:" in shown
    assert "name n0" in shown
    assert {gpu["node"] for gpu in entities(running, "gpu").values()} == {NODE}
    drift = running.get("/api/v1/drift")["items"]
    assert [one for one in drift if one["kind"] == "identity"] == []


@pytest.mark.parametrize(("server", "how"), AWAY)
def test_a_server_that_is_away_is_seen_and_nothing_is_made_up(
    running: Any, demo: Demo, server: str, how: str
) -> None:
    name, entity, field = SERVERS[server]
    before = running.until(
        lambda: fresh(running, entity, field) and source(running, name)["failures"] == 0
        and field_of(running, entity, field), f"{field}, fresh",
    )  # fmt: skip
    trusted = trust(running, entity)
    demo.do(how, server)
    try:
        # It fails, and says why; the value stays and grows old.
        running.until(lambda: source(running, name)["failures"] > 0, f"a failure of {name}")
        running.until(lambda: not fresh(running, entity, field), f"{field} growing old")
        aged = field_of(running, entity, field)
        assert aged["value"] is not None
        assert (aged["value"] == 0) == (before["value"] == 0)
        assert trust(running, entity) < trusted
        assert source(running, name)["detail"], "it does not say why"
        said = running.type("doctor").stdout
        (line,) = [line for line in said.splitlines() if f" source {name}:" in line]
        assert not line.startswith("ok"), line
        others = [other for other, _, _ in SERVERS.values() if other != name]
        assert all(source(running, other)["state"] == "alive" for other in others)
    finally:
        demo.do("start", server)
    running.until(lambda: refreshed(running, entity, field, aged["received_at"]), f"{field}, fresh again")
    running.until(lambda: source(running, name)["failures"] == 0, f"{name} well again")


def test_the_tutorial_is_typed_as_it_stands(running: Any, demo: Demo) -> None:
    page = (ROOT / "docs" / "tutorials" / "observe-a-fleet.md").read_text()
    scripts = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(scripts) >= 3
    (demo.home / "scripts").symlink_to(SCRIPT.parent)
    env = running.env | {"PATH": f"{Path(sys.executable).parent}:{running.env['PATH']}"}
    for script in scripts:
        done = subprocess.run(
            ["/bin/sh", "-euc", script], cwd=demo.home, env=env, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        if "stop kubernetes" in script:
            assert re.search(r"^\w+ +source k8s: (?!alive)", done.stdout, re.MULTILINE), done.stdout
            assert "serving/llama-predictor" in done.stdout


def test_the_dashboard_shows_all_types(running: Any, real_program: Callable[[str], str]) -> None:
    """Each type with its entities; that the pages themselves are right is held by tests/dashboard."""
    path = real_program("chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(running.url)
        expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live", timeout=20_000)
        for kind in TYPES:
            name = SENSIBLE[kind][0] or next(iter(entities(running, kind)))
            page.goto(f"{running.url}/#/entities/{kind}")
            expect(page.get_by_role("link", name=name, exact=True)).to_be_visible(timeout=20_000)
        browser.close()
