"""Loaded policies, and their modes as resources.

What a policy says is its file's. How far it may go is a person's: the mode is the status of a resource, the
file gives it only its first one, and what a person set holds over restarts and reloads. A policy whose file
is gone is disabled, on record, and gets its mode back when the file does. One broken policy is told and left
out; all others work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from steersman.act.advice.actions import ACTIONS, Action, action_of
from steersman.act.advice.api import Rules
from steersman.act.advice.book import Book
from steersman.kernel.bounds import MIB
from steersman.kernel.errors import InvalidInput, NotFound
from steersman.kernel.logging import get_logger
from steersman.kernel.nearest import did_you_mean, nearest
from steersman.kinds.command import Actor, Terms, Written
from steersman.kinds.deciding import LoadedPolicy, PolicyProblem
from steersman.kinds.plane_resources import DISABLED, PolicyState
from steersman.kinds.policy import Policy, PolicyMode
from steersman.kinds.refusal import ResourceExists
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.state.ledger import Ledger

FILES_MAX = 1_000
FILE_MAX_BYTES = MIB
POLICIES_MAX = 2_000
LOADER = Actor("importer", ("importer",))
SHIPPED = "shipped"
"""The file name under which the plane's own policies are known: `shipped/NAME.yaml`."""

_log = get_logger("act.advice.policies")


class UnknownPolicy(NotFound):
    """No policy of that name. `facts`: `policy`, `policies`, `nearest`."""

    code = "unknown_policy"
    title = "Unknown policy"


class PolicyView(Struct, frozen=True, kw_only=True):
    """A policy as people are shown it. `policy` is None where it is no longer loaded. `carried_out`: whether
    its action can be carried out here."""

    name: str
    mode: str
    policy: Policy | None
    state: PolicyState
    carried_out: bool
    open: int
    failures: int


class LoadReport(Struct, frozen=True):
    """What a load came to."""

    loaded: tuple[str, ...]
    problems: tuple[PolicyProblem, ...]
    unloaded: tuple[str, ...] = ()


class Policies:
    """The loaded policies. `places` are files or folders of a site; `shipped` are texts by file name.

    A site's policy takes the place of a shipped one of its name. `told` is called after each change of what
    is evaluated.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: Book,
        rules: Rules,
        *,
        places: Sequence[Path] = (),
        shipped: Mapping[str, str] | None = None,
        actions: Mapping[str, Action] = ACTIONS,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._rules = rules
        self._places = places
        self._shipped = shipped or {}
        self._actions = actions
        self.loaded: dict[str, LoadedPolicy] = {}
        """By name."""
        self.by_name: dict[str, Policy] = {}
        """The rules alone, by name; the same dict for good."""
        self.problems: tuple[PolicyProblem, ...] = ()
        self._told: list[Callable[[], None]] = []

    def on_change(self, told: Callable[[], None]) -> None:
        """Also tell this one."""
        self._told.append(told)

    async def load(self) -> LoadReport:
        """Read all again and bring the resources in line. Raises the store's errors only."""
        found, problems = self._read()
        for name in sorted(found):
            problem = self._unfit(found[name])
            if problem is not None:
                problems.append(problem)
                del found[name]
        self.loaded = found
        self.by_name.clear()
        self.by_name.update({name: given.policy for name, given in found.items()})
        self.problems = tuple(problems)
        for problem in problems:
            _log.warning("policy_left_out", file=problem.file, line=problem.line, detail=problem.detail)
        for given in found.values():
            await self._bring(given)
        unloaded = await self._unload(found, {p.policy: p.detail for p in problems if p.policy})
        for told in self._told:
            told()
        return LoadReport(tuple(sorted(found)), self.problems, tuple(unloaded))

    def evaluated(self) -> list[Policy]:
        """Those that are to be evaluated, each with the mode that it has now."""
        found: list[Policy] = []
        for name, given in sorted(self.loaded.items()):
            state = self._book.policy(name)
            if state is None or state.status == DISABLED:
                continue
            try:
                found.append(replace(given.policy, mode=PolicyMode(state.status), enabled=True))
            except InvalidInput as error:  # a mode set before its file lost what that mode needs
                _log.warning("policy_left_out", policy=name, detail=error.detail)
        return found

    async def set_mode(self, name: str, mode: str, actor: Actor, terms: Terms) -> Written | None:
        """A person's decision. None where it has that mode already.

        Raises `UnknownPolicy`, `InvalidInput` for a word that is no mode, `PolicyInvalid`, `ActionUnknown` or
        `ActionInvalid` where the policy can't act by itself, and the Ledger's refusals.
        """
        words = [DISABLED, *(m.value for m in PolicyMode)]
        if mode not in words:
            raise InvalidInput(
                f"{mode!r} is no mode of a policy{did_you_mean(mode, words)};"
                f" the modes are {', '.join(words)}",
                allowed=words,
            )
        state = self._known(name)
        given = self.loaded.get(name)
        if mode != DISABLED and given is None:
            raise UnknownPolicy(
                f"policy {name} is not loaded: its file is gone or can't be read", policy=name
            )
        if mode == PolicyMode.CONTROLLED_AUTO_ACT and given is not None:
            replace(given.policy, mode=PolicyMode(mode))  # raises where nothing bounds it
            action_of(given.policy.action, self._actions)
        if state.status == mode:
            return None
        ref = ResourceRef("Policy", name)
        written = await self._ledger.transition(ref, actor, event=f"set_{mode}", terms=terms)
        self._book.note(written.state)
        for told in self._told:
            told()
        return written

    def view(self, name: str) -> PolicyView:
        """One policy. Raises `UnknownPolicy`."""
        return self._view(self._known(name))

    def views(self) -> list[PolicyView]:
        """All, by name; those that are gone too."""
        return [self._view(state) for state in self._book.policies()]

    # ---- inside

    def _view(self, state: PolicyState) -> PolicyView:
        given = self.loaded.get(state.id)
        return PolicyView(
            name=state.id,
            mode=state.status,
            policy=given.policy if given is not None else None,
            state=state,
            carried_out=given is not None and given.policy.action.name in self._actions,
            open=self._book.open_count(state.id),
            failures=self._book.failures_in_a_row(state.id),
        )

    def _known(self, name: str) -> PolicyState:
        state = self._book.policy(name)
        if state is None:
            names = [other.id for other in self._book.policies()]
            raise UnknownPolicy(
                f"there is no policy {name!r}{did_you_mean(name, names)}",
                policy=name,
                policies=names,
                nearest=nearest(name, names),
            )
        return state

    def _read(self) -> tuple[dict[str, LoadedPolicy], list[PolicyProblem]]:
        found: dict[str, LoadedPolicy] = {}
        problems: list[PolicyProblem] = []
        for file, text in _texts(self._places, problems):
            reading = self._rules.read(text, file)
            problems += reading.problems
            for given in reading.policies:
                other = found.get(given.policy.name)
                if other is not None:
                    detail = f"policy {given.policy.name} is already in {other.place}; this one is left out"
                    problems.append(PolicyProblem(file=file, line=given.line, detail=detail))
                elif len(found) >= POLICIES_MAX:
                    problems.append(PolicyProblem(file=file, detail=f"more than {POLICIES_MAX} policies"))
                else:
                    found[given.policy.name] = given
        for name, text in sorted(self._shipped.items()):
            reading = self._rules.read(text, f"{SHIPPED}/{name}")
            problems += reading.problems
            for given in reading.policies:
                found.setdefault(given.policy.name, given)
        return found, problems

    def _unfit(self, given: LoadedPolicy) -> PolicyProblem | None:
        """Why a policy that acts by itself can't: its action is unknown, or nothing bounds it."""
        state = self._book.policy(given.policy.name)
        mode = state.status if state is not None else given.policy.mode.value
        if mode != PolicyMode.CONTROLLED_AUTO_ACT:
            return None
        try:
            replace(given.policy, mode=PolicyMode(mode))
            action_of(given.policy.action, self._actions)
        except InvalidInput as error:
            return PolicyProblem(
                file=given.file, line=given.line, detail=error.detail, policy=given.policy.name
            )
        return None

    async def _bring(self, given: LoadedPolicy) -> None:
        """Make or renew the policy's resource."""
        name, policy = given.policy.name, given.policy
        ref = ResourceRef("Policy", name)
        fields: dict[str, Any] = {
            "policy_version": policy.version,
            "digest": given.digest,
            "place": given.place,
        }
        state = await self._ledger.find(ref)
        if state is None:
            made = PolicyState(
                id=name,
                lifecycle_table="policy",
                status=policy.mode.value if policy.enabled else DISABLED,
                **fields,
            )
            try:
                written = await self._ledger.create(
                    made, LOADER, terms=Terms(reason=f"read from {given.place}")
                )
            except ResourceExists:  # another replica was quicker
                return
            self._book.note(written.state)
            return
        if not isinstance(state, PolicyState):
            return
        if (state.policy_version, state.digest, state.place) != tuple(fields.values()):
            terms = Terms(reason=f"read from {given.place}")
            state = (await self._ledger.change_spec(ref, LOADER, fields=fields, terms=terms)).state
        event = None
        if not policy.enabled and state.status != DISABLED:
            event, reason = "unload", f"{given.place} says enabled: false"
        elif (
            policy.enabled and state.status == DISABLED and (mode := _mode_before(state, policy)) is not None
        ):
            event, reason = f"reload_{mode}", f"{given.place} is there again"
        else:
            reason = ""
        if event is not None:
            state = (
                await self._ledger.transition(ref, LOADER, event=event, terms=Terms(reason=reason))
            ).state
        self._book.note(state)

    async def _unload(self, found: Mapping[str, LoadedPolicy], broken: Mapping[str, str]) -> list[str]:
        unloaded: list[str] = []
        for state in self._book.policies():
            if state.id in found or state.status == DISABLED:
                continue
            reason = broken.get(state.id) or f"{state.place} no longer has it, or can't be read"
            ref = ResourceRef("Policy", state.id)
            written = await self._ledger.transition(
                ref, LOADER, event="unload", terms=Terms(reason=reason[:2048])
            )
            self._book.note(written.state)
            unloaded.append(state.id)
        return unloaded


def _mode_before(state: ResourceState, policy: Policy) -> str | None:
    """The mode to give back; None where a person disabled it."""
    if not state.state_history:
        return policy.mode.value
    last = state.state_history[-1]
    if last.triggered_by != LOADER.name:
        return None
    return last.from_state or policy.mode.value


def _texts(places: Iterable[Path], problems: list[PolicyProblem]) -> Iterable[tuple[str, str]]:
    """The texts of all files, in the order of the places, those of a folder by name."""
    count = 0
    for place in places:
        try:
            files = (
                sorted(p for p in place.iterdir() if p.suffix in (".yaml", ".yml"))
                if place.is_dir()
                else [place]
            )
        except OSError as error:
            problems.append(PolicyProblem(file=str(place), detail=f"can't be read: {error.strerror}"))
            continue
        for file in files:
            count += 1
            if count > FILES_MAX:
                problems.append(
                    PolicyProblem(file=str(file), detail=f"more than {FILES_MAX} files of policies")
                )
                return
            try:
                if file.stat().st_size > FILE_MAX_BYTES:
                    problems.append(PolicyProblem(file=str(file), detail=f"more than {FILE_MAX_BYTES} bytes"))
                    continue
                yield str(file), file.read_text(encoding="utf-8")
            except OSError as error:
                problems.append(PolicyProblem(file=str(file), detail=f"can't be read: {error.strerror}"))
            except UnicodeDecodeError:
                problems.append(PolicyProblem(file=str(file), detail="is not text in UTF-8"))
