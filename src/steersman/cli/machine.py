"""How `doctor` judges what it sees on this machine, without a server."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.cli.checks import FAIL, OK, WARN, Check
from steersman.cli.units import show_age, show_size
from steersman.kernel.bounds import GIB, MIB

if TYPE_CHECKING:
    from steersman.app import Installation

WRITE_LATE_S = 600.0
"""A running plane that has written nothing for so long can't write, or has nothing to observe."""
DISK_WARN_BYTES = GIB
DISK_FAIL_BYTES = 64 * MIB
FAST_PARTS = ("uvloop", "httptools")


def check_machine(seen: Installation, config: Path | None, now: datetime) -> Iterator[Check]:
    """Everything, in the order in which one would put it right."""
    yield _check_program(seen.program)
    if seen.dashboard:
        yield Check(OK, "dashboard files", "built into this installation")
    else:
        advice = "run `make dashboard`; everything else works without"
        yield Check(WARN, "dashboard files", "not built into this installation", advice)
    for line in seen.problems:
        yield Check(FAIL, "configuration", line, "put it right, then start again")
    if not seen.problems:
        yield Check(OK, "configuration", str(config) if config else "no file: this machine is observed")
    for name, problem in seen.drivers.items():
        yield Check(WARN, f"driver {name}", problem, "update or remove that package")
    yield from check_folder(seen.folder)
    yield _check_store(seen, now)


def _check_program(program: str) -> Check:
    detail = f"{program} on Python {platform.python_version()}"
    missing = [name for name in FAST_PARTS if find_spec(name) is None]
    if missing:
        advice = "install the pinned dependencies again: make setup, or pip install steersman"
        return Check(WARN, "program", f"{detail}, without {' and '.join(missing)}", advice)
    return Check(OK, "program", detail)


def check_folder(folder: Path) -> Iterator[Check]:
    """The state folder, the first admin token in it, and the disk below it."""
    if not folder.is_dir():
        yield Check(OK, "state folder", f"{folder} does not exist yet; `steersman up` makes it")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Check(
            FAIL, "state folder", f"{folder} can't be written by this user", "change its owner or mode"
        )
    elif mode & 0o077:
        detail = f"{folder} is open to others (mode {mode:03o})"
        yield Check(WARN, "state folder", detail, f"chmod 700 {folder}")
    else:
        yield Check(OK, "state folder", str(folder))
    token = folder / "admin.token"
    if token.exists() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        advice = f"chmod 600 {token}, then make another token and revoke this one"
        yield Check(FAIL, "admin token", f"{token} can be read by others", advice)
    yield check_space(shutil.disk_usage(folder).free)


def check_space(free_bytes: int) -> Check:
    """What is left on the disk below the state folder."""
    detail = f"{show_size(free_bytes)} free where the state is"
    if free_bytes < DISK_FAIL_BYTES:
        return Check(FAIL, "disk space", detail, "make room: the store can't be written without")
    if free_bytes < DISK_WARN_BYTES:
        return Check(WARN, "disk space", detail, "make room soon")
    return Check(OK, "disk space", detail)


def _check_store(seen: Installation, now: datetime) -> Check:
    facts = seen.facts
    if seen.damage:
        advice = "restore a copy, or put the file's owner and mode right"
        return Check(FAIL, "store", seen.damage, advice)
    if facts is None:
        what = f"{seen.store} does not exist yet" if seen.store else "kept in memory alone"
        return Check(OK, "store", what)
    age_s = (now - facts.written_at).total_seconds()
    used = "not in use" if facts.holder is None else f"in use by process {facts.holder or '?'}"
    detail = f"{seen.store}, {show_size(facts.size_bytes)}, whole, {used}, last written {show_age(age_s)} ago"
    if facts.mode & 0o077:
        advice = f"chmod 600 {seen.store}*"
        return Check(WARN, "store", f"{detail}; open to others (mode {facts.mode:03o})", advice)
    if facts.holder is not None and age_s > WRITE_LATE_S:
        advice = "a running Steersman writes its picture down at intervals: see its log for checkpoint_failed"
        return Check(WARN, "store", detail, advice)
    return Check(OK, "store", detail)
