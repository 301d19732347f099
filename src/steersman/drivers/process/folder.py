"""A run's folder: what is on the disk of one attempt, and what it says about how far that came.

In `<state folder>/runs/<key>/`, all 0700 and 0600:

- `lock`: held (flock) by whoever begins the run, handed on to the wrapper, free when that is dead;
- `begun`: made before anything is started, and never twice; with the digest of the command, and whose it is;
- `started`: written by the wrapper when the command is there and has not run yet;
- `stdout`, `stderr`: beginning and end of what it wrote; `exit`: how it ended, whole or not there;
- `refused`: the attempt was cancelled before it began, and never begins;
- `told`: its end is on record. Only then may the folder go: who finds no folder takes the run for one that
  never began.

Everything here blocks, and is called in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import msgspec

from steersman.kernel.errors import SteersmanError

RUNS = "runs"
NAME_MAX_CHARS = 200
HEAD_BYTES = 48 * 1024
TAIL_BYTES = 16 * 1024
"""What is kept of each stream: its first and its last bytes."""
START_TIMEOUT_S = 30.0
WRAPPER = Path(__file__).with_name("wrapper.py")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


RUN_VARIABLE = "STEERSMAN_RUN"
"""The variable that marks all processes of a run: the path of its folder."""
LEFTOVER_ROUNDS_MAX = 20


class RunConflict(SteersmanError):
    """A key was used for another command before. `facts`: `key`."""

    code = "run_conflict"
    title = "Key used for another command"
    status = 409


class Standing(StrEnum):
    """How far a run came."""

    NEVER = "never"  # certainly not begun
    ALIVE = "alive"
    ENDED = "ended"
    REFUSED = "refused"  # cancelled before it began
    UNKNOWN = "unknown"  # it was begun, and nobody saw its end


class RunFolder:
    """The folder of one attempt."""

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        self.path = folder / RUNS / folder_name(key)

    def standing(self) -> Standing:
        """What the disk says now."""
        if not (self.path / "begun").exists():
            return Standing.REFUSED if (self.path / "refused").exists() else Standing.NEVER
        if (self.path / "exit").exists():
            return Standing.ENDED
        lock = self._lock()
        if lock is None:
            return Standing.ALIVE
        try:
            return self._standing_dead()
        finally:
            os.close(lock)

    def _standing_dead(self) -> Standing:
        """With nobody at work on it: read behind the lock, so that nothing changes any more."""
        if (self.path / "exit").exists():
            return Standing.ENDED
        if (self.path / "started").exists():
            return Standing.UNKNOWN
        return Standing.REFUSED if (self.path / "refused").exists() else Standing.NEVER

    def begin(self, spec: Mapping[str, Any], digest: str, whose: Mapping[str, Any]) -> Standing:
        """Begin the run where nothing was begun; else say how far it is. `whose`: what finds its owner again
        (resource, operation, step). Raises `RunConflict`, OSError."""
        make_private(self.path)
        self._check_digest(digest)
        lock = self._lock()
        if lock is None:
            return Standing.ALIVE
        try:
            standing = self._standing_dead()
            if standing is not Standing.NEVER:
                return standing
            if not self._check_digest(digest):
                (self.path / "begun").unlink(missing_ok=True)  # cut off by a crash, so nothing followed it
                said = {"key": self.key, "digest": digest, "boot_id": boot_id()}
                self._mark("begun", {**whose, **said})
            start_wrapper(self.path, lock, {**spec, "boot_id": boot_id()})
            return Standing.ALIVE
        finally:
            os.close(lock)  # the wrapper has the same lock through a descriptor of its own

    def _check_digest(self, digest: str) -> bool:
        """Whether the run was begun with this command. Raises `RunConflict` where it was another."""
        kept = self.read("begun")
        if kept is None:
            return False
        if kept.get("digest") not in (None, digest):
            raise RunConflict(f"{self.key} was begun with another command", key=self.key)
        return True

    def end_leftovers(self) -> int:
        """Kill what a dead wrapper could not: processes that carry this run's mark in their environment.
        How many were found. What changed its environment, or belongs to others, is not."""
        mark = f"{RUN_VARIABLE}={self.path}".encode() + b"\0"
        found: set[int] = set()
        for _ in range(LEFTOVER_ROUNDS_MAX):
            alive = [pid for pid in _pids() if _carries(pid, mark)]
            if not alive:
                break
            found.update(alive)
            for pid in alive:
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
        return len(found)

    def refuse(self, whose: Mapping[str, Any]) -> None:
        """See to it that a run that has not begun never does; one that has is not touched."""
        make_private(self.path)
        try:
            self._mark("refused", {**whose, "key": self.key})
        except FileExistsError:
            pass  # cancelled before, or by another at this moment

    def signal_wrapper(self) -> bool:
        """Ask the wrapper to end everything; whether there was one."""
        started = self.read("started")
        if started is None or started.get("boot_id") != boot_id():
            return False
        pid, start = int(started["wrapper"]), int(started["wrapper_start"])
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            if start_ticks(pid) != start:
                return False  # the number belongs to somebody else now
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def read(self, name: str) -> dict[str, Any] | None:
        """One of its JSON files; None where it is not there, or not whole."""
        try:
            found: Any = msgspec.json.decode((self.path / name).read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return cast("dict[str, Any]", found) if isinstance(found, dict) else None

    def stream(self, name: str, omitted: int, tail_bytes: int) -> str:
        """What is kept of a stream, with a line where its middle is left out."""
        try:
            data = (self.path / name).read_bytes()
        except OSError:
            return ""
        if omitted <= 0:
            return data.decode(errors="replace")
        head, tail = data[: len(data) - tail_bytes], data[len(data) - tail_bytes :]
        middle = f"\n... {omitted} bytes left out ...\n"
        return head.decode(errors="replace") + middle + tail.decode(errors="replace")

    def mark_told(self) -> None:
        """Its end is on record; from now on its age counts. One that is alive is left as it is."""
        if not self.path.exists() or self.standing() is Standing.ALIVE:
            return
        try:
            (self.path / "told").touch(mode=0o600)
        except OSError:
            pass  # it is kept longer, nothing else

    def _lock(self) -> int | None:
        """Take the lock; None where somebody has it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        return descriptor

    def _mark(self, name: str, data: dict[str, Any]) -> None:
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for place in (self.path, self.path.parent):
            sync_folder(place)


def start_wrapper(folder: Path, lock: int, spec: Mapping[str, Any]) -> None:
    """Start the wrapper and return when it has detached itself. The spec goes through its standard input: an
    environment's secrets are never in an argument or on the disk. Raises OSError, SubprocessError."""
    command = [sys.executable, "-I", "-S", str(WRAPPER), str(folder), str(lock)]
    with open(folder / "wrapper.log", "ab", opener=_private) as log:
        done = subprocess.run(  # noqa: S603 - our own program, by its path
            command,
            input=msgspec.json.encode(spec),
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=(lock,),
            env={},
            timeout=START_TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        raise OSError(f"the wrapper ended with {done.returncode}; see {folder / 'wrapper.log'}")


def list_runs(folder: Path) -> list[Path]:
    """The folders of all runs; none where there is no such place."""
    try:
        with os.scandir(folder / RUNS) as entries:
            return [Path(entry.path) for entry in entries]
    except FileNotFoundError:
        return []


def kept_runs(folder: Path) -> list[tuple[RunFolder, dict[str, Any]]]:
    """Runs that were begun or refused and are not told, each with whose it is. Raises OSError."""
    found: list[tuple[RunFolder, dict[str, Any]]] = []
    for path in list_runs(folder):
        if (path / "told").exists():
            continue
        run = RunFolder(folder, "")
        run.path = path
        whose = run.read("begun") or run.read("refused")
        if whose is not None and isinstance(whose.get("key"), str):
            run.key = whose["key"]
            found.append((run, whose))
    return found


def sweep(folder: Path, *, now_s: float, told_s: float, empty_s: float, runs_max: int) -> int:
    """Remove what nobody asks for any more: runs that are told, after `told_s`, and the oldest of them where
    there are more than `runs_max` runs; and places where certainly nothing was begun, after `empty_s`. A run
    that was begun and is not told stays, however old it is. How many went."""
    try:
        runs = list_runs(folder)
    except OSError:
        return 0
    old: list[tuple[float, Path]] = []
    gone = 0
    for run in runs:
        told_at_s = _changed_s(run / "told")
        if told_at_s is not None:
            old.append((told_at_s, run))
        elif not (run / "begun").exists() and not (run / "refused").exists():
            made_at_s = _changed_s(run)
            if made_at_s is not None and now_s - made_at_s > empty_s:
                shutil.rmtree(run, ignore_errors=True)
                gone += 1
    over = len(runs) - runs_max
    for at_s, run in sorted(old):
        if now_s - at_s > told_s or over > gone:
            shutil.rmtree(run, ignore_errors=True)
            gone += 1
    return gone


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _carries(pid: int, mark: bytes) -> bool:
    """Whether a process has the mark in its environment, and is no zombie."""
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return False


def _changed_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def folder_name(key: str) -> str:
    """A key as the name of a folder."""
    name = quote(key, safe="").replace(".", "%2E")
    if len(name) <= NAME_MAX_CHARS:
        return name
    return name[:100] + "-" + hashlib.sha256(key.encode()).hexdigest()


def make_private(folder: Path) -> None:
    """Make a folder and its parents, for its owner alone."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def boot_id() -> str:
    """Tells this start of the machine from others; empty where the kernel does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks after boot: with its number, its identity."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
