"""Operations on a cluster: once, fenced, read back, and never over somebody else's cordon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kube_cluster import bare, driver, node_json, populate
from kube_shapes import pod_json

from steersman.drivers.inputs import OperationInputs
from steersman.drivers.kubernetes.fake import ALL, FakeApiServer
from steersman.drivers.kubernetes.marks import (
    CORDON_MARK,
    EPOCH_MARK,
    OPERATION_MARK,
    RESOURCE_MARK,
    RESTARTED_MARK,
    TAINTS_MARK,
)
from steersman.drivers.kubernetes.operation import CONFLICTS_MAX
from steersman.drivers.web.fake import Request, Response
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import Later, StepCall, StepHandler, StepOutcome, StepResult

NODE = ResourceRef("node", "n1")


def call(
    *,
    by: str = "op-1/drain/1",
    epoch: int = 3,
    resource: ResourceRef = NODE,
    timeout_s: float = 30.0,
    **inputs: Any,
) -> StepCall:
    return StepCall(
        key=by, resource=resource, operation="op-1", epoch=epoch, phase="drain", step="drain", attempt=1,
        timeout_s=timeout_s, inputs=inputs,
    )  # fmt: skip


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[FakeApiServer, dict[str, StepHandler]]]:
    fake = await FakeApiServer(controllers=ALL).start()
    populate(fake)
    made = driver(fake)
    try:
        yield fake, dict(made.operations())
    finally:
        await made.close()
        await fake.stop()


def find(fake: FakeApiServer, plural: str, name: str) -> dict[str, Any]:
    return next(thing for thing in fake.all(plural) if thing["metadata"]["name"] == name)


def marks(thing: dict[str, Any]) -> dict[str, str]:
    return thing["metadata"].get("annotations") or {}


def cordoned(fake: FakeApiServer, name: str = "n1") -> bool:
    return bool(find(fake, "nodes", name)["spec"].get("unschedulable"))


def writes(fake: FakeApiServer) -> list[Request]:
    return [request for request in fake.web.requests if request.method != "GET"]


# ---- cordon, uncordon


async def test_a_cordon_is_made_once_and_leaves_its_marks() -> None:
    async with cluster() as (fake, steps):
        done = await steps["cordon"].run(call(node="n1", reason="new firmware"))
        assert (done.outcome, done.outputs["changed"], done.outputs["ours"]) == (
            StepOutcome.SUCCEEDED,
            True,
            True,
        )
        node = find(fake, "nodes", "n1")
        assert node["spec"]["unschedulable"] is True
        assert marks(node)[OPERATION_MARK] == marks(node)[CORDON_MARK] == "op-1/drain/1"
        assert (marks(node)[EPOCH_MARK], marks(node)[RESOURCE_MARK]) == ("3", str(NODE))
        assert done.evidence[0].data["uid"] == node["metadata"]["uid"]
        count = len(writes(fake))
        again = await steps["cordon"].run(call(node="n1", reason="new firmware"))
        assert again.outcome is StepOutcome.SUCCEEDED
        assert len(writes(fake)) == count


async def test_a_dry_run_changes_nothing() -> None:
    async with cluster() as (fake, steps):
        version = fake.storage.version
        for name, inputs in (
            ("cordon", {"node": "n1"}),
            ("uncordon", {"node": "n1"}),
            ("taint", {"node": "n1", "key": "a", "effect": "NoSchedule"}),
            ("untaint", {"node": "n1", "key": "a", "effect": "NoSchedule"}),
            ("scale", {"namespace": "ns", "name": "web", "replicas": 5}),
            ("rollout_restart", {"namespace": "ns", "name": "web"}),
            ("drain", {"node": "n1"}),
        ):
            done = await steps[name].run(call(dry_run=True, **inputs))
            assert done.outcome is StepOutcome.SUCCEEDED, (name, done.detail)
            assert done.outputs["dry_run"] is True
        assert fake.storage.version == version


async def test_an_older_epoch_is_refused_and_another_resources_is_no_matter() -> None:
    async with cluster() as (fake, steps):
        await steps["cordon"].run(call(node="n1", epoch=5, by="new"))
        late = await steps["uncordon"].run(call(node="n1", epoch=4, by="old"))
        assert late.outcome is StepOutcome.SUPERSEDED
        assert cordoned(fake)
        found = await steps["uncordon"].observe(call(node="n1", epoch=4, by="old"))
        assert found is not None
        assert found.outcome is StepOutcome.SUPERSEDED
        other = await steps["uncordon"].run(
            call(node="n1", epoch=1, by="o", resource=ResourceRef("host", "h1"))
        )
        assert other.outcome is StepOutcome.SUCCEEDED
        assert not cordoned(fake)


async def test_somebody_elses_cordon_is_not_taken_back() -> None:
    async with cluster() as (fake, steps):
        fake.change("nodes", find(fake, "nodes", "n1"), spec={"unschedulable": True})
        adopted = await steps["cordon"].run(call(node="n1", by="a"))
        assert (adopted.outcome, adopted.outputs["ours"]) == (StepOutcome.SUCCEEDED, False)
        assert CORDON_MARK not in marks(find(fake, "nodes", "n1"))
        refused = await steps["uncordon"].run(call(node="n1", by="b"))
        assert refused.outcome is StepOutcome.PERMANENT
        assert cordoned(fake)
        forced = await steps["uncordon"].run(call(node="n1", by="c", force=True))
        assert forced.outcome is StepOutcome.SUCCEEDED
        assert not cordoned(fake)


async def test_a_node_that_a_program_holds_out_too_is_not_let_in_by_us() -> None:
    async with cluster() as (fake, steps):
        await steps["cordon"].run(call(node="n1", by="a"))
        labels = {"k8saas.nvidia.com/cordon-by": "NVSentinel"}
        fake.change("nodes", find(fake, "nodes", "n1"), metadata={"labels": labels})
        refused = await steps["uncordon"].run(call(node="n1", by="b"))
        assert refused.outcome is StepOutcome.PERMANENT
        assert "NVSentinel" in refused.detail


async def test_our_own_cordon_is_taken_back_with_its_marks() -> None:
    async with cluster() as (fake, steps):
        await steps["cordon"].run(call(node="n1", by="a"))
        done = await steps["uncordon"].run(call(node="n1", by="b"))
        assert done.outcome is StepOutcome.SUCCEEDED
        node = find(fake, "nodes", "n1")
        assert not cordoned(fake)
        assert CORDON_MARK not in marks(node)
        assert marks(node)[OPERATION_MARK] == "b"
        again = await steps["uncordon"].run(call(node="n1", by="c"))
        assert (again.outcome, again.outputs["changed"]) == (StepOutcome.SUCCEEDED, False)


CREDIT: dict[str, Any] = {"f:spec": {"f:unschedulable": {}}}


def recordon(fake: FakeApiServer, name: str = "n1") -> None:
    """A person takes a cordon back, and cordons the node again for a reason of their own."""
    for spec in ({}, {"unschedulable": True}):
        fake.change("nodes", find(fake, "nodes", name), spec=spec, manager="kubectl-cordon")


@pytest.mark.parametrize("by", ["cordon", "drain"])
async def test_a_persons_cordon_that_came_after_ours_is_not_taken_back(by: str) -> None:
    async with cluster() as (fake, steps):
        assert (await steps[by].run(call(node="n1", by="a"))).outputs["ours"] is True
        recordon(fake)
        assert CORDON_MARK in marks(find(fake, "nodes", "n1"))
        refused = await steps["uncordon"].run(call(node="n1", by="b"))
        assert refused.outcome is StepOutcome.PERMANENT
        assert "kubectl-cordon cordoned it after us" in refused.detail
        assert cordoned(fake)
        for again in ("cordon", "drain"):
            done = await steps[again].run(call(node="n1", by=f"{again}/2"))
            assert (done.outcome, done.outputs["ours"]) == (StepOutcome.SUCCEEDED, False)
        assert (await steps["uncordon"].run(call(node="n1", by="c"))).outcome is StepOutcome.PERMANENT
        forced = await steps["uncordon"].run(call(node="n1", by="d", force=True))
        assert (forced.outcome, forced.outputs["ours"]) == (StepOutcome.SUCCEEDED, False)
        assert not cordoned(fake)
        assert CORDON_MARK not in marks(find(fake, "nodes", "n1"))


async def test_a_cordon_that_we_make_again_after_a_persons_uncordon_is_ours() -> None:
    async with cluster() as (fake, steps):
        await steps["cordon"].run(call(node="n1", by="a"))
        fake.change("nodes", find(fake, "nodes", "n1"), spec={}, manager="kubectl-cordon")
        assert (await steps["cordon"].run(call(node="n1", by="b"))).outputs["ours"] is True
        # What others write beside it, and a cordon on what is cordoned, takes nothing from us.
        beside = {"unschedulable": True, "taints": [{"key": "a", "effect": "NoSchedule"}]}
        fake.change("nodes", find(fake, "nodes", "n1"), spec=beside, manager="kube-controller-manager")
        assert (await steps["uncordon"].run(call(node="n1", by="c"))).outcome is StepOutcome.SUCCEEDED


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ([{}], "no record"),
        (
            [{"manager": "ancient-changes", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}],
            "ancient-changes",
        ),
        (
            [
                {"manager": "steersman", "fieldsV1": CREDIT},
                {"manager": "argocd", "operation": "Apply", "fieldsV1": CREDIT},
            ],
            "argocd",
        ),
        (["x", {"fieldsV1": CREDIT}], "an unnamed program"),
        ("x", "no record"),
    ],
)
async def test_where_the_record_of_writers_can_not_tell_a_cordon_stays(record: Any, why: str) -> None:
    async with cluster() as (fake, steps):
        await steps["cordon"].run(call(node="n1", by="a"))
        node = find(fake, "nodes", "n1")
        if record == [{}]:
            fake.change("nodes", node, metadata={"managedFields": record})
            assert find(fake, "nodes", "n1")["metadata"]["managedFields"] == []
        else:
            meta = {**node["metadata"], "managedFields": record}
            fake.storage.put("nodes", ("", "n1"), {**node, "metadata": meta})
        refused = await steps["uncordon"].run(call(node="n1", by="b"))
        assert refused.outcome is StepOutcome.PERMANENT
        assert why in refused.detail
        assert cordoned(fake)


async def test_what_this_attempt_did_and_somebody_undid_is_not_done_again_by_it() -> None:
    async with cluster() as (fake, steps):
        await steps["cordon"].run(call(node="n1"))
        fake.change("nodes", find(fake, "nodes", "n1"), spec={})
        again = await steps["cordon"].run(call(node="n1"))
        assert again.outcome is StepOutcome.PERMANENT
        assert not cordoned(fake)


# ---- conflicts, lost answers, refusals


class Interloper:
    """Changes a node right before each patch arrives, so often."""

    def __init__(self, fake: FakeApiServer, times: int) -> None:
        self._fake, self._times, self._answer = fake, times, fake.web.answer
        fake.web.answer = self.answer

    async def answer(self, request: Request) -> Response:
        if request.method == "PATCH" and self._times > 0:
            self._times -= 1
            node = find(self._fake, "nodes", "n1")
            self._fake.change("nodes", node, metadata={"labels": {"busy": str(self._times)}})
        return await self._answer(request)


async def test_a_node_that_others_write_meanwhile_is_read_anew() -> None:
    async with cluster() as (fake, steps):
        Interloper(fake, CONFLICTS_MAX - 1)
        assert (await steps["cordon"].run(call(node="n1"))).outcome is StepOutcome.SUCCEEDED
        assert find(fake, "nodes", "n1")["metadata"]["labels"]["busy"] == "0"
    async with cluster() as (fake, steps):
        Interloper(fake, CONFLICTS_MAX)
        assert (await steps["cordon"].run(call(node="n1"))).outcome is StepOutcome.TRANSIENT
        assert not cordoned(fake)


class LostAnswers:
    """Does what is asked of it, or does not, and breaks the connection instead of an answer to a PATCH."""

    def __init__(self, fake: FakeApiServer, *, does: bool) -> None:
        self._fake, self._does, self._answer = fake, does, fake.web.answer
        fake.web.answer = self.answer

    async def answer(self, request: Request) -> Response:
        if request.method != "PATCH":
            return await self._answer(request)
        if self._does:
            await self._answer(request)
        raise OSError("the connection is gone")


@pytest.mark.parametrize("does", [True, False])
async def test_a_lost_answer_is_uncertain_and_can_be_looked_for(does: bool) -> None:
    async with cluster() as (fake, steps):
        lost = LostAnswers(fake, does=does)
        done = await steps["scale"].run(call(namespace="ns", name="web", replicas=5))
        assert done.outcome is StepOutcome.UNCERTAIN
        fake.web.answer = lost._answer
        found = await steps["scale"].observe(call(namespace="ns", name="web", replicas=5))
        if does:
            assert found is not None
            assert found.outcome is StepOutcome.SUCCEEDED
        else:
            assert found is None
        assert (
            await steps["scale"].run(call(namespace="ns", name="web", replicas=5))
        ).outcome is StepOutcome.SUCCEEDED
        assert find(fake, "deployments", "web")["spec"]["replicas"] == 5


async def test_a_server_that_is_down_is_tried_again_and_observing_it_is_uncertain() -> None:
    async with cluster() as (fake, steps):
        await fake.web.fail("refuse")
        assert (await steps["cordon"].run(call(node="n1"))).outcome is StepOutcome.TRANSIENT
        found = await steps["cordon"].observe(call(node="n1"))
        assert found is not None
        assert found.outcome is StepOutcome.UNCERTAIN


async def test_what_is_not_there_and_what_is_forbidden_is_for_good() -> None:
    async with cluster() as (fake, steps):
        missing = await steps["cordon"].run(call(node="n9"))
        assert missing.outcome is StepOutcome.PERMANENT
        assert await steps["cordon"].observe(call(node="n9")) is None
        fake.denied = {("patch", "nodes")}
        forbidden = await steps["cordon"].run(call(node="n1"))
        assert forbidden.outcome is StepOutcome.PERMANENT
        assert "forbidden" in forbidden.detail
        fake.denied = set()
        fake.throttled = 1
        assert (await steps["cordon"].run(call(node="n1"))).outcome is StepOutcome.TRANSIENT


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("cordon", {}),
        ("cordon", {"node": "n1", "nod": 1}),
        ("cordon", {"node": "../pods"}),
        ("scale", {"namespace": "ns", "name": "web", "replicas": -1}),
        ("scale", {"namespace": "ns", "name": "web", "replicas": Later("x"), "kind": "daemonset"}),
        ("taint", {"node": "n1", "key": "a b", "effect": "NoSchedule"}),
        ("taint", {"node": "n1", "key": "a", "effect": "Never"}),
        ("drain", {"node": "n1", "grace_s": -1}),
        ("drain", {"node": Later("x"), "pods_max": 0}),
    ],
)
async def test_inputs_that_can_not_be_right_are_refused_when_they_are_read(
    name: str, inputs: dict[str, Any]
) -> None:
    async with cluster() as (fake, steps):
        with pytest.raises(OperationInputs):
            steps[name].check(inputs)
        if not any(isinstance(value, Later) for value in inputs.values()):
            assert (await steps[name].run(call(**inputs))).outcome is StepOutcome.PERMANENT
        assert writes(fake) == []


async def test_inputs_that_come_later_are_right_as_far_as_can_be_told() -> None:
    async with cluster() as (_, steps):
        steps["drain"].check({"node": Later("${resource.id}"), "reason": "x"})
        steps["scale"].check({"namespace": "ns", "name": "web", "replicas": Later("${inputs.n}")})
        assert await steps["drain"].site() == ""
        assert list(await steps["drain"].kept()) == []


# ---- taints, scale, restart


async def test_taints_are_put_and_taken_off_and_somebody_elses_stay() -> None:
    async with cluster() as (fake, steps):
        theirs = {"key": "team", "value": "a", "effect": "NoSchedule"}
        fake.change("nodes", find(fake, "nodes", "n1"), spec={"taints": [theirs]})
        ours = {"node": "n1", "key": "steersman.io/repair", "effect": "NoExecute", "value": "yes"}
        assert (await steps["taint"].run(call(by="a", **ours))).outcome is StepOutcome.SUCCEEDED
        node = find(fake, "nodes", "n1")
        assert [taint["key"] for taint in node["spec"]["taints"]] == ["team", "steersman.io/repair"]
        added = node["spec"]["taints"][1]["timeAdded"]
        assert marks(node)[TAINTS_MARK] == f"steersman.io/repair=yes:NoExecute@{added}"
        other = {"node": "n1", "key": "team", "effect": "NoSchedule"}
        for name in ("taint", "untaint"):
            refused = await steps[name].run(call(by="b", **other))
            assert refused.outcome is StepOutcome.PERMANENT
        assert (await steps["untaint"].run(call(by="c", **ours))).outcome is StepOutcome.SUCCEEDED
        node = find(fake, "nodes", "n1")
        assert node["spec"]["taints"] == [theirs]
        assert TAINTS_MARK not in marks(node)
        forced = await steps["untaint"].run(call(by="d", force=True, **other))
        assert forced.outcome is StepOutcome.SUCCEEDED
        assert not find(fake, "nodes", "n1")["spec"].get("taints")


@pytest.mark.parametrize("given", [{}, {"value": "yes"}])
async def test_a_taint_that_a_person_took_off_and_put_again_is_theirs(given: dict[str, str]) -> None:
    ours = {"node": "n1", "key": "repair", "effect": "NoSchedule", **given}
    theirs = {"key": "repair", "effect": "NoSchedule", **given}
    async with cluster() as (fake, steps):
        await steps["taint"].run(call(by="a", **ours))
        for taints in ([], [theirs]):
            fake.change("nodes", find(fake, "nodes", "n1"), spec={"taints": taints}, manager="kubectl-taint")
        assert TAINTS_MARK in marks(find(fake, "nodes", "n1"))
        again = await steps["taint"].run(call(by="b", **ours))
        assert (again.outcome, again.outputs["ours"]) == (StepOutcome.SUCCEEDED, False)
        refused = await steps["untaint"].run(call(by="c", **ours))
        assert refused.outcome is StepOutcome.PERMANENT
        assert find(fake, "nodes", "n1")["spec"]["taints"] == [theirs]
        changed = await steps["taint"].run(call(by="d", **{**ours, "value": "other"}))
        assert changed.outcome is StepOutcome.PERMANENT
        assert (await steps["untaint"].run(call(by="e", force=True, **ours))).outcome is StepOutcome.SUCCEEDED
        assert TAINTS_MARK not in marks(find(fake, "nodes", "n1"))


async def test_a_taint_with_another_value_is_theirs_and_a_mark_without_a_time_no_proof() -> None:
    async with cluster() as (fake, steps):
        ours = {"node": "n1", "key": "repair", "effect": "NoSchedule", "value": "yes"}
        await steps["taint"].run(call(by="a", **ours))
        (taint,) = find(fake, "nodes", "n1")["spec"]["taints"]
        fake.change("nodes", find(fake, "nodes", "n1"), spec={"taints": [{**taint, "value": "no"}]})
        assert (await steps["untaint"].run(call(by="b", **ours))).outcome is StepOutcome.PERMANENT
        fake.change(
            "nodes",
            find(fake, "nodes", "n1"),
            spec={"taints": [{"key": "repair", "effect": "NoSchedule"}]},
            metadata={"annotations": {TAINTS_MARK: "repair=:NoSchedule@,repair:NoSchedule"}},
        )
        assert (await steps["untaint"].run(call(by="c", **ours))).outcome is StepOutcome.PERMANENT


async def test_a_second_taint_of_ours_leaves_the_first_ours() -> None:
    async with cluster() as (_, steps):
        one, two = ({"node": "n1", "key": key, "effect": "NoSchedule"} for key in ("one", "two"))
        for number, given in enumerate((one, two)):
            assert (await steps["taint"].run(call(by=f"a{number}", **given))).outputs["ours"] is True
        changed = await steps["taint"].run(call(by="b", **{**one, "value": "x"}))
        assert changed.outcome is StepOutcome.SUCCEEDED
        for number, given in enumerate((one, two)):
            done = await steps["untaint"].run(call(by=f"c{number}", **given))
            assert done.outcome is StepOutcome.SUCCEEDED, done.detail


async def test_a_workload_is_scaled_where_it_is_as_expected() -> None:
    async with cluster() as (fake, steps):
        refused = await steps["scale"].run(call(by="a", namespace="ns", name="web", replicas=5, current=3))
        assert refused.outcome is StepOutcome.PERMANENT
        done = await steps["scale"].run(call(by="b", namespace="ns", name="web", replicas=0, current=2))
        assert (done.outcome, done.outputs["replicas_before"]) == (StepOutcome.SUCCEEDED, 2)
        web = find(fake, "deployments", "web")
        assert web["spec"]["replicas"] == 0
        assert marks(web)[OPERATION_MARK] == "b"


async def test_a_restart_happens_once_for_each_attempt() -> None:
    async with cluster() as (fake, steps):
        given = {"namespace": "ns", "name": "web"}
        done = await steps["rollout_restart"].run(call(by="a", **given))
        assert done.outcome is StepOutcome.SUCCEEDED

        def value() -> str:
            return find(fake, "deployments", "web")["spec"]["template"]["metadata"]["annotations"][
                RESTARTED_MARK
            ]

        first = value()
        assert first == done.outputs["restarted_at"]
        await steps["rollout_restart"].run(call(by="a", **given))
        assert value() == first
        web = find(fake, "deployments", "web")
        fake.change("deployments", web, spec={**web["spec"], "paused": True})
        assert (await steps["rollout_restart"].run(call(by="b", **given))).outcome is StepOutcome.PERMANENT


# ---- drain


OWNED = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "rs", "controller": True}]
DAEMON = [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": True}]


def add_pod(fake: FakeApiServer, name: str, **given: Any) -> None:
    fake.create("pods", bare(pod_json(name, "ns", node=given.pop("node", "n1"), **given)), "ns")


def on(fake: FakeApiServer, node: str = "n1") -> set[str]:
    return {pod["metadata"]["name"] for pod in fake.all("pods") if pod["spec"].get("nodeName") == node}


async def test_a_drain_empties_a_node_but_for_what_belongs_to_it() -> None:
    async with cluster() as (fake, steps):
        add_pod(fake, "daemon", ownerReferences=DAEMON)
        add_pod(fake, "mirror", annotations={"kubernetes.io/config.mirror": "x"})
        add_pod(fake, "ended", phase="Succeeded")
        done = await steps["drain"].run(call(node="n1", reason="repair"))
        assert (done.outcome, done.outputs["evicted"]) == (StepOutcome.SUCCEEDED, 2), done.detail
        assert on(fake) == {"daemon", "mirror", "ended"}
        assert on(fake, "n2") == {"web-2"}
        assert cordoned(fake)
        again = await steps["drain"].observe(call(node="n1", reason="repair"))
        assert again is not None
        assert again.outcome is StepOutcome.SUCCEEDED


async def test_a_pod_that_nobody_would_make_again_stops_a_drain_before_it_begins() -> None:
    async with cluster() as (fake, steps):
        add_pod(fake, "alone")
        refused = await steps["drain"].run(call(node="n1"))
        assert refused.outcome is StepOutcome.PERMANENT
        assert "ns/alone" in refused.detail
        assert writes(fake) == []
        assert (await steps["drain"].run(call(node="n1", unmanaged=True))).outcome is StepOutcome.SUCCEEDED


async def test_data_that_would_be_lost_and_too_many_pods_stop_it_too() -> None:
    async with cluster() as (fake, steps):
        few = await steps["drain"].run(call(node="n1", pods_max=1))
        assert few.outcome is StepOutcome.PERMANENT
        assert "pods_max" in few.detail
        add_pod(fake, "scratch", ownerReferences=OWNED, spec={"volumes": [{"name": "v", "emptyDir": {}}]})
        lost = await steps["drain"].run(call(node="n1"))
        assert lost.outcome is StepOutcome.PERMANENT
        assert "emptyDir" in lost.detail
        assert not cordoned(fake)
        assert (await steps["drain"].run(call(node="n1", empty_dir=True))).outcome is StepOutcome.SUCCEEDED


def budget(fake: FakeApiServer, least: int) -> None:
    fake.create(
        "poddisruptionbudgets",
        {
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}},
        },
        "ns",
    )


async def test_a_disruption_budget_is_kept_and_the_time_is_too() -> None:
    async with cluster() as (fake, steps):
        budget(fake, 2)
        done = await steps["drain"].run(call(node="n1", timeout_s=4.0))
        assert done.outcome is StepOutcome.TRANSIENT
        assert done.outputs["left"] == ["ns/web-1"]
        assert "web" in done.detail
        assert on(fake) == {"web-1"}
        broken_off = await steps["drain"].observe(call(node="n1", timeout_s=4.0))
        assert broken_off is not None
        assert broken_off.outcome is StepOutcome.TRANSIENT
        fake.change(
            "poddisruptionbudgets",
            find(fake, "poddisruptionbudgets", "web"),
            spec={"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        )
        assert (await steps["drain"].run(call(node="n1", by="next"))).outcome is StepOutcome.SUCCEEDED


async def test_a_dry_drain_says_what_a_budget_would_hold_up() -> None:
    async with cluster() as (fake, steps):
        budget(fake, 2)
        done = await steps["drain"].run(call(node="n1", dry_run=True))
        assert (done.outputs["count"], done.outputs["blocked"]) == (2, ["ns/web-1"])
        assert on(fake) == {"web-1", "train-0"}


async def test_a_drain_stops_where_somebody_uncordons_the_node_or_a_newer_one_begins() -> None:
    for change, outcome in (
        ({"spec": {}}, StepOutcome.PERMANENT),
        (
            {"metadata": {"annotations": {EPOCH_MARK: "9", RESOURCE_MARK: str(NODE), OPERATION_MARK: "z"}}},
            StepOutcome.SUPERSEDED,
        ),
    ):
        async with cluster() as (fake, steps):
            budget(fake, 2)
            task = asyncio.ensure_future(steps["drain"].run(call(node="n1")))
            while not cordoned(fake):
                await asyncio.sleep(0.01)
            fake.change("nodes", find(fake, "nodes", "n1"), **change)
            done: StepResult = await task
            assert done.outcome is outcome
            assert "web-1" in on(fake)


async def test_a_drain_that_died_in_between_goes_on_where_it_was() -> None:
    async with cluster() as (fake, steps):
        budget(fake, 2)
        task = asyncio.ensure_future(steps["drain"].run(call(node="n1")))
        while "train-0" in on(fake):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        found = await steps["drain"].observe(call(node="n1"))
        assert found is not None
        assert found.outcome is StepOutcome.TRANSIENT
        fake.remove("poddisruptionbudgets", find(fake, "poddisruptionbudgets", "web"))
        assert (await steps["drain"].run(call(node="n1"))).outcome is StepOutcome.SUCCEEDED
        assert on(fake) == set()


async def test_a_drain_that_never_began_certainly_never_began() -> None:
    async with cluster() as (_, steps):
        assert await steps["drain"].observe(call(node="n1")) is None
        assert await steps["drain"].observe(call(node="n9")) is None


async def test_a_node_of_nothing_is_drained_at_once() -> None:
    async with cluster() as (fake, steps):
        fake.create("nodes", node_json("idle"))
        done = await steps["drain"].run(call(node="idle"))
        assert (done.outcome, done.outputs["evicted"]) == (StepOutcome.SUCCEEDED, 0)
