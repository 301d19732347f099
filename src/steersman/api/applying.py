"""Declaring a resource: it is made where there is none, and where there is, what differs is changed.

Applying never moves a thing: `status` is where it is, which no declaration can know. The intent
(`desired_status`) may be declared, and the loop takes it there. Each part that differs is one change of the
Ledger with its own history row: what the thing is, its table, its intent.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
from litestar.params import QueryParameter
from msgspec import UNSET, UnsetType

from steersman.api.access import BOOTSTRAP_FILE, RoleTooLow
from steersman.api.control import Control, actor_of, control_of, tag_of, terms_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of, read_json
from steersman.api.managed import (
    kind_of_path,
    ref_of,
    shown_entry,
    shown_resource,
    unmasked,
    written_answer,
)
from steersman.api.routes import Role
from steersman.api.wishes import ID_MAX_CHARS, ResourceSpec
from steersman.kernel.errors import InvalidInput
from steersman.kinds.command import IDEMPOTENCY_KEY_MAX_CHARS, Actor, HistoryEntry, Terms
from steersman.kinds.managed import Applied
from steersman.kinds.plane_resources import KINDS
from steersman.kinds.state import ResourceRef, ResourceState

DEFAULT_TABLES = {"Node": "hpc-default"}
"""The lifecycle of a new resource that names none, by kind."""
COMMAND_SUFFIX = "_command"
"""Metadata whose name ends so is what a phase of the lifecycle runs as a process, as the plane's own user
(`drain_command`). Whoever sets it can do all that this user can, so it takes role admin."""
_PLAIN_NAMES = ("labels", "metadata", "owner_id", "scope")


class SpecRefused(InvalidInput):
    """A declaration that contradicts itself, its address or its kind; or that tries to say where a thing is.
    `facts`: `member` where one is at fault."""

    code = "spec_refused"
    title = "Declaration refused"


class _Applying:
    """One declaration on its way into the Ledger, a change at a time."""

    def __init__(self, control: Control, ref: ResourceRef, actor: Actor, terms: Terms) -> None:
        self._control = control
        self._ref = ref
        self._actor = actor
        self._terms = terms
        self.changed: list[str] = []
        self.entries: list[HistoryEntry] = []
        self.state = ResourceState()

    async def create(self, spec: ResourceSpec) -> None:
        state = new_state(self._ref, spec)
        check_commands(self._actor, ResourceState(), getattr(state, "metadata", {}))
        written = await self._control.ledger.create(state, self._actor, terms=self._terms)
        self._took(written.state, written.entry, ["created"])
        if not self._terms.dry_run:
            await self._intend(spec)

    async def change(self, state: ResourceState, spec: ResourceSpec) -> None:
        self.state = state
        ledger = self._control.ledger
        changes = differences(state, spec)
        if "metadata" in changes:
            check_commands(self._actor, state, changes["metadata"])
        if changes:
            base = {name: changes[name] for name in ("labels", "metadata", "owner_id") if name in changes}
            more = {name: value for name, value in changes.items() if name not in base}
            written = await ledger.change_spec(
                self._ref, self._actor, **base, fields=more, terms=self._next("spec")
            )
            self._took(written.state, written.entry, sorted(changes))
        table = spec.lifecycle
        if not isinstance(table, UnsetType) and table and not _is_table(state.lifecycle_table, table):
            written = await ledger.migrate(self._ref, self._actor, table, terms=self._next("table"))
            self._took(written.state, written.entry, ["lifecycle"])
        await self._intend(spec)

    async def _intend(self, spec: ResourceSpec) -> None:
        wanted = None if isinstance(spec.desired_status, UnsetType) else spec.desired_status or None
        if isinstance(spec.desired_status, UnsetType) or wanted == self.state.desired_status:
            return
        written = await self._control.ledger.set_desired(
            self._ref, self._actor, wanted, terms=self._next("intent")
        )
        if not getattr(written, "unchanged", False):
            self._took(written.state, written.entry, ["desired_status"])

    def _next(self, part: str) -> Terms:
        """The terms of the next change: of the version that the last one made, with a key of its own."""
        fields = {name: getattr(self._terms, name) for name in self._terms.__struct_fields__}
        key = self._terms.idempotency_key
        if key is not None:
            fields["idempotency_key"] = f"{key[: IDEMPOTENCY_KEY_MAX_CHARS - 8]}:{part}"
        if self.entries and not self._terms.dry_run:
            fields["expected_version"] = self.state.version
        return Terms(**fields)

    def _took(self, state: ResourceState, entry: HistoryEntry, changed: list[str]) -> None:
        self.state = state
        self.entries.append(shown_entry(entry))
        self.changed += changed


async def apply_resource(
    request: Asked,
    dry_run: Annotated[
        bool, QueryParameter(name="dry_run", description="Say what would change, and change nothing")
    ] = False,
) -> Answer:
    """Make it what the body says. What the body leaves out stays."""
    ref, control = ref_of(request, writes=True), control_of(request)
    exchange = exchange_of(request)
    spec = await read_json(exchange, ResourceSpec)
    _check_address(ref, spec)
    if not isinstance(spec.status, UnsetType):
        raise SpecRefused(
            "status is where a thing is and can't be declared; desired_status says where it is meant to be,"
            " and POST .../transitions moves it",
            member="status",
        )
    terms = terms_of(exchange, spec.reason, initiator=spec.initiator, dry_run=dry_run)
    applying = _Applying(control, ref, actor_of(exchange.caller), terms)
    state = await control.ledger.find(ref)
    if state is None:
        await applying.create(spec)
    else:
        await applying.change(state, spec)
    outcome = "created" if state is None else "changed" if applying.changed else "unchanged"
    answer = Applied(
        resource=shown_resource(control, applying.state, plane_of(request).clock.now()),
        outcome=outcome,
        changed=tuple(one for one in applying.changed if one != "created"),
        entries=tuple(applying.entries),
        dry_run=dry_run,
    )
    status = 201 if state is None and not dry_run else 200
    return json_answer(answer, status, {"etag": tag_of(applying.state.version)})


async def create_resource(request: Asked) -> Answer:
    """Make a new one. `status` may say where it already is, e.g. for a node that is in use."""
    kind, control = kind_of_path(request, writes=True), control_of(request)
    exchange = exchange_of(request)
    spec = await read_json(exchange, ResourceSpec)
    if not spec.id:
        raise SpecRefused("a new resource needs an id", member="id")
    ref = ResourceRef(kind, spec.id)
    _check_address(ref, spec)
    terms = terms_of(exchange, spec.reason, initiator=spec.initiator)
    state, actor = new_state(ref, spec), actor_of(exchange.caller)
    check_commands(actor, ResourceState(), getattr(state, "metadata", {}))
    written = await control.ledger.create(state, actor, terms=terms)
    return written_answer(request, control, written, 201)


def check_commands(actor: Actor, state: ResourceState, wanted: Any) -> None:
    """Refuse to one who is no admin a change of what the plane runs for a resource. Raises `RoleTooLow`."""
    if Role.ADMIN.label in actor.roles:
        return
    held: Any = getattr(state, "metadata", None) or {}
    given: dict[str, Any] = cast("dict[str, Any]", wanted) if isinstance(wanted, dict) else {}
    for name in sorted({*held, *given}):
        if name.endswith(COMMAND_SUFFIX) and held.get(name) != given.get(name):
            raise RoleTooLow(
                f"metadata.{name[:64]} is run as a command by the plane, so to set, change or remove it takes"
                f" a token of role admin, also on loopback; the first one is in the file {BOOTSTRAP_FILE} in"
                " the state folder",
                role=Role.OPERATOR.label,
                needed=Role.ADMIN.label,
                member=f"metadata.{name[:64]}",
            )


def new_state(ref: ResourceRef, spec: ResourceSpec) -> ResourceState:
    """The state of a new resource. Raises `SpecRefused`."""
    table = "" if isinstance(spec.lifecycle, UnsetType) else spec.lifecycle
    table = table or DEFAULT_TABLES.get(ref.kind, "")
    if not table:
        raise SpecRefused(f"a new {ref.kind} must name its lifecycle", member="lifecycle")
    given = _given(ref.kind, spec)
    more = {
        "id": ref.id,
        "resource_type": ref.kind,
        "lifecycle_table": table,
        "status": "" if isinstance(spec.status, UnsetType) else spec.status,
    }
    state_class = KINDS[ref.kind].STATE
    try:
        state = msgspec.convert({**given, **more}, state_class)
    except msgspec.ValidationError as error:
        raise SpecRefused(f"{ref}: {error}") from None
    state.check()
    return state


def differences(state: ResourceState, spec: ResourceSpec) -> dict[str, Any]:
    """What a declaration changes in what a thing is. Raises `SpecRefused`."""
    given = _given(state.resource_type, spec)
    held: dict[str, Any] = msgspec.to_builtins(state)
    wanted = {name: unmasked(value, held.get(name)) for name, value in given.items()}
    return {name: value for name, value in wanted.items() if held.get(name) != value}


def _given(kind: str, spec: ResourceSpec) -> dict[str, Any]:
    """What the declaration says of what a thing is, by field. Raises `SpecRefused`."""
    names = KINDS[kind].STATE.__struct_fields__
    given = {name: value for name in _PLAIN_NAMES if (value := getattr(spec, name)) is not UNSET}
    for name, value in spec.spec.items():
        if name in ResourceState.__struct_fields__ and name not in ("definition_ref", "parent_ref"):
            raise SpecRefused(f"spec.{name} is not for a declaration to say", member=f"spec.{name}")
        given[name] = value
    for name in given:
        if name not in names:
            raise SpecRefused(f"a {kind} has no field {name[:64]!r}", member=name[:64])
    return given


def _check_address(ref: ResourceRef, spec: ResourceSpec) -> None:
    from steersman.kinds.names import resource_kind_of

    if spec.kind and resource_kind_of(spec.kind) != ref.kind:
        raise SpecRefused(f"the address says {ref.kind}, the body says {spec.kind[:64]!r}", member="kind")
    if spec.id and spec.id != ref.id:
        raise SpecRefused("the address and the body name two ids", member="id")
    if len(ref.id) > ID_MAX_CHARS:
        raise SpecRefused(f"an id has at most {ID_MAX_CHARS} characters", member="id")


def _is_table(now: str, wanted: str) -> bool:
    return now == wanted or ("@" not in wanted and now.partition("@")[0] == wanted)
