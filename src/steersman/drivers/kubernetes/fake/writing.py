"""Writes over HTTP: creations, replacements, patches, scale, deletions, dry runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from steersman.drivers.kubernetes.fake.asked import Asked
from steersman.drivers.kubernetes.fake.catalogue import Kind
from steersman.drivers.kubernetes.fake.eviction import evict
from steersman.drivers.kubernetes.fake.objects import Objects
from steersman.drivers.kubernetes.fake.patching import json_patch, merge, strategic
from steersman.drivers.kubernetes.fake.refusal import Refusal, invalid, success
from steersman.drivers.kubernetes.fake.tree import Object, items, part

PATCHES: Mapping[str, Callable[[Any, Any], Any]] = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": strategic,
}


def write(objects: Objects, kinds: Mapping[str, Kind], asked: Asked) -> tuple[int, Object]:
    """Do what is asked; the HTTP status and the answer. Raises `Refusal`."""
    if asked.method == "POST":
        return 201, _post(objects, kinds, asked)
    if asked.method == "DELETE":
        return 200, _delete(objects, asked)
    if not asked.name or asked.method not in ("PUT", "PATCH"):
        raise Refusal("MethodNotAllowed", "the server does not allow this method on the requested resource")
    change = _change(asked)
    if asked.subresource == "scale":
        changed = objects.update(
            asked.kind,
            asked.key,
            lambda old: _scaled(asked, old, change),
            manager=asked.manager,
            dry=asked.dry,
        )
        return 200, scale_of(changed)
    changed = objects.update(
        asked.kind,
        asked.key,
        change,
        subresource=asked.subresource,
        manager=asked.manager,
        dry=asked.dry,
        whole=asked.method == "PUT",
    )
    return 200, changed


def scale_of(thing: Object) -> Object:
    """The scale subresource of an object."""
    meta: Object = thing["metadata"]
    spec: Object = part(thing, "spec")
    labels = part(spec, "selector", "matchLabels")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            name: meta[name]
            for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if name in meta
        },
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {
            "replicas": part(thing, "status").get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }


def _scaled(asked: Asked, old: Object, change: Callable[[Object], Object]) -> Object:
    """The object with the replicas of its changed scale. Raises `Refusal`."""
    new = change(scale_of(old))
    replicas = part(new, "spec").get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise invalid("Scale", asked.name, "spec.replicas", "must be greater than or equal to 0")
    meta = {**old["metadata"], **part(new, "metadata")}
    return {**old, "metadata": meta, "spec": {**part(old, "spec"), "replicas": replicas}}


def _change(asked: Asked) -> Callable[[Object], Object]:
    """What a PUT or PATCH makes of an object. Raises `Refusal`."""
    if asked.method == "PUT":
        body = asked.object()
        if not part(body, "metadata").get("name"):
            raise Refusal("BadRequest", "the name of the object is missing")
        return lambda old: body
    patch = PATCHES.get(asked.content_type)
    if patch is None or (patch is strategic and asked.kind.custom):
        allowed = [name for name, how in PATCHES.items() if not (how is strategic and asked.kind.custom)]
        raise Refusal(
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format ({asked.content_type}); accepted are "
            f"{', '.join(allowed)}",
        )
    body = asked.json()
    return lambda old: patch(old, body)


def _post(objects: Objects, kinds: Mapping[str, Kind], asked: Asked) -> Object:
    if asked.subresource == "eviction":
        budgets = kinds.get("poddisruptionbudgets")
        return evict(objects, asked.kind, budgets, asked.key, asked.object(), dry=asked.dry)
    if asked.name:
        raise Refusal("MethodNotAllowed", "the server does not allow this method on the requested resource")
    if asked.kind.resource.namespaced and not asked.namespace:
        raise Refusal("MethodNotAllowed", "a namespace is needed to create this")
    return objects.create(asked.kind, asked.namespace, asked.object(), manager=asked.manager, dry=asked.dry)


def _delete(objects: Objects, asked: Asked) -> Object:
    options: Object = asked.json() if asked.body else {}
    dry = asked.dry or "All" in items(options, "dryRun")
    if "gracePeriodSeconds" in asked.query:
        options = {**options, "gracePeriodSeconds": int(asked.query["gracePeriodSeconds"])}
    if asked.name:
        return objects.delete(asked.kind, asked.key, options, dry=dry)
    chosen = asked.chosen()
    for thing in objects.storage.all(asked.kind.resource.plural):
        if chosen(thing):
            meta: Object = thing["metadata"]
            objects.delete(asked.kind, (meta.get("namespace", ""), meta["name"]), options, dry=dry)
    return success()
