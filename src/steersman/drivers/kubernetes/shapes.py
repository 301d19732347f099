"""What every object of the API has, and the answers around objects. Unknown keys are passed over.

Shapes of single kinds extend `Thing` and name only what is read of them, so that the rest (managedFields are
half of a small object) is dropped while it is decoded.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct, field

ObjectKey = tuple[str, str]
"""Namespace (empty for what has none) and name."""

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""The annotation of the bookmark that ends the list part of a streaming list."""


class Owner(Struct, frozen=True, rename="camel"):
    """An entry of `metadata.ownerReferences`."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    api_version: str = ""


class Meta(Struct, frozen=True, rename="camel"):
    """`metadata`. `uid` tells one incarnation of a name from the next. Times are RFC 3339 texts."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return (self.namespace, self.name)


class Thing(Struct, frozen=True, rename="camel"):
    """Any object; the base of every kind's shape."""

    metadata: Meta = Meta()


class ListMeta(Struct, frozen=True, rename="camel"):
    """`metadata` of a list. `continue_` asks for the next page; empty on the last."""

    resource_version: str = ""
    continue_: str = field(default="", name="continue")
    remaining_item_count: int | None = None


class ObjectList(Struct, frozen=True, rename="camel"):
    """A page of a list; items are decoded one by one, so that one that can't be read costs itself alone."""

    metadata: ListMeta = ListMeta()
    items: list[Raw] | None = None


class WatchLine(Struct, frozen=True):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and an object or a status."""

    type: str = ""
    object: Raw = Raw(b"{}")


class StatusCause(Struct, frozen=True):
    """One of the causes in a status."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Struct, frozen=True, rename="camel"):
    """`details` of a status."""

    name: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[StatusCause] | None = None
    retry_after_seconds: int | None = None


class ApiStatus(Struct, frozen=True, rename="camel"):
    """The API's error object. `reason` is a word for programs (`Conflict`), `message` a sentence."""

    kind: str = ""
    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None


class ServerVersion(Struct, frozen=True, rename="camel"):
    """`/version`."""

    major: str = ""
    minor: str = ""
    git_version: str = ""

    @property
    def number(self) -> tuple[int, int]:
        """Major and minor as numbers; vendors write `32+`. (0, 0) where they are none."""
        return (_digits(self.major), _digits(self.minor))


class ServedResource(Struct, frozen=True):
    """An entry of a resource list of the discovery."""

    name: str = ""
    namespaced: bool = False
    kind: str = ""
    verbs: list[str] | None = None


class ServedResources(Struct, frozen=True):
    """`/api/v1`, `/apis/<group>/<version>`."""

    resources: list[ServedResource] | None = None


def _digits(text: str) -> int:
    return int("".join(char for char in text[:8] if char in "0123456789") or 0)


def encode(body: Any) -> bytes:
    """An object as JSON."""
    return msgspec.json.encode(body)
