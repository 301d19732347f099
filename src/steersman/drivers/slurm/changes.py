"""One thing of a cluster read, or changed: by slurmrestd where its version can, else by commands.

Commands are only used where they are configured beside a url, because those that PATH has may be another
cluster's. A refusal is a `SlurmRefused`; where nobody can tell whether a change was made, `Unanswered`.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from steersman.drivers.api import SourceError
from steersman.drivers.program import ProgramNotBegun, Ran
from steersman.drivers.slurm import shapes
from steersman.drivers.slurm.client import RestCluster, SlurmRefused
from steersman.drivers.slurm.commands import SMALL_MAX_BYTES, CommandCluster
from steersman.drivers.slurm.options import SlurmOptions
from steersman.drivers.slurm.picture import JobSeen, Listing, NodeSeen, ReservationSeen
from steersman.drivers.web.client import Answer
from steersman.kernel.clock import Clock
from steersman.kernel.redact import redact_text

NODES_FROM = "v0.0.39"
"""The first version of slurmrestd's API that changes nodes."""
RESERVATIONS_FROM = "v0.0.43"
"""The first one that makes reservations."""
RESERVATIONS_ENDED_FROM = "v0.0.40"
"""The first one that deletes them."""
NO_SUCH_JOB, NO_SUCH_NODE, NO_SUCH_RESERVATION = 2017, 2018, 2053
AHEAD_S = 86_400.0
"""More than clocks differ: nothing has changed since then."""
JOB_WAITS, JOB_OVER = 2024, 2021
"""slurm_errno.h."""

_TASKS = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?")
_SAID = {
    "invalid job id": NO_SUCH_JOB,
    "invalid node name": NO_SUCH_NODE,
    "requested reservation is invalid": NO_SUCH_RESERVATION,
    "job is pending execution": JOB_WAITS,
    "already completing or completed": JOB_OVER,
    "requested nodes are busy": 2016,
    "transition state": 2020,
    "standby mode": 2027,
    "reservation is in use": 2057,
    "connect failure": 1001,
    "socket timed out": 5004,
    "zero bytes": 5005,
    "send failure": 1002,
    "receive failure": 1003,
    "unexpected message": 1000,
}
"""Words of slurm_strerror in what commands complain of, and the error that they are."""


class Unanswered(SourceError):
    """A change was asked for, and no answer came: nobody knows whether it was made."""

    code = "slurm_unanswered"
    title = "Slurm did not answer a change"


class NoWay(SourceError):
    """Neither this version of slurmrestd's API nor a configured command can do it."""

    code = "slurm_no_way"
    title = "No way to change this in Slurm"


@contextmanager
def unanswered() -> Generator[None]:
    """From here on a failure leaves open whether the change was made, unless slurmctld said no."""
    try:
        yield
    except (Unanswered, NoWay, ProgramNotBegun):
        raise
    except SlurmRefused as error:
        if error.lost:
            raise Unanswered(error.detail) from None
        raise
    except SourceError as error:
        raise Unanswered(error.detail) from None


def has_task(tasks: str | None, number: int) -> bool:
    """Whether a record of an array (`1-5,8%2`) stands for that task."""
    for part in (tasks or "").partition("%")[0].split(","):
        match = _TASKS.fullmatch(part.strip())
        if match is None:
            continue
        first, last, step = int(match.group(1)), match.group(2), int(match.group(3) or 1)
        if first <= number <= int(last or first) and (number - first) % max(1, step) == 0:
            return True
    return False


class Changes:
    """Reads and changes single things of one cluster."""

    def __init__(
        self, options: SlurmOptions, clock: Clock, rest: RestCluster | None, commands: CommandCluster | None
    ) -> None:
        self._clock = clock
        self._rest = rest if options.by_rest else None
        self._commands = commands if options.acts_by_commands else None

    # ---- reading

    async def node(self, name: str, timeout_s: float) -> NodeSeen | None:
        """A node as it is now; None where there is none. Raises `SourceError`."""
        if self._rest is not None:
            # What is allocated on a node is only worked out when all nodes are asked for; an answer about one
            # has what was worked out last. Asked for changes after a time to come, it says "none" in a line.
            ahead = int(self._clock.now().timestamp() + AHEAD_S)
            await self._rest.ask("GET", f"/nodes?update_time={ahead}", timeout_s=timeout_s)
        said: Listing[NodeSeen] = await self._one(
            "nodes", f"/node/{quote(name)}", name, NO_SUCH_NODE, timeout_s
        )
        return next((node for node in said.items if node.name == name), None)

    async def jobs(self, job: str, timeout_s: float) -> list[JobSeen]:
        """The records of a job: several where it is an array or heterogeneous, none where Slurm knows of no
        such job (any more). Raises `SourceError`."""
        number, _, task = job.partition("_")
        said: Listing[JobSeen] = await self._one("jobs", f"/job/{number}", number, NO_SUCH_JOB, timeout_s)
        return [
            seen
            for seen in said.items
            if int(number) in (seen.job_id, seen.array_job_id, seen.het_job_id)
            and (not task or has_task(seen.array_tasks, int(task)))
        ]

    async def reservations(self, timeout_s: float) -> list[ReservationSeen]:
        """All reservations. Raises `SourceError`."""
        said: Listing[ReservationSeen] = await self._one("reservations", "/reservations", "", 0, timeout_s)
        return said.items

    async def _one(self, name: str, path: str, word: str, absent: int, timeout_s: float) -> Listing[Any]:
        if self._rest is not None:
            said = await self._ask("GET", path, timeout_s, absent=absent)
            return _READERS[name](said) if said is not None else Listing()
        return await self._by_commands().show(name, word, timeout_s, _no_such(absent))

    # ---- changing. All raise `NoWay`, `SlurmRefused`, `Unanswered`

    async def set_node(self, name: str, state: str, reason: str, timeout_s: float) -> None:
        """Give a node a state (`DRAIN`, `RESUME`), and a reason where there is one."""
        if await self._can(NODES_FROM, f"change nodes ({state})", timeout_s):
            body: dict[str, Any] = {"state": [state]} | ({"reason": reason} if reason else {})
            await self._ask("POST", f"/node/{quote(name)}", timeout_s, body=body)
            return
        words = [f"nodename={name}", f"state={state}", *([f"reason={reason}"] if reason else [])]
        await self._command(("scontrol", "update", *words), timeout_s)

    async def cancel_job(self, job: str, timeout_s: float) -> None:
        """End a job, or a task of an array."""
        if self._rest is not None:
            await self._ask("DELETE", f"/job/{job}", timeout_s)
            return
        await self._command(("scancel", job), timeout_s)

    async def mark_job(self, job: str, comment: str, timeout_s: float) -> None:
        """Write a job's AdminComment."""
        self._want_commands("requeue jobs")
        await self._command(("scontrol", "update", f"jobid={job}", f"admincomment={comment}"), timeout_s)

    async def requeue_job(self, job: str, timeout_s: float, *, hold: bool) -> None:
        """Put a job back into its queue. No version of slurmrestd's API can."""
        self._want_commands("requeue jobs")
        await self._command(("scontrol", "requeuehold" if hold else "requeue", job), timeout_s)

    async def create_reservation(
        self,
        name: str,
        nodes: tuple[str, ...],
        start: datetime,
        duration_s: float,
        *,
        users: list[str],
        accounts: list[str],
        flags: list[str],
        timeout_s: float,
    ) -> None:
        """Reserve nodes."""
        minutes = max(1, round(duration_s / 60))
        if await self._can(RESERVATIONS_FROM, "make reservations", timeout_s):
            body: dict[str, Any] = {
                "name": name,
                "start_time": {"set": True, "infinite": False, "number": int(start.timestamp())},
                "duration": {"set": True, "infinite": False, "number": minutes},
                "node_list": list(nodes),
                "flags": flags,
            }
            body |= {"users": users} if users else {}
            body |= {"accounts": accounts} if accounts else {}
            await self._ask("POST", "/reservation", timeout_s, body=body)
            return
        words = [
            f"reservationname={name}",
            f"starttime={start.astimezone(UTC):%Y-%m-%dT%H:%M:%S}",
            f"duration={minutes}",
            f"nodes={','.join(nodes)}",
        ]
        words += [f"flags={','.join(flags)}"] if flags else []
        words += [f"users={','.join(users)}"] if users else []
        words += [f"accounts={','.join(accounts)}"] if accounts else []
        await self._command(("scontrol", "create", "reservation", *words), timeout_s)

    async def delete_reservation(self, name: str, timeout_s: float) -> None:
        """Give what is reserved free again."""
        if await self._can(RESERVATIONS_ENDED_FROM, "delete reservations", timeout_s):
            await self._ask("DELETE", f"/reservation/{quote(name)}", timeout_s)
            return
        await self._command(("scontrol", "delete", f"reservationname={name}"), timeout_s)

    # ---- inside

    async def _can(self, version: str, what: str, timeout_s: float) -> bool:
        """Whether slurmrestd is asked to do it; else commands are. Raises `NoWay` where neither can."""
        if self._rest is None:
            return False
        if not self._rest.version:
            await self._rest.probe(timeout_s)
        if self._rest.version >= version:
            return True
        if self._commands is None:
            raise NoWay(
                f"{self._rest.place} speaks {self._rest.version}, which can't {what}; {version} can. "
                "Or configure commands beside it (bin or slurm_conf)"
            )
        return False

    def _want_commands(self, what: str) -> None:
        if self._commands is None:
            raise NoWay(
                f"no version of slurmrestd's API can {what}; configure commands beside it (bin or slurm_conf)"
            )

    def _by_commands(self) -> CommandCluster:
        if self._commands is None:
            raise NoWay("no commands are configured")
        return self._commands

    async def _ask(
        self,
        method: str,
        path: str,
        timeout_s: float,
        *,
        body: dict[str, Any] | None = None,
        absent: int = 0,
    ) -> shapes.Said | None:
        """One request; None where what is named is not there (the error `absent`)."""
        assert self._rest is not None  # noqa: S101 - for the type's sake: every caller looked
        answer = await self._rest.ask(method, path, timeout_s=timeout_s, body=body)
        said = _said(answer)
        errors = shapes.errors_of(said)
        if not errors and answer.status == 200:
            return said
        if absent and any(error.number == absent for error in errors):
            return None
        if not errors and answer.status == 404 and absent:
            return None
        if not errors and answer.status in (404, 405):
            raise NoWay(f"{answer.place} has no {method} (status {answer.status})")
        told = errors[0] if errors else shapes.Fault("an error without words", None)
        raise SlurmRefused(
            f"{answer.place} refused: {told.text}" + (f" ({told.number})" if told.number else ""),
            number=told.number,
            http_status=answer.status,
        )

    async def _command(self, argv: tuple[str, ...], timeout_s: float) -> None:
        ran = await self._by_commands().run_command(argv, timeout_s, SMALL_MAX_BYTES)
        if ran.exit_code < 0:
            raise Unanswered(f"{argv[0]} was ended by signal {-ran.exit_code} before it said how it went")
        if ran.exit_code:
            raise refusal(argv[0], ran)


def refusal(program: str, ran: Ran) -> SlurmRefused:
    """What a command's complaint means."""
    said = f"{ran.stderr} {ran.stdout.decode(errors='replace')}".strip()
    number = next((number for words, number in _SAID.items() if words in said.lower()), None)
    return SlurmRefused(f"{program} refused: {redact_text(said[:300])}", number=number)


def _no_such(number: int) -> tuple[str, ...]:
    """What commands say where there is no such thing."""
    return (*(words for words, one in _SAID.items() if one == number), " not found") if number else ()


def _said(answer: Answer) -> shapes.Said:
    """The answer's frame; an empty one where it is none and no success either."""
    try:
        return shapes.read_said(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        if answer.status == 200:
            raise SourceError(f"{answer.place}: its answer is not Slurm's") from None
        return shapes.Said()


_READERS = {"nodes": shapes.nodes_of, "jobs": shapes.jobs_of, "reservations": shapes.reservations_of}
