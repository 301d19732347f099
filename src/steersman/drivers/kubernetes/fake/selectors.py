"""Label and field selectors, with the server's grammar."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from steersman.drivers.kubernetes.fake.refusal import Refusal
from steersman.drivers.kubernetes.fake.tree import Object, items, part

Matches = Callable[[Object], bool]

_SET = re.compile(r"(?P<key>[^\s!=,()]+)\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(r"(?P<key>[^\s!=,()]+)\s*(?P<word>==|=|!=)\s*(?P<value>[^\s!=,()]*)")
_THERE = re.compile(r"(?P<not>!?)\s*(?P<key>[^\s!=,()]+)")


def labels_match(selector: str) -> Matches:
    """By labels: `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Raises `Refusal` (400)."""
    rules = [_label_rule(word) for word in _parts(selector)]

    def matches(labels: Object) -> bool:
        return all(rule(labels) for rule in rules)

    return lambda thing: matches(part(thing, "metadata", "labels"))


def fields_match(selector: str, known: tuple[str, ...], plural: str) -> Matches:
    """By fields: `spec.nodeName=x,status.phase!=Running`. Only what is known can be selected by: the real
    server refuses the rest. Raises `Refusal` (400)."""
    rules: list[tuple[str, bool, str]] = []
    for word in _parts(selector):
        found = _EQUAL.fullmatch(word)
        if found is None:
            raise Refusal("BadRequest", f"invalid selector: '{word}'; can't understand '{word}'")
        key = found["key"]
        if key not in ("metadata.name", "metadata.namespace", *known):
            raise Refusal("BadRequest", f'field label not supported: "{key}" for {plural}')
        rules.append((key, found["word"] != "!=", found["value"]))

    def matches(thing: Object) -> bool:
        return all((_field(thing, key) == value) is equal for key, equal, value in rules)

    return matches


def labels_of(selector: Object | None) -> Matches:
    """By a LabelSelector object: `matchLabels` and `matchExpressions`. Empty takes all, None nothing."""
    if selector is None:
        return lambda thing: False
    wanted: dict[str, str] = part(selector, "matchLabels")
    rules = [_expression(rule) for rule in items(selector, "matchExpressions")]

    def matches(thing: Object) -> bool:
        labels = part(thing, "metadata", "labels")
        return all(labels.get(key) == value for key, value in wanted.items()) and all(
            rule(labels) for rule in rules
        )

    return matches


def _expression(rule: Object) -> Matches:
    key, word, values = str(rule.get("key")), rule.get("operator"), items(rule, "values")
    if word == "In":
        return lambda labels: labels.get(key) in values
    if word == "NotIn":
        return lambda labels: labels.get(key) not in values
    return lambda labels: (key in labels) is (word == "Exists")


def _label_rule(rule: str) -> Matches:
    found = _SET.fullmatch(rule)
    if found is not None:
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["word"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    found = _EQUAL.fullmatch(rule)
    if found is not None:
        key, value = found["key"], found["value"]
        if found["word"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    found = _THERE.fullmatch(rule)
    if found is not None:
        key, there = found["key"], not found["not"]
        return lambda labels: (key in labels) is there
    raise Refusal("BadRequest", f"unable to parse requirement: found '{rule}'")


def _parts(selector: str) -> list[str]:
    """Split at commas outside of parentheses."""
    return [word.strip() for word in re.split(r",(?![^()]*\))", selector) if word.strip()]


def _field(thing: Object, path: str) -> str:
    value: Any = thing
    for step in path.split("."):
        value = cast("Object", value).get(step) if isinstance(value, dict) else None
    if value is None:
        return "false" if path == "spec.unschedulable" else ""
    return str(value).lower() if isinstance(value, bool) else str(value)
