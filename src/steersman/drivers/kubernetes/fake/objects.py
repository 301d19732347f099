"""How objects are written: names, uids, generations, status beside spec, conflicts, finalizers, grace."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from steersman.drivers.kubernetes.fake.catalogue import Kind
from steersman.drivers.kubernetes.fake.managed import managed
from steersman.drivers.kubernetes.fake.refusal import Refusal, conflict, invalid, not_found
from steersman.drivers.kubernetes.fake.storage import Storage
from steersman.drivers.kubernetes.fake.tree import Object, part
from steersman.drivers.kubernetes.shapes import ObjectKey
from steersman.kernel.clock import Clock

GRACE_DEFAULT_S = 30
"""A pod's, where neither it nor the request names one."""
NAME_MAX_CHARS = 253
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
SYSTEM_FIELDS = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
"""Of the metadata: the server's own, whatever a request says."""


class Objects:
    """The rules of writing, over the storage."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.storage = storage
        self._clock = clock
        self._uids = 0

    def now(self) -> str:
        """The time as the API writes it: whole seconds, UTC."""
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def read(self, kind: Kind, key: ObjectKey) -> Object:
        """An object as it is. Raises `Refusal` (404)."""
        found = self.storage.get(kind.resource.plural, key)
        if found is None:
            raise not_found(kind.resource.plural, kind.resource.group, key[1])
        return found

    def create(
        self, kind: Kind, namespace: str, body: Object, *, manager: str = "", dry: bool = False
    ) -> Object:
        """A new object, with a uid of its own; its status is not taken from the request where it has a
        subresource, but for kinds whose status nobody sets in this fake. Raises `Refusal`."""
        meta = self._named(kind, namespace, body)
        key = (namespace, meta["name"])
        plural = kind.resource.plural
        if self.storage.get(plural, key) is not None:
            raise Refusal(
                "AlreadyExists",
                f'{plural} "{key[1]}" already exists',
                details={"name": key[1], "group": kind.resource.group, "kind": plural},
            )
        if meta.get("resourceVersion"):
            raise invalid(
                kind.kind, key[1], "metadata.resourceVersion", "must not be set on objects to be created"
            )
        if namespace and self.storage.get("namespaces", ("", namespace)) is None:
            raise not_found("namespaces", "", namespace)
        self._uids += 1
        own: Object = {
            **{name: value for name, value in meta.items() if name not in SYSTEM_FIELDS},
            "uid": f"{self._uids:08x}-0000-4000-8000-{self.storage.version:012x}",
            "creationTimestamp": self.now(),
        }
        if kind.generation:
            own["generation"] = 1
        new = {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": own}
        own["managedFields"] = self._managed(kind, {}, new, manager)
        if dry:
            return new
        return self.storage.put(plural, key, new)

    def update(
        self,
        kind: Kind,
        key: ObjectKey,
        change: Callable[[Object], Object],
        *,
        subresource: str = "",
        manager: str = "",
        dry: bool = False,
        whole: bool = False,
    ) -> Object:
        """Write what `change` makes of an object. `whole`: it is a replacement, not a patch.

        Raises `Refusal`: 404, 409 where its resource version or uid is not the one that is there, 422.
        """
        plural = kind.resource.plural
        old = self.read(kind, key)
        new = change(old)
        meta: Object = part(new, "metadata")
        had: Object = old["metadata"]
        if meta.get("name", key[1]) != key[1] or meta.get("namespace", key[0]) != key[0]:
            raise Refusal("BadRequest", "the name of the object does not match the name on the URL")
        if meta.get("uid", had["uid"]) != had["uid"]:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {had['uid']}"
            raise conflict(plural, key[1], why)
        version = meta.get("resourceVersion")
        if version and version != had["resourceVersion"]:
            why = (
                "the object has been modified; please apply your changes to the latest version and try again"
            )
            raise conflict(plural, key[1], why)
        if whole and kind.custom and not version:
            raise invalid(kind.kind, key[1], "metadata.resourceVersion", "must be specified for an update")
        new = self._kept_apart(kind, old, new, subresource)
        own = {**part(new, "metadata"), "name": key[1]}
        own |= {name: had[name] for name in SYSTEM_FIELDS if name in had}
        own["resourceVersion"] = had["resourceVersion"]
        stripped = meta.get("managedFields") == [{}]  # how a client has the record dropped
        own["managedFields"] = [] if stripped else had.get("managedFields", [])
        if kind.generation and new.get("spec") != old.get("spec"):
            own["generation"] = had.get("generation", 0) + 1
        new = {**new, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": own}
        if _same(new, old) and not stripped:
            return old  # a write that changes nothing gets no new version
        if not stripped:
            own["managedFields"] = self._managed(kind, old, new, manager)
        if dry:
            return new
        if own.get("deletionTimestamp") and not own.get("finalizers") and had.get("finalizers"):
            return self.storage.delete(plural, key)  # the last finalizer is done
        return self.storage.put(plural, key, new)

    def delete(self, kind: Kind, key: ObjectKey, options: Object, *, dry: bool = False) -> Object:
        """Delete an object, or mark it where somebody has still to let go of it: a finalizer, the kubelet.

        Raises `Refusal`: 404, 409 where a precondition does not hold.
        """
        plural = kind.resource.plural
        old = self.read(kind, key)
        had: Object = old["metadata"]
        wanted: Object = part(options, "preconditions")
        for field, name in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if wanted.get(field, had[field]) != had[field]:
                why = (
                    f"Precondition failed: {name} in precondition: {wanted[field]}, "
                    f"{name} in object meta: {had[field]}"
                )
                raise conflict(plural, key[1], why)
        grace_s = self._grace_s(kind, old, options)
        if dry:
            return old
        marked = had.get("deletionTimestamp")
        waits = grace_s > 0 or bool(had.get("finalizers"))
        if not waits:
            if plural == "namespaces":
                self._empty(key[1])
            return self.storage.delete(plural, key)
        if marked and grace_s >= had.get("deletionGracePeriodSeconds", 0):
            return old  # marked already; a shorter grace would be taken over
        meta = {**had, "deletionTimestamp": self.now(), "deletionGracePeriodSeconds": grace_s}
        return self.storage.put(plural, key, {**old, "metadata": meta})

    # ---- inside

    def _named(self, kind: Kind, namespace: str, body: Object) -> Object:
        """The metadata with a name. Raises `Refusal`."""
        meta: Object = dict(part(body, "metadata"))
        given = (body.get("apiVersion", kind.api_version), body.get("kind", kind.kind))
        if given != (kind.api_version, kind.kind):
            raise Refusal(
                "BadRequest",
                f"the object provided is {given[0]} {given[1]}, not {kind.api_version} {kind.kind}",
            )
        if not meta.get("name") and meta.get("generateName"):
            self._uids += 1
            meta["name"] = f"{meta['generateName']}{self._uids:05x}"
        name = meta.get("name", "")
        if not name:
            raise invalid(kind.kind, "", "metadata.name", "Required value: name or generateName is required")
        if not isinstance(name, str) or len(name) > NAME_MAX_CHARS or not _NAME.fullmatch(name):
            raise invalid(kind.kind, str(name), "metadata.name", "a lowercase RFC 1123 subdomain is required")
        if meta.get("namespace", namespace) != namespace:
            raise Refusal(
                "BadRequest", "the namespace of the object does not match the namespace on the request"
            )
        if namespace:
            meta["namespace"] = namespace
        return meta

    def _kept_apart(self, kind: Kind, old: Object, new: Object, subresource: str) -> Object:
        """A write of the status changes the status alone, and any other write leaves it."""
        if not kind.status:
            return new
        if subresource == "status":
            changed = {name: value for name, value in old.items() if name != "status"}
            return {**changed, **({"status": new["status"]} if "status" in new else {})}
        kept = {name: value for name, value in new.items() if name != "status"}
        return {**kept, **({"status": old["status"]} if "status" in old else {})}

    def _grace_s(self, kind: Kind, old: Object, options: Object) -> int:
        """Seconds that a pod on a node has to end; all else goes at once."""
        spec: Object = part(old, "spec")
        if kind.resource.plural != "pods" or not spec.get("nodeName"):
            return 0
        if part(old, "status").get("phase") in ("Succeeded", "Failed"):
            return 0
        asked: Any = options.get("gracePeriodSeconds")
        return int(asked if asked is not None else spec.get("terminationGracePeriodSeconds", GRACE_DEFAULT_S))

    def _managed(self, kind: Kind, old: Object, new: Object, manager: str) -> list[Object]:
        by = manager or "unknown"
        return managed(old, new, manager=by, api_version=kind.api_version, now=self.now())

    def _empty(self, namespace: str) -> None:
        """What is in a namespace goes with it."""
        for plural, key in self.storage.everything():
            if key[0] == namespace:
                self.storage.delete(plural, key)


def _same(new: Object, old: Object) -> bool:
    def content(thing: Object) -> Object:
        meta = {name: value for name, value in thing["metadata"].items() if name != "managedFields"}
        return {**thing, "metadata": meta}

    return content(new) == content(old)
