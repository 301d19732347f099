"""From git's answers to the fields of a worktree. Blocks: it runs in a lane."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from steersman.drivers.api import SourceError
from steersman.drivers.config.client import Git, GitFailed
from steersman.drivers.watch.files import read_file

CHANGED_MAX = 1_000
"""Changed files whose content counts in the hash; of more of them only names and kinds of change do."""
CHANGED_MAX_BYTES = 16 * 1024 * 1024

_BEGUN = (
    ("rebase-merge", "rebase"),
    ("rebase-apply/applying", "am"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry_pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
)
"""Files in git's own folder, and what they are there for."""


class Status(Struct):
    """What `git status --porcelain=v2 --branch -z` says. `changes` are its records without the headers."""

    headers: dict[str, str] = field(default_factory=dict[str, str])
    changes: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    untracked: list[bytes] = field(default_factory=list[bytes])
    conflicts: int = 0


def worktree_fields(git: Git, path: str, now: datetime) -> dict[str, Any]:
    """The fields of a look. Raises `SourceError` where git itself does not work."""
    if not os.path.lexists(path):
        return {"present": False}
    try:
        git.disarm()
        inside, folder = git.run("rev-parse", "--is-inside-work-tree", "--absolute-git-dir").split(b"\n")[:2]
        if inside != b"true":
            raise GitFailed("it is a git repository without a worktree")
        answer = git.run(
            "status",
            "--porcelain=v2",
            "--branch",
            "-z",
            "--untracked-files=normal",
            "--ignore-submodules=dirty",  # which commit each is at; nothing is run in it
        )
        status = read_status(answer)
        fields = _facts(status, os.fsdecode(folder))
        if fields.get("commit") is not None:
            fields["tree"] = git.run("rev-parse", "HEAD^{tree}").decode().strip()
            fields["config_hash"] = _hash_of(fields["commit"], status, _submodules(git, status), path, now)
            if fields["config_hash"] is None:
                fields["problem"] = "changed a moment ago; hashed at the next look"
    except GitFailed as failed:
        return {"present": True, "problem": str(failed)}
    except ValueError:
        raise SourceError(f"git in {path} gave an answer that makes no sense") from None
    return fields


def read_status(answer: bytes) -> Status:
    """Raises ValueError for what is no such answer."""
    status = Status()
    records = iter(answer.split(b"\0"))
    for record in records:
        kind, _, rest = record.partition(b" ")
        if kind == b"#":
            name, _, value = rest.decode("utf-8", "replace").partition(" ")
            status.headers[name] = value
        elif kind in (b"1", b"2", b"u"):
            # XY, submodule, modes, names of objects; in front of the path a fixed number of words.
            words = rest.split(b" ", {b"1": 7, b"2": 8, b"u": 9}[kind])
            if len(words) < 8:
                raise ValueError("a short record")
            status.changes.append((kind + b" " + b" ".join(words[:-1]), words[-1]))
            status.conflicts += kind == b"u"
            if kind == b"2":
                next(records, None)  # the path that it had before
        elif kind == b"?":
            status.untracked.append(rest)
        elif record and kind != b"!":
            raise ValueError("a record of another kind")
    if "branch.oid" not in status.headers:
        raise ValueError("no header")
    return status


def _facts(status: Status, folder: str) -> dict[str, Any]:
    head, oid = status.headers.get("branch.head", ""), status.headers["branch.oid"]
    ahead, behind = _ahead_behind(status.headers.get("branch.ab", ""))
    begun = next((word for name, word in _BEGUN if os.path.lexists(os.path.join(folder, name))), None)
    return {
        "present": True,
        "commit": None if oid == "(initial)" else oid,
        "branch": None if head == "(detached)" else head or None,
        "upstream": status.headers.get("branch.upstream"),
        "ahead": ahead,
        "behind": behind,
        "changed_files": len(status.changes),
        "untracked_files": len(status.untracked),
        "conflicts": status.conflicts,
        "in_progress": begun,
    }


def _ahead_behind(text: str) -> tuple[int | None, int | None]:
    """Of "+1 -2": as of the last fetch, for nothing is fetched here. None without a known upstream."""
    parts = text.split()
    return (abs(int(parts[0])), abs(int(parts[1]))) if len(parts) == 2 else (None, None)


def _submodules(git: Git, status: Status) -> bytes:
    """At which commits the submodules are that are at another one than is recorded: their records are alike,
    wherever they were moved to."""
    names = [name for record, name in status.changes if record.split(b" ")[2].startswith(b"S")]
    if not names:
        return b""
    return git.run(
        "diff",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--full-index",
        "--submodule=short",
        "--ignore-submodules=dirty",
        "--",
        *(f":(top,literal){os.fsdecode(name)}" for name in names[:CHANGED_MAX]),
    )


def _hash_of(commit: str, status: Status, submodules: bytes, path: str, now: datetime) -> str | None:
    """`git:` and the commit; where files differ, with a hash of how. None where one changes just now."""
    if not status.changes and not status.untracked:
        return f"git:{commit}"
    digest = hashlib.sha256(submodules)
    changed = [*status.changes, *((b"?", name) for name in status.untracked)]
    for number, (record, name) in enumerate(sorted(changed)):
        digest.update(record + b"\0" + name + b"\0")
        if number < CHANGED_MAX and not name.endswith(b"/"):
            reading = read_file(os.path.join(path, os.fsdecode(name)), CHANGED_MAX_BYTES, False, now)
            if reading.problem is not None and "moment ago" in reading.problem:
                return None
            digest.update(f"{reading.present} {reading.hash or reading.problem}\0".encode())
    return f"git:{commit}+sha256:{digest.hexdigest()}"
