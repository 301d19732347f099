"""What a step of `uses: process` may say, read strictly: a program and its arguments, no line for a shell."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean
from steersman.kernel.quantity import Duration
from steersman.kernel.redact import MASK, is_secret_key
from steersman.kinds.step import Later

ARGV_MAX = 256
ARGV_MAX_BYTES = 64 * 1024
ENV_MAX = 128
VALUE_MAX_CHARS = 32_768
GRACE_DEFAULT_S = 5.0
GRACE_MAX_S = 600.0
SECRET_MIN_CHARS = 4
"""A shorter value of a secret variable is not looked for in output: it would mask half of it."""

ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ")
"""Variables that a command gets from Steersman's own environment without being asked for."""

_KEYS = (
    "argv", "cwd", "env", "environment", "success_codes", "transient_codes", "user", "grace", "children",
    "stdout_format",
)  # fmt: skip


class CommandInvalid(InvalidInput, ValueError):
    """Inputs of a process that can't be right. `facts`: `key`."""

    code = "command_invalid"
    title = "Command invalid"


class Command(Struct, frozen=True, kw_only=True):
    """A command to run. `env` is what it gets, whole. `transient_codes`: exit codes after which another
    attempt may help. `children`: what becomes of processes that it leaves behind."""

    argv: tuple[str, ...]
    cwd: str = "/"
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    success_codes: frozenset[int] = frozenset({0})
    transient_codes: frozenset[int] = frozenset({75})
    user: str | None = None
    grace_s: float = GRACE_DEFAULT_S
    children: Literal["end", "leave"] = "end"
    stdout_format: Literal["text", "json"] = "text"

    def digest(self) -> str:
        """Tells one command from another; holds nothing of it."""
        return hashlib.sha256(msgspec.json.encode([self.argv, self.cwd, self.user])).hexdigest()

    def masked(self, text: str) -> str:
        """The text without the values of secret variables."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text

    def __repr__(self) -> str:
        return f"Command({self.argv[0]!r}, ...)"  # arguments and environment may hold secrets


def check_inputs(inputs: Mapping[str, Any]) -> None:
    """Refuse what can't be right. A `Later` at any place is right as far as can be told."""
    for key in inputs:
        if key not in _KEYS:
            raise CommandInvalid(f"{key!r} is no input of process{did_you_mean(key, _KEYS)}", key=key)
    if "argv" not in inputs:
        raise CommandInvalid("argv is needed: the program and its arguments, a list", key="argv")
    _read({key: value for key, value in inputs.items() if not _has_later(value)}, {}, partly=True)


def read_command(inputs: Mapping[str, Any], environment: Mapping[str, str]) -> Command:
    """Read filled inputs. `environment` is Steersman's own. Raises `CommandInvalid`."""
    check_inputs(inputs)
    return _read(inputs, environment, partly=False)


def _read(inputs: Mapping[str, Any], own: Mapping[str, str], *, partly: bool) -> Command:
    argv = _read_argv(inputs["argv"]) if "argv" in inputs else ("",)
    cwd: Any = inputs.get("cwd", "/")
    if not isinstance(cwd, str) or not os.path.isabs(cwd) or "\0" in cwd:
        raise CommandInvalid(f"cwd is an absolute path, not {cwd!r}", key="cwd")
    if not partly and not os.path.isdir(cwd):
        raise CommandInvalid(f"cwd {cwd} is no folder", key="cwd")
    env, secrets = _read_env(inputs, own)
    user: Any = inputs.get("user")
    if user is not None and not isinstance(user, str):
        raise CommandInvalid("user is a login name", key="user")
    return Command(
        argv=argv,
        cwd=cwd,
        env=env,
        secrets=secrets,
        success_codes=_read_codes(inputs, "success_codes", {0}),
        transient_codes=_read_codes(inputs, "transient_codes", {75}),
        user=user,
        grace_s=_read_grace(inputs.get("grace", GRACE_DEFAULT_S)),
        children=_word(inputs, "children", ("end", "leave")),
        stdout_format=_word(inputs, "stdout_format", ("text", "json")),
    )


def _read_argv(raw: Any) -> tuple[str, ...]:
    if isinstance(raw, str):
        raise CommandInvalid(
            f"argv is a list, a program and its arguments, not one text ({raw[:40]!r}): there is no shell",
            key="argv",
        )
    if not isinstance(raw, list | tuple) or not raw:
        raise CommandInvalid("argv is a list of a program and its arguments", key="argv")
    items = list(cast("list[Any]", raw))
    if len(items) > ARGV_MAX:
        raise CommandInvalid(f"argv has {len(items)} parts; at most {ARGV_MAX} are accepted", key="argv")
    parts: list[str] = []
    for item in items:
        part = str(item) if isinstance(item, int) and not isinstance(item, bool) else item
        if not isinstance(part, str) or "\0" in part:
            raise CommandInvalid(f"each part of argv is a text, not {part!r}", key="argv")
        parts.append(part)
    if not parts[0]:
        raise CommandInvalid("argv names no program", key="argv")
    if sum(len(part.encode(errors="surrogateescape")) for part in parts) > ARGV_MAX_BYTES:
        raise CommandInvalid(f"argv has more than {ARGV_MAX_BYTES} bytes", key="argv")
    return tuple(parts)


def _read_env(inputs: Mapping[str, Any], own: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    names: Any = inputs.get("environment", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[Any]", names)):
        raise CommandInvalid("environment is a list of names of variables", key="environment")
    env = {name: own[name] for name in (*ENVIRONMENT, *cast("list[str]", names)) if name in own}
    given: Any = inputs.get("env", {})
    if not isinstance(given, Mapping) or len(cast("Mapping[str, Any]", given)) > ENV_MAX:
        raise CommandInvalid(f"env maps at most {ENV_MAX} names to values", key="env")
    for name, value in cast("Mapping[str, Any]", given).items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if not name or "=" in name or "\0" in name + text or len(text) > VALUE_MAX_CHARS:
            raise CommandInvalid(f"env.{name[:64]} can't be a variable's name and value", key="env")
        env[name] = text
    secrets = {text for name, text in env.items() if is_secret_key(name) and len(text) >= SECRET_MIN_CHARS}
    return env, tuple(sorted(secrets, key=len, reverse=True))


def _read_codes(inputs: Mapping[str, Any], key: str, default: set[int]) -> frozenset[int]:
    raw: Any = inputs.get(key)
    if raw is None:
        return frozenset(default)
    items: list[Any] = cast("list[Any]", raw) if isinstance(raw, list) else [None]
    if not all(isinstance(code, int) and not isinstance(code, bool) and 0 <= code <= 255 for code in items):
        raise CommandInvalid(f"{key} is a list of exit codes from 0 to 255", key=key)
    return frozenset(items)


def _read_grace(raw: Any) -> float:
    try:
        grace_s = float(Duration.from_text(raw))
    except (InvalidInput, AttributeError, TypeError):
        grace_s = -1.0
    if not 0 <= grace_s <= GRACE_MAX_S:
        raise CommandInvalid(
            f"grace is a duration from 0s to {Duration(GRACE_MAX_S)}, not {raw!r}", key="grace"
        )
    return grace_s


def _word(inputs: Mapping[str, Any], key: str, words: tuple[str, ...]) -> Any:
    word: Any = inputs.get(key, words[0])
    if word not in words:
        raise CommandInvalid(f"{key} is {' or '.join(words)}, not {word!r}", key=key)
    return word


def _has_later(value: Any) -> bool:
    if isinstance(value, Later):
        return True
    if isinstance(value, Mapping):
        return any(_has_later(item) for item in cast("Mapping[str, Any]", value).values())
    return isinstance(value, list) and any(_has_later(item) for item in cast("list[Any]", value))


def user_numbers(name: str | None) -> dict[str, Any]:
    """uid, gid and groups to change to; empty where there is nothing to change. Raises `CommandInvalid`."""
    if name is None:
        return {}
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise CommandInvalid(f"there is no user {name!r} on this machine", key="user") from None
    if entry.pw_uid == os.geteuid():
        return {}
    if os.geteuid() != 0:
        raise CommandInvalid(f"only root may run a command as {name}", key="user")
    groups = [group.gr_gid for group in grp.getgrall() if name in group.gr_mem]
    return {"uid": entry.pw_uid, "gid": entry.pw_gid, "groups": [entry.pw_gid, *groups]}
