"""The command line: a file a command; talks to the client alone (`up`, `replay` and `doctor` reach `app`).

Nothing in here is imported before it is needed: `steersman --help` reads one table of names and sentences,
and a command imports the client, the drawing of tables and the kinds when it runs. Decision 0019 has the
measurements behind that.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the `steersman` command and end the process with its exit code."""
    from steersman.cli.program import run_program

    sys.exit(run_program(sys.argv[1:]))
