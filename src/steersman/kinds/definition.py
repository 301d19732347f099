"""Definitions: the catalogue that running resources are made from.

A definition is a value. It says what a kind of thing is: identity (`type_key`) and version, the phases its
instances run, what children they need. Where it comes from decides whether it has a life of its own:

- `seed`: loaded from YAML files. Always published, never synced, not changed until it is seeded again.
- `content_package`: written elsewhere and synced. It goes draft → published → deprecated, and its
  `sync_status` is reconciled; of the taxonomy only the `Form` is.

Definitions do not reconcile against infrastructure; instances do (`kinds.resource`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from steersman.kernel.clock import as_utc
from steersman.kernel.errors import InvalidInput
from steersman.kinds.phase import ManagedLifecycle

NAME_MAX_CHARS = 256
CHILDREN_MAX = 256
_Words = TypeVar("_Words", bound=StrEnum)
_VERSION_PART = re.compile(r"\d+|[a-zA-Z]+")


class DefinitionInvalid(InvalidInput, ValueError):
    """A definition that breaks a rule of the catalogue; `detail` names it and the rule."""

    code = "definition_invalid"
    title = "Definition invalid"


class ProvisioningSource(StrEnum):
    """Where a definition comes from."""

    SEED = "seed"
    CONTENT_PACKAGE = "content_package"


class DefinitionStatus(StrEnum):
    """Whether instances may be made from a definition: only from a published one."""

    DRAFT = "draft"
    PUBLISHED = "published"
    DEPRECATED = "deprecated"


class SyncState(StrEnum):
    """How the content of a `content_package` definition stands to its origin."""

    PENDING_SYNC = "pending_sync"
    SYNC_REQUESTED = "sync_requested"
    SYNCING = "syncing"
    SYNCED = "synced"
    FAILED = "failed"


class OnChildFailure(StrEnum):
    """What a parent does once a child has failed for good."""

    ABORT = "abort"  # tear the whole subtree down
    CONTINUE = "continue"  # go on with the others
    RETRY = "retry"  # make the child anew, at most `retries` times, then abort


class ChildRequirement(Struct, frozen=True, kw_only=True):
    """A child that each instance needs: of which kind, from which definition, and what its failure means.

    `definition` names a definition (`type_key` or `type_key@version`); `selector` finds one by labels or
    pattern when the instance is scheduled. `gates_next`: the next child in `order` waits for this one.
    """

    kind: str
    definition: str | None = None
    selector: str | None = None
    count: Annotated[int, Meta(ge=0)] = 1
    order: Annotated[int, Meta(ge=0)] = 0
    gates_next: bool = False
    on_failure: OnChildFailure = OnChildFailure.CONTINUE
    retries: Annotated[int, Meta(ge=0)] = 0
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])


class ResourceDefinition(Struct, frozen=True, kw_only=True):
    """What all definitions share; a value. `ref` is `type_key@version`.

    - `lifecycle_template`: a `ManagedLifecycle` in its stored form (list or mapping of phases).
    - `child_requirements`: the children of an instance. The mapping form of a requirement is read too.
    - `authorization_policy_id`: who may see and use it; None is everybody.
    - `definition_status` and `sync_status` follow from the source where they are not given: a seed is
      published and has no sync status, a content package begins as a draft that waits for its first sync.
      Both are read in any case.

    Raises `DefinitionInvalid`.
    """

    KIND: ClassVar[str] = "ResourceDefinition"
    INSTANCE: ClassVar[str | None] = None
    """The kind of resource that is made from it; None where none is."""

    type_key: str
    version: str = "1"
    provisioning_source: ProvisioningSource = ProvisioningSource.SEED
    authorization_policy_id: str | None = None
    lifecycle_template: dict[str, Any] = field(default_factory=dict[str, Any])
    child_requirements: list[ChildRequirement] = field(default_factory=list[ChildRequirement])
    definition_status: str = ""
    sync_status: str | None = None
    title: str = ""
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if not self.type_key or len(self.type_key) > NAME_MAX_CHARS or "@" in self.type_key:
            raise DefinitionInvalid(f"type_key has 1 to {NAME_MAX_CHARS} characters, without @")
        if not self.version or len(self.version) > NAME_MAX_CHARS or "@" in self.version:
            raise DefinitionInvalid(
                f"{self.type_key}: version has 1 to {NAME_MAX_CHARS} characters, without @"
            )
        if len(self.child_requirements) > CHILDREN_MAX:
            raise DefinitionInvalid(f"{self.ref}: at most {CHILDREN_MAX} child requirements are accepted")
        try:
            children = msgspec.convert(self.child_requirements, list[ChildRequirement])
        except msgspec.ValidationError as error:
            raise DefinitionInvalid(f"{self.ref}: child_requirements: {error}") from None
        force_setattr(self, "child_requirements", children)
        source = _word(self.ref, "provisioning_source", self.provisioning_source, ProvisioningSource)
        force_setattr(self, "provisioning_source", source)
        if source is ProvisioningSource.SEED:
            self._check_seed()
        else:
            self._check_content_package()
        self.lifecycle()

    def _check_seed(self) -> None:
        status = self.definition_status or DefinitionStatus.PUBLISHED.value
        if _word(self.ref, "definition_status", status, DefinitionStatus) is not DefinitionStatus.PUBLISHED:
            raise DefinitionInvalid(f"{self.ref}: a seed definition is always published")
        if self.sync_status is not None:
            raise DefinitionInvalid(f"{self.ref}: a seed definition has no sync_status; it is never synced")
        force_setattr(self, "definition_status", DefinitionStatus.PUBLISHED.value)

    def _check_content_package(self) -> None:
        status = self.definition_status or DefinitionStatus.DRAFT.value
        sync = self.sync_status or SyncState.PENDING_SYNC.value
        status = _word(self.ref, "definition_status", status, DefinitionStatus)
        force_setattr(self, "definition_status", status.value)
        force_setattr(self, "sync_status", _word(self.ref, "sync_status", sync, SyncState).value)

    @property
    def ref(self) -> str:
        """Its full name, which instances keep: `type_key@version`."""
        return f"{self.type_key}@{self.version}"

    def lifecycle(self) -> ManagedLifecycle:
        """The phases that an instance starts with. Raises `PhaseInvalid`."""
        return ManagedLifecycle.from_dict(self.lifecycle_template)

    def may_be_reseeded(self, replace: bool) -> bool:
        """Whether loading the seeds again may put another in its place: only a seed, only where asked."""
        return replace and self.provisioning_source is ProvisioningSource.SEED


class PartExecution(StrEnum):
    """In which order the parts of a session become active."""

    SINGLE = "single"
    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"


class SessionDefinition(ResourceDefinition, frozen=True, kw_only=True):
    """A type of session: which parts, and in which order."""

    KIND: ClassVar[str] = "SessionDefinition"
    INSTANCE: ClassVar[str | None] = "Session"

    session_type: str = ""
    form_qualified_name: str | None = None
    part_execution: PartExecution = PartExecution.SINGLE


class PartDefinition(ResourceDefinition, frozen=True, kw_only=True):
    """A part of a session: what it needs, and the pattern that selects the form it delivers."""

    KIND: ClassVar[str] = "PartDefinition"
    INSTANCE: ClassVar[str | None] = "SessionPart"

    selector_pattern: str | None = None
    requirements: dict[str, Any] = field(default_factory=dict[str, Any])
    order: Annotated[int, Meta(ge=0)] = 0
    gates_next: bool = False


class PodDefinition(ResourceDefinition, frozen=True, kw_only=True):
    """A pod: its type, what it needs of a host, and the ports it opens."""

    KIND: ClassVar[str] = "PodDefinition"
    INSTANCE: ClassVar[str | None] = "PodInstance"

    pod_type: str = ""
    resource_requirements: dict[str, float] = field(default_factory=dict[str, float])
    port_template: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    max_duration_minutes: Annotated[int, Meta(ge=1)] | None = None
    content_hash: str | None = None


class HostDefinition(ResourceDefinition, frozen=True, kw_only=True):
    """A type of host: a hosting site, a rack, a machine type, with what one of it can carry."""

    KIND: ClassVar[str] = "HostDefinition"
    INSTANCE: ClassVar[str | None] = "Host"

    host_type: str = ""
    capacity: dict[str, float] = field(default_factory=dict[str, float])
    cost_per_hour: Annotated[float, Meta(ge=0)] | None = None
    enabled: bool = True


class JobDefinition(ResourceDefinition, frozen=True, kw_only=True):
    """Automation that runs once for a resource, in that resource's window."""

    KIND: ClassVar[str] = "JobDefinition"
    INSTANCE: ClassVar[str | None] = "Job"

    workflow_ref: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])


class ReportDefinition(ResourceDefinition, frozen=True, kw_only=True):
    """A report that automation makes of what it collected."""

    KIND: ClassVar[str] = "ReportDefinition"
    INSTANCE: ClassVar[str | None] = "Report"

    template_ref: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])


class Form(ResourceDefinition, frozen=True, kw_only=True):
    """The one synced unit of authored content: delivered by a session part, never itself an instance.

    `content_hash` and `synced_at` are of the content that is here; `sync_error` is what the last failure
    said.
    """

    KIND: ClassVar[str] = "Form"

    provisioning_source: ProvisioningSource = ProvisioningSource.CONTENT_PACKAGE
    qualified_name: str = ""
    pod_definition_ref: str | None = None
    content_hash: str | None = None
    synced_at: datetime | None = None
    sync_error: str | None = None

    def __post_init__(self) -> None:
        ResourceDefinition.__post_init__(self)
        if self.provisioning_source is not ProvisioningSource.CONTENT_PACKAGE:
            raise DefinitionInvalid(f"{self.ref}: a form comes from a content package, never from a seed")
        if self.synced_at is not None:
            force_setattr(self, "synced_at", as_utc(self.synced_at))

    def is_synced(self) -> bool:
        """Whether its content is here and is what its origin has."""
        return self.sync_status == SyncState.SYNCED.value


class CatalogueEntry(ResourceDefinition, frozen=True, kw_only=True):
    """Configuration of the catalogue that nothing is made from: a delivery environment, a lab location, a
    hosting site's location, an authorization policy. `entry_kind` says which, `spec` holds its content."""

    KIND: ClassVar[str] = "CatalogueEntry"

    entry_kind: Literal[
        "DeliveryEnvironment", "LabLocation", "HostingSiteLocation", "AuthorizationPolicy"
    ] = "DeliveryEnvironment"
    spec: dict[str, Any] = field(default_factory=dict[str, Any])


DEFINITION_KINDS: Mapping[str, type[ResourceDefinition]] = {
    cls.KIND: cls
    for cls in (
        SessionDefinition,
        PartDefinition,
        PodDefinition,
        HostDefinition,
        JobDefinition,
        ReportDefinition,
        Form,
        CatalogueEntry,
    )
}
"""The class of each kind of definition."""


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts versions as people do: 2.7 before 2.10, 2.0-rc1 before 2.0, a leading v ignored."""
    main, _, rest = version.removeprefix("v").partition("-")
    parts = [_part(text) for text in _VERSION_PART.findall(main)]
    if rest:
        return (*parts, _PRERELEASE, *(_part(text) for text in _VERSION_PART.findall(rest)))
    return (*parts, _RELEASE)


# What follows a dash comes before the release itself, and both before any further number.
_PRERELEASE = (-1, 0, "")
_RELEASE = (-1, 1, "")


def _part(text: str) -> tuple[int, int, str]:
    return (1, int(text), "") if text.isdigit() else (0, 0, text.lower())


def _word(ref: str, name: str, given: str, words: type[_Words]) -> _Words:
    try:
        return words(given.strip().lower())
    except ValueError:
        known = ", ".join(member.value for member in words)
        raise DefinitionInvalid(f"{ref}: {name} is one of {known}, not {given!r}") from None
