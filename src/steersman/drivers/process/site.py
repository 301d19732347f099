"""Where a run can be found: this machine with this state folder, by a name that outlives restarts.

Another machine, or another state folder on this one, sees none of the runs here. Both are in the name: a
folder that is copied to a second machine is another site there, and so is a new folder on the same machine.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from steersman.drivers.process.folder import make_private, sync_folder
from steersman.kernel.errors import Refused
from steersman.kernel.ids import Ids

SITE_FILE = "site"
SITE_MAX_CHARS = 64
MACHINE_ID = Path("/etc/machine-id")
MACHINE_CHARS = 8
"""Of the hash of the machine's id: enough to tell two machines apart, and it tells nothing else of them."""


class ForeignSite(Refused):
    """An attempt that was begun at another site can only be ended there. `facts`: `key`, `site`, `here`."""

    code = "foreign_site"
    title = "Begun at another site"


def read_site(folder: Path, ids: Ids, machine_id: Path = MACHINE_ID) -> str:
    """The site of a state folder; its name is made at the first time, and durable before it is given.

    Blocks. Raises OSError, ValueError where what is there is no name."""
    path = folder / SITE_FILE
    if not path.exists():
        _make(path, ids.new("site"))
    name = path.read_text().strip()
    if not name or len(name) > SITE_MAX_CHARS:
        raise ValueError(f"{path} holds no name of a site: remove it only where no step is under way")
    return f"{name}.{_machine(machine_id)}"


def _make(path: Path, name: str) -> None:
    """Whole or not at all; where somebody was quicker, theirs."""
    make_private(path.parent)
    draft = path.with_name(f".{path.name}.{name}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, f"{name}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    sync_folder(path.parent)


def _machine(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except OSError:
        text = ""  # containers have none; the folder's own name is left
    return hashlib.sha256(text.encode()).hexdigest()[:MACHINE_CHARS]
