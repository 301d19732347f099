"""The client of git: its program, by argv, bounded in time and output, running nothing that a worktree names.

A worktree's own configuration can name programs (hooks, filters, a file system monitor, transports). None is
run: hooks and monitor are switched off, each filter that the configuration has is named and emptied, every
transport is forbidden, the configuration of system and user is not read. A worktree of another user is
refused by git itself, and read only where the options say that it is trusted.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

from steersman.drivers.api import SourceError

OUTPUT_MAX_BYTES = 8 * 1024 * 1024
"""Of one command: some hundred thousand changed files."""
CHUNK_BYTES = 64 * 1024
FILTERS_MAX = 64

_OFF = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "core.pager=cat",
    "protocol.allow=never",
    "submodule.recurse=false",
    "advice.statusHints=false",
)


class GitFailed(Exception):
    """Git's own word on why it can't read that worktree."""


class Git:
    """Runs git in one worktree. Blocks: it runs in a lane. `left_s` says how much time is left."""

    def __init__(self, program: str, path: str, *, trusted: bool, left_s: Callable[[], float]) -> None:
        self._program = program
        self._path = path
        self._left_s = left_s
        self._trusted = trusted
        self._settings: tuple[str, ...] = _OFF

    def disarm(self) -> None:
        """Empty each filter that the worktree's configuration names. Comes before all other commands, and
        runs nothing itself. Raises ValueError for what git would never answer, else as `run`."""
        pattern = r"^filter\..*\.(clean|smudge|process|required)$"
        answer = self.run("config", "--includes", "--null", "--name-only", "--get-regexp", pattern, ok=(0, 1))
        names = sorted({name.decode("utf-8", "replace") for name in answer.split(b"\0") if name})
        if any(not name.startswith("filter.") for name in names):
            raise ValueError("other names than were asked for")
        if len(names) > FILTERS_MAX or any("=" in name or "�" in name for name in names):
            raise GitFailed("its configuration has filters that can't be switched off")
        self._settings = (
            *_OFF,
            *(f"{name}={'false' if name.endswith('required') else ''}" for name in names),
        )

    def run(self, *arguments: str, ok: Sequence[int] = (0,)) -> bytes:
        """What the command printed. Raises `GitFailed` for another exit status, `SourceError` where git is
        not there, gives no answer in time, or too long a one."""
        settings = [part for setting in self._settings for part in ("-c", setting)]
        if self._trusted:
            settings += ["-c", f"safe.directory={self._path}"]
        try:
            process = subprocess.Popen(  # noqa: S603 - an argv, no shell; the program is the operator's
                [self._program, *settings, "-C", self._path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise SourceError(f"git ({self._program}) can't be run: {why}; is it installed?") from None
        with process:
            try:
                out, told = self._collect(process)
                status = process.wait(self._left_s())
            except subprocess.TimeoutExpired:
                raise SourceError(f"git in {self._path} does not end in the source's time-out") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # with all that it started
        if status not in ok:
            raise GitFailed(_plain(told) or f"git {arguments[0]} ended with status {status}")
        return out

    def _collect(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - both are pipes
        found: dict[int, bytearray] = {
            process.stdout.fileno(): bytearray(),
            process.stderr.fileno(): bytearray(),
        }
        with selectors.DefaultSelector() as ready:
            for descriptor in found:
                ready.register(descriptor, selectors.EVENT_READ)
            while ready.get_map():
                events = ready.select(max(0.0, self._left_s()))
                if not events:
                    raise SourceError(f"git in {self._path} gave no whole answer in the source's time-out")
                for key, _ in events:
                    chunk = os.read(key.fd, CHUNK_BYTES)
                    if not chunk:
                        ready.unregister(key.fd)
                    found[key.fd] += chunk
                    if len(found[key.fd]) > OUTPUT_MAX_BYTES:
                        raise SourceError(f"git in {self._path} answered more than {OUTPUT_MAX_BYTES} bytes")
        out, told = found.values()
        return bytes(out), bytes(told)


def _environment() -> Mapping[str, str]:
    """Nothing of ours but the path: variables of git would redirect it."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",  # reading writes nothing, also not the index
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CEILING_DIRECTORIES": "",
    }


def _plain(told: bytes) -> str:
    """The first line of what git complains of, without its advice."""
    line = told.decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(char for char in line[:200] if char.isprintable()).removeprefix("fatal: ")
