"""What an error of a turn means for the loop."""

from __future__ import annotations

from steersman.act.reconcile.api import After, Failed, Outcome, Stuck
from steersman.kernel.errors import SteersmanError
from steersman.kernel.redact import error_text
from steersman.kinds.refusal import (
    BudgetExhausted,
    Fenced,
    Frozen,
    GuardFailed,
    NotAllowed,
    RequirementMissing,
    TerminalState,
    UnknownLifecycle,
    VersionConflict,
)
from steersman.store.api import Conflict, LeaseExpired, StoreUnavailable

AGAIN_S = 0.05
"""A turn whose picture was old is repeated so soon; somebody has just written."""
STORE_RETRY_S = 1.0
"""How soon a turn is repeated that the store could not serve. Nothing is counted: it could not be written."""
BUDGET_RETRY_S = 30.0
"""How soon a place in a budget is asked for again where nobody said when one will be free."""


def is_old_picture(error: BaseException) -> bool:
    """Whether the turn only saw an old state: look again at once, count nothing."""
    return isinstance(error, VersionConflict | Fenced | Conflict)


def is_frozen(error: BaseException) -> bool:
    """Whether the freeze stopped it."""
    return isinstance(error, Frozen)


def outcome_of(error: Exception) -> Outcome:
    """What the loop does about an error that came out of a turn. Nothing kills the loop."""
    if is_old_picture(error):
        return After(AGAIN_S, "it changed while it was looked at")
    if isinstance(error, LeaseExpired):
        return After(STORE_RETRY_S, "another replica may have taken it over")
    if isinstance(error, StoreUnavailable):
        return After(STORE_RETRY_S, f"the store can't serve: {error.detail}")
    if isinstance(error, Frozen):
        return Stuck(error.detail, f"{error.facts.get('by') or 'an operator'}: thaw the plane")
    if isinstance(error, BudgetExhausted):
        retry_after_s = error.facts.get("retry_after_s")
        wait_s = float(retry_after_s) if isinstance(retry_after_s, int | float) else BUDGET_RETRY_S
        return After(max(wait_s, AGAIN_S), error.detail)
    if isinstance(error, GuardFailed | NotAllowed | RequirementMissing | TerminalState | UnknownLifecycle):
        return Stuck(error.detail, who_must_act(error))
    return Failed(error_text(error))


def who_must_act(error: SteersmanError) -> str:
    """Who can do something about a refusal, and what."""
    if isinstance(error, RequirementMissing):
        return f"somebody who brings {error.facts.get('missing')}: send the event by hand with it"
    if isinstance(error, GuardFailed):
        return f"whoever can make the guard true: {error.facts.get('failed')}"
    if isinstance(error, NotAllowed):
        return f"an actor whom the lifecycle lets do it; allowed from here: {error.facts.get('allowed')}"
    if isinstance(error, UnknownLifecycle):
        return "an operator: load that lifecycle"
    return "a person: nothing leaves this state by itself"
