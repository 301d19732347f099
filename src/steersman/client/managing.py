"""Calls about managed things as data: resources, lifecycles, policies, recommendations, the freeze switch.

A change carries an idempotency key, so that repeating it after a cut connection does it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from steersman.client.calls import ANSWER_TIMEOUT_S, Call, path_of, read_answer
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import Rng
from steersman.kinds.advice import (
    DryRun,
    FreezeInfo,
    ModeSet,
    PolicyBook,
    PolicyCoverage,
    PolicyInfo,
    RecommendationInfo,
)
from steersman.kinds.command import Evidence
from steersman.kinds.entity import HealthState
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.managed import (
    Allowed,
    Applied,
    Changed,
    HistoryPage,
    KindCount,
    KindCounts,
    Managed,
    ManagedPage,
    StepTaken,
    Way,
)
from steersman.kinds.names import RESOURCE_FORMS, resource_kind_of
from steersman.kinds.state import ResourceRef
from steersman.kinds.story import Story
from steersman.kinds.tables import Linted, TableInfo, TableInfos

T = TypeVar("T")

KEY_BITS = 128
PAGE_DEFAULT = 500
HISTORY_PAGE = 500


class Terms(Struct, frozen=True, kw_only=True):
    """What a change may carry: why, for whom, and the version that the caller saw. `key`: see the module."""

    key: str
    reason: str = ""
    initiator: str = ""
    expected_version: int | None = None


def new_key(rng: Rng) -> str:
    """An idempotency key that nobody else has."""
    return f"{rng.getrandbits(KEY_BITS):032x}"


def read_resource_kind(word: str) -> str:
    """The kind of resource that `word` means. Raises `InvalidInput`."""
    kind = resource_kind_of(word)
    if kind is None:
        known = list(RESOURCE_FORMS)
        raise InvalidInput(
            f"there is no kind of resource {word!r}; there are {', '.join(known)}", allowed=known
        )
    return kind


def ref(kind: str, resource_id: str) -> ResourceRef:
    """A resource by a word for its kind, and its id. Raises `InvalidInput`."""
    return ResourceRef(read_resource_kind(kind), resource_id)


def kinds() -> Call[list[KindCount]]:
    """Kinds of resources, with counts."""
    read = read_answer(KindCounts)
    return Call("GET", path_of("resources"), lambda body: list(read(body).items))


class Wanted(Struct, frozen=True, kw_only=True):
    """Which resources of a list."""

    kind: str
    status: tuple[str, ...] = ()
    desired: tuple[str, ...] = ()
    converged: bool | None = None
    owner: str | None = None
    healths: tuple[HealthState, ...] = ()
    labels: Mapping[str, str] = {}

    def call(self, cursor: str | None, limit: int = PAGE_DEFAULT) -> Call[ManagedPage]:
        """The call for one page."""
        query = [("status", one) for one in self.status]
        query += [("desired", one) for one in self.desired]
        query += [("health", one.value) for one in self.healths]
        query += [("label", f"{name}={value}") for name, value in self.labels.items()]
        if self.converged is not None:
            query.append(("converged", "true" if self.converged else "false"))
        if self.owner is not None:
            query.append(("owner", self.owner))
        query += _paging(cursor, limit)
        return Call("GET", path_of("resources", self.kind, query=query), read_answer(ManagedPage))


def get(one: ResourceRef) -> Call[Managed]:
    """One resource."""
    return Call("GET", _at(one), _read_managed)


def create(kind: str, spec: Mapping[str, Any], terms: Terms) -> Call[Changed]:
    """Make a resource."""
    return _change("POST", path_of("resources", kind), read_answer(Changed), terms, dict(spec))


def apply(one: ResourceRef, spec: Mapping[str, Any], terms: Terms, *, dry_run: bool) -> Call[Applied]:
    """Declare a resource."""
    query = [("dry_run", "true")] if dry_run else []
    path = path_of("resources", *one, query=query)
    return _change("PUT", path, read_answer(Applied), terms, dict(spec))


def delete(one: ResourceRef, terms: Terms) -> Call[Changed]:
    """Take a resource out."""
    return _change("DELETE", _at(one), read_answer(Changed), terms, {})


def set_desired(one: ResourceRef, status: str | None, terms: Terms, *, dry_run: bool) -> Call[Changed]:
    """Say where it is meant to be."""
    body = {"status": status, "dry_run": dry_run}
    return _change("PUT", _at(one, "desired-status"), read_answer(Changed), terms, body)


def transition(
    one: ResourceRef,
    terms: Terms,
    *,
    to: str | None,
    event: str | None,
    evidence: Iterable[Evidence],
    dry_run: bool,
) -> Call[Changed]:
    """Move it."""
    body = {
        "to": to or "",
        "event": event or "",
        "evidence": msgspec.to_builtins(tuple(evidence)),
        "dry_run": dry_run,
    }
    return _change("POST", _at(one, "transitions"), read_answer(Changed), terms, body)


def history(one: ResourceRef, *, newest_first: bool, limit: int, cursor: str | None) -> Call[HistoryPage]:
    """A page of its history."""
    query = [("order", "newest" if newest_first else "oldest"), *_paging(cursor, limit)]
    path = path_of("resources", *one, "history", query=query)
    return Call("GET", path, read_answer(HistoryPage))


def allowed(one: ResourceRef) -> Call[Allowed]:
    """What could be asked of it."""
    return Call("GET", _at(one, "allowed"), read_answer(Allowed))


def way(one: ResourceRef, to: str) -> Call[Way]:
    """The way to a state."""
    return Call("GET", path_of("resources", *one, "path", query=[("to", to)]), read_answer(Way))


def story(one: ResourceRef) -> Call[Story]:
    """The whole story."""
    return Call("GET", _at(one, "explain"), read_answer(Story))


def place_hold(one: ResourceRef, name: str, terms: Terms, expires_at: datetime | None) -> Call[Changed]:
    """Hold it."""
    body = {"expires_at": expires_at}
    return _change("PUT", _at(one, "holds", name), read_answer(Changed), terms, body)


def lift_hold(one: ResourceRef, name: str, terms: Terms, *, override: bool) -> Call[Changed]:
    """Let go."""
    query = [("override", "true")] if override else []
    path = path_of("resources", *one, "holds", name, query=query)
    return _change("DELETE", path, read_answer(Changed), terms, {})


def reconcile(one: ResourceRef, terms: Terms) -> Call[Managed]:
    """Look at it now."""
    return _change("POST", _at(one, "reconcile"), _read_managed, terms, {})


def retry_phase(one: ResourceRef, phase: str, terms: Terms) -> Call[Managed]:
    """Try a phase again."""
    return _change("POST", _at(one, "phases", phase, "retry"), _read_managed, terms, {})


def answer_step(operation: str, step: str, body: Mapping[str, Any]) -> Call[StepTaken]:
    """Answer a suspended step. Repeating it is safe: a second answer is recorded and not applied."""
    return Call(
        "POST",
        path_of("operations", operation, "steps", step, "result"),
        read_answer(StepTaken),
        body=msgspec.json.encode(dict(body)),
        headers={"content-type": "application/json"},
    )


def lifecycles() -> Call[list[TableInfo]]:
    """Loaded lifecycles."""
    read = read_answer(TableInfos)
    return Call("GET", path_of("lifecycles"), lambda body: list(read(body).items))


def lifecycle(name: str) -> Call[Lifecycle]:
    """A lifecycle."""
    return Call("GET", path_of("lifecycles", name), read_answer(Lifecycle))


def lifecycle_text(name: str, form: str, current: str | None) -> Call[str]:
    """A lifecycle as YAML or a drawing."""
    query = [("format", form)] + ([("current", current)] if current else [])
    return Call("GET", path_of("lifecycles", name, query=query), bytes.decode)


def lint_lifecycle(text: str, file: str) -> Call[Linted]:
    """What the linter says."""
    return _judge(path_of("lifecycles", "lint"), Linted, text, file)


def policies() -> Call[PolicyBook]:
    """All policies."""
    return Call("GET", path_of("policies"), read_answer(PolicyBook))


def policy(name: str) -> Call[PolicyInfo]:
    """One policy."""
    return Call("GET", path_of("policies", name), read_answer(PolicyInfo))


def set_policy_mode(name: str, mode: str, terms: Terms) -> Call[ModeSet]:
    """How far a policy may go."""
    path = path_of("policies", name, "mode")
    return _change("PUT", path, read_answer(ModeSet), terms, {"mode": mode})


def dry_run_policies(text: str, file: str) -> Call[DryRun]:
    """What policies would say."""
    return _judge(path_of("policies", "dry-run"), DryRun, text, file)


def policy_coverage() -> Call[PolicyCoverage]:
    """What the loaded policies can tell."""
    return Call("GET", path_of("policies", "coverage"), read_answer(PolicyCoverage))


def recommendations(
    status: Iterable[str], policy_name: str | None, entity: str | None, cursor: str | None
) -> Call[ManagedPage]:
    """A page of recommendations."""
    query = [("status", one) for one in status]
    query += [("policy", policy_name)] if policy_name is not None else []
    query += [("entity", entity)] if entity is not None else []
    query += _paging(cursor, PAGE_DEFAULT)
    return Call("GET", path_of("recommendations", query=query), read_answer(ManagedPage))


def recommendation(name: str) -> Call[RecommendationInfo]:
    """One recommendation."""
    return Call("GET", path_of("recommendations", name), read_answer(RecommendationInfo))


def decide(name: str, verb: str, terms: Terms, more: Mapping[str, Any]) -> Call[Changed]:
    """Approve, reject or snooze."""
    path = path_of("recommendations", name, verb)
    return _change("POST", path, read_answer(Changed), terms, dict(more))


def freeze_state() -> Call[FreezeInfo]:
    """The freeze switch."""
    return Call("GET", path_of("freeze"), read_answer(FreezeInfo))


def set_freeze(frozen: bool, terms: Terms) -> Call[FreezeInfo]:
    """Throw the freeze switch."""
    return _change("PUT", path_of("freeze"), read_answer(FreezeInfo), terms, {"frozen": frozen})


_read_managed: Callable[[bytes], Managed] = read_answer(Managed)


def _at(one: ResourceRef, *more: str) -> str:
    return path_of("resources", *one, *more)


def _paging(cursor: str | None, limit: int) -> list[tuple[str, str]]:
    return [("limit", str(limit)), *([("cursor", cursor)] if cursor else [])]


def _judge(path: str, kind: type[T], text: str, file: str) -> Call[T]:
    body = msgspec.json.encode({"text": text, "file": file})
    return Call("POST", path, read_answer(kind), body=body, headers={"content-type": "application/json"})


def _change(
    method: str, path: str, read: Callable[[bytes], T], terms: Terms, body: dict[str, Any]
) -> Call[T]:
    if terms.reason:
        body["reason"] = terms.reason
    if terms.initiator:
        body["initiator"] = terms.initiator
    headers = {"content-type": "application/json", "idempotency-key": terms.key}
    if terms.expected_version is not None:
        headers["if-match"] = f'"{terms.expected_version}"'
    return Call(method, path, read, msgspec.json.encode(body), headers, ANSWER_TIMEOUT_S, repeatable=True)
