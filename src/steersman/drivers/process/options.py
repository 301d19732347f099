"""What `steersman.yaml` may say of a `driver: process` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from steersman.drivers.process.command import ARGV_MAX, ENV_MAX
from steersman.kernel.quantity import Between, Duration
from steersman.kernel.secret import Secret
from steersman.kinds.fragment import SCOPE_LABEL

PROCESSES_MAX = 64

Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
Wait = Annotated[Duration, Between(Duration(0.05), Duration(3600))]
Grace = Annotated[Duration, Between(Duration(0), Duration(600))]
Part = Annotated[str, Meta(max_length=32_768)]


class ProcessRule(Struct, frozen=True, forbid_unknown_fields=True):
    """One process that is kept running.

    - `argv`: the program and its arguments; no shell is between.
    - `cwd`, `user`: where and as whom it runs. Only root may change the user.
    - `env`: variables it gets. `environment`: names of variables taken over from Steersman's own.
    - `restart`: whether it is started again when it ends. `backoff`: the wait before the first restart, which
      doubles up to `max_backoff`; a process that ran for `steady` starts the waits anew.
    - `stop_grace`: time between TERM and KILL.
    """

    name: Name
    argv: Annotated[list[Part], Meta(min_length=1, max_length=ARGV_MAX)]
    cwd: Annotated[str, Meta(pattern="^/", max_length=4096)] = "/"
    env: Annotated[dict[str, Secret], Meta(max_length=ENV_MAX)] = field(default_factory=dict[str, Secret])
    environment: Annotated[list[str], Meta(max_length=ENV_MAX)] = field(default_factory=list[str])
    user: str | None = None
    restart: Literal["always", "on_failure", "never"] = "on_failure"
    backoff: Wait = Duration(1)
    max_backoff: Wait = Duration(60)
    steady: Wait = Duration(60)
    stop_grace: Grace = Duration(5)

    def __post_init__(self) -> None:
        if not self.argv[0] or any("\0" in part for part in self.argv):
            raise ValueError("argv is a program and its arguments")
        if self.max_backoff < self.backoff:
            raise ValueError("max_backoff is not less than backoff")

    def __repr__(self) -> str:
        return f"ProcessRule(name={self.name!r})"  # arguments may hold what nobody should see


class ProcessOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `process` source.

    - `node`: the entity id of the node that the jobs run on; this machine's host name where it is not given.
    - `labels`: labels for every entity of this source.
    """

    processes: Annotated[list[ProcessRule], Meta(min_length=1, max_length=PROCESSES_MAX)]
    node: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")
        names = [rule.name for rule in self.processes]
        if len(set(names)) < len(names):
            raise ValueError("processes have names of their own")
