"""What `steersman.yaml` may say: the schema that `kernel.config.load` reads it into.

Every key has a heading in docs/reference/configuration.md. A key in here is a promise, so there is none
without an effect. What a driver takes besides the common keys of a source is the driver's own `Options`;
it stays in `SourceSettings.options`, unread, until the driver is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from steersman.kernel.bounds import GIB, KIB, MIB
from steersman.kernel.confread import Rest
from steersman.kernel.quantity import Between, ByteSize, Duration
from steersman.kinds.names import kind_of

FILE_NAME = "steersman.yaml"

HOST = "127.0.0.1"
PORT = 7440

BODY_MAX_BYTES = 8 * MIB
"""Largest request body. A batch of 30,000 fragments of six fields fits; its sender splits a larger one."""
STREAMS_MAX = 2048
"""Event streams at one time, over all callers."""
TIMEOUT_S = 10.0
"""How long one observation may take where neither the source nor its interval says less."""
CONCURRENCY = 32
"""Observations under way at one time."""
SOURCES_MAX = 1024
IDENTITY_MAX = 100_000
"""Aliases that are written by hand, or scopes: a fleet's worth of nodes."""
CHECKPOINT_INTERVAL_S = 15.0
"""At most this much of the picture is observed again after a crash."""
TOMBSTONE_TTL_S = 86_400.0
"""A day: longer than any queue, proxy or disconnected agent we know of holds back an old observation."""
TOMBSTONES_MAX = 50_000
ALLOW_TARGETS_MAX = 256
RECORD_QUEUE_MAX = 65_536
"""Fragments that may wait to be recorded: some two seconds of a fleet of 112,500 entities at 10 s."""

RESERVED_VARIABLES = frozenset(
    {"STEERSMAN_SERVER", "STEERSMAN_TOKEN", "STEERSMAN_CONFIG", "STEERSMAN_HOME", "STEERSMAN_OUTPUT"}
)
"""Variables of the command line, not of the configuration (decision 0003)."""

OWN_SOURCE = "steersman"
"""The source that tells of Steersman itself. Nobody else may use its name."""

THIS_HOST = "this-host"
"""The source that there is when none is configured."""

_Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$",
        description="a name of letters, digits, dot, dash and underscore, at most 128 characters",
    ),
]


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the API listens, and its bounds.

    An address that is not loopback needs `auth.tokens`. `names` are further host names under which callers
    may reach an API that answers without a token; loopback names are always accepted.
    """

    host: Annotated[str, Meta(min_length=1, max_length=255)] = HOST
    port: Annotated[int, Meta(ge=0, le=65535)] = PORT
    names: list[str] = field(default_factory=list[str])
    body_max_bytes: Annotated[ByteSize, Between(ByteSize(KIB), ByteSize(GIB))] = ByteSize(BODY_MAX_BYTES)
    streams_max: Annotated[int, Meta(ge=1, le=100_000)] = STREAMS_MAX


class AuthSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call. With `tokens: false` a caller on loopback needs no token; with true every caller does."""

    tokens: bool = False


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, and how: `auto` is for people on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class IntakeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How observations are scheduled."""

    concurrency: Annotated[int, Meta(ge=1, le=1024)] = CONCURRENCY


class CheckpointSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How often the picture is written down for the next start."""

    interval: Annotated[Duration, Between(Duration(1), Duration(86_400))] = Duration(CHECKPOINT_INTERVAL_S)


class RetentionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How long what is gone is remembered: a late observation can't bring it back in that time."""

    tombstones: Annotated[Duration, Between(Duration(1), Duration(366 * 86_400))] = Duration(TOMBSTONE_TTL_S)
    tombstones_max: Annotated[int, Meta(ge=1, le=10_000_000)] = TOMBSTONES_MAX


class RecordSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Recording of what sources say. Without `file` nothing is recorded from the start on."""

    file: Path | None = None
    queue_max: Annotated[int, Meta(ge=1, le=10_000_000)] = RECORD_QUEUE_MAX


class EventsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where webhooks may be sent to beside the public internet: networks, addresses and host names."""

    allow_targets: Annotated[list[str], Meta(max_length=ALLOW_TARGETS_MAX)] = field(default_factory=list[str])


class GatewaySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Model routing: where its own configuration is."""

    config: Path | None = None


class IdentitySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Which names are one thing, beyond what `rules` find; with `rules: false` only what is said here.

    `aliases`: `KIND/NAME: KIND/NAME` (or the name alone), in every scope. `scopes`: scope labels that mean
    another scope, so that names are joined across both; without it no name is joined with one of another.
    """

    rules: bool = True
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    scopes: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for what, given in (("aliases", self.aliases), ("scopes", self.scopes)):
            if len(given) > IDENTITY_MAX:
                raise ValueError(f"{what}: {len(given)} entries; at most {IDENTITY_MAX} are taken")
        pairs = self.pairs()
        for (kind, name), target in pairs.items():
            if name == target:
                raise ValueError(f"aliases: {kind}/{name} is named as its own alias")
            if (kind, target) in pairs:
                raise ValueError(
                    f"aliases: {kind}/{name} is to be {kind}/{target}, which is an alias itself; "
                    f"name {kind}/{pairs[kind, target]}"
                )
        for scope, target in self.scopes.items():
            if scope == target or target in self.scopes:
                raise ValueError(f"scopes: {scope!r} is to be {target!r}, which is to be another one itself")

    def pairs(self) -> dict[tuple[str, str], str]:
        """The aliases: entity type and name, and the name that is meant. Raises ValueError."""
        pairs: dict[tuple[str, str], str] = {}
        for given, meant in self.aliases.items():
            word, _, name = given.partition("/")
            kind = kind_of(word)
            if kind is None or not name:
                raise ValueError(f"aliases: {given!r} is no KIND/NAME of an entity, as node/n1 is")
            head, _, rest = meant.partition("/")
            other = kind_of(head) if rest else None
            if other is not None and other is not kind:
                raise ValueError(f"aliases: {given} can't be {meant}: a {kind.value} is no {other.value}")
            target = rest if other is not None else meant
            if not target:
                raise ValueError(f"aliases: {given} has no name to mean")
            pairs[kind.value, name] = target
        return pairs


class SourceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """One source: the keys that all have, and in `options` those of its driver.

    `scope` is the `cluster` label of its entities. `interval` and `timeout` are the driver's defaults where
    they are left out. `priority` decides between two sources that say the same at the same instant.
    """

    name: _Name
    driver: Annotated[str, Meta(min_length=1, max_length=128)]
    scope: Annotated[str, Meta(max_length=256)] = ""
    interval: Annotated[Duration, Between(Duration(0.1), Duration(86_400))] | None = None
    timeout: Annotated[Duration, Between(Duration(0.05), Duration(3_600))] | None = None
    enabled: bool = True
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    options: Rest = field(default_factory=Rest)


def _this_host() -> list[SourceSettings]:
    return [SourceSettings(name=THIS_HOST, driver="host")]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `steersman.yaml`. Without a file: this machine, on loopback, in the state folder."""

    server: ServerSettings = field(default_factory=ServerSettings)
    store: Annotated[str, Meta(min_length=1)] | None = None
    sources: list[SourceSettings] = field(default_factory=_this_host)
    policies: list[Path] = field(default_factory=list[Path])
    lifecycles: list[Path] = field(default_factory=list[Path])
    health: list[Path] = field(default_factory=list[Path])
    catalogue: list[Path] = field(default_factory=list[Path])
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    log: LogSettings = field(default_factory=LogSettings)
    intake: IntakeSettings = field(default_factory=IntakeSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    record: RecordSettings = field(default_factory=RecordSettings)
    events: EventsSettings = field(default_factory=EventsSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source names must differ; given twice: {', '.join(twice)}")
        if OWN_SOURCE in names:
            raise ValueError(f"no source may be named {OWN_SOURCE!r}: that is the plane's own")
        if len(names) > SOURCES_MAX:
            raise ValueError(f"{len(names)} sources; at most {SOURCES_MAX} are run by one process")

    def store_url(self, home: Path, config_file: Path | None) -> str:
        """The store's URL with an absolute path.

        Without `store` it is `steersman.db` in `home`, the state folder. A relative path is relative to the
        configuration file's folder, or to `home` where there is no file.
        """
        if self.store is None:
            return f"sqlite:///{home / 'steersman.db'}"
        if self.store == "memory":
            return "memory:"  # in YAML the colon at the end would need quotes
        scheme, separator, place = self.store.partition(":///")
        if scheme != "sqlite" or not separator or place.startswith("/"):
            return self.store
        folder = config_file.absolute().parent if config_file is not None else home
        return f"sqlite:///{folder / place}"


def state_folder(env: Mapping[str, str]) -> Path:
    """Where what must outlive the process is kept: `$STEERSMAN_HOME`, else by the XDG rules
    `$XDG_STATE_HOME/steersman`, else `~/.local/state/steersman`. The folder is not made here."""
    if env.get("STEERSMAN_HOME"):
        return Path(env["STEERSMAN_HOME"]).expanduser().absolute()
    base = env.get("XDG_STATE_HOME", "")
    # The specification says that a relative XDG folder is to be ignored.
    if base.startswith("/"):
        return Path(base) / "steersman"
    return Path("~/.local/state/steersman").expanduser()
