"""What `steersman.yaml` may say of a `driver: host` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from steersman.drivers.host.patterns import compile_pattern
from steersman.drivers.watch.options import FILES_MAX, WatchedFile
from steersman.drivers.web.url import check_url
from steersman.kernel.quantity import Between, Duration
from steersman.kernel.secret import Secret
from steersman.kinds.fragment import SCOPE_LABEL

JOBS_MAX = 64
ENDPOINTS_MAX = 256
PATTERN_MAX_CHARS = 256

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Pattern = Annotated[str, Meta(min_length=1, max_length=PATTERN_MAX_CHARS)]


Probe = Annotated[Duration, Between(Duration(0.01), Duration(300))]
Kept = Annotated[Duration, Between(Duration(0), Duration(86_400))]


class JobRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Which processes are a job. All conditions that are given must hold; at least one must be given.

    - `process`: regular expression searched in the program's name; `cmdline`: in its command line (which is
      read here and never leaves this machine). See docs/decisions/0012 for what a pattern may contain.
    - `user`: login name of its owner. `cgroup`: its cgroup path starts with this.
    - `pid_file`: the file holds its process id.
    - `per`: `process`: each matching process is a job of its own; `rule`: all of them are one job.
    - `children`: whether a process's descendants count as part of it.
    - `keep_ended`: how long a job that ended is still reported as completed before it is gone.
    """

    name: Name
    process: Pattern | None = None
    cmdline: Pattern | None = None
    user: str | None = None
    cgroup: str | None = None
    pid_file: str | None = None
    per: Literal["process", "rule"] = "process"
    children: bool = True
    keep_ended: Kept = Duration(300)

    def __post_init__(self) -> None:
        if not (self.process or self.cmdline or self.user or self.cgroup or self.pid_file):
            raise ValueError("a job needs at least one of process, cmdline, user, cgroup, pid_file")
        for pattern in (self.process, self.cmdline):
            if pattern:
                compile_pattern(pattern)


class Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """An HTTP(S) endpoint that is probed once in each interval, and reported as a service.

    - `expect_status`: any other status is a failure. `expect_text`: the body must contain it.
    - `header`, `header_value`: sent with the probe; the value is a secret.
    - `follow_redirects`: by default a redirect is an answer like any other, not a place to go.
    - `verify_tls`: False accepts any certificate; its expiry is still reported.
    """

    name: Name
    url: Annotated[str, Meta(pattern="^https?://", max_length=2048)]
    method: Literal["GET", "HEAD", "OPTIONS"] = "GET"
    timeout: Probe = Duration(5)
    expect_status: Annotated[list[Annotated[int, Meta(ge=100, le=599)]], Meta(max_length=64)] = field(
        default_factory=lambda: [200, 204]
    )
    expect_text: Annotated[str, Meta(max_length=1024)] | None = None
    header: Annotated[str, Meta(pattern="^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", max_length=128)] | None = None
    header_value: Secret | None = None
    follow_redirects: bool = False
    verify_tls: bool = True

    def __post_init__(self) -> None:
        check_url(self.url)
        if bool(self.header) != (self.header_value is not None):
            raise ValueError("header and header_value go together")
        if self.header_value is not None and set("\r\n") & set(self.header_value.reveal()):
            raise ValueError("header_value must not hold a line break")
        if self.follow_redirects and self.header:
            raise ValueError(
                "follow_redirects and header don't go together: another host would get its value"
            )

    def __repr__(self) -> str:
        return f"Endpoint(name={self.name!r})"  # the header's value and the URL's credentials are secrets


class HostOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `host` source.

    - `node`: the node's entity id; the machine's own host name where it is not given.
    - `labels`: labels for every entity of this source.
    - `gpus`: whether NVML is asked.
    - `baselines`: a file in which first-seen hashes are kept over restarts; without it they live as long as
      this process.
    """

    node: Name | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])
    gpus: bool = True
    jobs: Annotated[list[JobRule], Meta(max_length=JOBS_MAX)] = field(default_factory=list[JobRule])
    endpoints: Annotated[list[Endpoint], Meta(max_length=ENDPOINTS_MAX)] = field(
        default_factory=list[Endpoint]
    )
    files: Annotated[list[WatchedFile], Meta(max_length=FILES_MAX)] = field(default_factory=list[WatchedFile])
    baselines: Annotated[str, Meta(pattern="^/")] | None = None

    def __post_init__(self) -> None:
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")
        for what, names in (
            ("jobs", [job.name for job in self.jobs]),
            ("endpoints", [endpoint.name for endpoint in self.endpoints]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two {what} have one name")
