"""Policies as people write them, in YAML: strict keys, each error with its place, one bad policy beside good
ones.

A file holds one policy, or `policies:` with a list of them. docs/reference/policies.md shows every key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from steersman.decide.rules import CompiledPolicy
from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean
from steersman.kernel.quantity import Duration
from steersman.kernel.yamltext import Located, parse
from steersman.kinds.deciding import LoadedPolicy, PolicyProblem, PolicyReading
from steersman.kinds.entity import EntityType, HealthState, SchedulerDomainType, WorkloadType
from steersman.kinds.names import kind_of
from steersman.kinds.policy import (
    Policy,
    PolicyAction,
    PolicyInvalid,
    PolicyLimits,
    PolicyMatch,
    PolicyMode,
    Risk,
)

POLICIES_MAX = 500
"""Policies of one file."""
PRIORITY_MAX = 100
WHOLE_MAX = 2**31 - 1

KEYS = (
    "name", "version", "description", "match", "when", "for", "min_confidence", "max_staleness", "action",
    "parameters", "risk", "priority", "mode", "limits", "approvals", "reason", "expires_after", "enabled",
)  # fmt: skip
MATCH_KEYS = ("entity_type", "labels", "scope", "scheduler_domain", "workload_type", "health")
LIMIT_KEYS = (
    "cooldown", "window", "max_count", "max_share", "failure_domain", "capacity_floor", "breaker_failures",
)  # fmt: skip
ACTION_KEYS = ("name", "parameters")

_Word = TypeVar("_Word", bound=StrEnum)


def read_policies(text: str, file: str) -> PolicyReading:
    """The policies of one text. What can't be read is a problem with its place, and never an error."""
    try:
        root = parse(text, file)
        nodes = _nodes(root)
    except InvalidInput as error:
        return PolicyReading((), (_problem(error, file, ""),))
    found: dict[str, LoadedPolicy] = {}
    problems: list[PolicyProblem] = []
    for node in nodes:
        named = (node.mapping or {}).get("name")
        name = named.value if named is not None and isinstance(named.value, str) else ""
        try:
            policy = _read(node)
            if policy.name in found:
                raise _wrong(node, f"policy {policy.name} is there twice")
        except InvalidInput as error:
            problems.append(_problem(error, file, name))
            continue
        digest = hashlib.sha256(repr(node.plain()).encode()).hexdigest()[:32]
        found[policy.name] = LoadedPolicy(policy=policy, digest=digest, file=file, line=node.line)
    return PolicyReading(tuple(found.values()), tuple(problems))


def _nodes(root: Located) -> list[Located]:
    whole = root.mapping
    if whole is not None and "policies" in whole:
        _check_keys(root, "a file of policies", ("policies",))
        items = whole["policies"].sequence
        if items is None:
            raise _wrong(whole["policies"], "policies is a list of policies")
    else:
        items = root.sequence if root.sequence is not None else [root]
    if len(items) > POLICIES_MAX:
        raise _wrong(root, f"a file has at most {POLICIES_MAX} policies, not {len(items)}")
    return items


def _read(node: Located) -> Policy:
    body = _check_keys(node, "a policy", KEYS)
    for key in ("name", "match", "when", "action"):
        if key not in body:
            raise _wrong(node, f"a policy has {key}")
    given: dict[str, Any] = {
        "name": _text(body["name"], "name"),
        "match": _match(body["match"]),
        "when": _text(body["when"], "when"),
        "action": _action(body),
    }
    for key, (name, read) in _PLAIN.items():
        if key in body:
            given[name] = read(body[key], key)
    if "limits" in body:
        given["limits"] = _limits(body["limits"])
    try:
        policy = Policy(**given)
    except InvalidInput as error:
        raise _wrong(node, error.detail) from None
    when, reason = body["when"], body.get("reason")
    # In quotes the text begins one column further; of a block only the line of its mark is known.
    CompiledPolicy(
        policy,
        file=when.file,
        line=when.line,
        column=when.column + (1 if when.quoted else 0),
        reason_at=(reason.line, reason.column) if reason is not None else None,
    )
    return policy


def _match(node: Located) -> PolicyMatch:
    body = _check_keys(node, "match", MATCH_KEYS)
    if "entity_type" not in body:
        raise _wrong(node, "match has entity_type")
    word = _text(body["entity_type"], "entity_type")
    kind = kind_of(word)
    if kind is None:
        hint = did_you_mean(word, [kind.value for kind in EntityType])
        raise _wrong(body["entity_type"], f"{word!r} is no entity type{hint}")
    labels = body["labels"].mapping if "labels" in body else {}
    if labels is None:
        raise _wrong(body["labels"], "labels is a mapping of label to value")
    return PolicyMatch(
        entity_type=kind,
        labels={name: _text(value, name) for name, value in labels.items()},
        scope=_text(body["scope"], "scope") if "scope" in body else None,
        scheduler_domain=_optional_word(body, "scheduler_domain", SchedulerDomainType),
        workload_type=_optional_word(body, "workload_type", WorkloadType),
        health=tuple(_word(item, HealthState) for item in _items(body.get("health"))),
    )


def _action(body: Mapping[str, Located]) -> PolicyAction:
    node = body["action"]
    if node.mapping is not None:
        if "parameters" in body:
            raise _wrong(body["parameters"], "parameters stands under action, or beside it, not in both")
        inner = _check_keys(node, "action", ACTION_KEYS)
        if "name" not in inner:
            raise _wrong(node, "action has name")
        return PolicyAction(
            name=_text(inner["name"], "name"), parameters=_parameters(inner.get("parameters"))
        )
    return PolicyAction(name=_text(node, "action"), parameters=_parameters(body.get("parameters")))


def _parameters(node: Located | None) -> dict[str, Any]:
    if node is None or node.value is None:
        return {}
    if node.mapping is None:
        raise _wrong(node, "parameters is a mapping")
    return node.plain()


def _limits(node: Located) -> PolicyLimits:
    body = _check_keys(node, "limits", LIMIT_KEYS)
    given: dict[str, Any] = {}
    for key, item in body.items():
        match key:
            case "cooldown":
                given["cooldown_s"] = _duration(item, key)
            case "window":
                given["window_s"] = _some_time(item, key)
            case "breaker_failures":
                given[key] = _from_one(item, key)
            case "max_share" | "capacity_floor":
                given[key] = _share(item, key)
            case "failure_domain":
                given[key] = _text(item, key)
            case _:
                given[key] = _whole(item, key)
    return PolicyLimits(**given)


def _duration(node: Located, key: str) -> float:
    if isinstance(node.value, (str, int, float)) and not isinstance(node.value, bool):
        try:
            return float(Duration.from_text(node.value))
        except InvalidInput as error:
            raise _wrong(node, f"{key}: {error.detail}") from None
    raise _wrong(node, f"{key} is {Duration.EXPECTED}")


def _some_time(node: Located, key: str) -> float:
    seconds = _duration(node, key)
    if seconds == 0:
        raise _wrong(node, f"{key} is more than zero")
    return seconds


def _share(node: Located, key: str) -> float:
    """`25%` or `0.25`."""
    value = node.value
    if isinstance(value, str) and value.endswith("%"):
        try:
            value = float(value[:-1]) / 100
        except ValueError:
            value = None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise _wrong(node, f"{key} is a share such as 25% or 0.25")


def _whole(node: Located, key: str) -> int:
    if isinstance(node.value, int) and not isinstance(node.value, bool) and 0 <= node.value <= WHOLE_MAX:
        return node.value
    raise _wrong(node, f"{key} is a whole number from 0 to {WHOLE_MAX}")


def _from_one(node: Located, key: str) -> int:
    if node.value == 0 and not isinstance(node.value, bool):
        raise _wrong(node, f"{key} is a whole number, 1 or more")
    return _whole(node, key)


def _up_to_hundred(node: Located, key: str) -> int:
    if _whole(node, key) > PRIORITY_MAX:
        raise _wrong(node, f"{key} is a whole number from 0 to {PRIORITY_MAX}")
    return _whole(node, key)


def _flag(node: Located, key: str) -> bool:
    if isinstance(node.value, bool):
        return node.value
    raise _wrong(node, f"{key} is true or false")


def _text(node: Located, key: str) -> str:
    if isinstance(node.value, str) and node.value.strip():
        return node.value.strip() if key == "when" else node.value
    raise _wrong(node, f"{key} is a text")


def _items(node: Located | None) -> list[Located]:
    if node is None:
        return []
    return node.sequence if node.sequence is not None else [node]


def _optional_word(body: Mapping[str, Located], key: str, words: type[_Word]) -> _Word | None:
    return _word(body[key], words) if key in body else None


def _word(node: Located, words: type[_Word]) -> _Word:
    given = str(node.value).strip().lower()
    try:
        return words(given)
    except ValueError:
        known = [word.value for word in words]
        hint = did_you_mean(given, known) or f"; the words are {', '.join(known)}"
        raise _wrong(node, f"{given[:60]!r} is none of them{hint}") from None


def _check_keys(node: Located, what: str, keys: tuple[str, ...]) -> dict[str, Located]:
    if node.mapping is None:
        raise _wrong(node, f"{what} is a mapping")
    for key in node.mapping:
        if key not in keys:
            line, column = node.key_places.get(key, (node.line, node.column))
            hint = did_you_mean(key, keys) or f"; the keys are {', '.join(keys)}"
            raise _wrong(Located(None, node.file, line, column), f"{key!r} is not a key of {what}{hint}")
    return node.mapping


def _wrong(node: Located, detail: str) -> PolicyInvalid:
    return PolicyInvalid(f"{node.place}: {detail}", file=node.file, line=node.line, column=node.column)


def _problem(error: InvalidInput, file: str, policy: str) -> PolicyProblem:
    facts = error.facts
    return PolicyProblem(
        file=file,
        detail=error.detail,
        line=int(facts.get("line", 0)),
        column=int(facts.get("column", 0)),
        policy=policy,
    )


_PLAIN: Mapping[str, tuple[str, Callable[[Located, str], Any]]] = {
    "version": ("version", _from_one),
    "description": ("description", _text),
    "for": ("for_s", _duration),
    "min_confidence": ("min_confidence", _share),
    "max_staleness": ("max_staleness_s", _some_time),
    "risk": ("risk", lambda node, _key: _word(node, Risk)),
    "priority": ("priority", _up_to_hundred),
    "mode": ("mode", lambda node, _key: _word(node, PolicyMode)),
    "approvals": ("approvals", _whole),
    "reason": ("reason", _text),
    "expires_after": ("expires_after_s", _some_time),
    "enabled": ("enabled", _flag),
}
