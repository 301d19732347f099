"""What a Kubernetes API server does, as checks that any server can be put to: the fake, and a real one.

Each check takes a `KubeClient` and a namespace of its own that it may fill with config maps, and raises an
AssertionError that says which promise is broken. `KUBERNETES_CHECKS` has all of them. Only what every server
since 1.32 does is checked; nothing here looks into a server.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from steersman.drivers.kubernetes.client import PATCH_JSON, PATCH_STRATEGIC, KubeClient, KubernetesRefused
from steersman.drivers.kubernetes.marks import FIELD_MANAGER
from steersman.drivers.kubernetes.resources import CONFIG_MAPS, NODES, Resource
from steersman.drivers.kubernetes.shapes import INITIAL_EVENTS_END, ListMeta, ObjectList, Thing, WatchLine

TIMEOUT_S = 10.0
"""For one answer, and for one event."""

Check = Callable[[KubeClient, str], Awaitable[None]]


async def check_version_and_discovery(client: KubeClient, namespace: str) -> None:
    """The server says what it is and which kinds it has."""
    version = await client.version(timeout_s=TIMEOUT_S)
    _expect(version.number >= (1, 32), f"version {version} can't be read, or is older than these checks")
    _expect(await client.serves(CONFIG_MAPS, timeout_s=TIMEOUT_S), "config maps are not in the discovery")
    none = Resource("no.such.group", "v1", "things")
    _expect(not await client.serves(none, timeout_s=TIMEOUT_S), "a group that does not exist is served")
    refused = await _refused(client.get(none, "x", namespace=namespace, timeout_s=TIMEOUT_S))
    _expect(refused.not_found, f"a kind that does not exist gives {refused.http_status}")


async def check_uids_and_versions(client: KubeClient, namespace: str) -> None:
    """Created, changed, deleted, made anew: uids, versions, 409 and 404."""
    made = await _create(client, namespace, "a")
    again = await _refused(_create(client, namespace, "a"))
    _expect(again.already_exists, f"a taken name gives {again.reason}")
    changed = await _merge(client, namespace, "a", {"data": {"v": "2"}})
    _expect(_meta(changed)["uid"] == _meta(made)["uid"], "a change gave another uid")
    _expect(_version(changed) != _version(made), "a change gave no new version")
    same = await _merge(client, namespace, "a", {"data": {"v": "2"}})
    _expect(_version(same) == _version(changed), "a change of nothing gave a new version")
    other = await _refused(_delete(client, namespace, "a", uid="00000000-0000-4000-8000-000000000000"))
    _expect(other.conflict, f"a deletion of another uid gives {other.http_status} {other.reason}")
    await _delete(client, namespace, "a", uid=_meta(made)["uid"])
    gone = await _refused(client.get(CONFIG_MAPS, "a", namespace=namespace, timeout_s=TIMEOUT_S))
    _expect(gone.not_found and gone.reason == "NotFound", f"a deleted object gives {gone.reason}")
    anew = await _create(client, namespace, "a")
    _expect(_meta(anew)["uid"] != _meta(made)["uid"], "the same name made anew has the old uid")


async def check_old_versions_conflict(client: KubeClient, namespace: str) -> None:
    """A write with an old resource version is refused, with PUT and with a patch."""
    made = await _create(client, namespace, "a")
    await _merge(client, namespace, "a", {"data": {"v": "2"}})
    put = client.replace(CONFIG_MAPS, "a", made, namespace=namespace, timeout_s=TIMEOUT_S)
    _expect((await _refused(put)).conflict, "a PUT with an old version was taken")
    stale = {"metadata": {"resourceVersion": _version(made)}, "data": {"v": "3"}}
    _expect((await _refused(_merge(client, namespace, "a", stale))).conflict, "so was a patch")
    now = await client.get(CONFIG_MAPS, "a", namespace=namespace, timeout_s=TIMEOUT_S)
    _expect(now["data"] == {"v": "2"}, "a refused write changed something")
    put = client.replace(
        CONFIG_MAPS, "a", {**now, "data": {"v": "4"}}, namespace=namespace, timeout_s=TIMEOUT_S
    )
    _expect((await put)["data"] == {"v": "4"}, "a PUT with the newest version was not taken")


async def check_patches(client: KubeClient, namespace: str) -> None:
    """JSON merge, JSON and strategic merge patches; what is none is refused."""
    await _create(client, namespace, "a", {"v": "1", "w": "1"})
    merged = await _merge(client, namespace, "a", {"data": {"w": None, "x": "2"}})
    _expect(merged["data"] == {"v": "1", "x": "2"}, f"a merge patch gave {merged['data']}")
    steps = [
        {"op": "test", "path": "/data/v", "value": "1"},
        {"op": "replace", "path": "/data/v", "value": "9"},
    ]
    options: dict[str, Any] = {"namespace": namespace, "timeout_s": TIMEOUT_S}
    patched = await client.patch(CONFIG_MAPS, "a", steps, kind=PATCH_JSON, **options)
    _expect(patched["data"]["v"] == "9", "a JSON patch was not applied")
    failed = await _refused(client.patch(CONFIG_MAPS, "a", steps, kind=PATCH_JSON, **options))
    _expect(failed.http_status == 422, f"a JSON patch whose test fails gives {failed.http_status}")
    strategic = {"metadata": {"finalizers": None}, "data": {"y": "1"}}
    done = await client.patch(CONFIG_MAPS, "a", strategic, kind=PATCH_STRATEGIC, **options)
    _expect(done["data"] == {"v": "9", "x": "2", "y": "1"}, "a strategic merge patch was not applied")
    odd = await _refused(client.patch(CONFIG_MAPS, "a", {}, kind="application/x-odd", **options))
    _expect(odd.http_status == 415, f"a patch of an unknown kind gives {odd.http_status}")


async def check_who_changed_a_field_is_on_record(client: KubeClient, namespace: str) -> None:
    """Whoever changed a field last has it; a write of what is there takes nothing; a record that was dropped
    stays away."""
    await _create(client, namespace, "a")

    async def writers(labels: dict[str, Any], **metadata: Any) -> list[str]:
        await _merge(client, namespace, "a", {"metadata": {"labels": labels, **metadata}})
        thing = await client.get(CONFIG_MAPS, "a", namespace=namespace, timeout_s=TIMEOUT_S)
        record: list[dict[str, Any]] = _meta(thing).get("managedFields") or []
        return [
            entry["manager"]
            for entry in record
            if "f:mark" in entry["fieldsV1"].get("f:metadata", {}).get("f:labels", {})
        ]

    _expect(await writers({"mark": "x"}) == [FIELD_MANAGER], "who put a label is not on record")
    _expect(await writers({"other": "x"}) == [FIELD_MANAGER], "another field took a label's record away")
    _expect(await writers({"mark": None}) == [], "what is gone is still on record")
    await writers({}, managedFields=[{}])
    _expect(await writers({"mark": "x"}) == [], "a record that was dropped came back by itself")


async def check_a_dry_run_changes_nothing(client: KubeClient, namespace: str) -> None:
    """Creation, change and deletion with `dryRun=All` answer as ever, and nothing is there of it."""
    made = await _create(client, namespace, "a")
    options: dict[str, Any] = {"namespace": namespace, "dry_run": True, "timeout_s": TIMEOUT_S}
    body = {"metadata": {"name": "b"}, "data": {}}
    await client.create(CONFIG_MAPS, body, **options)
    shown = await client.patch(CONFIG_MAPS, "a", {"data": {"v": "dry"}}, **options)
    _expect(shown["data"]["v"] == "dry", "a dry run does not show what would be")
    await client.delete(CONFIG_MAPS, "a", **options)
    names = {thing.metadata.name: thing for thing in (await _list(client, namespace))[0]}
    _expect("b" not in names, "a dry creation created")
    _expect(names["a"].metadata.resource_version == _version(made), "a dry change changed")


async def check_a_list_by_pages_is_one_state(client: KubeClient, namespace: str) -> None:
    """All pages have one resource version, and what was made or deleted meanwhile is not in them."""
    for number in range(5):
        await _create(client, namespace, f"m-{number}")
    things, meta = await _list(client, namespace, limit=2)
    _expect(bool(meta.continue_) and len(things) == 2, "a list with a limit has no continue token")
    await _delete(client, namespace, "m-4")
    await _create(client, namespace, "m-9")
    names = [thing.metadata.name for thing in things]
    while meta.continue_:
        version = meta.resource_version
        things, meta = await _list(client, namespace, limit=2, token=meta.continue_)
        _expect(meta.resource_version == version, "a later page is of another version")
        names += [thing.metadata.name for thing in things]
    mine = [name for name in names if name.startswith("m-")]
    _expect(mine == [f"m-{number}" for number in range(5)], f"the pages have {mine}")
    bad = await _refused(_list(client, namespace, limit=2, token="no-token"))  # noqa: S106 - a page token, no credential
    _expect(bad.http_status in (400, 410), f"a token that is none gives {bad.http_status}")


async def check_selectors(client: KubeClient, namespace: str) -> None:
    """By labels and fields; what can't be selected by is refused."""
    for name, pool in (("a", "gpu"), ("b", "cpu"), ("c", "")):
        await _create(client, namespace, name, labels={"pool": pool} if pool else {})
    wanted = {
        "pool=gpu": "a", "pool!=gpu": "bc", "pool in (gpu,cpu)": "ab", "pool notin (gpu)": "bc", "pool": "ab",
        "!pool": "c", "pool,pool!=cpu": "a",
    }  # fmt: skip
    for selector, names in wanted.items():
        found = {thing.metadata.name for thing in (await _list(client, namespace, labels=selector))[0]}
        _expect(found & set("abc") == set(names), f"{selector!r} gave {sorted(found)}")
    found = [thing.metadata.name for thing in (await _list(client, namespace, fields="metadata.name=b"))[0]]
    _expect(found == ["b"], f"by name were found {found}")
    odd = await _refused(_list(client, namespace, fields="spec.nodeName=x"))
    _expect(odd.http_status == 400, "a field that can't be selected by is not refused")


async def check_a_watch_tells_each_change_after_its_version(client: KubeClient, namespace: str) -> None:
    """ADDED, MODIFIED and DELETED in order, each with a new version; of the deleted its last state."""
    before = await _create(client, namespace, "before")
    _, meta = await _list(client, namespace)
    await _create(client, namespace, "a")
    await _merge(client, namespace, "a", {"data": {"v": "2"}})
    await _delete(client, namespace, "a")
    async with _watch(client, namespace, resource_version=meta.resource_version) as lines:
        told = [line async for line in _some(lines, 3)]
    _expect([line.type for line in told] == ["ADDED", "MODIFIED", "DELETED"], f"told were {told}")
    versions = [_thing(line).metadata.resource_version for line in told]
    _expect(len({*versions, _version(before)}) == 4, f"the versions told are {versions}")
    last = msgspec.json.decode(told[2].object)
    _expect(last["data"] == {"v": "2"}, "a deletion does not show the last state")
    async with _watch(client, namespace, resource_version=versions[1]) as lines:
        rest = [line async for line in _some(lines, 1)]
    _expect(rest[0].type == "DELETED", "a watch that is resumed does not go on behind its version")


async def check_a_watch_with_a_selector_tells_who_comes_and_goes(client: KubeClient, namespace: str) -> None:
    """An object that begins to match is ADDED, one that no longer does is DELETED."""
    await _create(client, namespace, "a")
    _, meta = await _list(client, namespace)
    await _merge(client, namespace, "a", {"metadata": {"labels": {"pool": "gpu"}}})
    await _merge(client, namespace, "a", {"data": {"v": "2"}})
    await _merge(client, namespace, "a", {"metadata": {"labels": {"pool": "cpu"}}})
    async with _watch(client, namespace, resource_version=meta.resource_version, labels="pool=gpu") as lines:
        told = [line.type async for line in _some(lines, 3)]
    _expect(told == ["ADDED", "MODIFIED", "DELETED"], f"told were {told}")


async def check_a_watch_ends_when_its_time_is_over(client: KubeClient, namespace: str) -> None:
    """With `timeoutSeconds`, in good order."""
    _, meta = await _list(client, namespace)
    async with _watch(client, namespace, resource_version=meta.resource_version, watch_s=1) as lines:
        async for line in lines:
            _expect(line.type == "BOOKMARK", f"nothing happened, and {line.type} was told")


async def check_a_streaming_list(client: KubeClient, namespace: str) -> None:
    """`sendInitialEvents`: everything as ADDED, a bookmark that ends it, then the changes."""
    for name in "abc":
        await _create(client, namespace, name)
    async with _watch(client, namespace, initial_events=True) as lines:
        names: set[str] = set()
        line = await anext(lines)
        while line.type != "BOOKMARK":
            _expect(line.type == "ADDED", f"{line.type} among the initial events")
            names.add(_thing(line).metadata.name)
            line = await anext(lines)
        end = _thing(line).metadata
        _expect((end.annotations or {}).get(INITIAL_EVENTS_END) == "true", "the list has no end")
        _expect(bool(end.resource_version), "its end has no version")
        _expect(names >= set("abc"), f"the list has only {names}")
        await _create(client, namespace, "d")
        told = [line async for line in _some(lines, 1)]
        _expect(_thing(told[0]).metadata.name == "d", "what came after the list is not told")


async def check_a_version_of_the_distant_past_is_gone(client: KubeClient, namespace: str) -> None:
    """A watch from version 1: 410, as the answer or as an ERROR event, where the history does not reach back
    so far; all changes where it does (a server that has only just begun)."""
    await _create(client, namespace, "a")
    try:
        async with _watch(client, namespace, resource_version="1") as lines:
            told = [line async for line in _some(lines, 1)]
    except KubernetesRefused as refused:
        _expect(refused.gone, f"too old a version gives {refused.http_status} {refused.reason}")
        return
    if told[0].type == "ERROR":
        said = msgspec.json.decode(told[0].object)
        _expect(said["kind"] == "Status" and said["code"] == 410, f"the ERROR says {said}")
    else:
        _expect(told[0].type == "ADDED", f"told was {told[0].type}")


async def check_names_and_namespaces_are_looked_at(client: KubeClient, namespace: str) -> None:
    """A name that is none, no name, a namespace that does not exist."""
    for name in ("Not_A_Name", ""):
        bad = await _refused(_create(client, namespace, name))
        _expect(
            bad.http_status == 422 and bad.reason == "Invalid", f"the name {name!r} gives {bad.http_status}"
        )
    missing = await _refused(_create(client, "no-such-namespace", "a"))
    _expect(missing.not_found, f"a namespace that does not exist gives {missing.http_status}")
    none = await _refused(client.get(NODES, "no-such-node", timeout_s=TIMEOUT_S))
    _expect(none.not_found, "a node that does not exist is there")


KUBERNETES_CHECKS: tuple[Check, ...] = (
    check_version_and_discovery,
    check_uids_and_versions,
    check_old_versions_conflict,
    check_patches,
    check_who_changed_a_field_is_on_record,
    check_a_dry_run_changes_nothing,
    check_a_list_by_pages_is_one_state,
    check_selectors,
    check_a_watch_tells_each_change_after_its_version,
    check_a_watch_with_a_selector_tells_who_comes_and_goes,
    check_a_watch_ends_when_its_time_is_over,
    check_a_streaming_list,
    check_a_version_of_the_distant_past_is_gone,
    check_names_and_namespaces_are_looked_at,
)
"""All checks; each takes a client and the name of an empty namespace that exists."""


def _expect(held: object, broken: str) -> None:
    if not held:
        raise AssertionError(broken)


def _meta(thing: dict[str, Any]) -> dict[str, Any]:
    return thing["metadata"]


def _version(thing: dict[str, Any]) -> str:
    return thing["metadata"]["resourceVersion"]


def _thing(line: WatchLine) -> Thing:
    return msgspec.json.decode(line.object, type=Thing)


async def _refused(call: Awaitable[Any]) -> KubernetesRefused:
    try:
        await call
    except KubernetesRefused as refused:
        return refused
    raise AssertionError("what must be refused was done")


async def _create(
    client: KubeClient,
    namespace: str,
    name: str,
    data: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    meta = {"name": name, "labels": labels or {}}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data or {"v": "1"}}
    return await client.create(CONFIG_MAPS, body, namespace=namespace, timeout_s=TIMEOUT_S)


async def _merge(client: KubeClient, namespace: str, name: str, patch: Any) -> dict[str, Any]:
    return await client.patch(CONFIG_MAPS, name, patch, namespace=namespace, timeout_s=TIMEOUT_S)


async def _delete(client: KubeClient, namespace: str, name: str, uid: str = "") -> None:
    await client.delete(CONFIG_MAPS, name, namespace=namespace, uid=uid, timeout_s=TIMEOUT_S)


async def _list(
    client: KubeClient,
    namespace: str,
    *,
    limit: int = 500,
    token: str = "",
    labels: str = "",
    fields: str = "",
) -> tuple[list[Thing], ListMeta]:
    def fold(page: ObjectList) -> tuple[list[Thing], ListMeta]:
        return [msgspec.json.decode(raw, type=Thing) for raw in page.items or []], page.metadata

    return await client.list_page(
        CONFIG_MAPS,
        fold,
        namespace=namespace,
        limit=limit,
        token=token,
        labels=labels,
        fields=fields,
        timeout_s=TIMEOUT_S,
    )


def _watch(
    client: KubeClient,
    namespace: str,
    *,
    resource_version: str = "",
    initial_events: bool = False,
    labels: str = "",
    watch_s: float = 30.0,
) -> contextlib.AbstractAsyncContextManager[AsyncIterator[WatchLine]]:
    return client.watch(
        CONFIG_MAPS,
        resource_version=resource_version,
        initial_events=initial_events,
        namespace=namespace,
        labels=labels,
        watch_s=watch_s,
        connect_timeout_s=TIMEOUT_S,
        idle_timeout_s=TIMEOUT_S,
    )


async def _some(lines: AsyncIterator[WatchLine], count: int) -> AsyncIterator[WatchLine]:
    """The next events that are no bookmarks."""
    while count:
        line = await anext(lines)
        if line.type != "BOOKMARK":
            count -= 1
            yield line
