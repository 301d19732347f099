"""What the blocking client can do with managed things; the asynchronous one can the same."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from datetime import datetime
from typing import Any

from steersman.client import managing
from steersman.client.managing import PAGE_DEFAULT, Terms, Wanted, new_key, read_resource_kind, ref
from steersman.client.transport import Transport
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
from steersman.kinds.command import Evidence, HistoryEntry
from steersman.kinds.entity import HealthState
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.managed import Allowed, Applied, Changed, KindCount, Managed, StepTaken, Way
from steersman.kinds.story import Story
from steersman.kinds.tables import Linted, TableInfo


class Acting:
    """Calls about managed things. `kind` is a word in any spelling: `node`, `nodes`, `Node`.

    Each change may bring `reason`, `initiator` (for whom the caller acts) and `expected_version`. It raises
    what the server refused it with: `error.code` (`not_allowed`, `guard_failed`, `version_conflict`, ...) and
    `error.facts`, among them `allowed`, `failed`, `missing` and `current`.
    """

    _transport: Transport
    _rng: Rng

    def _terms(self, reason: str, initiator: str = "", expected_version: int | None = None) -> Terms:
        return Terms(
            key=new_key(self._rng), reason=reason, initiator=initiator, expected_version=expected_version
        )

    def resource_kinds(self) -> list[KindCount]:
        """Kinds of resources, with counts."""
        return self._transport.run(managing.kinds())

    def resources(
        self,
        kind: str,
        *,
        status: Iterable[str] = (),
        desired: Iterable[str] = (),
        converged: bool | None = None,
        owner: str | None = None,
        healths: Iterable[HealthState] = (),
        labels: Mapping[str, str] | None = None,
        page: int = PAGE_DEFAULT,
    ) -> Generator[Managed]:
        """Resources that match, page by page as they are taken."""
        wanted = Wanted(
            kind=read_resource_kind(kind),
            status=tuple(status),
            desired=tuple(desired),
            converged=converged,
            owner=owner,
            healths=tuple(healths),
            labels=dict(labels or {}),
        )
        cursor: str | None = None
        while True:
            answer = self._transport.run(wanted.call(cursor, page))
            yield from answer.items
            cursor = answer.cursor
            if cursor is None:
                return

    def resource(self, kind: str, resource_id: str) -> Managed:
        """One resource."""
        return self._transport.run(managing.get(ref(kind, resource_id)))

    def create_resource(
        self, kind: str, spec: Mapping[str, Any], *, reason: str = "", initiator: str = ""
    ) -> Changed:
        """Make a resource: `id`, `lifecycle`, `status`, `labels`, ..."""
        call = managing.create(read_resource_kind(kind), spec, self._terms(reason, initiator))
        return self._transport.run(call)

    def apply(
        self,
        kind: str,
        resource_id: str,
        spec: Mapping[str, Any],
        *,
        reason: str = "",
        initiator: str = "",
        expected_version: int | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """Make a resource what `spec` says: create it, or change what differs."""
        terms = self._terms(reason, initiator, expected_version)
        call = managing.apply(ref(kind, resource_id), spec, terms, dry_run=dry_run)
        return self._transport.run(call)

    def delete_resource(
        self, kind: str, resource_id: str, *, reason: str = "", expected_version: int | None = None
    ) -> Changed:
        """Take a resource out."""
        terms = self._terms(reason, "", expected_version)
        return self._transport.run(managing.delete(ref(kind, resource_id), terms))

    def set_desired(
        self,
        kind: str,
        resource_id: str,
        status: str | None,
        *,
        reason: str = "",
        initiator: str = "",
        expected_version: int | None = None,
        dry_run: bool = False,
    ) -> Changed:
        """Say where it is meant to be; None takes the intent back."""
        terms = self._terms(reason, initiator, expected_version)
        call = managing.set_desired(ref(kind, resource_id), status, terms, dry_run=dry_run)
        return self._transport.run(call)

    def transition(
        self,
        kind: str,
        resource_id: str,
        *,
        to: str | None = None,
        event: str | None = None,
        reason: str = "",
        initiator: str = "",
        evidence: Iterable[Evidence] = (),
        expected_version: int | None = None,
        dry_run: bool = False,
    ) -> Changed:
        """Move it by an event, or by the state it is to come to."""
        terms = self._terms(reason, initiator, expected_version)
        call = managing.transition(
            ref(kind, resource_id), terms, to=to, event=event, evidence=evidence, dry_run=dry_run
        )
        return self._transport.run(call)

    def resource_history(
        self, kind: str, resource_id: str, *, newest_first: bool = False
    ) -> Generator[HistoryEntry]:
        """All that was ever done to it, page by page as it is taken."""
        one = ref(kind, resource_id)
        cursor: str | None = None
        while True:
            call = managing.history(
                one, newest_first=newest_first, limit=managing.HISTORY_PAGE, cursor=cursor
            )
            answer = self._transport.run(call)
            yield from answer.items
            cursor = answer.cursor
            if cursor is None:
                return

    def allowed(self, kind: str, resource_id: str) -> Allowed:
        """What could be asked of it now, and why not of what could not."""
        return self._transport.run(managing.allowed(ref(kind, resource_id)))

    def path(self, kind: str, resource_id: str, to: str) -> Way:
        """The way from where it is to a state."""
        return self._transport.run(managing.way(ref(kind, resource_id), to))

    def story(self, kind: str, resource_id: str) -> Story:
        """Where it is, where it goes and why, what it waits for, what was done."""
        return self._transport.run(managing.story(ref(kind, resource_id)))

    def place_hold(
        self,
        kind: str,
        resource_id: str,
        name: str,
        *,
        reason: str = "",
        expires_at: datetime | None = None,
    ) -> Changed:
        """Hold it: nothing more is done to it until its owner lets go."""
        call = managing.place_hold(ref(kind, resource_id), name, self._terms(reason), expires_at)
        return self._transport.run(call)

    def lift_hold(
        self, kind: str, resource_id: str, name: str, *, reason: str = "", override: bool = False
    ) -> Changed:
        """Let go; another owner's hold takes `override` and a reason."""
        call = managing.lift_hold(ref(kind, resource_id), name, self._terms(reason), override=override)
        return self._transport.run(call)

    def reconcile(self, kind: str, resource_id: str, *, reason: str = "") -> Managed:
        """Have it looked at now; its failures so far no longer count."""
        return self._transport.run(managing.reconcile(ref(kind, resource_id), self._terms(reason)))

    def retry_phase(self, kind: str, resource_id: str, phase: str, *, reason: str = "") -> Managed:
        """Try a failed phase again."""
        call = managing.retry_phase(ref(kind, resource_id), phase, self._terms(reason))
        return self._transport.run(call)

    def answer_step(self, operation: str, step: str, answer: Mapping[str, Any]) -> StepTaken:
        """Answer a step that waits: `epoch`, `attempt`, `outcome`, and `outputs`, `evidence`, `detail`."""
        return self._transport.run(managing.answer_step(operation, step, answer))

    def lifecycles(self) -> list[TableInfo]:
        """Loaded lifecycles."""
        return self._transport.run(managing.lifecycles())

    def lifecycle(self, name: str) -> Lifecycle:
        """A lifecycle by `name` or `name@version`."""
        return self._transport.run(managing.lifecycle(name))

    def lifecycle_text(self, name: str, form: str = "yaml", current: str | None = None) -> str:
        """A lifecycle as `yaml`, or drawn as `mermaid` or `dot`."""
        return self._transport.run(managing.lifecycle_text(name, form, current))

    def lint_lifecycle(self, text: str, file: str = "<text>") -> Linted:
        """Judge a lifecycle that is being written."""
        return self._transport.run(managing.lint_lifecycle(text, file))

    def policies(self) -> PolicyBook:
        """Policies and their modes."""
        return self._transport.run(managing.policies())

    def policy(self, name: str) -> PolicyInfo:
        """One policy."""
        return self._transport.run(managing.policy(name))

    def set_policy_mode(self, name: str, mode: str, *, reason: str) -> ModeSet:
        """Say how far a policy may go."""
        return self._transport.run(managing.set_policy_mode(name, mode, self._terms(reason)))

    def dry_run_policies(self, text: str, file: str = "<text>") -> DryRun:
        """What policies would say of the fleet as it is now."""
        return self._transport.run(managing.dry_run_policies(text, file))

    def policy_coverage(self) -> PolicyCoverage:
        """Of how many entities each policy can tell."""
        return self._transport.run(managing.policy_coverage())

    def recommendations(
        self, *, status: Iterable[str] = (), policy: str | None = None, entity: str | None = None
    ) -> Generator[Managed]:
        """Recommendations that match, page by page as they are taken."""
        wanted = tuple(status)
        cursor: str | None = None
        while True:
            answer = self._transport.run(managing.recommendations(wanted, policy, entity, cursor))
            yield from answer.items
            cursor = answer.cursor
            if cursor is None:
                return

    def recommendation(self, name: str) -> RecommendationInfo:
        """One recommendation."""
        return self._transport.run(managing.recommendation(name))

    def approve(self, name: str, *, reason: str = "", initiator: str = "") -> Changed:
        """Agree to a recommendation."""
        call = managing.decide(name, "approve", self._terms(reason, initiator), {})
        return self._transport.run(call)

    def reject(self, name: str, *, reason: str = "", initiator: str = "") -> Changed:
        """Say no to a recommendation."""
        call = managing.decide(name, "reject", self._terms(reason, initiator), {})
        return self._transport.run(call)

    def snooze(self, name: str, until: datetime | None, *, reason: str = "") -> Changed:
        """Ask nobody about a recommendation before `until`; None asks again at once."""
        call = managing.decide(name, "snooze", self._terms(reason), {"until": until})
        return self._transport.run(call)

    def freeze_state(self) -> FreezeInfo:
        """Whether acting is frozen."""
        return self._transport.run(managing.freeze_state())

    def set_freeze(self, frozen: bool, *, reason: str) -> FreezeInfo:
        """Freeze all that the plane does by itself, or let it go on."""
        return self._transport.run(managing.set_freeze(frozen, self._terms(reason)))
