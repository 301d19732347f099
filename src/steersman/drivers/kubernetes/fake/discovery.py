"""What a server says of itself: its version, and the groups and kinds that it has."""

from __future__ import annotations

from collections.abc import Iterable

from steersman.drivers.kubernetes.fake.catalogue import Kind
from steersman.drivers.kubernetes.fake.tree import Object

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def describe(path: str, kinds: Iterable[Kind], git_version: str) -> Object | None:
    """The answer to a path of the discovery; None where it is none."""
    kinds = list(kinds)
    if path == "/version":
        major, minor = git_version.lstrip("v").split(".")[:2]
        return {
            "major": major, "minor": minor, "gitVersion": git_version, "gitCommit": "",
            "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "",
            "platform": "linux/amd64",
        }  # fmt: skip
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    groups: dict[str, list[str]] = {}
    for kind in kinds:
        versions = groups.setdefault(kind.resource.group, [])
        if kind.resource.version not in versions:
            versions.append(kind.resource.version)
    named = {name: _group(name, versions) for name, versions in groups.items() if name}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(named.values())}
    if path.removeprefix("/apis/") in named:
        return {"apiVersion": "v1", **named[path.removeprefix("/apis/")]}
    mine = [kind for kind in kinds if kind.resource.group_path == path]
    if not mine and path != "/api/v1":
        return None
    where = mine[0].api_version if mine else "v1"
    resources = [entry for kind in mine for entry in _resources(kind)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": where, "resources": resources}


def _group(name: str, versions: list[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "name": name, "versions": listed, "preferredVersion": listed[0]}


def _resources(kind: Kind) -> list[Object]:
    where = kind.resource
    own: Object = {
        "name": where.plural,
        "singularName": kind.kind.lower(),
        "namespaced": where.namespaced,
        "kind": kind.kind,
        "verbs": VERBS,
        "shortNames": list(kind.short),
        "storageVersionHash": "",
    }
    found = [own]
    for name in kind.subresources:
        more: Object = {
            "name": f"{where.plural}/{name}",
            "singularName": "",
            "namespaced": where.namespaced,
            "kind": kind.kind,
            "verbs": ["get", "patch", "update"],
        }
        if name == "scale":
            more |= {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        if name == "eviction":
            more |= {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]}
        found.append(more)
    return found
