"""`steersman store`: what is on disk, looked at without a running server."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from steersman.cli.exits import DONE, FAILED
from steersman.cli.managed import FORM
from steersman.cli.spec import Command, Option


def verify(arguments: argparse.Namespace) -> int:
    """Read every history and check its chain; exit code 1 where something is wrong."""
    from steersman.app import verify_store
    from steersman.cli.screen import note, write_data
    from steersman.cli.units import one_line

    config = Path(arguments.config) if arguments.config else None
    report = asyncio.run(verify_store(config, os.environ))
    if arguments.output != "table":
        write_data({"ok": report.ok, "report": report}, arguments.output)
        return DONE if report.ok else FAILED
    for one in report.problems:
        print(f"{one_line(one.key)}: {one_line(one.problem)}")
    if report.problems_total > len(report.problems):
        note(f"and {report.problems_total - len(report.problems)} more")
    verdict = "nothing is wrong" if report.ok else f"{report.problems_total} problems"
    print(
        f"{report.resources} resources, {report.graves} deleted ones, {report.rows} history rows: {verdict}"
    )
    return DONE if report.ok else FAILED


COMMAND = Command(
    name="store",
    summary="Check what is on disk",
    actions=(
        Command(
            name="verify",
            summary="Read every history and check that nothing was changed, taken away or added",
            about="Each history row holds the hash of the one before it. The store must not be in use.",
            options=(
                Option(("-c", "--config"), "configuration file", "FILE", env="STEERSMAN_CONFIG"),
                FORM,
            ),
            run=verify,
            examples=("steersman store verify",),
            talks=False,
        ),
    ),
)
