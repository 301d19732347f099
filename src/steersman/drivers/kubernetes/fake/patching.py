"""The patches that the API takes: JSON merge (RFC 7396), JSON patch (RFC 6902), and strategic merge as far as
kubectl uses it. Nothing is changed in place.

Constants: the patchMergeKey tags of kubernetes/api.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from steersman.drivers.kubernetes.fake.refusal import Refusal
from steersman.drivers.kubernetes.fake.tree import Object, items

MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "ephemeralContainers": "name", "env": "name",
    "volumes": "name", "volumeMounts": "mountPath", "imagePullSecrets": "name", "ports": "containerPort",
    "conditions": "type", "addresses": "type", "ownerReferences": "uid", "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey", "resourceClaims": "name",
}  # fmt: skip
"""Lists that are merged by a key; others are taken whole (taints and tolerations among them)."""
SETS = {"finalizers"}
"""Lists of plain values that are merged."""


def merge(target: Any, patch: Any) -> Any:
    """JSON merge: null deletes, objects are merged, all else is taken."""
    if not isinstance(patch, dict):
        return patch
    result = dict(cast("Object", target)) if isinstance(target, dict) else {}
    for key, value in cast("Object", patch).items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Any, path: str = "") -> Any:
    """Strategic merge: like `merge`, and lists of `MERGE_KEYS` are merged item by item."""
    if not isinstance(patch, dict):
        return patch
    given = dict(cast("Object", patch))
    directive = given.pop("$patch", "")
    if directive == "delete":
        return {}
    result = dict(cast("Object", target)) if isinstance(target, dict) and directive != "replace" else {}
    given.pop("$retainKeys", None)
    for key, value in given.items():
        if key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [item for item in items(result, name) if item not in value]
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _list(key, items(result, key), cast("list[Any]", value))
        else:
            result[key] = strategic(result.get(key), value, f"{path}.{key}")
    return result


def _list(key: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if key in SETS:
        return target + [item for item in patch if item not in target]
    by = MERGE_KEYS.get(key)
    entries = [cast("Object", item) for item in patch if isinstance(item, dict)]
    if by is None or len(entries) < len(patch) or any(item.get("$patch") == "replace" for item in entries):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    result = list(target)
    for item in entries:
        where = next((n for n, old in enumerate(result) if old.get(by) == item.get(by)), None)
        if item.get("$patch") == "delete":
            if where is not None:
                del result[where]
        elif where is None:
            result.append(strategic({}, item))
        else:
            result[where] = strategic(result[where], item)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """JSON patch. Raises `Refusal`: 400 for what is none, 422 for a path that is not there or a test that
    fails."""
    if not isinstance(operations, list):
        raise Refusal("BadRequest", "a JSON patch is a list of operations")
    for operation in cast("list[Any]", operations):
        try:
            target = _apply(target, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Refusal(
                "Invalid", f"the server rejected our request due to an error in our request: {error!r}"
            ) from None
    return target


def _apply(target: Any, operation: Object) -> Any:
    word, path = operation["op"], _steps(operation["path"])
    if word in ("add", "replace"):
        return _changed(target, path, lambda here, step: _set(here, step, operation["value"], word == "add"))
    if word == "remove":
        return _changed(target, path, _unset)
    value = _at(target, path if word == "test" else _steps(operation["from"]))
    if word == "test":
        if value != operation["value"]:
            raise ValueError(f"testing value {operation['path']} failed")
        return target
    if word not in ("move", "copy"):
        raise ValueError(f"unexpected kind: {word}")
    if word == "move":
        target = _changed(target, _steps(operation["from"]), _unset)
    return _changed(target, path, lambda here, step: _set(here, step, value, True))


def _steps(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(f"{path} is no JSON pointer")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _at(target: Any, path: list[str]) -> Any:
    here = target
    for step in path:
        here = cast("list[Any]", here)[int(step)] if isinstance(here, list) else here[step]
    return here


def _changed(target: Any, path: list[str], change: Callable[[Any, str], None]) -> Any:
    """A copy with a change at the end of `path`."""
    if not path:
        raise ValueError("the whole object can't be changed")
    step = path[0]
    if isinstance(target, list):
        listed = list(cast("list[Any]", target))
        if len(path) == 1:
            change(listed, step)
        else:
            listed[int(step)] = _changed(listed[int(step)], path[1:], change)
        return listed
    copy = dict(cast("Object", target))
    if len(path) == 1:
        change(copy, step)
    else:
        copy[step] = _changed(copy[step], path[1:], change)
    return copy


def _set(here: Any, step: str, value: Any, add: bool) -> None:
    if isinstance(here, list):
        listed = cast("list[Any]", here)
        if add:
            listed.insert(len(listed) if step == "-" else int(step), value)
        else:
            listed[int(step)] = value
    elif add or step in here:
        here[step] = value
    else:
        raise KeyError(step)


def _unset(here: Any, step: str) -> None:
    del here[int(step) if isinstance(here, list) else step]
