"""`steersman policy`: what is watched for, and how far each policy may go."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.cli.exits import DONE, FAILED
from steersman.cli.managed import FORM, REASON
from steersman.cli.spec import Command, Option
from steersman.kernel.clock import iso_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steersman.kinds.advice import PolicyCoverage
    from steersman.kinds.deciding import PolicyProblem

NAME = Option(("NAME",), "the policy's name")
MODES = ("observe_only", "recommend_with_approval", "controlled_auto_act", "disabled")


def show_all(arguments: argparse.Namespace) -> int:
    """List policies; what could not be read is told on stderr."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import write_data, write_table
    from steersman.cli.units import ABSENT, one_line

    with connect(arguments) as plane:
        book = plane.policies()
    if arguments.output != "table":
        write_data(book, arguments.output)
        return DONE
    rows = [
        (
            one_line(one.name),
            one.mode,
            one.policy.match.entity_type.value if one.policy is not None else ABSENT,
            one.policy.action.name if one.policy is not None else "(not loaded)",
            str(one.open),
            str(one.failures),
            one_line(one.place),
        )
        for one in book.items
    ]
    write_table(("NAME", "MODE", "LOOKS_AT", "ACTION", "OPEN", "FAILURES", "PLACE"), rows)
    _tell_faults(book.problems)
    return DONE


def show(arguments: argparse.Namespace) -> int:
    """Print one policy."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import write_data

    with connect(arguments) as plane:
        write_data(plane.policy(arguments.NAME), arguments.output)
    return DONE


def set_mode(arguments: argparse.Namespace) -> int:
    """Say how far a policy may go."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import write_data

    with connect(arguments) as plane:
        told = plane.set_policy_mode(arguments.NAME, arguments.MODE, reason=arguments.reason)
    if arguments.output != "table":
        write_data(told, arguments.output)
    else:
        print(f"policy/{told.policy.name}: {'' if told.changed else 'already '}{told.policy.mode}")
    return DONE


def dry_run(arguments: argparse.Namespace) -> int:
    """Show what a file of policies would say now; exit code 1 where it can't all be read."""
    from steersman.cli.connection import connect
    from steersman.cli.documents import read_text
    from steersman.cli.screen import write_block, write_data
    from steersman.cli.units import ABSENT, one_line

    text = read_text(arguments.FILE)
    with connect(arguments) as plane:
        told = plane.dry_run_policies(text, "<stdin>" if arguments.FILE == "-" else arguments.FILE)
    if arguments.output != "table":
        write_data(told, arguments.output)
        return FAILED if told.problems else DONE
    _write_counts(told)
    write_block(
        "Of whom it holds, or can't be told",
        ("POLICY", "ENTITY", "HOLDS", "ACTION", "WHY"),
        [
            (
                one_line(one.policy),
                one_line("/".join(part for part in (one.entity_type, one.scope, one.entity_id) if part)),
                one.truth.value,
                one.action or ABSENT,
                one_line(one.reason or one.why) or ABSENT,
            )
            for one in told.verdicts
        ],
    )
    _tell_faults(told.problems)
    return FAILED if told.problems else DONE


def coverage(arguments: argparse.Namespace) -> int:
    """Show of how many entities each policy can tell, and which signals nobody collects."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import write_data

    with connect(arguments) as plane:
        told = plane.policy_coverage()
    if arguments.output != "table":
        write_data(told, arguments.output)
    else:
        _write_counts(told)
    return DONE


def replay(arguments: argparse.Namespace) -> int:
    """Play a recording against policies; exit code 1 where some could not be read."""
    from steersman.app import replay_policies
    from steersman.cli.screen import note, write_data, write_table
    from steersman.cli.units import one_line

    told = asyncio.run(
        replay_policies(
            Path(arguments.FILE),
            [Path(place) for place in arguments.policies or ()],
            [Path(place) for place in arguments.against or ()],
        )
    )
    code = FAILED if told.problems else DONE
    if arguments.output == "ndjson":
        for line in told.lines:
            print(line.decode(), end="")
        return code
    if arguments.output != "table":
        data = {"said": told.said, "difference": told.difference, "problems": told.problems}
        write_data(data, arguments.output)
        return code
    rows = [("", said) for said in told.said]
    if told.difference is not None:
        both = [(f"both, {late_s:+.0f} s", first) for first, _, late_s in told.difference.both]
        rows = [
            *both,
            *(("only before", said) for said in told.difference.only_first),
            *(("only after", said) for said in told.difference.only_second),
        ]
    write_table(
        ("AT", "POLICY", "ENTITY", "ACTION", "ENDED", "SAID_BY", "WHY"),
        [
            (
                iso_utc(said.at),
                one_line(said.policy),
                one_line(said.entity),
                said.action,
                iso_utc(said.until) if said.until else "-",
                side or "-",
                one_line(said.reason),
            )
            for side, said in rows
        ],
    )
    for problem in told.problems:
        note(f"error: {problem.detail}")
    return code


def _write_counts(told: PolicyCoverage) -> None:
    from steersman.cli.screen import write_block, write_table
    from steersman.cli.units import ABSENT, one_line

    rows = [
        (
            one_line(one.policy),
            one.entity_type,
            str(one.matched),
            str(one.true),
            str(one.false),
            str(one.unknown),
            one_line("; ".join(f"{count}x {why}" for why, count in one.whys.items())) or ABSENT,
        )
        for one in told.policies
    ]
    write_table(("POLICY", "LOOKS_AT", "MATCH", "HOLDS", "HOLDS_NOT", "UNKNOWN", "WHY_UNKNOWN"), rows)
    write_block(
        "What they can't see",
        ("POLICY", "CAN_HOLD", "NOBODY_COLLECTS"),
        [
            (
                one_line(one.policy),
                "never" if one.blind else "yes",
                one_line(", ".join(one.missing)) or f"any {one.entity_type}",
            )
            for one in told.signals
            if one.blind or one.missing
        ],
    )


def _tell_faults(problems: Sequence[PolicyProblem]) -> None:
    from steersman.cli.screen import note

    for one in problems:
        place = f"{one.file}:{one.line}:{one.column}" if one.line else one.file
        detail = one.detail if one.detail.startswith(one.file) else f"{place}: {one.detail}"
        note(f"error: {detail}")


COMMAND = Command(
    name="policy",
    summary="Show policies, say how far each may go, and try new ones",
    actions=(
        Command(
            name="list",
            summary="List policies with their modes",
            options=(FORM,),
            run=show_all,
            examples=("steersman policy list",),
        ),
        Command(
            name="show",
            summary="Show a policy",
            options=(
                NAME,
                Option(("-o", "--output"), "its form", default="yaml", choices=("yaml", "json")),
            ),
            run=show,
            examples=("steersman policy show node-pressure",),
        ),
        Command(
            name="set",
            summary="Say how far a policy may go",
            about="A reason must be given; it is kept in history.",
            options=(NAME, Option(("MODE",), "its mode", choices=MODES), REASON, FORM),
            run=set_mode,
            examples=(
                'steersman policy set node-pressure controlled_auto_act --reason "a week of watching"',
            ),
        ),
        Command(
            name="dry-run",
            summary="Show what a file of policies would say of the fleet as it is now",
            about="Nothing is loaded and nothing proposed. How long it must hold (`for`) is not waited for.",
            options=(Option(("FILE",), "a file, or - for standard input"), FORM),
            run=dry_run,
            examples=("steersman policy dry-run my-policies.yaml",),
        ),
        Command(
            name="coverage",
            summary="Show of how many entities each policy can tell, and which signals nobody collects",
            about=(
                "A policy that needs a signal which no source reports can never hold; it is named, with the\n"
                "signals. Each is counted over the fleet as it is now."
            ),
            options=(FORM,),
            run=coverage,
            examples=("steersman policy coverage",),
        ),
        Command(
            name="replay",
            summary="Show what policies would have recommended over a recording",
            about=(
                "Every machine of the recording counts as a node in service, and nothing is carried out.\n"
                "The same recording and policies give the same recommendations, to the byte (-o ndjson)."
            ),
            options=(
                Option(("FILE",), "a recording made by `steersman record`"),
                Option(
                    ("--policies",),
                    "files or folders of policies; the shipped ones where none is named",
                    "PATH",
                    repeat=True,
                ),
                Option(
                    ("--against",), "compare with these: files or folders of policies", "PATH", repeat=True
                ),
                Option(
                    ("-o", "--output"),
                    "its form",
                    default="table",
                    choices=("table", "json", "yaml", "ndjson"),
                ),
            ),
            run=replay,
            examples=(
                "steersman policy replay morning.rec",
                "steersman policy replay morning.rec --policies now/ --against new/",
            ),
            talks=False,
        ),
    ),
)
