"""Policies tried over HTTP: what they would say of the fleet as it is now, and what they can't see of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from steersman.api.control import control_of
from steersman.api.decisions import advice_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of, read_json
from steersman.api.problems import NotReady
from steersman.api.wishes import TextWish
from steersman.kinds.advice import DryRun, PolicyCount, PolicyCoverage, PolicyVerdict
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Seen
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import FIELDS
from steersman.kinds.policy import Policy
from steersman.state.freshness import EXPIRED

if TYPE_CHECKING:
    from steersman.act.advice.runner import Advice
    from steersman.api.plane import Plane

ENTITIES_MAX = 20_000
"""Entities that one trial looks at."""
VERDICTS_TOLD_MAX = 500
"""Verdicts that a dry run tells one by one; all of them are counted."""
SLICE = 256
"""Entities that are looked at before others have their turn."""
WHYS_MAX = 1000
WHYS_TOLD = 5


async def dry_run_policies(request: Asked) -> Answer:
    """What a text of policies would say of the fleet as it is now."""
    control = control_of(request)
    advice = advice_of(control)
    if control.rules is None:
        raise NotReady("policies are not read by this process", failed=["policies: not in this process"])
    wish = await read_json(exchange_of(request), TextWish)
    reading = control.rules.read(wish.text, wish.file)
    trial = _Trial(plane_of(request), advice, [one.policy for one in reading.policies])
    await trial.run()
    told = trial.told()
    return json_answer(
        DryRun(
            entities=told.entities,
            policies=told.policies,
            signals=told.signals,
            verdicts=tuple(trial.verdicts),
            problems=tuple(reading.problems),
            cut=trial.cut,
        )
    )


async def policy_coverage(request: Asked) -> Answer:
    """What the loaded policies can tell of the fleet as it is now, and which signals nobody collects."""
    advice = advice_of(control_of(request))
    loaded = [view.policy for view in advice.policies.views() if view.policy is not None]
    trial = _Trial(plane_of(request), advice, loaded)
    await trial.run()
    return json_answer(trial.told())


class _Trial:
    """One look over the fleet. `cut`: not all was looked at, or not every verdict is told."""

    def __init__(self, plane: Plane, advice: Advice, policies: Sequence[Policy]) -> None:
        self._plane = plane
        self._advice = advice
        self._policies = policies
        self._tallies = {one.name: _Tally(one) for one in policies}
        self._looked = 0
        self._collected: dict[EntityType, set[str]] = {}
        self.verdicts: list[PolicyVerdict] = []
        self.cut = False

    async def run(self) -> None:
        """Look at each entity that a policy may look at, without `for`: there was no time to wait."""
        from steersman.decide import try_policies  # what is acted with is loaded where it is used

        for verdicts in try_policies(self._policies, self._seen(), self._plane.clock.now()):
            for one in verdicts:
                self._note(one)
            if self._looked % SLICE == 0:
                await self._plane.clock.sleep(0)

    def told(self) -> PolicyCoverage:
        """What came of it."""
        from steersman.decide import coverage  # what is acted with is loaded where it is used

        return PolicyCoverage(
            entities=self._looked,
            policies=tuple(one.result() for one in self._tallies.values()),
            signals=tuple(coverage(self._policies, self._collected)),
        )

    def _seen(self) -> Iterator[Seen]:
        """The entities of the types that policies look at, with note taken of what is reported of them."""
        wanted = {one.match.entity_type for one in self._policies}
        for kind in (kind for kind in EntityType if kind in wanted):
            if self.cut and self._looked >= ENTITIES_MAX:
                self._collected[kind] = set(FIELDS[kind])  # not looked at: nothing is claimed of it
                continue
            for entity in self._plane.bus.entities(kind):
                seen = self._advice.seen(entity.key)
                if seen is None:
                    continue
                if self._looked >= ENTITIES_MAX:
                    self.cut = True
                    break
                self._looked += 1
                reported = self._collected.setdefault(kind, set())
                if seen.explanation is not None:
                    fields = seen.explanation.fields.items()
                    reported.update(
                        name for name, one in fields if one.value is not None and one.freshness != EXPIRED
                    )
                yield seen

    def _note(self, verdict: PolicyVerdict) -> None:
        self._tallies[verdict.policy].count(verdict)
        if verdict.truth is Truth.FALSE:
            return
        if len(self.verdicts) < VERDICTS_TOLD_MAX:
            self.verdicts.append(verdict)
        else:
            self.cut = True


class _Tally:
    """Counts what one policy says."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._counts = dict.fromkeys(Truth, 0)
        self._whys: dict[str, int] = {}

    def count(self, verdict: PolicyVerdict) -> None:
        self._counts[verdict.truth] += 1
        if verdict.truth is Truth.UNKNOWN and (verdict.why in self._whys or len(self._whys) < WHYS_MAX):
            self._whys[verdict.why] = self._whys.get(verdict.why, 0) + 1

    def result(self) -> PolicyCount:
        common = sorted(self._whys.items(), key=lambda one: (-one[1], one[0]))[:WHYS_TOLD]
        true, false, unknown = (self._counts[one] for one in (Truth.TRUE, Truth.FALSE, Truth.UNKNOWN))
        policy = self._policy
        return PolicyCount(
            policy=policy.name,
            entity_type=policy.match.entity_type.value,
            matched=true + false + unknown,
            true=true,
            false=false,
            unknown=unknown,
            for_s=policy.for_s,
            whys=dict(common),
        )
