"""Objects as an API server shows them, for the tests of the translation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from steersman.drivers.kubernetes.fact import Fact, Keep
from steersman.kinds.fields import check_fields

T = TypeVar("T")

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
KEEP = Keep(frozenset({"topology.kubernetes.io/zone", "team"}))


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def shaped(shape: type[T], **given: Any) -> T:
    """An object out of JSON, as the client decodes it."""
    return msgspec.json.decode(msgspec.json.encode(given), type=shape)


def meta(name: str = "a", namespace: str = "", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "creationTimestamp": ago(3600),
        "generation": 1,
    }
    return found | ({"namespace": namespace} if namespace else {}) | more


def cond(kind: str, status: str = "True", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": ago(600), **more}


def checked(fact: Fact) -> dict[str, Any]:
    """The fields, once they are known to be fit for the bus."""
    assert check_fields(fact.entity_type, fact.fields) == []
    assert all(value is not None for value in fact.fields.values())
    msgspec.json.encode(fact)
    return fact.fields


def pod_json(name: str = "p", namespace: str = "ns", **given: Any) -> dict[str, Any]:
    """A pod that runs on `n1` and asks for a GPU."""
    spec: dict[str, Any] = {
        "nodeName": given.pop("node", "n1"),
        "containers": given.pop(
            "containers",
            [{"name": "c", "resources": {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}}],
        ),
        **given.pop("spec", {}),
    }
    status: dict[str, Any] = {
        "phase": given.pop("phase", "Running"),
        "conditions": [cond("Ready", "True" if given.pop("ready", True) else "False")],
        **given.pop("status", {}),
    }
    return {"metadata": meta(name, namespace, **given), "spec": spec, "status": status}
