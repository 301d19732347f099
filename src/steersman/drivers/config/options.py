"""What `steersman.yaml` may say of a `driver: config` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from steersman.drivers.watch.options import FILES_MAX, AbsolutePath, Bytes, Hash, Name, WatchedFile
from steersman.kernel.quantity import ByteSize
from steersman.kernel.secret import Secret
from steersman.kinds.fragment import SCOPE_LABEL

FOLDERS_MAX = 64
WORKTREES_MAX = 64
SEAL_KEY_MIN_CHARS = 16
"""A shorter key could be guessed together with what it hides."""


class WatchedFolder(Struct, frozen=True, forbid_unknown_fields=True):
    """A folder that is watched as a whole: names, permissions and contents of all that is in it.

    - `baseline`: the hash that is held to be right; without it what was seen first.
    - `exclude`: patterns of names (not paths) that are left out, at every depth.
    - `entries_max`, `depth_max`, `max_bytes`: a larger one is refused, not half hashed.
    """

    path: AbsolutePath
    name: Name | None = None
    baseline: Hash | None = None
    exclude: Annotated[list[Name], Meta(max_length=64)] = field(default_factory=list[str])
    entries_max: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    depth_max: Annotated[int, Meta(ge=1, le=64)] = 16
    max_bytes: Bytes = ByteSize(256 * 1024 * 1024)


class Worktree(Struct, frozen=True, forbid_unknown_fields=True):
    """A git worktree.

    - `commit`: the commit that is held to be right, in full; without it what was seen first.
    - `trusted`: read it although it belongs to another user than Steersman runs as.
    """

    path: AbsolutePath
    name: Name | None = None
    commit: Annotated[str, Meta(pattern="^([0-9a-f]{40}|[0-9a-f]{64})$")] | None = None
    trusted: bool = False


class ConfigOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `config` source.

    - `node`: the machine's entity id, with which the ids begin; its own host name where it is not given.
    - `files`, `folders`, `worktrees`: what is watched.
    - `baselines`: a file in which first-seen hashes are kept over restarts.
    - `seal_key`: hashes are told as HMAC under this key, so that nobody can guess at short contents.
    - `git`: the program.
    - `labels`: labels for every entity of this source.
    """

    node: Name | None = None
    files: Annotated[list[WatchedFile], Meta(max_length=FILES_MAX)] = field(default_factory=list[WatchedFile])
    folders: Annotated[list[WatchedFolder], Meta(max_length=FOLDERS_MAX)] = field(
        default_factory=list[WatchedFolder]
    )
    worktrees: Annotated[list[Worktree], Meta(max_length=WORKTREES_MAX)] = field(
        default_factory=list[Worktree]
    )
    baselines: AbsolutePath | None = None
    seal_key: Secret | None = None
    git: Annotated[str, Meta(min_length=1, max_length=1024)] = "git"
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")
        paths = [one.path for one in (*self.files, *self.folders, *self.worktrees)]
        if not paths:
            raise ValueError("a config source needs files, folders or worktrees")
        if len(set(paths)) < len(paths):
            raise ValueError("one path is watched twice, and both would be one entity")
        if self.seal_key is not None and len(self.seal_key.reveal()) < SEAL_KEY_MIN_CHARS:
            raise ValueError(f"seal_key has at least {SEAL_KEY_MIN_CHARS} characters")
