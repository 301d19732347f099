"""Operations by slurmrestd in a box: once, fenced, read back, never over somebody else's drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_calls import NODE, call, operations

from steersman.drivers.api import ActingDriver
from steersman.drivers.inputs import OperationInputs
from steersman.drivers.slurm import SlurmDriver, SlurmOptions
from steersman.drivers.slurm.changes import has_task
from steersman.drivers.slurm.fake import FakeJob, FakeSlurm
from steersman.drivers.slurm.options import API_VERSIONS
from steersman.drivers.slurm.tags import ADDED, Tag, find_tag, read_tag, tag_for
from steersman.drivers.web.fake import Request, Response
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import Later, StepHandler, StepOutcome
from steersman.testing.driver import context

TAG = "steersman:op-1 e3 new firmware (Node/n1)"
THEIRS = "bad disk, ask ada"
WITH_NODES = [version for version in API_VERSIONS if version >= "v0.0.39"]


@asynccontextmanager
async def cluster(version: str = "v0.0.44") -> AsyncIterator[tuple[FakeSlurm, dict[str, StepHandler]]]:
    fake = await FakeSlurm((version,)).start()
    fake.jobs[7].state = ["COMPLETED"]
    try:
        async with operations(url=fake.url) as steps:
            yield fake, steps
    finally:
        await fake.stop()


def writes(fake: FakeSlurm) -> list[Request]:
    return [request for request in fake.web.requests if request.method != "GET"]


def take_out(
    fake: FakeSlurm, reason: str, state: tuple[str, ...] = ("IDLE", "DRAIN"), by: str = "ada"
) -> None:
    node = fake.nodes["n1"]
    node.state, node.reason, node.reason_by = list(state), reason, by


# ---- the tag


@given(
    st.from_regex(r"[A-Za-z0-9._/-]{1,40}", fullmatch=True),
    st.integers(0, 10**17),
    st.from_regex(r"[^\x00-\x1f\x7f]{0,80}", fullmatch=True),
    st.sampled_from(["", " : Kill task failed", " : reboot issued : reboot complete"]),
)
def test_a_tag_says_what_was_put_into_it(operation: str, epoch: int, text: str, added: str) -> None:
    tag = tag_for(call(by=operation, epoch=epoch), text)
    read = read_tag(f"{tag}{added}")
    assert read is not None
    assert (read.operation, read.epoch, read.resource) == (operation, epoch, "Node/n1")
    assert f"{ADDED}{read.added}" == added if added else read.added == ""
    if "; " not in str(tag):
        assert find_tag(f"theirs; {tag}; theirs too") == ("theirs; theirs too", tag)


@pytest.mark.parametrize(
    "reason",
    ["", "steersman", "steersman:op", "steersman:op e", "steersman:op ex", "x steersman:op e3", "a : b"],
)
def test_what_is_no_tag_is_somebody_elses(reason: str) -> None:
    assert read_tag(reason) is None


def test_epochs_of_two_resources_are_not_compared() -> None:
    ours = call(epoch=3)
    assert Tag("op-9", 9, "", str(NODE)).overtakes(ours)
    assert Tag("op-9", 9).overtakes(ours)  # it tells no resource: rather not
    assert not Tag("op-9", 9, "", "Node/other").overtakes(ours)
    assert not Tag("op-9", 9, "", "Node/other").is_of(ours)


def test_a_task_is_found_in_what_stands_for_many() -> None:
    assert [number for number in range(12) if has_task("1-5:2,8,10-11%2", number)] == [1, 3, 5, 8, 10, 11]
    assert not has_task(None, 1)
    assert not has_task("1-3,...", 5)


# ---- drain, resume


@pytest.mark.parametrize("version", WITH_NODES)
async def test_a_drain_is_made_once_and_leaves_its_tag(version: str) -> None:
    async with cluster(version) as (fake, steps):
        done = await steps["drain"].run(call(node="n1", reason="new firmware"))
        assert done.outcome is StepOutcome.SUCCEEDED, done.detail
        assert (done.outputs["changed"], done.outputs["ours"]) == (True, True)
        assert fake.nodes["n1"].reason == TAG
        assert "DRAIN" in fake.nodes["n1"].state
        again = await steps["drain"].run(call(node="n1", reason="new firmware"))
        assert again.outcome is StepOutcome.SUCCEEDED
        assert len(writes(fake)) == 1
        found = await steps["drain"].observe(call(node="n1", reason="new firmware"))
        assert found is not None
        assert found.outcome is StepOutcome.SUCCEEDED
        resumed = await steps["resume"].run(call(step="resume", node="n1"))
        assert (resumed.outcome, resumed.outputs["changed"]) == (StepOutcome.SUCCEEDED, True)
        assert fake.nodes["n1"].state == ["IDLE"]
        twice = await steps["resume"].run(call(step="resume", node="n1"))
        assert (twice.outcome, twice.outputs["changed"]) == (StepOutcome.SUCCEEDED, False)


async def test_a_dry_run_changes_nothing() -> None:
    async with cluster() as (fake, steps):
        fake.jobs[7].state = ["RUNNING"]
        nodes = {"nodes": ["n1"], "duration": "1h"}
        for name, inputs in (
            ("drain", {"node": "n1"}),
            ("reservation_create", nodes),
            ("cancel", {"job": 7}),
        ):
            done = await steps[name].run(call(dry_run=True, **inputs))
            assert (done.outcome, done.outputs["changed"]) == (StepOutcome.SUCCEEDED, False), done.detail
            assert "would" in done.detail
        take_out(fake, TAG)
        assert "would" in (await steps["resume"].run(call(node="n1", dry_run=True))).detail
        fake.reservations["steersman_x"] = {"nodes": "n1", "flags": [], "starts_in_s": 0, "ends_in_s": 60}
        assert (
            "would" in (await steps["reservation_delete"].run(call(name="steersman_x", dry_run=True))).detail
        )
        assert writes(fake) == []


async def test_somebody_elses_drain_keeps_its_reason_and_is_not_undone() -> None:
    async with cluster() as (fake, steps):
        take_out(fake, THEIRS)
        done = await steps["drain"].run(call(node="n1", reason="x"))
        assert (done.outcome, done.outputs["ours"], done.outputs["changed"]) == (
            StepOutcome.SUCCEEDED,
            False,
            False,
        )
        refused = await steps["resume"].run(call(node="n1"))
        assert refused.outcome is StepOutcome.PERMANENT
        assert "ada" in refused.detail
        assert writes(fake) == []
        assert await steps["drain"].observe(call(node="n1")) is None
        forced = await steps["resume"].run(call(node="n1", force=True))
        assert forced.outcome is StepOutcome.SUCCEEDED
        assert fake.nodes["n1"].state == ["IDLE"]


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("steersman:op-7 e1 theirs (Node/other)", ("IDLE", "DRAIN")),
        (f"{TAG}{ADDED}Kill task failed", ("IDLE", "DRAIN")),
        ("Not responding", ("DOWN",)),
        ("", ("DOWN",)),
        ("", ("IDLE", "FAIL")),
    ],
)
async def test_what_is_not_ours_alone_stays_out_of_work(reason: str, state: tuple[str, ...]) -> None:
    async with cluster() as (fake, steps):
        take_out(fake, reason, state, by="")
        assert (await steps["resume"].run(call(node="n1"))).outcome is StepOutcome.PERMANENT
        assert writes(fake) == []


async def test_a_reboot_that_slurm_noted_is_no_fault() -> None:
    async with cluster() as (fake, steps):
        take_out(fake, f"{TAG}{ADDED}reboot complete", ("DOWN", "DRAIN"))
        assert (await steps["resume"].run(call(node="n1", epoch=4))).outcome is StepOutcome.SUCCEEDED
        assert fake.nodes["n1"].state == ["IDLE"]


async def test_a_fault_does_not_vanish_behind_our_drain() -> None:
    async with cluster() as (fake, steps):
        take_out(fake, "Not responding", ("DOWN",))
        assert (await steps["drain"].run(call(node="n1"))).outcome is StepOutcome.SUCCEEDED
        assert fake.nodes["n1"].reason.endswith(f"{ADDED}Not responding")
        taken = await steps["drain"].run(call(node="n1", by="op-2", epoch=4))
        assert taken.outcome is StepOutcome.SUCCEEDED
        assert fake.nodes["n1"].reason == "steersman:op-2 e4 (Node/n1) : Not responding"
        assert (
            await steps["resume"].run(call(node="n1", by="op-2", epoch=4))
        ).outcome is StepOutcome.PERMANENT


@pytest.mark.parametrize("name", ["drain", "resume"])
async def test_an_older_epoch_is_refused_where_a_newer_one_was(name: str) -> None:
    async with cluster() as (fake, steps):
        take_out(fake, "steersman:op-9 e9 newer (Node/n1)")
        assert (await steps[name].run(call(node="n1"))).outcome is StepOutcome.SUPERSEDED
        found = await steps[name].observe(call(node="n1"))
        assert found is not None
        assert found.outcome is StepOutcome.SUPERSEDED
        assert writes(fake) == []


async def test_a_drain_waits_for_work_to_end_within_its_time() -> None:
    async with cluster() as (fake, steps):
        fake.nodes["n1"].state = ["MIXED"]
        late = await steps["drain"].run(call(node="n1", timeout_s=1.0))
        assert late.outcome is StepOutcome.TRANSIENT
        assert late.outputs["state"] == "MIXED+DRAIN"
        found = await steps["drain"].observe(call(node="n1"))
        assert found is not None
        assert found.outcome is StepOutcome.TRANSIENT
        assert (await steps["drain"].run(call(node="n1", wait=False))).outcome is StepOutcome.SUCCEEDED
        task = asyncio.ensure_future(steps["drain"].run(call(node="n1", attempt=2)))
        await asyncio.sleep(0.05)
        fake.nodes["n1"].state = ["IDLE", "DRAIN"]
        assert (await task).outcome is StepOutcome.SUCCEEDED
        assert len(writes(fake)) == 1


@pytest.mark.parametrize(
    ("reason", "state", "outcome"),
    [
        ("", ("MIXED",), StepOutcome.PERMANENT),
        ("steersman:op-9 e9 newer (Node/n1)", ("MIXED", "DRAIN"), StepOutcome.SUPERSEDED),
    ],
)
async def test_a_drain_stops_where_it_is_undone_or_overtaken(
    reason: str, state: tuple[str, ...], outcome: StepOutcome
) -> None:
    async with cluster() as (fake, steps):
        fake.nodes["n1"].state = ["MIXED"]
        task = asyncio.ensure_future(steps["drain"].run(call(node="n1")))
        while "DRAIN" not in fake.nodes["n1"].state:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        take_out(fake, reason, state)
        assert (await task).outcome is outcome


# ---- failures


Answer = Callable[[Request], Awaitable[Response]]


def between(fake: FakeSlurm, answer: Callable[[Answer, Request], Awaitable[Response]]) -> None:
    """Stand between the caller and the fake, at each change."""
    real = fake.web.answer

    async def stand(request: Request) -> Response:
        return await (real(request) if request.method == "GET" else answer(real, request))

    fake.web.answer = stand


@pytest.mark.parametrize("does", [True, False])
@pytest.mark.parametrize("name", ["drain", "resume", "cancel", "reservation_create", "reservation_delete"])
async def test_a_lost_answer_is_uncertain_and_can_be_looked_for(name: str, does: bool) -> None:
    async with cluster() as (fake, steps):
        real = fake.web.answer
        inputs: dict[str, Any] = {
            "drain": {"node": "n1"},
            "resume": {"node": "n1"},
            "cancel": {"job": 7},
            "reservation_create": {"nodes": "n[1-2]", "duration": 3600},
            "reservation_delete": {"name": "steersman_x"},
        }[name]
        if name == "resume":
            take_out(fake, TAG)
        fake.jobs[7].state = ["RUNNING"]
        fake.reservations["steersman_x"] = {"nodes": "n1", "flags": [], "starts_in_s": 0, "ends_in_s": 60}

        async def lose(answer: Answer, request: Request) -> Response:
            if does:
                await answer(request)
            raise OSError("the connection is gone")

        between(fake, lose)
        lost = await steps[name].run(call(**inputs))
        assert lost.outcome is StepOutcome.UNCERTAIN, lost.detail
        fake.web.answer = real
        found = await steps[name].observe(call(**inputs))
        if does:
            assert found is not None
            assert found.outcome is StepOutcome.SUCCEEDED
        else:
            assert found is None
        before = len(writes(fake))
        assert (await steps[name].run(call(**inputs))).outcome is StepOutcome.SUCCEEDED
        assert len(writes(fake)) == before + (0 if does else 1)


@pytest.mark.parametrize(
    ("status", "number", "outcome"),
    [
        (500, 2002, StepOutcome.PERMANENT),  # ESLURM_ACCESS_DENIED
        (500, 2027, StepOutcome.TRANSIENT),  # ESLURM_IN_STANDBY_MODE
        (500, 1001, StepOutcome.TRANSIENT),  # no connection to slurmctld
        (500, 5004, StepOutcome.UNCERTAIN),  # slurmctld did not answer slurmrestd in time
        (500, None, StepOutcome.UNCERTAIN),
        (401, None, StepOutcome.TRANSIENT),
        (403, None, StepOutcome.PERMANENT),
        (200, 2002, StepOutcome.PERMANENT),
    ],
)
async def test_what_a_refusal_means(status: int, number: int | None, outcome: StepOutcome) -> None:
    async with cluster() as (fake, steps):

        async def refuse(_answer: Answer, _request: Request) -> Response:
            body = f'{{"errors": [{{"error_number": {number}, "error": "no"}}]}}' if number else "gone wrong"
            return Response(body.encode(), status, "application/json")

        between(fake, refuse)
        assert (await steps["drain"].run(call(node="n1"))).outcome is outcome


async def test_a_system_that_is_down_is_tried_again_and_observing_it_is_uncertain() -> None:
    async with cluster() as (fake, steps):
        await fake.web.fail("refuse")
        assert (await steps["drain"].run(call(node="n1"))).outcome is StepOutcome.TRANSIENT
        found = await steps["drain"].observe(call(node="n1"))
        assert found is not None
        assert found.outcome is StepOutcome.UNCERTAIN


async def test_a_node_that_is_not_there_is_for_good() -> None:
    async with cluster() as (_, steps):
        assert (await steps["drain"].run(call(node="n9"))).outcome is StepOutcome.PERMANENT
        assert await steps["drain"].observe(call(node="n9")) is None
        assert (await steps["resume"].run(call(node="n9"))).outcome is StepOutcome.PERMANENT


@pytest.mark.parametrize(
    ("version", "name", "inputs", "word"),
    [
        ("v0.0.38", "drain", {"node": "n1"}, "v0.0.39"),
        ("v0.0.42", "reservation_create", {"nodes": ["n1"], "duration": "1h"}, "v0.0.43"),
        ("v0.0.39", "reservation_delete", {"name": "steersman_x"}, "v0.0.40"),
        ("v0.0.45", "requeue", {"job": 7}, "no version"),
    ],
)
async def test_what_neither_way_can_do_says_so(
    version: str, name: str, inputs: dict[str, Any], word: str
) -> None:
    async with cluster(version) as (fake, steps):
        fake.jobs[7].state = ["RUNNING"]
        fake.reservations["steersman_x"] = {"nodes": "n1", "flags": [], "starts_in_s": 0, "ends_in_s": 60}
        done = await steps[name].run(call(**inputs))
        assert done.outcome is StepOutcome.PERMANENT
        assert word in done.detail
        assert "slurm_conf" in done.detail
        assert writes(fake) == []


async def test_commands_beside_a_url_are_used_only_where_they_are_configured() -> None:
    assert not SlurmOptions(url="http://rest.example").acts_by_commands
    assert SlurmOptions(url="http://rest.example", slurm_conf="/etc/slurm/slurm.conf").acts_by_commands
    assert not SlurmOptions(url="http://rest.example", bin="/opt/slurm/bin", via="rest").acts_by_commands
    assert SlurmOptions(via="commands").acts_by_commands
    async with operations(via="commands", bin="/nowhere") as steps:
        missing = await steps["drain"].run(call(node="n1"))
        assert missing.outcome is StepOutcome.PERMANENT
        assert "scontrol" in missing.detail


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("drain", {}),
        ("drain", {"node": "n1", "nod": 1}),
        ("drain", {"node": "n[1-2]"}),
        ("drain", {"node": "n1,n2"}),
        ("drain", {"node": "ALL"}),
        ("drain", {"node": "../nodes"}),
        ("drain", {"node": "n1", "reason": "two\nlines"}),
        ("drain", {"node": Later("x"), "wait": "yes"}),
        ("resume", {"node": "-n1"}),
        ("cancel", {"job": 0}),
        ("cancel", {"job": "7; id"}),
        ("cancel", {"job": "7_1_2"}),
        ("cancel", {"job": 7, "uid": "8@1"}),
        ("requeue", {"job": 2**32 - 1}),
        ("reservation_create", {"nodes": [], "duration": "1h"}),
        ("reservation_create", {"nodes": "n[1-", "duration": "1h"}),
        ("reservation_create", {"nodes": ["n1 nodes=ALL"], "duration": "1h"}),
        ("reservation_create", {"nodes": ["n1"], "duration": "soon"}),
        ("reservation_create", {"nodes": ["n1"], "duration": 1}),
        ("reservation_create", {"nodes": ["n1"], "duration": "1h", "start": "2026-01-01T00:00:00"}),
        ("reservation_create", {"nodes": ["n1"], "duration": "1h", "users": ["a,b"]}),
        ("reservation_delete", {"name": "a b"}),
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
            assert await steps[name].observe(call(**inputs)) is None
        assert fake.web.requests == []


async def test_inputs_that_come_later_are_right_as_far_as_can_be_told() -> None:
    async with operations(via="commands") as steps:
        steps["drain"].check({"node": Later("${resource.id}"), "reason": "x"})
        steps["reservation_create"].check({"nodes": Later("${resource.metadata.nodes}"), "duration": "2h"})
        assert await steps["drain"].site() == ""
        assert list(await steps["drain"].kept()) == []
        await steps["drain"].cancel(call(node="n1"))
        await steps["drain"].settle(call(node="n1"))
    driver = SlurmDriver(SlurmOptions(via="commands"), context())
    assert isinstance(driver, ActingDriver)
    await driver.close()


# ---- jobs


async def test_a_job_is_cancelled_and_one_that_ended_is_left() -> None:
    async with cluster() as (fake, steps):
        ended = await steps["cancel"].run(call(job=7))
        assert (ended.outcome, ended.outputs["changed"]) == (StepOutcome.SUCCEEDED, False)
        fake.jobs[7].state = ["RUNNING"]
        done = await steps["cancel"].run(call(job="7"))
        assert (done.outcome, done.outputs) == (
            StepOutcome.SUCCEEDED,
            {"state": "CANCELLED", "changed": True, "dry_run": False},
        )
        unknown = await steps["cancel"].run(call(job=99))
        assert (unknown.outcome, unknown.outputs["changed"]) == (StepOutcome.SUCCEEDED, False)
        assert len(writes(fake)) == 1


async def test_a_job_with_the_number_of_another_is_not_cancelled() -> None:
    async with cluster() as (fake, steps):
        fake.jobs[7] = FakeJob(job_id=7, nodes="n1", submitted_ago_s=10)
        other = await steps["cancel"].run(call(job=7, uid=f"7@{fake.now - 5_000}"))
        assert (other.outcome, other.outputs["changed"]) == (StepOutcome.SUCCEEDED, False)
        assert fake.jobs[7].state == ["RUNNING"]
        fake.jobs[7].admin_comment = "ask ada; steersman:op-9 e9 x after 0 restarts (Node/n1)"
        assert (await steps["cancel"].run(call(job=7))).outcome is StepOutcome.SUPERSEDED
        assert writes(fake) == []


# ---- reservations


async def test_a_reservation_is_made_once_for_its_step_and_only_ours_is_deleted() -> None:
    async with cluster() as (fake, steps):
        inputs: dict[str, Any] = {"nodes": "n[1-2]", "duration": "2h"}
        done = await steps["reservation_create"].run(call(step="reserve", **inputs))
        assert done.outcome is StepOutcome.SUCCEEDED, done.detail
        name = done.outputs["reservation"]
        assert name == "steersman_op-1_e3_reserve"
        assert fake.reservations[name]["flags"] == ["MAINT", "IGNORE_JOBS"]
        for again in (call(step="reserve", attempt=2, **inputs), call(step="reserve", epoch=4, **inputs)):
            assert (await steps["reservation_create"].run(again)).outputs["reservation"] == name
        other = call(step="reserve", nodes="n3", duration="2h")
        assert (await steps["reservation_create"].run(other)).outcome is StepOutcome.PERMANENT
        older = call(step="reserve", epoch=2, **inputs)
        assert (await steps["reservation_create"].run(older)).outcome is StepOutcome.SUPERSEDED
        assert (await steps["reservation_delete"].run(call(epoch=2))).outcome is StepOutcome.SUPERSEDED
        fake.reservations["theirs"] = {"nodes": "n3", "flags": [], "starts_in_s": 0, "ends_in_s": 60}
        assert (await steps["reservation_delete"].run(call(name="theirs"))).outcome is StepOutcome.PERMANENT
        gone = await steps["reservation_delete"].run(call(step="free"))
        assert gone.outputs["reservations"] == [name]
        assert set(fake.reservations) == {"theirs"}
        again = await steps["reservation_delete"].run(call(step="free"))
        assert (again.outcome, again.outputs["changed"]) == (StepOutcome.SUCCEEDED, False)
        forced = await steps["reservation_delete"].run(call(name="theirs", force=True))
        assert forced.outcome is StepOutcome.SUCCEEDED
        assert fake.reservations == {}


async def test_a_reservation_with_a_name_of_its_own_can_be_deleted_by_another_operation() -> None:
    async with cluster() as (fake, steps):
        made = await steps["reservation_create"].run(
            call(name="rack-7", nodes=["n1"], duration=3600, start="2031-01-01T08:00:00+01:00")
        )
        assert made.outputs["reservation"] == "steersman_rack-7"
        assert fake.reservations["steersman_rack-7"]["starts_in_s"] > 0
        other = call(by="op-2", resource=ResourceRef("Rack", "7"), name="rack-7")
        assert (await steps["reservation_delete"].run(other)).outcome is StepOutcome.SUCCEEDED
        assert fake.reservations == {}
