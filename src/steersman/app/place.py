"""Where a process keeps its things, what it was told, and how it names itself: what all roles share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from steersman.kernel.config import load
from steersman.kernel.errors import Unavailable
from steersman.kinds.settings import RESERVED_VARIABLES, Settings

FOLDER_MODE = 0o700


class StateFolderUnusable(Unavailable):
    """The state folder can't be made or written. `facts`: `folder`."""

    code = "state_folder_unusable"
    title = "State folder can't be used"


def load_settings(
    config: Path | None, env: Mapping[str, str], *, host: str | None = None, port: int | None = None
) -> Settings:
    """The configuration, with the command line's words on top. Raises `ConfigInvalid`, `ConfigUnreadable`."""
    settings = load(Settings, config, env, reserved=RESERVED_VARIABLES)
    server = settings.server
    if host is not None:
        server = structs.replace(server, host=host)
    if port is not None:
        server = structs.replace(server, port=port)
    return structs.replace(settings, server=server)


def require_auth(settings: Settings) -> None:
    """Refuse early to listen where others can reach us and nobody would be asked for a token."""
    from steersman.api.access import UnsafeBind, is_loopback

    host = settings.server.host
    if not settings.auth.tokens and not is_loopback(host):
        raise UnsafeBind(
            f"server.host is {host}, which other machines can reach, and callers would need no token; "
            "set auth.tokens to true (or STEERSMAN_AUTH_TOKENS=true), or listen on 127.0.0.1",
            host=host,
        )


def prepare_folder(folder: Path) -> None:
    """Make the state folder, readable by its owner alone; refuse one that can't be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise StateFolderUnusable(
            f"the state folder {folder} can't be made: {error.strerror}; name another one in STEERSMAN_HOME",
            folder=str(folder),
        ) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise StateFolderUnusable(
            f"the state folder {folder} can't be written by this user; change its owner or mode, or name "
            f"another one in STEERSMAN_HOME",
            folder=str(folder),
        )


def shown_path(path: Path) -> str:
    """A path as a person would type it: with ~ where it is in their home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path != home and path.is_relative_to(home) else str(path)


def own_version() -> str:
    """The version of this program as it is installed."""
    from importlib.metadata import version

    return version("steersman")


def program_name() -> str:
    """How this program names itself in what it writes."""
    return f"steersman {own_version()}"
