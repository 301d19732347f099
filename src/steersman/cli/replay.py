"""`steersman replay`: a recording played again on its own clock."""

from __future__ import annotations

import argparse
from pathlib import Path

from steersman.cli.spec import Command, Option

OPTIONS = (
    Option(("FILE",), "a recording made by `steersman record`"),
    Option(("--out",), "write the resulting entities to this file, one JSON object a line", "NDJSON"),
    Option(
        ("-o", "--output"), "how to print the summary", default="table", choices=("table", "json", "yaml")
    ),
)


def run(arguments: argparse.Namespace) -> int:
    """Replay, print what came out."""
    from steersman.app import replay_file
    from steersman.cli.screen import write_data, write_pairs

    summary = replay_file(Path(arguments.FILE), Path(arguments.out) if arguments.out else None)
    if arguments.output != "table":
        write_data(summary, arguments.output)
        return 0
    write_pairs([])
    return 0


COMMAND = Command(
    name="replay",
    summary="Play a recording again, to the byte",
    about=(
        "Feeds the recording into an empty state bus on the recording's own clock. The same recording gives\n"
        "the same entities, byte for byte, on any machine and any day: the printed sha256 says so."
    ),
    options=OPTIONS,
    run=run,
    examples=("steersman replay morning.rec", "steersman replay morning.rec --out entities.ndjson"),
    talks=False,
)
