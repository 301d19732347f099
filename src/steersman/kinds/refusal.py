"""Why the Ledger, or a lifecycle, refuses a change. Never a silent success: each refusal is typed, names the
rule, and says in its facts what is allowed instead."""

from __future__ import annotations

from steersman.kernel.errors import InvalidInput, NotFound, Refused, TooMany


class ResourceNotFound(NotFound):
    """No resource of that kind and id. `facts`: `kind`, `id`, and `nearest` where one is near."""

    code = "resource_not_found"
    title = "No such resource"


class UnknownResourceKind(NotFound):
    """No kind of that name. `facts`: `kind`, `kinds`, `nearest`."""

    code = "unknown_resource_kind"
    title = "Unknown kind of resource"


class ResourceExists(Refused):
    """A resource of that kind and id is there already. `facts`: `current` (its version)."""

    code = "resource_exists"
    title = "Resource exists"


class OperationUnderWay(Refused):
    """The resource can't be deleted while something is being done to it: what was begun would be nobody's.
    `facts`: `operation` (its id), `operation_kind`, `phase`, `step`, `instead` (what to do)."""

    code = "operation_under_way"
    title = "Operation under way"


class UnknownEvent(InvalidInput):
    """The lifecycle has no event of that name. `facts`: `event`, `events`, `nearest`, `lifecycle`."""

    code = "unknown_event"
    title = "Unknown event"


class UnknownLifecycle(NotFound):
    """No lifecycle of that name is loaded. `facts`: `lifecycle`, `lifecycles`."""

    code = "unknown_lifecycle"
    title = "Unknown lifecycle"


class NotAllowed(Refused):
    """No line of the table lets this actor take the resource there from where it is.

    `facts`: `current` (the state), `event` or `to`, `allowed` (list of {event, to, by}), `lifecycle`."""

    code = "not_allowed"
    title = "Transition not allowed"


class GuardFailed(Refused):
    """A guard does not hold, or can't tell. `facts`: `failed` ({guard, outcome, missing} each), `allowed`."""

    code = "guard_failed"
    title = "Guard failed"
    status = 422


class RequirementMissing(Refused):
    """The transition asks for a reason, evidence or approvals that were not brought. `facts`: `missing`."""

    code = "requirement_missing"
    title = "Requirement missing"
    status = 422


class TerminalState(Refused):
    """The resource is in a terminal state and nothing leaves it. `facts`: `current`, `allowed` (empty)."""

    code = "terminal"
    title = "Terminal state"


class VersionConflict(Refused):
    """The resource has changed since the asker read it. `facts`: `expected`, `current`."""

    code = "version_conflict"
    title = "Version conflict"
    status = 412


class Fenced(Refused):
    """The asker's epoch is not the resource's: somebody took over. `facts`: `fence`, `current`, `holder`."""

    code = "fenced"
    title = "Fenced off"
    status = 412


class BudgetExhausted(TooMany):
    """No place is left. `facts`: `budget`, `limit`, `used`, `holders`, and `retry_after_s` where a window
    frees one."""

    code = "budget_exhausted"
    title = "Budget exhausted"


class IdempotencyMismatch(Refused):
    """The idempotency key was used for another request. `facts`: `idempotency_key`, `first_used_at`."""

    code = "idempotency_mismatch"
    title = "Idempotency key used for something else"
    status = 422


class Frozen(Refused):
    """Acting is frozen. `facts`: `since`, `by`, `reason`."""

    code = "frozen"
    title = "Acting is frozen"
