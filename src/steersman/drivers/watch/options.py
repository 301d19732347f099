"""How a file to watch is named in `steersman.yaml`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from steersman.kernel.quantity import Between, ByteSize

FILES_MAX = 256

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Bytes = Annotated[ByteSize, Between(ByteSize(0), ByteSize(1 << 30))]
Hash = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
AbsolutePath = Annotated[str, Meta(pattern="^/", max_length=1024)]


class WatchedFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration file, or several by pattern, whose content is watched by hash.

    - `path`: an absolute path; `*`, `?` and `[...]` are allowed in its last parts (no `**`).
    - `baseline`: the hash (`sha256:...`) that is held to be right. Without it the first content that was seen
      is the baseline (see the source's `baselines`).
    - `max_bytes`: a larger file is refused, not half hashed.
    - `follow_symlinks`: whether a link is followed. A link that is not followed is hashed by its target path.
    """

    path: AbsolutePath
    name: Name | None = None
    baseline: Hash | None = None
    max_bytes: Bytes = ByteSize(16 * 1024 * 1024)
    follow_symlinks: bool = True
