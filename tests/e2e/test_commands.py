"""Commands typed against a real server: what a pipe gets, exit codes, errors in one line and a hint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml


def fragment(kind: str, name: str, scope: str = "", **more: Any) -> dict[str, Any]:
    """A fragment that a push may bring; `labels` beside the fields."""
    labels = more.pop("labels", {}) | ({"cluster": scope} if scope else {})
    return {
        "source_type": "test",
        "entity_type": kind,
        "entity_id": name,
        "observed_at": datetime.now(UTC).isoformat(),
        "fields": more,
        "labels": labels,
    }


FLEET = [
    fragment(
        "service",
        "inference-api",
        "east",
        latency_p95_ms=142.04,
        error_rate=0.002,
        queue_depth=0,
        labels={"team": "ml"},
    ),
    fragment(
        "service", "batch", "west", latency_p95_ms=10, error_rate=0.6, labels={"team": "ml", "rack": "r7"}
    ),
    fragment(
        "gpu", "GPU-1", "east", gpu_utilization=0.5, gpu_memory_used=2**34, temperature_celsius=61, node="n1"
    ),
    fragment("queue", "twin", "east", queue_depth=1),
    fragment("queue", "twin", "west", queue_depth=2),
    fragment("job", "odd\nname\x1b[31m", job_state="running"),
]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, running_class: Any) -> Iterator[Any]:
    """One server that observes nothing and was told of a small fleet."""
    home = tmp_path_factory.mktemp("plane")
    (home / "steersman.yaml").write_text("sources: []\n")
    running = running_class(home, None, "-c", "steersman.yaml").wait_healthy()
    assert running.post("/api/v1/fragments", FLEET)["accepted"] == len(FLEET)
    yield running
    running.close()


@pytest.fixture(autouse=True)
def told_again(plane: Any) -> None:
    """The fleet goes on telling, as fleets do: on a slow machine it would be out of date by the last test."""
    now = datetime.now(UTC).isoformat()
    plane.post("/api/v1/fragments", [{**one, "observed_at": now} for one in FLEET])


def test_a_table_has_plain_columns(plane: Any) -> None:
    done = plane.type("get", "services")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert " ".join(lines[0].split()) == "NAME SCOPE HEALTH CONFIDENCE AGE UP P95 ERRORS RATE QUEUE"
    assert lines[2].split()[:2] == ["batch", "west"]
    name, scope, _, _, age, up, p95, unit, errors, rate, queue = lines[1].split()
    assert (name, scope, up, p95, unit, errors, rate, queue) == (
        "inference-api", "east", "-", "142", "ms", "0.2%", "-", "0",
    )  # fmt: skip
    assert age.endswith("s")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("kind", ["service", "SERVICES", "Service", "svc"])
def test_kinds_in_any_form(plane: Any, kind: str) -> None:
    assert "inference-api" in plane.type("get", kind).stdout


def test_wide_has_more_columns(plane: Any) -> None:
    head, row = plane.type("get", "gpus", "-o", "wide").stdout.splitlines()
    assert "DRIVER" in head
    assert head.split()[-1] == "LABELS"
    assert "16 GiB" in row
    assert "61 °C" in row


def test_json_is_plain_values(plane: Any) -> None:
    items = json.loads(plane.type("get", "services", "-o", "json").stdout)["items"]
    assert [item["entity_id"] for item in items] == ["inference-api", "batch"]
    assert items[0]["latency_p95_ms"] == 142.04
    assert items[0]["throughput"] is None


def test_yaml_is_the_same_data(plane: Any) -> None:
    one = json.loads(plane.type("get", "gpu/GPU-1", "-o", "json").stdout)
    other = yaml.safe_load(plane.type("get", "gpu", "GPU-1", "-o", "yaml").stdout)
    volatile = {"confidence_score", "freshness"}
    assert {k: v for k, v in one.items() if k not in volatile} == {
        k: v for k, v in other.items() if k not in volatile
    }


def test_selectors_narrow_a_list(plane: Any) -> None:
    def names(*words: str) -> list[str]:
        items = json.loads(plane.type("get", *words, "-o", "json").stdout)["items"]
        return [item["entity_id"] for item in items]

    assert names("services", "-l", "team=ml") == ["inference-api", "batch"]
    assert names("services", "-l", "team=ml,rack=r7") == ["batch"]
    assert names("services", "-l", "team=ml", "-l", "rack=r7") == ["batch"]
    assert names("services", "--scope", "east") == ["inference-api"]
    assert names("services", "--health", "critical,degraded") == ["batch"]
    assert names("services,gpus", "--scope", "east") == ["inference-api", "GPU-1"]


def test_all_shows_each_kind_under_its_title(plane: Any) -> None:
    out = plane.type("get", "--all").stdout
    titles = [line for line in out.splitlines() if line.endswith(":")]
    assert titles == ["services:", "gpus:", "jobs:", "queues:"]


def test_nothing_found_is_no_error(plane: Any) -> None:
    done = plane.type("get", "nodes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no nodes found\n")
    done = plane.type("get", "services", "-l", "team=none")
    assert (done.returncode, done.stderr) == (0, "no matching services found\n")
    assert json.loads(plane.type("get", "nodes", "-o", "json").stdout) == {"items": []}


def test_an_unknown_entity_names_the_nearest(plane: Any) -> None:
    done = plane.type("get", "service/inference-ap")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no service 'inference-ap'")
    assert "inference-api" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_in_two_scopes_asks_which(plane: Any) -> None:
    done = plane.type("describe", "queue/twin")
    assert done.returncode == 1
    assert "east" in done.stderr
    assert "west" in done.stderr
    done = plane.type("describe", "queue/twin", "--scope", "west")
    assert done.returncode == 0
    assert "queue_depth   2" in done.stdout


def test_a_kind_or_all_not_both(plane: Any) -> None:
    for words in (["get"], ["get", "nodes", "--all"], ["get", "gpu/GPU-1", "-l", "a=b"]):
        done = plane.type(*words)
        assert done.returncode == 2, words
        assert done.stderr.startswith("error: ")


def test_text_from_a_source_can_not_drive_the_terminal(plane: Any) -> None:
    for words in (["get", "jobs"], ["get", "--all"], ["watch", "--after", "0", "--for", "1s"]):
        out = plane.type(*words).stdout
        assert "\\x1b[31m" in out
        assert "\x1b" not in out


def test_describe_gives_value_unit_age_source_and_reasons(plane: Any) -> None:
    out = plane.type("describe", "service/batch").stdout
    assert "Name:        batch\n" in out
    assert "Health:" in out
    assert "Health by " in out
    assert "is the product of:" in out
    assert "coverage" in out
    row = next(line for line in out.splitlines() if line.startswith("error_rate"))
    assert row.split()[1] == "60%"
    assert row.split()[-1] == "test"


def test_the_past_of_an_entity_is_described_and_listed(plane: Any) -> None:
    out = plane.type("describe", "service/batch", "--at", "0.001s").stdout
    assert "Entity:       service/batch\n" in out
    assert "health_state" in out
    for words, says in (
        (["--at", "2000-01-01T03:10"], "nothing is remembered"),
        (["--at", "soon"], "is no time"),
    ):
        done = plane.type("describe", "service/batch", *words)
        assert says in done.stderr
        assert done.returncode == (2 if "soon" in words else 0)
    out = plane.type("history", "service/batch").stdout
    assert out.splitlines()[0].split() == ["AT", "BECAME"]
    assert "health_state=" in out
    data = json.loads(plane.type("history", "service/batch", "-o", "json").stdout)
    assert "health_state" in data["items"][0]["fields"]
    missing = plane.type("history", "gpu/none")
    assert (missing.returncode, "there is no gpu" in missing.stderr) == (1, True)


def test_explain_gives_full_provenance(plane: Any) -> None:
    out = plane.type("explain", "svc/batch").stdout
    head = next(line for line in out.splitlines() if line.startswith("FIELD"))
    assert head.split() == [
        "FIELD",
        "VALUE",
        "SOURCE",
        "OBSERVED",
        "RECEIVED",
        "AGE",
        "STATE",
        "OTHERS_SAY",
        "SOURCES",
    ]
    assert "Sources:" in out
    assert "Labels:" in out
    data = json.loads(plane.type("explain", "svc/batch", "-o", "json").stdout)
    assert data["fields"]["error_rate"]["source"] == "test"
    assert data["confidence"]["items"]


def test_watch_tells_what_is_done_to_managed_things(plane: Any) -> None:
    document = plane.home / "watched.yaml"
    document.write_text("kind: Node\nid: w1\nlabels: {rack: r1}\n---\nkind: Node\nid: w2\n")
    assert plane.type("apply", "-f", str(document)).returncode == 0
    assert plane.type("set", "w1", "in_service", "--reason", "to work").returncode == 0
    watch = ("watch", "nodes", "--managed", "--after", "0", "--for", "1s")
    told = plane.type(*watch)
    assert told.returncode == 0, told.stderr
    assert "Node/w1  new -> discovered" in told.stdout
    assert "Node/w1  desired: in_service  user:local  to work" in told.stdout
    assert "Node/w2" in told.stdout
    narrowed = plane.type(*watch, "-l", "rack=r1").stdout
    assert "Node/w1" in narrowed
    assert "Node/w2" not in narrowed
    events = [json.loads(line) for line in plane.type(*watch, "-o", "json").stdout.splitlines()]
    assert events[0]["type"] == "steersman.resource.created.v1"
    for wrong in (("--health", "critical"), ("--after", "7")):
        assert plane.type("watch", "--managed", *wrong).returncode == 2


def test_watch_prints_what_changed_and_resumes(plane: Any) -> None:
    done = plane.type("watch", "gpus", "--after", "0", "--for", "2s")
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if "GPU-1" in line]
    _, revision, name, *_ = line.split()
    assert name == "gpu/east/GPU-1"
    again = plane.type("watch", "gpus", "--after", revision, "--for", "1s", "-o", "json")
    assert not any(
        json.loads(line)["data"]["revision"] <= int(revision) for line in again.stdout.splitlines()
    )


def test_watch_is_narrowed_by_selectors(plane: Any) -> None:
    out = plane.type("watch", "--after", "0", "--for", "1s", "-l", "team=ml", "--scope", "west").stdout
    assert {line.split()[2] for line in out.splitlines()} == {"service/west/batch"}
    out = plane.type("watch", "--after", "0", "--for", "1s", "--health", "healthy", "--scope", "west").stdout
    assert "batch" not in out


def test_watch_ends_quietly_on_ctrl_c(plane: Any) -> None:
    import signal

    process = subprocess.Popen(
        [sys.executable, "-m", "steersman", "watch", "--after", "0"],
        env=plane.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


def test_a_reader_that_leaves_ends_a_command_quietly(plane: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for words in (["get", "--all"], ["get", "--all", "-o", "json"], ["watch", "--after", "0"]):
        command = [sys.executable, "-m", "steersman", *words]
        done = subprocess.run(
            command, env=plane.env, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (141, b""), words
    os.close(writer)


def test_tokens_need_an_admin(plane: Any) -> None:
    done = plane.type("token", "create", "grafana")
    assert done.returncode == 1
    assert "admin.token" in done.stderr
    admin = {"STEERSMAN_TOKEN": (plane.home / "admin.token").read_text().strip()}
    made = plane.type("token", "create", "grafana", "--ttl", "1d", env=admin)
    assert made.returncode == 0
    (secret,) = made.stdout.splitlines()
    assert secret.startswith("stm_")
    table = plane.type("token", "list", env=admin).stdout
    assert secret not in table
    token_id = next(line.split()[0] for line in table.splitlines() if "grafana" in line)
    assert plane.type("get", "nodes", env={"STEERSMAN_TOKEN": secret}).returncode == 0
    done = plane.type("token", "list", env={"STEERSMAN_TOKEN": secret})
    assert (done.returncode, done.stdout) == (1, "")
    assert plane.type("token", "revoke", token_id, env=admin).returncode == 0
    refused = plane.type("get", "nodes", env={"STEERSMAN_TOKEN": secret})
    assert refused.returncode == 1
    assert secret not in refused.stderr
    assert plane.type("token", "revoke", token_id, env=admin).returncode == 1


def test_version_of_both(plane: Any) -> None:
    done = plane.type("version", "-o", "json")
    facts = json.loads(done.stdout)
    assert facts["client"] == facts["server"]
    assert facts["address"] == plane.url
    done = plane.type("version", "--client")
    assert "server" not in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["get", "nodes"],
        ["get", "node/a"],
        ["describe", "node/a"],
        ["explain", "node/a"],
        ["watch"],
        ["token", "list"],
        ["version"],
        ["record", "x.rec"],
    ],
    ids=lambda words: words[0] + str(len(words)),
)
def test_nobody_there_is_exit_code_3(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "steersman", *words, "--server", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: no Steersman answers at http://127.0.0.1:9")
    assert "steersman up" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_none_is_wrong_usage(plane: Any) -> None:
    done = plane.type("get", "nodes", "--server", "ftp://x")
    assert done.returncode == 2
    assert "http://127.0.0.1:7440" in done.stderr
