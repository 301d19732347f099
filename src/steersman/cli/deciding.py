"""`approve`, `reject`, `snooze`, `freeze`: what people decide, on record with their name."""

from __future__ import annotations

import argparse
from datetime import timedelta

from steersman.cli.exits import DONE, WrongUsage
from steersman.cli.managed import FORM, REASON
from steersman.cli.spec import Command, Option, read_duration_s

NAME = Option(("NAME",), "the recommendation's name, as `get recommendations` shows it")


def approve(arguments: argparse.Namespace) -> int:
    """Agree to a recommendation."""
    from steersman.cli.connection import connect
    from steersman.cli.managed import write_change

    with connect(arguments) as plane:
        name = _name(arguments)
        changed = plane.approve(name, reason=arguments.reason)
        done = changed.resource.state.status
        if done == "proposed":
            agreed = len(getattr(changed.resource.state, "approved_by", ()))
            needed = plane.recommendation(name).needed
            done = f"{agreed} of {needed} people have agreed"
    write_change(arguments, changed, done)
    return DONE


def reject(arguments: argparse.Namespace) -> int:
    """Say no to a recommendation."""
    from steersman.cli.connection import connect
    from steersman.cli.managed import write_change

    with connect(arguments) as plane:
        changed = plane.reject(_name(arguments), reason=arguments.reason)
    write_change(arguments, changed, changed.resource.state.status)
    return DONE


def snooze(arguments: argparse.Namespace) -> int:
    """Ask nobody for a while."""
    from steersman.cli.connection import connect, server_now
    from steersman.cli.managed import write_change

    if bool(arguments.ttl) == bool(arguments.off):
        raise WrongUsage("say for how long, or --off", hint="steersman snooze REC --ttl 1h")
    with connect(arguments) as plane:
        until = None
        if arguments.ttl:
            until = server_now(plane) + timedelta(seconds=read_duration_s(arguments.ttl, "--ttl"))
        changed = plane.snooze(_name(arguments), until, reason=arguments.reason)
    write_change(arguments, changed, "snoozed" if until is not None else "asked about again")
    return DONE


def freeze(arguments: argparse.Namespace) -> int:
    """Throw the freeze switch, or show it."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import write_data
    from steersman.cli.units import one_line

    if arguments.show and arguments.off:
        raise WrongUsage("--show changes nothing, and --off does")
    with connect(arguments) as plane:
        if arguments.show:
            told = plane.freeze_state()
        else:
            told = plane.set_freeze(not arguments.off, reason=arguments.reason)
    if arguments.output != "table":
        write_data(told, arguments.output)
        return DONE
    why = f": {one_line(told.reason)}" if told.reason else ""
    word = "frozen" if told.frozen else "not frozen"
    print(f"{word} since {told.since:%Y-%m-%dT%H:%M:%SZ}, by {told.by}{why}")
    return DONE


def _name(arguments: argparse.Namespace) -> str:
    word: str = arguments.NAME
    head, slash, rest = word.partition("/")
    from steersman.kinds.names import resource_kind_of

    return rest if slash and resource_kind_of(head) == "Recommendation" else word


APPROVE = Command(
    name="approve",
    summary="Agree to a recommendation; it is carried out if its guardrails still pass",
    options=(NAME, REASON, FORM),
    run=approve,
    examples=('steersman approve node-pressure-6f1c --reason "seen it"',),
)
REJECT = Command(
    name="reject",
    summary="Say no to a recommendation",
    options=(NAME, REASON, FORM),
    run=reject,
    examples=('steersman reject node-pressure-6f1c --reason "it is a test"',),
)
SNOOZE = Command(
    name="snooze",
    summary="Ask nobody about a recommendation for a while",
    options=(
        NAME,
        Option(("--ttl",), "for how long, e.g. 1h", "TIME"),
        Option(("--off",), "ask again at once", switch=True),
        REASON,
        FORM,
    ),
    run=snooze,
    examples=("steersman snooze node-pressure-6f1c --ttl 1h",),
)
FREEZE = Command(
    name="freeze",
    summary="Freeze all that the plane does by itself, or let it go on",
    about="People can still act while it is frozen. A reason must be given.",
    options=(
        REASON,
        Option(("--off",), "let it go on", switch=True),
        Option(("--show",), "show the switch, and change nothing", switch=True),
        FORM,
    ),
    run=freeze,
    examples=('steersman freeze --reason "network maintenance"', 'steersman freeze --off --reason "done"'),
)
