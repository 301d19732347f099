"""Operations on reservations: create, delete.

A reservation keeps no mark that every way can read, so its name is one:
`steersman_<operation>_e<epoch>_<step>`, or `steersman_<name>` where the step names it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, field

from steersman.drivers.inputs import Inputs
from steersman.drivers.slurm.changes import NO_SUCH_RESERVATION, unanswered
from steersman.drivers.slurm.client import SlurmRefused
from steersman.drivers.slurm.hostlist import expand_hosts
from steersman.drivers.slurm.picture import ReservationSeen
from steersman.drivers.slurm.steps import Site, done, later, overtaken, refused, rehearsed
from steersman.kernel.errors import InvalidInput
from steersman.kernel.quantity import Duration
from steersman.kinds.step import StepCall, StepResult

PREFIX = "steersman_"
"""How names of our reservations begin."""
NODES_MAX = 1_000
"""Nodes of one reservation by a step: it must fit into one command's arguments."""
DURATION_MIN_S, DURATION_MAX_S = 60.0, 366 * 86_400.0
"""Slurm counts minutes; longer than a year is a slip of the finger."""

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_ODD = re.compile(r"[^A-Za-z0-9.-]+")
_OWN = re.compile(r"steersman_(?P<operation>[A-Za-z0-9.-]+)_e(?P<epoch>\d{1,18})_(?P<step>[A-Za-z0-9_.-]+)")

Name = Annotated[str, Meta(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,63}))?$")]
Who = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}$")]


class CreateInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """- `nodes`: a list, or Slurm's text (`gpu[01-16]`).
    - `start`: `now`, or a time with its zone. `duration`: `2h30m`, or seconds.
    - `users`, `accounts`: who may use it meanwhile; where neither is given, root alone.
    - `maintenance`: nodes count as in maintenance. `ignore_jobs`: reserve them though jobs run there.
    - `name`: a name of its own (`steersman_` is put before it) instead of the operation's.
    """

    nodes: Annotated[list[str], Meta(min_length=1, max_length=NODES_MAX)] | Annotated[str, Meta(min_length=1)]
    duration: float | str
    start: str = "now"
    users: Annotated[list[Who], Meta(max_length=64)] = field(default_factory=list[str])
    accounts: Annotated[list[Who], Meta(max_length=64)] = field(default_factory=list[str])
    maintenance: bool = True
    ignore_jobs: bool = True
    name: Name = ""

    def __post_init__(self) -> None:
        try:
            hosts, duration_s = self.hosts, self.duration_s
        except InvalidInput as error:
            raise ValueError(error.detail) from None
        if not hosts:
            raise ValueError("nodes: none is named")
        for host in hosts:
            if _HOST.fullmatch(host) is None or host.lower() == "all":
                raise ValueError(f"nodes: {host[:64]!r} is no node's name")
        if not DURATION_MIN_S <= duration_s <= DURATION_MAX_S:
            raise ValueError("duration: from 1m to 366d")
        if self.start != "now":
            try:
                at = datetime.fromisoformat(self.start)
            except ValueError:
                raise ValueError("start: now, or a time such as 2026-01-31T08:00:00Z") from None
            if at.tzinfo is None:
                raise ValueError("start: a time needs its zone (Z for UTC)")

    @property
    def hosts(self) -> tuple[str, ...]:
        """The nodes, one by one. Raises `HostListInvalid`."""
        if isinstance(self.nodes, str):
            return expand_hosts(self.nodes, NODES_MAX)
        return tuple(dict.fromkeys(self.nodes))

    @property
    def duration_s(self) -> float:
        """Raises `QuantityInvalid`."""
        return float(Duration.from_text(self.duration))

    def starts_at(self, now: datetime) -> datetime:
        """When it begins."""
        return now if self.start == "now" else datetime.fromisoformat(self.start).astimezone(UTC)

    @property
    def flags(self) -> list[str]:
        """Slurm's words."""
        wanted = {"MAINT": self.maintenance, "IGNORE_JOBS": self.ignore_jobs}
        return [word for word, is_wanted in wanted.items() if is_wanted]


class CreateReservation:
    """Reserve nodes. The same step finds what it reserved by its name."""

    Inputs: ClassVar[type[Inputs]] = CreateInputs

    async def make(self, site: Site, inputs: Any) -> StepResult:
        """Make it, where it is not there."""
        there = await site.cluster.reservations(site.ask_s)
        name = _name_for(site.call, inputs)
        if _overtaken(there, site.call):
            return overtaken(f"reservation {name}")
        found = _standing(there, site.call, inputs)
        if found is not None:
            return _found(found, inputs)
        outputs = {"reservation": name, "nodes": list(inputs.hosts)}
        what = f"reservation {name}"
        if inputs.dry_run:
            return rehearsed(what, f"would reserve {len(inputs.hosts)} nodes", outputs)
        users = inputs.users or ([] if inputs.accounts else ["root"])
        with unanswered():
            try:
                await site.cluster.create_reservation(
                    name,
                    inputs.hosts,
                    inputs.starts_at(site.clock.now()),
                    inputs.duration_s,
                    users=users,
                    accounts=inputs.accounts,
                    flags=inputs.flags,
                    timeout_s=site.ask_s,
                )
            except SlurmRefused:
                there = await site.cluster.reservations(site.ask_s)
                found = _standing(there, site.call, inputs)
                if found is None:  # else the same attempt, begun twice, made it meanwhile
                    raise
                return _found(found, inputs)
            found = _standing(await site.cluster.reservations(site.ask_s), site.call, inputs)
        if found is None:
            return later(what, "was made, and is not there")
        return done(what, f"{len(found.nodes)} nodes reserved", changed=True, outputs=outputs)

    async def find(self, site: Site, inputs: Any) -> StepResult | None:
        """By its name."""
        there = await site.cluster.reservations(site.ask_s)
        if _overtaken(there, site.call):
            return overtaken(f"reservation {_name_for(site.call, inputs)}")
        found = _standing(there, site.call, inputs)
        return _found(found, inputs) if found is not None else None


class DeleteInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`name`: which one; without it, all that this operation made. `force`: also one that is not ours."""

    name: Annotated[str, Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,511})?$")] = ""
    force: bool = False


class DeleteReservation:
    """Give nodes free again, where it was us who reserved them."""

    Inputs: ClassVar[type[Inputs]] = DeleteInputs

    async def make(self, site: Site, inputs: Any) -> StepResult:
        """Delete what is there of it."""
        there = await site.cluster.reservations(site.ask_s)
        what = f"reservation {inputs.name}" if inputs.name else f"reservations of {site.call.operation}"
        if _overtaken(there, site.call):
            return overtaken(what)
        names = _to_delete(there, site.call, inputs)
        if not names:
            return (rehearsed if inputs.dry_run else _unchanged)(what, "not there")
        foreign = [name for name in names if not name.startswith(PREFIX)]
        if foreign and not inputs.force:
            return refused(what, "somebody else made it; force: true deletes it all the same")
        outputs = {"reservations": names}
        if inputs.dry_run:
            return rehearsed(what, "would be deleted", outputs)
        with unanswered():
            for name in names:
                try:
                    await site.cluster.delete_reservation(name, site.ask_s)
                except SlurmRefused as error:
                    if error.number != NO_SUCH_RESERVATION:  # else it ended meanwhile
                        raise
            left = _to_delete(await site.cluster.reservations(site.ask_s), site.call, inputs)
        if left:
            return later(what, f"{', '.join(left)} is there all the same")
        return done(what, "deleted", changed=True, outputs=outputs)

    async def find(self, site: Site, inputs: Any) -> StepResult | None:
        """It is not there, or the attempt may be made again."""
        there = await site.cluster.reservations(site.ask_s)
        what = f"reservation {inputs.name}" if inputs.name else f"reservations of {site.call.operation}"
        if _overtaken(there, site.call):
            return overtaken(what)
        return None if _to_delete(there, site.call, inputs) else done(what, "not there", changed=True)


def _plain(text: str) -> str:
    """As it can stand in a name; `_` is what joins the parts."""
    return _ODD.sub("-", text)[:128].strip("-") or "x"


def _name_for(call: StepCall, inputs: Any) -> str:
    if inputs.name:
        return f"{PREFIX}{inputs.name}"
    return f"{PREFIX}{_plain(call.operation)}_e{call.epoch}_{_plain(call.step)}"


def _of_operation(there: list[ReservationSeen], call: StepCall) -> list[tuple[int, str, ReservationSeen]]:
    """Epoch and step of each reservation of the call's operation."""
    matches = [(one, _OWN.fullmatch(one.name)) for one in there]
    return [
        (int(match.group("epoch")), match.group("step"), one)
        for one, match in matches
        if match is not None and match.group("operation") == _plain(call.operation)
    ]


def _overtaken(there: list[ReservationSeen], call: StepCall) -> bool:
    """Whether a newer epoch of the same operation reserved something."""
    return any(epoch > call.epoch for epoch, _, _ in _of_operation(there, call))


def _standing(there: list[ReservationSeen], call: StepCall, inputs: Any) -> ReservationSeen | None:
    """What this step reserved, in this epoch or an older one."""
    if inputs.name:
        return next((one for one in there if one.name == _name_for(call, inputs)), None)
    return next((one for _, step, one in _of_operation(there, call) if step == _plain(call.step)), None)


def _to_delete(there: list[ReservationSeen], call: StepCall, inputs: Any) -> list[str]:
    if inputs.name:
        return [one.name for one in there if one.name in (inputs.name, f"{PREFIX}{inputs.name}")]
    return sorted(one.name for _, _, one in _of_operation(there, call))


def _found(found: ReservationSeen, inputs: Any) -> StepResult:
    what = f"reservation {found.name}"
    if set(found.nodes) != set(inputs.hosts):
        return refused(what, "is there, and holds other nodes than this step would reserve")
    outputs = {"reservation": found.name, "nodes": list(found.nodes)}
    answer = rehearsed if inputs.dry_run else _unchanged
    return answer(what, "is there already", outputs)


def _unchanged(what: str, detail: str, outputs: dict[str, Any] | None = None) -> StepResult:
    return done(what, detail, changed=False, outputs=outputs)
