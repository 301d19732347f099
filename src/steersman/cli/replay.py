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
    from steersman.cli.units import show_age

    summary = replay_file(Path(arguments.FILE), Path(arguments.out) if arguments.out else None)
    if arguments.output != "table":
        write_data(summary, arguments.output)
        return 0
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in summary.verdicts.items())
    cut = "" if summary.cut_at is None else f", good up to byte {summary.cut_at}"
    write_pairs(
        [
            ("Recorded by", summary.program),
            ("Complete", "yes" if summary.complete else f"no: the recording was cut{cut}"),
            ("Lasted", show_age(summary.lasted_s)),
            ("Entries", str(summary.entries)),
            ("Fragments", f"{summary.fragments} ({verdicts or 'none'})"),
            ("Left out", f"{summary.dropped} (the recorder was behind)" if summary.dropped else "0"),
            ("Entities", str(summary.entities)),
            ("Tombstones", str(summary.tombstones)),
            ("SHA-256", summary.sha256),
        ]
    )
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
