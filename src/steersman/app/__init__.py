"""The only place that wires things together: one function for each process role.

Nothing heavy is imported at the top of any module here. Each role imports what it wires when it wires it, so
that a wrong configuration or a port in use is told in a tenth of a second, and `steersman doctor` does not
load a server.
"""

from __future__ import annotations

from steersman.app.look import Installation, look_at_installation, replay_file, verify_store
from steersman.app.place import StateFolderUnusable, prepare_folder
from steersman.app.replaying import replay_policies
from steersman.app.up import run_up

__all__ = [
    "Installation",
    "StateFolderUnusable",
    "look_at_installation",
    "prepare_folder",
    "replay_file",
    "replay_policies",
    "run_up",
    "verify_store",
]
