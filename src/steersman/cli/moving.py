"""`set`, `path`, `allowed`, `history`, `delete`, `hold`: what people do with one managed thing."""

from __future__ import annotations

import argparse
import threading
from typing import TYPE_CHECKING

from steersman.cli.exits import DONE, FAILED
from steersman.cli.managed import FORM, REASON, RESOURCE
from steersman.cli.spec import Command, Option, read_duration_s

if TYPE_CHECKING:
    from steersman.client import Steersman
    from steersman.kinds.state import ResourceRef

POLL_S = 0.25
"""Between two looks of `set --wait`."""


def set_status(arguments: argparse.Namespace) -> int:
    """Set the intent; with --wait, see it reached."""
    from steersman.cli.connection import connect
    from steersman.cli.managed import read_resource, write_change

    one = read_resource(arguments.RESOURCE)
    wait_s = read_duration_s(arguments.wait, "--wait") if arguments.wait else None
    status = None if arguments.STATUS == "-" else arguments.STATUS
    with connect(arguments) as plane:
        changed = plane.set_desired(*one, status, reason=arguments.reason, dry_run=arguments.dry_run)
        write_change(arguments, changed, f"desired status is {status or 'taken back'}")
        if wait_s is None or arguments.dry_run or status is None:
            return DONE
        return DONE if _wait(plane, one, wait_s) else FAILED


def _wait(plane: Steersman, one: ResourceRef, limit_s: float) -> bool:
    from steersman.cli.screen import note
    from steersman.kernel.clock import SystemClock

    clock = SystemClock()
    end_s = clock.monotonic() + limit_s
    while True:
        state = plane.resource(*one).state
        if state.is_converged():
            print(f"{one.kind.lower()}/{one.id}: {state.status}")
            return True
        if clock.monotonic() >= end_s:
            break
        threading.Event().wait(POLL_S)
    note(f"error: it is {state.status} after {limit_s:g} s")
    note(f"hint: steersman explain {one.kind.lower()}/{one.id} says what it waits for")
    return False


def path(arguments: argparse.Namespace) -> int:
    """Print the way to a state."""
    from steersman.cli.connection import connect
    from steersman.cli.managed import read_resource
    from steersman.cli.screen import write_data, write_table
    from steersman.cli.units import ABSENT, one_line

    with connect(arguments) as plane:
        way = plane.path(*read_resource(arguments.RESOURCE), arguments.STATUS)
    if arguments.output != "table":
        write_data(way, arguments.output)
    elif not way.steps:
        print(f"it is in {way.to} already")
    else:
        rows = [
            (
                step.event,
                step.source,
                step.to,
                ",".join(step.by) or "anybody",
                one_line("; ".join([*step.guard, *_needs(step.require)])) or ABSENT,
            )
            for step in way.steps
        ]
        write_table(("EVENT", "FROM", "TO", "BY", "NEEDS"), rows)
    return DONE


def _needs(require: object) -> list[str]:
    needs = ["a reason"] if getattr(require, "reason", False) else []
    needs += [f"evidence {one}" for one in getattr(require, "evidence", ())]
    approvals = getattr(require, "approvals", 0)
    return [*needs, f"{approvals} approvals"] if approvals else needs


def allowed(arguments: argparse.Namespace) -> int:
    """Print what could be asked now."""
    from steersman.cli.connection import connect
    from steersman.cli.managed import read_resource
    from steersman.cli.screen import write_data, write_table
    from steersman.cli.units import ABSENT, one_line

    with connect(arguments) as plane:
        told = plane.allowed(*read_resource(arguments.RESOURCE))
    if arguments.output != "table":
        write_data(told, arguments.output)
        return DONE
    rows = [
        (
            one.event,
            one.to,
            "yes" if one.enabled else "no",
            ",".join(one.by) or "anybody",
            one_line(one.why_not or "; ".join(_needs(one.require))) or ABSENT,
        )
        for one in told.items
    ]
    write_table(("EVENT", "TO", "NOW", "BY", "WHY_NOT_OR_NEEDS"), rows)
    return DONE


def history(arguments: argparse.Namespace) -> int:
    """Print what was done to it, oldest first."""
    from itertools import islice

    from steersman.cli.connection import connect
    from steersman.cli.managed import read_resource, write_history
    from steersman.cli.screen import write_data

    if _is_only_observed(arguments.RESOURCE):
        return _entity_history(arguments)
    one = read_resource(arguments.RESOURCE)
    with connect(arguments) as plane:
        newest = plane.resource_history(*one, newest_first=True)
        entries = list(islice(newest, arguments.limit))[::-1]
    if arguments.output in ("json", "yaml"):
        write_data({"items": entries}, arguments.output)
    else:
        write_history(entries, wide=arguments.output == "wide")
    return DONE


def _is_only_observed(word: str) -> bool:
    """Whether a word names an entity of a kind that nobody manages."""
    from steersman.kinds.names import kind_of, resource_kind_of

    head, slash, _ = word.partition("/")
    return bool(slash) and resource_kind_of(head) is None and kind_of(head) is not None


def _entity_history(arguments: argparse.Namespace) -> int:
    """How an entity's state changed, oldest first."""
    from steersman.cli.connection import connect, server_now
    from steersman.cli.past import write_states
    from steersman.cli.screen import write_data
    from steersman.cli.target import read_target
    from steersman.kinds.explanation import EntityHistory

    target = read_target(arguments.RESOURCE, None, None)
    with connect(arguments) as plane:
        found = plane.history(target.kind, target.name, target.scope)
        now = server_now(plane)
    states = found.states[-arguments.limit :]
    if arguments.output in ("json", "yaml"):
        write_data({"items": states}, arguments.output)
    else:
        write_states(EntityHistory(states=states), now)
    return DONE


def delete(arguments: argparse.Namespace) -> int:
    """Take a resource out."""
    from steersman.cli.connection import connect
    from steersman.cli.managed import read_resource, write_change

    with connect(arguments) as plane:
        changed = plane.delete_resource(*read_resource(arguments.RESOURCE), reason=arguments.reason)
    write_change(arguments, changed, "deleted")
    return DONE


def place_hold(arguments: argparse.Namespace) -> int:
    """Hold a resource."""
    from datetime import timedelta

    from steersman.cli.connection import connect, server_now
    from steersman.cli.managed import read_resource, write_change

    for_s = read_duration_s(arguments.ttl, "--ttl") if arguments.ttl else None
    with connect(arguments) as plane:
        until = None if for_s is None else server_now(plane) + timedelta(seconds=for_s)
        changed = plane.place_hold(
            *read_resource(arguments.RESOURCE), arguments.NAME, reason=arguments.reason, expires_at=until
        )
    write_change(arguments, changed, f"held by {arguments.NAME}")
    return DONE


def lift_hold(arguments: argparse.Namespace) -> int:
    """Let a resource go."""
    from steersman.cli.connection import connect
    from steersman.cli.managed import read_resource, write_change

    with connect(arguments) as plane:
        changed = plane.lift_hold(
            *read_resource(arguments.RESOURCE),
            arguments.NAME,
            reason=arguments.reason,
            override=arguments.override,
        )
    write_change(arguments, changed, f"{arguments.NAME} is lifted")
    return DONE


def _read_limit(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


STATUS = Option(("STATUS",), "a state of its lifecycle")
SET = Command(
    name="set",
    summary="Say where a node is meant to be; the loop takes it there",
    about="A STATUS of - takes the intent back. `steersman path` shows the way, `explain` what it waits for.",
    options=(
        *RESOURCE,
        STATUS,
        REASON,
        Option(("--wait",), "wait so long for it to get there; exit code 1 where it does not", "TIME"),
        Option(("--dry-run",), "judge it, and change nothing", switch=True),
        FORM,
    ),
    run=set_status,
    examples=(
        'steersman set gpu-07 maintenance --reason "fan is loud"',
        "steersman set node/gpu-07 in_service --wait 10m",
    ),
)
PATH = Command(
    name="path",
    summary="Show the way from where a node is to a state",
    options=(*RESOURCE, STATUS, FORM),
    run=path,
    examples=("steersman path gpu-07 maintenance",),
)
ALLOWED = Command(
    name="allowed",
    summary="Show what could be asked of a resource now, and why not",
    options=(*RESOURCE, FORM),
    run=allowed,
    examples=("steersman allowed node/gpu-07",),
)
HISTORY = Command(
    name="history",
    summary="Show what was done to a resource, by whom and why; or how an entity's state changed",
    options=(
        *RESOURCE,
        Option(("--limit",), "the newest so many rows", "N", default=50, read=_read_limit),
        Option(
            ("-o", "--output"),
            "table, more columns, or plain values",
            default="table",
            choices=("table", "wide", "json", "yaml"),
        ),
    ),
    run=history,
    examples=(
        "steersman history node/gpu-07",
        "steersman history policy/node-pressure -o wide",
        "steersman history gpu/GPU-5d2c",
    ),
)
DELETE = Command(
    name="delete",
    summary="Take a resource out; its history stays",
    options=(*RESOURCE, REASON, FORM),
    run=delete,
    examples=("steersman delete node/gpu-07 --reason decommissioned",),
)
HOLD = Command(
    name="hold",
    summary="Hold a resource so that nothing more is done to it, or let it go",
    actions=(
        Command(
            name="place",
            summary="Hold a resource",
            options=(
                *RESOURCE,
                Option(("NAME",), "the hold's name"),
                REASON,
                Option(("--ttl",), "let go by itself after this time", "TIME"),
                FORM,
            ),
            run=place_hold,
            examples=('steersman hold place gpu-07 repair --ttl 2h --reason "disk is being swapped"',),
        ),
        Command(
            name="lift",
            summary="Let a resource go",
            options=(
                *RESOURCE,
                Option(("NAME",), "the hold's name"),
                REASON,
                Option(("--override",), "lift another owner's hold; takes a reason", switch=True),
                FORM,
            ),
            run=lift_hold,
            examples=("steersman hold lift gpu-07 repair",),
        ),
    ),
)
