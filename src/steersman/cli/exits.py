"""Exit codes, and the one error that the command line raises by itself.

Scripts match on these numbers: they are part of the public surface.
"""

from __future__ import annotations

from typing import Final

from steersman.kernel.errors import InvalidInput

DONE: Final = 0
"""It was done."""
FAILED: Final = 1
"""It was refused, or it failed; also `doctor` with a failed check."""
WRONG_USAGE: Final = 2
"""The command line or the configuration can't be read; nothing was tried."""
NOT_REACHABLE: Final = 3
"""No Steersman answers at the address."""
INTERRUPTED: Final = 130
"""Ended by Ctrl-C (128 + SIGINT), as shells report it."""
OUTPUT_CLOSED: Final = 141
"""Whoever read our output went away (128 + SIGPIPE), as with `steersman get nodes | head -1`."""


class WrongUsage(InvalidInput):
    """The command line makes no sense; `hint` is what to type instead, or where to read on."""

    code = "wrong_usage"
    title = "Wrong usage"

    def __init__(self, detail: str, *, hint: str = "") -> None:
        super().__init__(detail, **({"hint": hint} if hint else {}))
