"""Calls about managed things as data: resources, lifecycles, policies, recommendations, the freeze switch.

A change carries an idempotency key, so that repeating it after a cut connection does it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from steersman.client import managed
from steersman.client.calls import ANSWER_TIMEOUT_S, Call, path_of
from steersman.client.managed import read_answer
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import Rng
from steersman.kinds.command import Evidence
from steersman.kinds.entity import HealthState
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.names import RESOURCE_FORMS, resource_kind_of
from steersman.kinds.state import ResourceRef

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


def kinds() -> Call[list[managed.KindCount]]:
    """Kinds of resources, with counts."""
    read = read_answer(managed.KindCounts)
    return Call("GET", path_of("resources"), lambda body: read(body).items)


class Wanted(Struct, frozen=True, kw_only=True):
    """Which resources of a list."""

    kind: str
    status: tuple[str, ...] = ()
    desired: tuple[str, ...] = ()
    converged: bool | None = None
    owner: str | None = None
    healths: tuple[HealthState, ...] = ()
    labels: Mapping[str, str] = {}

    def call(self, cursor: str | None, limit: int = PAGE_DEFAULT) -> Call[managed.ManagedPage]:
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
        return Call("GET", path_of("resources", self.kind, query=query), read_answer(managed.ManagedPage))


def get(one: ResourceRef) -> Call[managed.Managed]:
    """One resource."""
    return Call("GET", _at(one), _read_managed)


def create(kind: str, spec: Mapping[str, Any], terms: Terms) -> Call[managed.Changed]:
    """Make a resource."""
    return _change("POST", path_of("resources", kind), read_answer(managed.Changed), terms, dict(spec))


def apply(one: ResourceRef, spec: Mapping[str, Any], terms: Terms, *, dry_run: bool) -> Call[managed.Applied]:
    """Declare a resource."""
    query = [("dry_run", "true")] if dry_run else []
    path = path_of("resources", *one, query=query)
    return _change("PUT", path, read_answer(managed.Applied), terms, dict(spec))


def delete(one: ResourceRef, terms: Terms) -> Call[managed.Changed]:
    """Take a resource out."""
    return _change("DELETE", _at(one), read_answer(managed.Changed), terms, {})


def set_desired(
    one: ResourceRef, status: str | None, terms: Terms, *, dry_run: bool
) -> Call[managed.Changed]:
    """Say where it is meant to be."""
    body = {"status": status, "dry_run": dry_run}
    return _change("PUT", _at(one, "desired-status"), read_answer(managed.Changed), terms, body)


def transition(
    one: ResourceRef,
    terms: Terms,
    *,
    to: str | None,
    event: str | None,
    evidence: Iterable[Evidence],
    dry_run: bool,
) -> Call[managed.Changed]:
    """Move it."""
    body = {
        "to": to or "",
        "event": event or "",
        "evidence": msgspec.to_builtins(tuple(evidence)),
        "dry_run": dry_run,
    }
    return _change("POST", _at(one, "transitions"), read_answer(managed.Changed), terms, body)


def history(
    one: ResourceRef, *, newest_first: bool, limit: int, cursor: str | None
) -> Call[managed.HistoryPage]:
    """A page of its history."""
    query = [("order", "newest" if newest_first else "oldest"), *_paging(cursor, limit)]
    path = path_of("resources", *one, "history", query=query)
    return Call("GET", path, read_answer(managed.HistoryPage))


def allowed(one: ResourceRef) -> Call[managed.Allowed]:
    """What could be asked of it."""
    return Call("GET", _at(one, "allowed"), read_answer(managed.Allowed))


def way(one: ResourceRef, to: str) -> Call[managed.Way]:
    """The way to a state."""
    return Call("GET", path_of("resources", *one, "path", query=[("to", to)]), read_answer(managed.Way))


def story(one: ResourceRef) -> Call[managed.Story]:
    """The whole story."""
    return Call("GET", _at(one, "explain"), read_answer(managed.Story))


def place_hold(
    one: ResourceRef, name: str, terms: Terms, expires_at: datetime | None
) -> Call[managed.Changed]:
    """Hold it."""
    body = {"expires_at": expires_at}
    return _change("PUT", _at(one, "holds", name), read_answer(managed.Changed), terms, body)


def lift_hold(one: ResourceRef, name: str, terms: Terms, *, override: bool) -> Call[managed.Changed]:
    """Let go."""
    query = [("override", "true")] if override else []
    path = path_of("resources", *one, "holds", name, query=query)
    return _change("DELETE", path, read_answer(managed.Changed), terms, {})


def reconcile(one: ResourceRef, terms: Terms) -> Call[managed.Managed]:
    """Look at it now."""
    return _change("POST", _at(one, "reconcile"), _read_managed, terms, {})


def retry_phase(one: ResourceRef, phase: str, terms: Terms) -> Call[managed.Managed]:
    """Try a phase again."""
    return _change("POST", _at(one, "phases", phase, "retry"), _read_managed, terms, {})


def answer_step(operation: str, step: str, body: Mapping[str, Any]) -> Call[managed.StepTaken]:
    """Answer a suspended step. Repeating it is safe: a second answer is recorded and not applied."""
    return Call(
        "POST",
        path_of("operations", operation, "steps", step, "result"),
        read_answer(managed.StepTaken),
        body=msgspec.json.encode(dict(body)),
        headers={"content-type": "application/json"},
    )


def lifecycles() -> Call[list[managed.TableInfo]]:
    """Loaded lifecycles."""
    read = read_answer(managed.TableInfos)
    return Call("GET", path_of("lifecycles"), lambda body: read(body).items)


def lifecycle(name: str) -> Call[Lifecycle]:
    """A lifecycle."""
    return Call("GET", path_of("lifecycles", name), read_answer(Lifecycle))


def lifecycle_text(name: str, form: str, current: str | None) -> Call[str]:
    """A lifecycle as YAML or a drawing."""
    query = [("format", form)] + ([("current", current)] if current else [])
    return Call("GET", path_of("lifecycles", name, query=query), bytes.decode)


def lint_lifecycle(text: str, file: str) -> Call[managed.Linted]:
    """What the linter says."""
    return _judge(path_of("lifecycles", "lint"), managed.Linted, text, file)


def policies() -> Call[managed.PolicyBook]:
    """All policies."""
    return Call("GET", path_of("policies"), read_answer(managed.PolicyBook))


def policy(name: str) -> Call[managed.PolicyInfo]:
    """One policy."""
    return Call("GET", path_of("policies", name), read_answer(managed.PolicyInfo))


def set_policy_mode(name: str, mode: str, terms: Terms) -> Call[managed.ModeSet]:
    """How far a policy may go."""
    path = path_of("policies", name, "mode")
    return _change("PUT", path, read_answer(managed.ModeSet), terms, {"mode": mode})


def dry_run_policies(text: str, file: str) -> Call[managed.DryRun]:
    """What policies would say."""
    return _judge(path_of("policies", "dry-run"), managed.DryRun, text, file)


def policy_coverage() -> Call[managed.DryRun]:
    """What the loaded policies can tell."""
    return Call("GET", path_of("policies", "coverage"), read_answer(managed.DryRun))


def recommendations(
    status: Iterable[str], policy_name: str | None, entity: str | None, cursor: str | None
) -> Call[managed.ManagedPage]:
    """A page of recommendations."""
    query = [("status", one) for one in status]
    query += [("policy", policy_name)] if policy_name is not None else []
    query += [("entity", entity)] if entity is not None else []
    query += _paging(cursor, PAGE_DEFAULT)
    return Call("GET", path_of("recommendations", query=query), read_answer(managed.ManagedPage))


def recommendation(name: str) -> Call[managed.RecommendationInfo]:
    """One recommendation."""
    return Call("GET", path_of("recommendations", name), read_answer(managed.RecommendationInfo))


def decide(name: str, verb: str, terms: Terms, more: Mapping[str, Any]) -> Call[managed.Changed]:
    """Approve, reject or snooze."""
    path = path_of("recommendations", name, verb)
    return _change("POST", path, read_answer(managed.Changed), terms, dict(more))


def freeze_state() -> Call[managed.FreezeInfo]:
    """The freeze switch."""
    return Call("GET", path_of("freeze"), read_answer(managed.FreezeInfo))


def set_freeze(frozen: bool, terms: Terms) -> Call[managed.FreezeInfo]:
    """Throw the freeze switch."""
    return _change("PUT", path_of("freeze"), read_answer(managed.FreezeInfo), terms, {"frozen": frozen})


_read_managed: Callable[[bytes], managed.Managed] = read_answer(managed.Managed)


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
