"""What a policy's action comes down to: a registry by name, of requests to the Ledger.

Each action is begun at most once for a recommendation (`acting` sees to that) and then only looked at. It
changes intent or places a hold; carrying the resource there is the reconcile loop's, as it is for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec import Struct

from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean
from steersman.kernel.quantity import Duration
from steersman.kinds.command import Actor, Terms
from steersman.kinds.policy import PolicyAction
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.state.ledger import Ledger
from steersman.store.api import Held

MAINTENANCE, IN_SERVICE = "maintenance", "in_service"
HOLD_MAX_S = 366 * 86_400.0


class ActionUnknown(InvalidInput):
    """Nothing here carries out an action of that name. `facts`: `action`, `actions`."""

    code = "action_unknown"
    title = "Action unknown"


class ActionInvalid(InvalidInput):
    """An action's parameters can't be right. `facts`: `action`, `parameter`."""

    code = "action_invalid"
    title = "Action invalid"


class Order(Struct, frozen=True, kw_only=True):
    """An action that is begun now: on what, in whose name, and with what on record.

    `since` is when its recommendation was made: what has a length is counted from there, so that a repetition
    asks for the very same."""

    target: ResourceRef
    action: PolicyAction
    actor: Actor
    terms: Terms
    since: datetime
    held: Held | None = None


class Action(Protocol):
    """One action."""

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Raises `ActionInvalid`."""
        ...

    def wanted(self, parameters: Mapping[str, Any]) -> str | None:
        """The status that its resource comes to in the end; None where it is done as soon as it is begun."""
        ...

    async def begin(self, order: Order, ledger: Ledger) -> ResourceState | None:
        """Do it; the resource after it. Repeated with the same terms, it takes effect once."""
        ...


class SetDesired:
    """Sets a resource's intent: to a status of its own, or to what the policy says in `status`."""

    def __init__(self, status: str | None = None) -> None:
        self._status = status

    def check(self, parameters: Mapping[str, Any]) -> None:
        """`status` must be there and text, unless the action names it itself."""
        _only(parameters, ("status",) if self._status is None else ())
        if self._status is None and not isinstance(parameters.get("status"), str):
            raise ActionInvalid(
                "set_desired_status needs `status`, the state to bring the resource to", parameter="status"
            )

    def wanted(self, parameters: Mapping[str, Any]) -> str | None:
        """That status."""
        return self._status or str(parameters["status"])

    async def begin(self, order: Order, ledger: Ledger) -> ResourceState | None:
        """Set it. Raises the Ledger's refusals."""
        status = self.wanted(order.action.parameters)
        written = await ledger.set_desired(
            order.target, order.actor, status, terms=order.terms, held=order.held
        )
        return written.state


class PlaceHold:
    """Places a hold: `name`, and `expires_after` (a duration) where it should end by itself."""

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Both must be of their form."""
        _only(parameters, ("name", "expires_after"))
        name = parameters.get("name", "policy")
        if not isinstance(name, str) or not name:
            raise ActionInvalid("place_hold: `name` is the hold's name", parameter="name")
        self._expires_s(parameters)

    def wanted(self, parameters: Mapping[str, Any]) -> str | None:
        """None: it holds at once."""
        return None

    async def begin(self, order: Order, ledger: Ledger) -> ResourceState | None:
        """Place it. Raises the Ledger's refusals."""
        parameters = order.action.parameters
        expires_s = self._expires_s(parameters)
        written = await ledger.place_hold(
            order.target,
            order.actor,
            str(parameters.get("name", "policy")),
            expires_at=None if expires_s is None else order.since + timedelta(seconds=expires_s),
            terms=order.terms,
            held=order.held,
        )
        return written.state

    def _expires_s(self, parameters: Mapping[str, Any]) -> float | None:
        given = parameters.get("expires_after")
        if given is None:
            return None
        try:
            seconds = float(Duration.from_text(given))
        except (InvalidInput, TypeError) as error:
            raise ActionInvalid(
                "place_hold: `expires_after` is a duration like 2h", parameter="expires_after"
            ) from error
        if not 0 < seconds <= HOLD_MAX_S:
            raise ActionInvalid(
                "place_hold: `expires_after` is more than nothing and at most 366d", parameter="expires_after"
            )
        return seconds


class Nothing:
    """Only says it: there is nothing to carry out."""

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Takes what it is given, for people to read."""

    def wanted(self, parameters: Mapping[str, Any]) -> str | None:
        """None: it is done."""
        return None

    async def begin(self, order: Order, ledger: Ledger) -> ResourceState | None:
        """Does nothing."""
        return None


ACTIONS: Mapping[str, Action] = {
    "set_desired_status": SetDesired(),
    "drain_or_avoid_node": SetDesired(MAINTENANCE),
    "return_to_service": SetDesired(IN_SERVICE),
    "place_hold": PlaceHold(),
    "recommend_no_action": Nothing(),
}
"""What can be carried out, by the name that policies give it."""


def action_of(action: PolicyAction, actions: Mapping[str, Action] = ACTIONS) -> Action:
    """The action of that name, with its parameters checked. Raises `ActionUnknown`, `ActionInvalid`."""
    found = actions.get(action.name)
    if found is None:
        raise ActionUnknown(
            f"nothing here carries out the action {action.name!r}{did_you_mean(action.name, actions)};"
            f" these can be: {', '.join(sorted(actions))}",
            action=action.name,
            actions=sorted(actions),
        )
    found.check(action.parameters)
    return found


def needs_target(action: PolicyAction) -> bool:
    """Whether it is done to a resource."""
    return action.name != "recommend_no_action"


def _only(parameters: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in parameters:
        if name not in known and name not in ("reason", "note"):
            raise ActionInvalid(
                f"parameter {name!r} means nothing to this action{did_you_mean(name, known)}", parameter=name
            )
