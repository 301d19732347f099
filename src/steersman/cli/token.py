"""`steersman token`: create, list and revoke access tokens. All three need a token of role admin."""

from __future__ import annotations

import argparse

from steersman.cli.exits import DONE
from steersman.cli.spec import Command, Option, read_duration_s

FORM = Option(
    ("-o", "--output"), "a table, or plain values", default="table", choices=("table", "json", "yaml")
)
ADMIN = "STEERSMAN_TOKEN=$(cat ~/.local/state/steersman/admin.token)"
ROLES = ("viewer", "operator", "admin")


def create(arguments: argparse.Namespace) -> int:
    """Make a token. Its secret goes to stdout and is never shown again; remarks go to stderr."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import note, write_data

    ttl_s = read_duration_s(arguments.ttl, "--ttl") if arguments.ttl else None
    with connect(arguments) as plane:
        issued = plane.create_token(arguments.NAME, arguments.role, ttl_s)
    if arguments.output != "table":
        write_data(issued, arguments.output)
        return DONE
    note(f"token {issued.info.id} for {issued.info.name}, role {issued.info.role}; it is shown this once:")
    print(issued.token)
    return DONE


def show(arguments: argparse.Namespace) -> int:
    """List tokens."""
    from steersman.cli.connection import connect, server_now
    from steersman.cli.screen import write_data, write_table
    from steersman.cli.units import ABSENT, one_line, show_age

    with connect(arguments) as plane:
        tokens = plane.tokens()
        now = server_now(plane)
    if arguments.output != "table":
        write_data({"items": tokens}, arguments.output)
        return DONE
    rows = [
        (
            token.id,
            one_line(token.name),
            token.role,
            show_age((now - token.created_at).total_seconds()),
            show_age((token.expires_at - now).total_seconds()) if token.expires_at else "never",
            f"{show_age((now - token.last_used_at).total_seconds())} ago" if token.last_used_at else ABSENT,
        )
        for token in tokens
    ]
    write_table(("ID", "NAME", "ROLE", "AGE", "EXPIRES", "LAST_USED"), rows)
    return DONE


def revoke(arguments: argparse.Namespace) -> int:
    """End a token."""
    from steersman.cli.connection import connect

    with connect(arguments) as plane:
        plane.revoke_token(arguments.ID)
    print(f"token {arguments.ID} revoked")
    return DONE


COMMAND = Command(
    name="token",
    summary="Create, list and revoke access tokens",
    about=(
        "These commands need a token of role admin. The first one is in the file admin.token in the state\n"
        "folder of the server; hand it over in $STEERSMAN_TOKEN."
    ),
    actions=(
        Command(
            name="create",
            summary="Create a token and print it, this once",
            options=(
                Option(("NAME",), "who or what will use it, e.g. grafana"),
                Option(("--role",), "what it may do", default="viewer", choices=ROLES),
                Option(
                    ("--ttl",), "how long it is good for, e.g. 90d; without it, until it is revoked", "TIME"
                ),
                FORM,
            ),
            run=create,
            examples=(
                f"{ADMIN} steersman token create grafana",
                "steersman token create ci --role operator --ttl 90d",
            ),
        ),
        Command(
            name="list",
            summary="List tokens, without their secrets",
            options=(FORM,),
            run=show,
            examples=("steersman token list",),
        ),
        Command(
            name="revoke",
            summary="Revoke a token at once",
            options=(Option(("ID",), "the token's id, as `token list` shows it"),),
            run=revoke,
            examples=("steersman token revoke t-01jd2m6k9v",),
        ),
    ),
)
