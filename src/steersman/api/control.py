"""What the API needs to act: the Ledger and what is built on it. And who acts, on which terms.

A caller never names another actor: the name in history is the token's, `user:NAME`, or `user:local` for a
caller on loopback without one. Whom they act for goes into the evidence, as their word.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from steersman.api.exchange import Exchange
from steersman.api.framework import Asked, plane_of
from steersman.api.problems import InvalidParameter, NotReady, reveal
from steersman.api.routes import Role
from steersman.kinds.command import IDEMPOTENCY_KEY_MAX_CHARS, Actor, Evidence, Terms
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import StepResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from steersman.act.advice.api import Rules
    from steersman.act.advice.runner import Advice
    from steersman.act.engines.api import PhaseReport
    from steersman.act.lifecycle import Refusal
    from steersman.act.reconcile.loop import LoopSnapshot
    from steersman.api.auth import Caller
    from steersman.kernel.tasks import TaskSnapshot
    from steersman.kinds.machine import Machine
    from steersman.kinds.state import ResourceState
    from steersman.kinds.story import Look
    from steersman.state.ledger import Ledger

LOCAL = "user:local"
"""The actor of callers on loopback that need no token."""
ON_BEHALF = "on_behalf_of"
"""The kind of the piece of evidence that says for whom a caller acts."""
VERSION_MAX_DIGITS = 18


class Tables(Protocol):
    """The lifecycles that are loaded (`act.lifecycle.Lifecycles`)."""

    def machine(self, table: str) -> Machine:
        """The table of that name, or `name@version`. Raises `UnknownLifecycle`."""
        ...

    def list(self) -> Sequence[Any]:
        """Name, version, digest, place and findings of each."""
        ...

    @property
    def refused(self) -> Sequence[Refusal]:
        """Files that were left out, and why."""
        ...


class Loop(Protocol):
    """The reconcile loop, as far as people ask it (`act.reconcile.loop.ReconcileLoop`)."""

    def explain(self, ref: ResourceRef) -> Look | None:
        """What came of the last look."""
        ...

    async def reconcile(self, ref: ResourceRef, actor: Actor, reason: str = "") -> ResourceState:
        """Look now; failures so far no longer count."""
        ...

    def snapshot(self) -> LoopSnapshot:
        """The loop in numbers."""
        ...

    def tasks(self) -> list[TaskSnapshot]:
        """How its own tasks fare."""
        ...


Answer = Callable[[ResourceRef, str, int, str, int, StepResult], Awaitable["PhaseReport"]]
"""Hands an outside answer for a suspended step to its engine: resource, operation, epoch, step, attempt,
result (`act.managers.node.NodeManager.answer`)."""


@dataclass(slots=True)
class Control:
    """The acting half of a plane.

    - `answer`: where the answers of outside systems to suspended steps go.
    - `rules`: reads and evaluates policies for dry runs and coverage.
    - `facts`: what guards may read of a resource beside itself, for `allowed`.
    - `required`: conditions that must be true before a resource may take work, by kind.
    - `tasks`: names of the plane's tasks without which this half does not work.
    """

    ledger: Ledger
    lifecycles: Tables
    loop: Loop | None = None
    advice: Advice | None = None
    rules: Rules | None = None
    answer: Answer | None = None
    facts: Callable[[ResourceState], Mapping[str, Any]] | None = None
    required: Mapping[str, tuple[str, ...]] | None = None
    tasks: tuple[str, ...] = ()


def control_of(request: Asked) -> Control:
    """The plane's acting half. Raises `NotReady` where this process has none."""
    control = plane_of(request).control
    if control is None:
        raise NotReady(
            "this process only observes: it manages no resources",
            failed=["resources: not managed by this process"],
        )
    return control


def actor_of(caller: Caller | None) -> Actor:
    """The caller as history names them, with the classes of initiator that their role stands for."""
    if caller is None:
        return Actor(LOCAL)
    roles = [role.label for role in (Role.OPERATOR, Role.ADMIN) if caller.rank >= role]
    return Actor(LOCAL if caller.anonymous else f"user:{caller.name}", tuple(roles))


def terms_of(
    exchange: Exchange,
    reason: str = "",
    *,
    evidence: tuple[Evidence, ...] = (),
    initiator: str = "",
    cause: str = "",
    dry_run: bool = False,
) -> Terms:
    """The terms of a request: its reason, If-Match and Idempotency-Key. Raises `InvalidParameter`."""
    if initiator:
        evidence = (*evidence, Evidence(kind=ON_BEHALF, detail=initiator))
    return Terms(
        reason=reason,
        expected_version=_read_if_match(exchange.headers.get("if-match")),
        idempotency_key=_read_key(exchange.headers.get("idempotency-key")),
        evidence=evidence,
        cause=cause,
        dry_run=dry_run,
    )


def tag_of(version: int) -> str:
    """A version as an ETag."""
    return f'"{version}"'


def _read_if_match(text: str | None) -> int | None:
    """The version in an If-Match; `*` asks for nothing, since what is changed exists anyway."""
    if text is None or text.strip() == "*":
        return None
    plain = text.strip().removeprefix("W/").strip('"')
    if not plain.isascii() or not plain.isdigit() or len(plain) > VERSION_MAX_DIGITS:
        raise InvalidParameter(f'If-Match is {reveal(text)!r}; expected one version, as the ETag "7" has it')
    return int(plain)


def _read_key(text: str | None) -> str | None:
    if text is None:
        return None
    key = text.strip()
    if not key or len(key) > IDEMPOTENCY_KEY_MAX_CHARS or not key.isprintable():
        raise InvalidParameter(f"Idempotency-Key has 1 to {IDEMPOTENCY_KEY_MAX_CHARS} printable characters")
    return key
