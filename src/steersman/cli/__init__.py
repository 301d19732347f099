"""The command line: a file a command; talks to the client alone (`up`, `replay` and `doctor` reach `app`).

Nothing in here is imported before it is needed: `steersman --help` reads one table of names and sentences,
and a command imports the client, the drawing of tables and the kinds when it runs. Decision 0019 has the
measurements behind that.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the `steersman` command and end the process with its exit code."""
    from steersman.cli.program import run_program

    code = run_program(sys.argv[1:])
    _leave_blocked_threads(code)
    sys.exit(code)


def _leave_blocked_threads(code: int) -> None:
    """End the process here if a thread would keep it.

    A driver of somebody else that blocks can't be ended, and the interpreter would wait for it without a
    bound. The log has named it by now, and everything else is closed.
    """
    threading = sys.modules.get("threading")
    if threading is None:
        return  # no thread without it; and `--help` does not pay for importing it
    main_thread = threading.main_thread()
    left = [one.name for one in threading.enumerate() if one is not main_thread and not one.daemon]
    if left:
        print(f"warning: left behind: {', '.join(left)}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
