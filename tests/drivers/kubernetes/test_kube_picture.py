"""The picture is kept up to date change by change, and is what it would be if it were made at once."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from kube_shapes import NOW, cond, meta, pod_json

from steersman.drivers.kubernetes.bundles import View
from steersman.drivers.kubernetes.fact import Fact
from steersman.drivers.kubernetes.kinds_read import KINDS
from steersman.drivers.kubernetes.picture import ClusterPicture, FactKey, PictureRules
from steersman.kinds.fields import check_fields

NAMES = st.sampled_from(["a", "b", "c"])
ALL = View(frozenset(KINDS), frozenset(), "v1.35.0")


def owner(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}]


def read(kind: str, given: dict[str, Any]) -> Any:
    shape = KINDS[kind]
    thing = msgspec.json.decode(msgspec.json.encode(given), type=shape.shape)
    return shape.keep(thing) if shape.keep is not None else thing


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, str, dict[str, Any] | None]:
    """A kind, a path, and the object there; None: it goes."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    name, other = draw(NAMES), draw(NAMES)
    namespace = "ns" if KINDS[kind].namespaced else ""
    path = f"{namespace}/{name}" if namespace else name
    if draw(st.integers(0, 3)) == 0:
        return kind, path, None
    number = draw(st.integers(0, 2))
    labels = {"app": other, "kueue.x-k8s.io/queue-name": "q"} if draw(st.booleans()) else {"app": other}
    given: dict[str, Any] = {"metadata": meta(name, namespace, labels=labels)}
    owners = draw(st.sampled_from(["Deployment", "ReplicaSet", "Job", "JobSet", "RayJob", "DaemonSet", ""]))
    if owners:
        given["metadata"]["ownerReferences"] = owner(owners, other)
    if kind == "pods":
        labels["serving.kserve.io/inferenceservice"] = other
        devices = [{"resourceID": f"GPU-{other}", "health": draw(st.sampled_from(["Healthy", "Unhealthy"]))}]
        status: dict[str, Any] = {
            "containerStatuses": [{"allocatedResourcesStatus": [{"resources": devices}]}] if number else [],
            "resourceClaimStatuses": [{"resourceClaimName": other}] if number == 2 else [],
        }
        phase = draw(st.sampled_from(["Running", "Pending", "Succeeded"]))
        meta_given = {k: v for k, v in given["metadata"].items() if k not in ("name", "namespace", "uid")}
        given = pod_json(name, "ns", node=draw(NAMES), phase=phase, status=status, **meta_given)
    elif kind == "nodes":
        given["spec"] = {"unschedulable": bool(number)}
        given["status"] = {"conditions": [cond("Ready", draw(st.sampled_from(["True", "Unknown"])))]}
    elif kind in ("deployments", "statefulsets"):
        given["spec"] = {"replicas": number, "template": {"metadata": {"labels": {"app": draw(NAMES)}}}}
        given["status"] = {"observedGeneration": 1, "availableReplicas": number}
    elif kind == "services":
        given["spec"] = {"selector": {"app": draw(NAMES)}}
    elif kind == "jobs":
        given["status"] = {"active": number, "ready": number}
    elif kind == "resourcequotas":
        given["status"] = {"hard": {"pods": str(number)}}
    elif kind == "resourceslices":
        pool = {"name": other, "generation": number, "resourceSliceCount": 1}
        device = {"name": "d", "attributes": {"uuid": {"string": f"GPU-{other}"}}}
        given["spec"] = {"driver": "gpu.nvidia.com", "nodeName": other, "pool": pool, "devices": [device]}
    elif kind == "resourceclaims":
        results = [{"driver": "gpu.nvidia.com", "pool": other, "device": "d"}]
        reserved = [{"resource": "pods", "name": draw(NAMES)}]
        given["status"] = {"allocation": {"devices": {"results": results}}, "reservedFor": reserved}
    elif kind == "workloads":
        given["status"] = {"conditions": [cond("Admitted", "True" if number else "False")]}
    elif kind == "events":
        about = {"kind": draw(st.sampled_from(["Pod", "Node", "Job"])), "name": other, "namespace": "ns"}
        given |= {"type": "Warning", "reason": "Odd", "count": number, "involvedObject": about}
    elif kind == "devicetaintrules":
        taint = {"key": "k", "effect": "NoSchedule"}
        given["spec"] = {"deviceSelector": {"pool": other}, "taint": taint}
    return kind, path, given


def look(picture: ClusterPicture, view: View = ALL) -> dict[FactKey, Fact]:
    for _ in picture.look(NOW, view):
        pass
    return {key: told.fact for key, told in picture.facts.items()}


@settings(max_examples=300)
@given(st.lists(st.lists(objects(), min_size=1, max_size=4), max_size=12))
def test_a_picture_that_was_changed_is_the_picture_made_at_once(
    looks: list[list[tuple[str, str, dict[str, Any] | None]]],
) -> None:
    picture = ClusterPicture(PictureRules())
    now: dict[tuple[str, str], Any] = {}
    known: dict[FactKey, Fact] = {}
    for changes in looks:
        for kind, path, given_object in changes:
            value = None if given_object is None else read(kind, given_object)
            picture.apply(kind, path, value)
            now.pop((kind, path), None)
            if value is not None:
                now[(kind, path)] = value
        facts = look(picture)
        fresh = ClusterPicture(PictureRules())
        for (kind, path), value in now.items():
            fresh.apply(kind, path, value)
        wanted = look(fresh)
        if not picture.incomplete:
            assert facts == wanted
        # What is told as changed and gone leads from one look to the next.
        for key in picture.gone:
            known.pop(key, None)
        known |= {key: facts[key] for key in picture.changed}
        assert known == facts
        picture.settled()
        for fact in facts.values():
            assert check_fields(fact.entity_type, fact.fields) == []


@given(st.lists(objects(), max_size=12), st.sets(st.sampled_from(sorted(KINDS))))
def test_a_kind_that_is_silent_takes_nothing_away(
    changes: list[tuple[str, str, dict[str, Any] | None]], silent: set[str]
) -> None:
    picture = ClusterPicture(PictureRules())
    for kind, path, given_object in changes:
        picture.apply(kind, path, None if given_object is None else read(kind, given_object))
    before = look(picture)
    picture.settled()
    after = look(picture, View(frozenset(KINDS), frozenset(silent), "v1.35.0"))
    assert after.keys() == before.keys()
    assert not picture.gone
    for key, fact in after.items():
        left = before[key].fields.keys() - fact.fields.keys()
        assert left <= picture.facts[key].omitted
    assert look(picture) == before
