"""Policies as resources: modes are people's, files come and go, one broken policy stops no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from advice_house import ALICE, SAID, House, policy

from steersman.act.advice.actions import ActionInvalid, ActionUnknown, action_of
from steersman.act.advice.policies import UnknownPolicy
from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import InvalidInput
from steersman.kinds.command import Terms
from steersman.kinds.policy import PolicyAction, PolicyInvalid
from steersman.kinds.refusal import RequirementMissing
from steersman.store.api import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "policies"
    made.mkdir()
    return made


async def opened(
    store: Store, clock: ManualClock, *places: Path, texts: dict[str, str] | None = None
) -> House:
    return await House(store, clock, texts or {}, places=places).open()


async def test_the_first_mode_is_the_files_and_then_a_persons(
    store: Store, clock: ManualClock, folder: Path
) -> None:
    (folder / "a.yaml").write_text(policy("observe_only"))
    made = await opened(store, clock, folder)
    assert made.advice.policies.view("full-disks").mode == "observe_only"
    await made.set_mode("controlled_auto_act")
    (folder / "a.yaml").write_text(policy("recommend_with_approval"))
    await made.advice.policies.load()
    assert made.advice.policies.view("full-disks").mode == "controlled_auto_act"
    again = await opened(store, clock, folder)
    assert again.advice.policies.view("full-disks").mode == "controlled_auto_act"
    entry = [e for e in await again.history("Policy", "full-disks") if e.event][-1]
    assert (entry.actor, entry.reason) == ("user:alice", "a test")


async def test_why_is_asked_and_the_mode_must_be_one(store: Store, clock: ManualClock, folder: Path) -> None:
    (folder / "a.yaml").write_text(policy("observe_only"))
    made = await opened(store, clock, folder)
    with pytest.raises(RequirementMissing):
        await made.advice.policies.set_mode("full-disks", "disabled", ALICE, Terms())
    with pytest.raises(InvalidInput, match="did you mean observe_only"):
        await made.advice.policies.set_mode("full-disks", "observe-onl", ALICE, SAID)
    with pytest.raises(UnknownPolicy) as unknown:
        await made.advice.policies.set_mode("ful-disks", "disabled", ALICE, SAID)
    assert unknown.value.facts["nearest"] == "full-disks"
    assert await made.advice.policies.set_mode("full-disks", "observe_only", ALICE, SAID) is None


async def test_a_policy_that_is_gone_is_disabled_and_gets_its_mode_back(
    store: Store, clock: ManualClock, folder: Path
) -> None:
    file = folder / "a.yaml"
    file.write_text(policy("observe_only"))
    made = await opened(store, clock, folder)
    await made.set_mode("recommend_with_approval")
    file.unlink()
    report = await made.advice.policies.load()
    assert report.unloaded == ("full-disks",)
    view = made.advice.policies.view("full-disks")
    assert (view.mode, view.policy) == ("disabled", None)
    file.write_text(policy("observe_only"))
    await made.advice.policies.load()
    assert made.advice.policies.view("full-disks").mode == "recommend_with_approval"


async def test_one_that_a_person_disabled_stays_so(store: Store, clock: ManualClock, folder: Path) -> None:
    (folder / "a.yaml").write_text(policy("observe_only"))
    made = await opened(store, clock, folder)
    await made.set_mode("disabled")
    await made.advice.policies.load()
    again = await opened(store, clock, folder)
    assert again.advice.policies.view("full-disks").mode == "disabled"
    assert again.advice.snapshot().policies == 0


async def test_enabled_false_is_the_files_own_switch(store: Store, clock: ManualClock, folder: Path) -> None:
    (folder / "a.yaml").write_text(policy("observe_only", enabled="false"))
    made = await opened(store, clock, folder)
    assert made.advice.policies.view("full-disks").mode == "disabled"
    (folder / "a.yaml").write_text(policy("observe_only"))
    await made.advice.policies.load()
    assert made.advice.policies.view("full-disks").mode == "observe_only"
    (folder / "a.yaml").write_text(policy("observe_only", enabled="false"))
    await made.advice.policies.load()
    assert made.advice.policies.view("full-disks").mode == "disabled"


async def test_problems_are_told_and_the_rest_works(store: Store, clock: ManualClock, folder: Path) -> None:
    (folder / "a.yaml").write_text(policy("observe_only"))
    (folder / "b.yaml").write_text("name: broken\nwhen: [\n")
    (folder / "c.yaml").write_text(policy("observe_only", name="bad-when", when="entity.disk_utilization >"))
    (folder / "d.yaml").write_bytes(b"\xff\xfe")
    (folder / "e.yaml").write_text(policy("observe_only"))
    (folder / "note.txt").write_text("not a policy")
    made = await opened(store, clock, folder, folder / "nowhere.yaml")
    assert [view.name for view in made.advice.policies.views()] == ["full-disks"]
    told = {Path(p.file).name: p.detail for p in made.advice.policies.problems}
    assert set(told) == {"b.yaml", "c.yaml", "d.yaml", "e.yaml", "nowhere.yaml"}
    assert "already in" in told["e.yaml"]


async def test_an_unknown_action_may_be_recommended_and_never_taken(
    store: Store, clock: ManualClock, folder: Path
) -> None:
    (folder / "a.yaml").write_text(policy("observe_only", name="odd", action="{name: drain_or_avoid_nodes}"))
    made = await opened(store, clock, folder)
    assert not made.advice.policies.view("odd").carried_out
    with pytest.raises(ActionUnknown, match="did you mean drain_or_avoid_node"):
        await made.set_mode("controlled_auto_act", "odd")
    (folder / "a.yaml").write_text(
        policy("controlled_auto_act", name="other", action="{name: drain_or_avoid_nodes}")
    )
    await made.advice.policies.load()
    (problem,) = made.advice.policies.problems
    assert "did you mean drain_or_avoid_node" in problem.detail


async def test_what_nothing_bounds_never_acts_by_itself(
    store: Store, clock: ManualClock, folder: Path
) -> None:
    (folder / "a.yaml").write_text(policy("observe_only", limits=""))
    made = await opened(store, clock, folder)
    with pytest.raises(PolicyInvalid, match="max_count"):
        await made.set_mode("controlled_auto_act")


async def test_a_site_may_replace_what_is_shipped(store: Store, clock: ManualClock, folder: Path) -> None:
    (folder / "mine.yaml").write_text(policy("observe_only", priority="90"))
    made = await opened(store, clock, folder, texts={"full-disks.yaml": policy("observe_only")})
    loaded = made.advice.policies.loaded["full-disks"]
    assert loaded.policy.priority == 90
    assert loaded.place == f"{folder / 'mine.yaml'}:1"
    assert made.advice.policies.problems == ()


async def test_the_guides_policy_is_one(store: Store, clock: ManualClock) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "how-to" / "write-a-policy.md").read_text()
    text = guide.split("```yaml\n")[1].split("```")[0]
    made = await opened(store, clock, texts={"guide.yaml": text})
    assert made.advice.policies.problems == ()
    await made.set_mode("controlled_auto_act")


@pytest.mark.parametrize(
    "action",
    [
        PolicyAction(name="set_desired_status"),
        PolicyAction(name="set_desired_status", parameters={"status": 3}),
        PolicyAction(name="set_desired_status", parameters={"status": "x", "statsu": "y"}),
        PolicyAction(name="drain_or_avoid_node", parameters={"status": "x"}),
        PolicyAction(name="place_hold", parameters={"expires_after": "soon"}),
        PolicyAction(name="place_hold", parameters={"expires_after": "0s"}),
        PolicyAction(name="place_hold", parameters={"name": ""}),
    ],
)
def test_parameters_that_can_not_be_right(action: PolicyAction) -> None:
    with pytest.raises(ActionInvalid):
        action_of(action)
