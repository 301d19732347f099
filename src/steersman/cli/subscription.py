"""`steersman subscription`: who is sent which events of managed things."""

from __future__ import annotations

import argparse
from datetime import datetime

from steersman.cli.exits import DONE, FAILED, WrongUsage
from steersman.cli.managed import FORM
from steersman.cli.spec import Command, Option

ID = Option(("ID",), "the subscription's id")
NOT_WRITTEN = "expected a time such as 2026-11-24T12:00:00Z"


def show_all(arguments: argparse.Namespace) -> int:
    """List subscriptions and how their delivery fares."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import note, write_data, write_table
    from steersman.cli.units import ABSENT, one_line, show_age

    with connect(arguments) as plane:
        found = plane.subscriptions()
    if arguments.output != "table":
        write_data({"items": found}, arguments.output)
        return DONE
    if not found:
        note("no subscriptions")
        return DONE
    rows = [
        (
            one.subscription.id,
            one_line(one.subscription.name) or ABSENT,
            one_line(one.subscription.url),
            ",".join(one.subscription.kinds) or "all",
            "yes" if one.subscription.enabled else one_line(one.subscription.disabled_reason) or "no",
            show_age(one.delivery.lag_s) if one.delivery.pending else ABSENT,
            str(one.delivery.delivered),
            str(one.delivery.dead_letters),
            one_line(one.delivery.last_error) or ABSENT,
        )
        for one in found
    ]
    write_table(("ID", "NAME", "URL", "KINDS", "ENABLED", "BEHIND", "DELIVERED", "DEAD", "LAST_ERROR"), rows)
    return DONE


def create(arguments: argparse.Namespace) -> int:
    """Make a subscription. Its secret goes to stdout and is never shown again; remarks go to stderr."""
    from steersman.cli.connection import connect
    from steersman.cli.managed import read_resource_kind
    from steersman.cli.screen import note, write_data
    from steersman.cli.target import read_labels
    from steersman.kinds.subscription import Format

    kinds = tuple(read_resource_kind(word) for word in arguments.kind or ())
    with connect(arguments) as plane:
        issued = plane.create_subscription(
            arguments.URL,
            name=arguments.name or "",
            kinds=kinds,
            labels=read_labels(arguments.selector),
            format=Format(arguments.format),
        )
    if arguments.output != "table":
        write_data(issued, arguments.output)
        return DONE
    note(
        f"subscription {issued.subscription.id} to {issued.subscription.url}; its secret is shown this once:"
    )
    print(issued.secret)
    return DONE


def delete(arguments: argparse.Namespace) -> int:
    """Remove a subscription."""
    from steersman.cli.connection import connect

    with connect(arguments) as plane:
        plane.delete_subscription(arguments.ID)
    print(f"subscription {arguments.ID} removed")
    return DONE


def test(arguments: argparse.Namespace) -> int:
    """Send a test event; exit code 1 where it was not taken."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import write_data
    from steersman.cli.units import one_line

    with connect(arguments) as plane:
        sent = plane.test_subscription(arguments.ID)
    if arguments.output != "table":
        write_data(sent, arguments.output)
    else:
        answer = f"answered {sent.status}" if sent.status else "no answer"
        print(f"{'taken' if sent.delivered else 'not taken'}: {answer}{_behind(one_line(sent.error))}")
    return DONE if sent.delivered else FAILED


def dead_letters(arguments: argparse.Namespace) -> int:
    """List events that could not be delivered."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import note, write_data, write_table
    from steersman.cli.units import one_line

    with connect(arguments) as plane:
        found = list(plane.dead_letters(arguments.ID))
    if arguments.output != "table":
        write_data({"items": found}, arguments.output)
        return DONE
    if not found:
        note("no dead letters")
        return DONE
    rows = [
        (one.id, one_line(one.event.id), one.event.type, str(one.attempts), one_line(one.error))
        for one in found
    ]
    write_table(("ID", "EVENT", "TYPE", "ATTEMPTS", "ERROR"), rows)
    return DONE


def replay(arguments: argparse.Namespace) -> int:
    """Send again: dead letters, or everything from a time on."""
    from steersman.cli.connection import connect

    wanted = vars(arguments)["from"]
    if (wanted is None) == (not arguments.dead):
        raise WrongUsage("say what to send again: --dead, or --from TIME")
    try:
        since = None if wanted is None else datetime.fromisoformat(wanted)
    except ValueError:
        raise WrongUsage(f"--from is {wanted!r}; {NOT_WRITTEN}") from None
    with connect(arguments) as plane:
        told = plane.replay_subscription(
            arguments.ID, from_time=since, dead_letters=[] if arguments.dead else None
        )
    if arguments.dead:
        print(f"{told.dead_letters} dead letters are sent again")
    else:
        print(f"everything after revision {told.after} is sent again")
    return DONE


def _behind(text: str) -> str:
    return f" ({text})" if text else ""


COMMAND = Command(
    name="subscription",
    summary="Say who is sent which events of managed things",
    actions=(
        Command(
            name="list",
            summary="List subscriptions and how their delivery fares",
            options=(FORM,),
            run=show_all,
            examples=("steersman subscription list",),
        ),
        Command(
            name="create",
            summary="Have events sent to an address",
            about=(
                "Needs role admin. The secret that requests are signed with goes to stdout, this once.\n"
                "Addresses of private networks must be allowed in the configuration (events.allow_targets)."
            ),
            options=(
                Option(("URL",), "where events are posted to"),
                Option(("--name",), "a name for people", "NAME"),
                Option(("--kind",), "only events of this kind of resource", "KIND", repeat=True),
                Option(("-l", "--selector"), "only of resources with this label", "NAME=VALUE", repeat=True),
                Option(
                    ("--format",),
                    "how a CloudEvent is put into a request",
                    default="structured",
                    choices=("structured", "binary"),
                ),
                FORM,
            ),
            run=create,
            examples=("steersman subscription create https://hooks.example.org/steersman --kind node",),
        ),
        Command(
            name="delete",
            summary="Remove a subscription",
            options=(ID,),
            run=delete,
            examples=("steersman subscription delete sub-01m8",),
        ),
        Command(
            name="test",
            summary="Send a test event now, and say what came of it",
            options=(ID, FORM),
            run=test,
            examples=("steersman subscription test sub-01m8",),
        ),
        Command(
            name="dead-letters",
            summary="List events that could not be delivered",
            options=(ID, FORM),
            run=dead_letters,
            examples=("steersman subscription dead-letters sub-01m8",),
        ),
        Command(
            name="replay",
            summary="Send again: dead letters, or everything from a time on",
            options=(
                ID,
                Option(("--dead",), "all dead letters", switch=True),
                Option(("--from",), "everything from this time on", "TIME"),
            ),
            run=replay,
            examples=(
                "steersman subscription replay sub-01m8 --dead",
                "steersman subscription replay sub-01m8 --from 2026-11-24T12:00:00Z",
            ),
        ),
    ),
)
