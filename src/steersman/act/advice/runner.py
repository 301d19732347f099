"""The whole of it: from the picture to recommendations, and from those to actions.

`Advice` puts the parts together and keeps them in step: a change of policies makes a new evaluator, a change
of mode or of the freeze switch wakes the recommendations that wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from steersman.act.advice.acting import RecommendationManager
from steersman.act.advice.actions import ACTIONS, Action
from steersman.act.advice.api import Evaluator, Rules
from steersman.act.advice.book import Book, node_key
from steersman.act.advice.freeze import ensure_freeze
from steersman.act.advice.people import Desk
from steersman.act.advice.policies import Policies
from steersman.act.advice.recommending import AdviceLimits, Recommending
from steersman.act.advice.standing import Standings
from steersman.act.advice.watching import Watching
from steersman.kernel.clock import Clock
from steersman.kinds.deciding import Seen
from steersman.kinds.entity import EntityKey
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.policy import GuardrailVerdict, Policy, PolicyMode, Recommendation, approvals_needed
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.state.bus import StateBus
from steersman.state.ledger import Ledger
from steersman.store.api import Store


class AdviceSnapshot(Struct, frozen=True):
    """Numbers for metrics. `counts`: proposed, superseded, pruned since the start."""

    policies: int
    problems: int
    open: int
    waiting: int
    looked: int
    frozen: bool
    counts: dict[str, int]


class Advice:
    """The runner. `open` first; then `follow` and `run` each in a supervised task."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        bus: StateBus,
        clock: Clock,
        rules: Rules,
        *,
        lifecycle_of: Callable[[str], Lifecycle],
        places: Sequence[Path] = (),
        shipped: Mapping[str, str] | None = None,
        limits: AdviceLimits | None = None,
        actions: Mapping[str, Action] = ACTIONS,
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self.book = Book(store, clock)
        self.policies = Policies(ledger, self.book, rules, places=places, shipped=shipped, actions=actions)
        self._evaluated: dict[str, Policy] = {}
        self._evaluator: Evaluator = rules.evaluator(())
        self._recommending = Recommending(ledger, self.book, clock, limits or AdviceLimits(), self._verdicts)
        self.watching = Watching(
            bus, self.book, store, clock, self._recommending, self.evaluator, self._evaluated
        )
        self.standings = Standings(self.book, clock, self.watching.labels, lifecycle_of)
        self.watching.placed = self.standings.touch
        self.manager = RecommendationManager(
            ledger,
            self.book,
            self.standings,
            evaluator=self.evaluator,
            seen=self.seen,
            policies=self._evaluated,
            lifecycle_of=lifecycle_of,
            actions=actions,
        )
        self.desk = Desk(ledger, self.book, clock, self.policies.by_name, actions)
        self.nudge: Callable[[ResourceRef], None] = _nobody
        """Asks the loop to look at a resource soon; whoever has the loop sets it."""
        self._modes: dict[str, str] = {}
        self._renew = False
        self.policies.on_change(self._rules_changed)
        self.book.on_change(self._changed)

    def evaluator(self) -> Evaluator:
        """The evaluator of the policies that are loaded now."""
        return self._evaluator

    def seen(self, key: EntityKey) -> Seen | None:
        """An entity as it is now; None where nobody knows it."""
        return self.watching.seen(key)

    async def open(self) -> None:
        """Read what is on record, make the freeze switch, load the policies, and go on with what was kept.
        Raises the store's errors."""
        await self.book.load()
        await ensure_freeze(self._ledger)
        await self.policies.load()
        self._renew_rules()
        await self.watching.restore()
        await self._withdraw()

    async def follow(self) -> None:
        """Keep up with the store until cancelled."""
        await self.book.follow()

    async def run(self) -> None:
        """Evaluate until cancelled."""
        self.watching.look_at_all()
        try:
            while True:
                await self.tick()
                await self.watching.pause()
        finally:
            self.watching.close()

    async def tick(self) -> int:
        """One round; how many entities were looked at. Raises the store's errors."""
        if self._renew:
            self._renew_rules()
            await self._withdraw()
            self.watching.look_at_all()
        return await self.watching.tick()

    def snapshot(self) -> AdviceSnapshot:
        """How it stands."""
        book = self.book
        return AdviceSnapshot(
            policies=len(self._evaluated),
            problems=len(self.policies.problems),
            open=sum(book.open_count(state.id) for state in book.policies()),
            waiting=len(self._recommending.waiting),
            looked=self.watching.looked,
            frozen=book.frozen() is not None,
            counts=dict(self._recommending.counts),
        )

    def _renew_rules(self) -> None:
        self._renew = False
        evaluated = self.policies.evaluated()
        self._evaluator = self._rules.evaluator(evaluated, self._evaluator)
        self._evaluated.clear()
        self._evaluated.update({policy.name: policy for policy in evaluated})
        self._recommending.policies = self._evaluated
        self.standings.keep(self._evaluated)
        self._modes = {state.id: state.status for state in self.book.policies()}

    async def _withdraw(self) -> None:
        """Take back what is open of policies that are not evaluated any more, or have changed meanwhile."""
        for state in self.book.policies():
            if state.id not in self._evaluated and self.book.open_count(state.id):
                await self._recommending.withdraw_all(
                    state.id, f"policy {state.id} is {state.status} or gone"
                )

    def _verdicts(self, value: Recommendation, key: EntityKey) -> tuple[GuardrailVerdict, ...]:
        """What the guardrails say of a proposal as it is made."""
        policy = self._evaluated.get(value.policy)
        if policy is None:
            return ()
        alone = policy.mode is PolicyMode.CONTROLLED_AUTO_ACT
        standing = self.standings.of(policy, value, key, approvals_needed(policy) if alone else 0)
        return self._evaluator.recheck(value, self.seen(key), standing).verdicts

    def _rules_changed(self) -> None:
        self._renew = True

    def _changed(self, ref: ResourceRef, state: ResourceState | None) -> None:
        """Whom a change concerns that the loop would not tell of it."""
        if ref.kind == "Policy" and state is not None and self._modes.get(ref.id) != state.status:
            self._modes[ref.id] = state.status
            self._renew = True
            self._nudge_open(ref.id)
        elif ref.kind == "Freeze":
            for policy in self.book.policies():
                self._nudge_open(policy.id)
        elif isinstance(state, NodeState):
            for waiting in self.book.applying_on(node_key(state)):
                self.nudge(ResourceRef("Recommendation", waiting.id))

    def _nudge_open(self, policy: str) -> None:
        for state in self.book.open_ones(policy):
            self.nudge(ResourceRef("Recommendation", state.id))


def _nobody(ref: ResourceRef) -> None:
    """Nobody is told."""
