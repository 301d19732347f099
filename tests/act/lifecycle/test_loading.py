"""Files of tables: read, or refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.act.lifecycle import load_file, load_text, shipped
from steersman.act.lifecycle.loading import (
    LifecycleRefused,
    LifecycleUnreadable,
    digest,
    found_files,
    prepared,
)
from steersman.kinds.lifecycle import Lifecycle, LifecycleInvalid

THREE = (
    "in_service: [maintenance]\nmaintenance: [firmware_update, in_service]\nfirmware_update: [in_service]\n"
)


def test_the_three_states_are_shipped_as_they_are_written():
    by_name = {loaded.lifecycle.name: loaded.lifecycle for loaded in shipped()}
    assert by_name["rfd-three-state"].to_map() == Lifecycle.from_yaml(THREE).to_map()
    assert load_text(THREE, "three.yaml").lifecycle.to_map() == by_name["rfd-three-state"].to_map()


def test_lint_errors_refuse_with_the_line():
    text = "states: {a: {schedulable: true}, b: }\ntransitions:\n  - {event: go, from: a, to: b}\n"
    with pytest.raises(LifecycleRefused, match=r"site.yaml:1:\d+: error trap") as caught:
        load_text(text, "site.yaml")
    assert caught.value.facts["findings"][0]["code"] == "trap"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("budgets: {x: {limit: 1, share: 0.5}}", "either limit or share"),
        ("budgets: {x: {limt: 1}}", "did you mean limit"),
        ("budgets: {x: {limit: one}}", "whole number"),
        ("phases: {x: {stps: []}}", "did you mean steps"),
        ("phases: {x: {steps: [], workflow_ref: w}}", "phase x"),
        ("migrate: {old: c}", "not a state"),
        ("override: perhaps", "true or false"),
        ("guards: {x: [1]}", "a guard is a name"),
    ],
)
def test_a_wrong_key_is_refused_with_its_line(line: str, said: str):
    text = f"states: {{a: , b: }}\n{line}\n"
    with pytest.raises(LifecycleInvalid, match=said) as caught:
        load_text(text, "site.yaml")
    assert caught.value.facts["line"] == 2


def test_on_success_must_leave_the_state():
    text = "states: {a: {phase: x, on_success: went}, b: }\ntransitions: [{event: went, from: b, to: a}]\n"
    with pytest.raises(LifecycleInvalid, match="on_success"):
        load_text(text, "site.yaml")


def test_folders_are_looked_into_and_what_cannot_be_read_is_told(tmp_path: Path):
    (tmp_path / "b.yaml").write_text(THREE)
    (tmp_path / "a.yml").write_text(THREE)
    (tmp_path / "notes.txt").write_text("no")
    files, refused = found_files([tmp_path])
    assert [file.name for file in files] == ["a.yml", "b.yaml"]
    assert refused == []
    with pytest.raises(LifecycleUnreadable, match="absent"):
        load_file(tmp_path / "absent.yaml")


def test_the_digest_is_of_what_a_table_says():
    one = Lifecycle.from_yaml(THREE)
    assert digest(one) == digest(Lifecycle.from_yaml("# words\n" + THREE))
    assert digest(one) != digest(Lifecycle.from_map(one.to_map(), version="2"))
    for loaded in shipped():
        assert prepared(Lifecycle.from_dict(loaded.lifecycle.to_dict())).digest == loaded.digest
