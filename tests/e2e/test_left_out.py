"""Good and bad policies and lifecycles in folders of a real `steersman up`.

It starts, uses the good ones, and tells of each bad one its file, its line and what was expected: in its log,
over HTTP, in the lists and in `doctor`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from loop_story import wait_for_node

Up = Callable[..., Any]

CONFIG = """
sources: [{name: this-host, driver: host, interval: 300ms, gpus: false}]
policies: [policies]
lifecycles: [lifecycles]
"""


class Bad(NamedTuple):
    """A file that can't be used: its text, the line that is wrong (0: all of it), and words that are said."""

    text: str | bytes
    line: int
    words: tuple[str, ...]


MATCH = "match: {entity_type: node}\n"
BAD_POLICIES = {
    "cel.yaml": Bad(
        f"name: cel\n{MATCH}when: memory_utilization > > 0.5\naction: recommend_no_action\n",
        3,
        ("expected an expression",),
    ),
    "signal.yaml": Bad(
        f"name: signal\n{MATCH}\nwhen: memry_utilization > 0.5\naction: recommend_no_action\n",
        4,
        ("memry_utilization", "did you mean memory_utilization?"),
    ),
    "key.yaml": Bad(
        f"name: key\n{MATCH}whem: memory_utilization > 0.5\naction: recommend_no_action\n",
        3,
        ("whem", "did you mean when?"),
    ),
    "yaml.yaml": Bad("name: yaml\nmatch: {entity_type: node\nwhen: true\n", 3, ("expected ',' or '}'",)),
    "unbounded.yaml": Bad(
        f"name: unbounded\n{MATCH}when: memory_utilization > 0.5\naction: drain_or_avoid_node\n"
        "mode: controlled_auto_act\n",
        1,
        ("controlled_auto_act needs limits.max_count or limits.max_share",),
    ),
    "time.yaml": Bad(
        f"name: time\n{MATCH}when: memory_utilization > 0.5\naction: recommend_no_action\nfor: 5 parsecs\n",
        5,
        ("5 parsecs", "not a duration such as 15s"),
    ),
    "bytes.yaml": Bad(b"\xff\xfe", 0, ("UTF-8",)),
}
BAD_LIFECYCLES = {
    "class.yaml": Bad(
        "name: class\nstates:\n  a: {class: stabel}\n", 3, ("stable, active or terminal, not 'stabel'",)
    ),
    "guard.yaml": Bad(
        "name: guard\ninitial: a\nstates:\n  a: {class: stable}\n  b: {class: stable}\ntransitions:\n"
        "  - {event: go, from: a, to: b, by: [operator], guard: \"resource.status = 'a'\"}\n"
        "  - {event: back, from: b, to: a, by: [operator]}\n",
        7,
        ("guard_invalid", "expected an expression"),
    ),
    "endless.yaml": Bad(
        "name: endless\ninitial: a\nstates:\n  a: {class: stable}\n  b: {class: active}\ntransitions:\n"
        "  - {event: go, from: a, to: b, by: [operator]}\n",
        5,
        ("active_without_timeout", "give it a deadline"),
    ),
    "step.yaml": Bad(
        "name: step\ninitial: a\nstates:\n  a: {class: stable}\n"
        "  b: {class: active, phase: work, deadline: 5m, on_success: done, on_failure: done,"
        " on_timeout: done}\ntransitions:\n  - {event: go, from: a, to: b, by: [operator]}\n"
        "  - {event: done, from: b, to: a, by: [engine, timer]}\nphases:\n  work:\n    steps:\n"
        "      - {name: first, uses: process, inputs: {argv: [sync]}}\n"
        "      - {name: second, uses: proces, inputs: {argv: [sync]}}\n",
        13,
        ("phase work", "step second", "did you mean process?"),
    ),
}
GOOD_POLICY = f"name: good-one\n{MATCH}when: memory_utilization > 0.99\naction: recommend_no_action\n"
GOOD_LIFECYCLE = (
    "name: good-table\ninitial: up\nstates: {up: {schedulable: true}, down: {}}\ntransitions:\n"
    "  - {event: stop, from: up, to: down, by: [operator]}\n"
    "  - {event: start, from: down, to: up, by: [operator]}\n"
)
BOTH = [("policy", name, bad) for name, bad in BAD_POLICIES.items()] + [
    ("lifecycle", name, bad) for name, bad in BAD_LIFECYCLES.items()
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site's folder, whose configuration names a folder of policies and one of lifecycles."""
    for name, good, bad in (
        ("policies", GOOD_POLICY, BAD_POLICIES),
        ("lifecycles", GOOD_LIFECYCLE, BAD_LIFECYCLES),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "good.yaml").write_text(good)
        for file, one in bad.items():
            text = one.text if isinstance(one.text, bytes) else one.text.encode()
            (tmp_path / name / file).write_bytes(text)
    (tmp_path / "steersman.yaml").write_text(CONFIG)
    return tmp_path


def path_of(folder: Path, what: str, file: str) -> str:
    return str(folder / ("policies" if what == "policy" else "lifecycles") / file)


def test_the_good_work_and_each_bad_one_is_told_with_its_place(up: Up, folder: Path) -> None:
    running = up("-c", str(folder / "steersman.yaml")).wait_healthy()
    wait_for_node(running)
    assert running.get("/readyz") == {"status": "ready"}, "what a site wrote wrong takes nothing down"

    listed = running.type("policy", "list")
    assert listed.returncode == 0
    names = {line.split()[0] for line in listed.stdout.splitlines()[1:]}
    assert names == {"good-one", "node-pressure", "node-recovered"}
    tables = running.type("lifecycle", "list")
    assert tables.returncode == 0
    names = {line.split()[0] for line in tables.stdout.splitlines()[1:]}
    assert names == {"good-table", "hpc-default", "rfd-three-state", "policy", "freeze", "recommendation"}
    made = running.post("/api/v1/resources/node", {"id": "n1", "lifecycle": "good-table"})
    assert made["resource"]["status"] == "up"

    doctor = running.type("doctor", "-c", str(folder / "steersman.yaml"))
    assert doctor.returncode == 1
    left_out = running.get("/api/v1/status")["acting"]["left_out"]
    logged = [json.loads(line) for line in running.err.splitlines() if line.startswith("{")]
    assert len(left_out) == len(BOTH)
    for what, file, bad in BOTH:
        path = path_of(folder, what, file)
        (told,) = (one for one in left_out if one["file"] == path)
        assert (told["what"], told["line"]) == (what, bad.line), told
        (log,) = (one for one in logged if one.get("file") == path)
        assert log["event"] in ("policy_left_out", "lifecycle_refused")
        assert log["line"] == bad.line
        (line,) = (one for one in doctor.stdout.splitlines() if path in one)
        assert line.startswith(f"fail  {what}: {path}:{bad.line or 1}:"), line
        for word in bad.words:
            for text in (told["detail"], log["detail"], line):
                assert word in text, f"{word} is not told of {file}: {text}"
    for command, ending in ((listed, "policies"), (tables, "lifecycles")):
        told_by_list = {line for line in command.stderr.splitlines() if line.startswith("error: ")}
        assert len(told_by_list) == len(list((folder / ending).iterdir())) - 1, command.stderr
    assert running.stop()[0] == 0


def test_put_right_and_started_again_all_are_there(up: Up, folder: Path) -> None:
    """Nothing of what was refused is kept against the file that was put right."""
    first = up("-c", str(folder / "steersman.yaml")).wait_healthy()
    assert first.stop()[0] == 0
    for what, file, _ in BOTH:
        Path(path_of(folder, what, file)).unlink()
    right = GOOD_POLICY.replace("good-one", "cel")
    Path(path_of(folder, "policy", "cel.yaml")).write_text(right)
    right = GOOD_LIFECYCLE.replace("good-table", "step")
    Path(path_of(folder, "lifecycle", "step.yaml")).write_text(right)
    running = up("-c", str(folder / "steersman.yaml"), home=first.home).wait_healthy()
    assert running.get("/api/v1/status")["acting"]["left_out"] == []
    assert running.type("policy", "show", "cel").returncode == 0
    assert running.type("lifecycle", "show", "step").returncode == 0
    assert "error" not in running.type("lifecycle", "list").stderr
    assert running.stop()[0] == 0
