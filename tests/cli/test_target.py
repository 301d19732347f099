"""How an entity is named, and how a list is narrowed."""

from __future__ import annotations

import pytest

from steersman.cli.exits import WrongUsage
from steersman.cli.target import read_health, read_kind, read_labels, read_target
from steersman.kinds.entity import EntityType, HealthState


@pytest.mark.parametrize("word", ["node", "nodes", "Node", "NODES", "no"])
def test_each_spelling_of_a_kind_is_one_kind(word: str) -> None:
    assert read_kind(word) is EntityType.NODE


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(WrongUsage, match="unknown kind 'ndoe'") as caught:
        read_kind("ndoe")
    assert caught.value.facts["hint"] == "did you mean node?"


def test_a_kind_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(WrongUsage) as caught:
        read_kind("zzz")
    assert "scheduler_domain" in caught.value.facts["hint"]


def test_an_entity_is_kind_slash_name_or_two_words() -> None:
    assert read_target("Nodes/a", None, None) == (EntityType.NODE, "a", None)
    assert read_target("no", "a", "east") == (EntityType.NODE, "a", "east")


def test_a_name_may_hold_slashes() -> None:
    assert read_target("svc/source/this-host", None, None).name == "source/this-host"


@pytest.mark.parametrize(("word", "name"), [("node", None), ("node/", None), ("node/a", "b")])
def test_a_name_is_given_once(word: str, name: str | None) -> None:
    with pytest.raises(WrongUsage):
        read_target(word, name, None)


def test_labels_repeat_or_share_an_option() -> None:
    assert read_labels(["a=1,b=2", "c==3", "d="]) == {"a": "1", "b": "2", "c": "3", "d": ""}


@pytest.mark.parametrize("word", ["a", "=1", "a!=1"])
def test_a_label_is_a_name_and_a_value(word: str) -> None:
    with pytest.raises(WrongUsage, match="can't be read"):
        read_labels([word])


def test_health_in_any_case() -> None:
    assert read_health(["Critical,degraded", "unknown"]) == [
        HealthState.CRITICAL,
        HealthState.DEGRADED,
        HealthState.UNKNOWN,
    ]
    with pytest.raises(WrongUsage, match="unknown health 'criticl'") as caught:
        read_health(["criticl"])
    assert caught.value.facts["hint"] == "did you mean critical?"
