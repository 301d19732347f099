"""A git in a box: a program that answers as git does for a clean worktree, or misbehaves.

The files, folders and worktrees of this driver's tests are real ones, and so is their git; this is for what a
real git can't be made to do.
"""

from __future__ import annotations

import os
from pathlib import Path

FAULTS = ("hang", "refuse", "garbage", "endless")
"""What it can do wrong: never answer; be no program; answer what git never would; answer without end."""

_OID = "0123456789abcdef0123456789abcdef01234567"
_GOOD = f"""\
case "$*" in
*--get-regexp*) exit 1 ;;
*--absolute-git-dir*) printf 'true\\n%s\\n' /nonexistent/.git ;;
*porcelain*) printf '# branch.oid {_OID}\\0# branch.head main\\0' ;;
*tree*) echo {_OID} ;;
esac
"""
_BAD = {
    "hang": "exec sleep 60\n",
    "refuse": "",
    "garbage": "printf 'no git here \\377\\n\\n'\n",
    "endless": "exec cat /dev/zero\n",
}


class FakeGit:
    """Writes the program `git` into a folder."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "git"
        self.mend()

    def fail(self, fault: str) -> None:
        """Misbehave from now on."""
        self._write(_BAD[fault], runs=fault != "refuse")

    def mend(self) -> None:
        """Behave again."""
        self._write(_GOOD)

    def _write(self, script: str, *, runs: bool = True) -> None:
        new = self.program.with_suffix(".new")
        new.write_text(f"#!/bin/sh\n{script}")
        new.chmod(0o755 if runs else 0o644)
        os.replace(new, self.program)
